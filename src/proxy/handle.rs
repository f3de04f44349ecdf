//! The story of one request, top to bottom: load, vet, route, choose, dress, forward, respond.
//!
//! Every step is a function of the one before. It must never run a step out of order, and never do
//! at run time what the plan could have done at compile time.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use http::header::{CONNECTION, HOST, RETRY_AFTER, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::{Body, opening};
use super::compared::Named;
use super::dress::PerArm;
use super::error::{Kind, ProxyError};
use super::exchange::Exchange;
use super::forward::forward;
use super::head::{self, Rules, Scan};
use super::identity::{self, X_REQUEST_ID};
use super::logged::Request as Logged;
use super::mirror::Original;
use super::respond::{issue_cookie, refuse, respond, switch, unread};
use super::spans::Sampled;
use super::worker::{PlanRef, Worker};
use super::{again, grpc, guard, mirror, rate, trace, tunnel};
use crate::model::log::Shadow;
use crate::model::trailers::Announced;
use crate::model::{Client, FailureReason, RejectReason, RequestHead, UnroutedReason};
use crate::plan::filter::{Answer, Location};
use crate::plan::{Listener, Plan, Route, UpstreamProtocol};
use crate::split::Choice;
use crate::upstream::{Deadlines, RequestBody, Upload};

/// Serves one request.
pub async fn handle(worker: Rc<Worker>, client: Rc<Client>, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let plan = worker.plan();
    let (parts, body) = request.into_parts();
    let close = client.closing.get() && parts.version != Version::HTTP_2;
    let (mut story, mut exchange) = Story::begin(&worker, &client, plan, parts, started);
    let mut response = match story.find(&worker, &mut exchange) {
        Ok(()) => story.tell(exchange, body).await,
        Err(error) => {
            let answer = refuse(error, exchange, &story.id);
            Box::pin(unread(answer, body, &client, &worker.deadlines, story.scan.expect)).await
        }
    };
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request, as far as it came. It stays where it is: moving it would cost each request.
struct Story {
    plan: PlanRef,
    client: Rc<Client>,
    parts: request::Parts,
    scan: Scan,
    host: HeaderValue,
    client_ip: IpAddr,
    id: HeaderValue,
    route: usize,
    prefix_len: usize,
    choice: Option<Choice>,
}

impl Story {
    /// Looks at who asks, under which name.
    fn begin(
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        plan: PlanRef,
        mut parts: request::Parts,
        started: Instant,
    ) -> (Self, Box<Exchange>) {
        let scan = head::scan(&parts.headers);
        let mut sampled = None;
        if scan.trace || plan.trace_sample.is_some() {
            let (headers, sample) = (&mut parts.headers, plan.trace_sample);
            let kept = trace::settle(headers, scan.trace, sample, || worker.entropy());
            if plan.otlp.is_some() {
                sampled = Sampled::adopt(headers, kept, started, || worker.entropy());
            }
        }
        let client_ip = identity::client_ip(&parts.headers, client.peer.ip(), &plan.trusted_proxies);
        let given = if scan.request_id { parts.headers.get(X_REQUEST_ID) } else { None };
        let id = match given {
            Some(id) if identity::is_request_id(id) => id.clone(),
            _ => identity::request_id(worker.clock.unix().0, [worker.entropy(), worker.entropy()]),
        };
        let log = (plan.access_log.is_some() || sampled.is_some()).then(|| {
            let debug = plan.access_log.as_ref().and_then(|log| log.debug_header.as_ref());
            Box::new(Logged {
                method: parts.method.clone(),
                host: asked_host(&parts),
                target: parts.uri.clone(),
                client: client_ip,
                listener: client.listener,
                id: id.clone(),
                trace: Logged::trace_of(&parts.headers),
                debug: debug.is_some_and(|name| parts.headers.contains_key(name)),
                shadow: Shadow::No,
                span: sampled.as_ref().map(|sampled| sampled.ids),
            })
        });
        let exchange = Exchange::new(Rc::clone(worker), Rc::clone(&plan), started, client_ip, log);
        let mut exchange = Box::new(exchange);
        exchange.sampled(sampled);
        if grpc::is_asked(&parts) {
            exchange.speaks_grpc();
        }
        let story = Self {
            host: HeaderValue::from_static(""),
            client: Rc::clone(client),
            plan,
            parts,
            scan,
            client_ip,
            id,
            route: 0,
            prefix_len: 0,
            choice: None,
        };
        (story, exchange)
    }

    /// Vets, routes and chooses.
    fn find(&mut self, worker: &Worker, exchange: &mut Exchange) -> Result<(), ProxyError> {
        let plan = Rc::clone(&self.plan);
        let listener = plan.listeners.get(self.client.listener);
        if let Some(listener) = listener {
            head::vet(&self.parts, &self.scan, &rules(listener))?;
        }
        self.host = head::authority(&self.parts, &self.scan, &self.client)?;
        let host = head::routing_host(&self.host);
        // Who names no host (HTTP/1.0) is misdirected to none: what serves any host may answer.
        let named = self.scan.hosts > 0 || self.parts.uri.authority().is_some();
        if let Some(secured) = self.client.secured.get()
            && named
            && !secured.names.cover(&host)
        {
            let cause = "the connection's certificate does not cover the host";
            return Err(ProxyError::reject(RejectReason::Misdirected, cause));
        }
        let view = RequestHead {
            listener: self.client.listener,
            method: &self.parts.method,
            host: &host,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
            client_ip: self.client_ip,
        };
        let unrouted = |reason| ProxyError { kind: Kind::Unrouted(reason), cause: String::new() };
        let routed = plan.router.route(&view).map_err(unrouted)?;
        self.route = routed.route;
        self.prefix_len = routed.rule.prefix_len();
        let named = Named::of(&plan, &routed, &self.parts.method, &self.id);
        exchange.routed(routed.route, named);
        let Some(route) = plan.routes.get(routed.route) else { return Err(unrouted(UnroutedReason::Match)) };
        if let Some(limit) = &route.rate_limit {
            rate::admit(exchange, limit, &view)?;
        }
        if route.filters.answer.is_none() {
            let now = worker.clock.unix().seconds();
            let choice = route.split.choose(&view, now, || worker.entropy());
            let choice = choice.ok_or_else(|| unrouted(UnroutedReason::NoWeight))?;
            self.choice = Some(choice);
        }
        Ok(())
    }

    /// Answers by filter, or forwards to the chosen arm.
    async fn tell(&mut self, mut exchange: Box<Exchange>, body: Incoming) -> Response<Body> {
        let plan = Rc::clone(&self.plan);
        let Some(route) = plan.routes.get(self.route) else {
            let error = ProxyError { kind: Kind::Unrouted(UnroutedReason::Match), cause: String::new() };
            return refuse(error, exchange, &self.id);
        };
        let expects = self.scan.expect;
        let Some(choice) = self.choice else {
            let (client, deadlines) = self.parties(&exchange);
            return Box::pin(unread(self.answer(exchange, route), body, &client, &deadlines, expects)).await;
        };
        let websocket = route.websocket && self.scan.upgrade && tunnel::asks(&self.parts);
        let vetted = self.check_body(&plan, &body);
        if let Err(error) = vetted.and_then(|()| head::strip_request(&mut self.parts.headers, &self.scan)) {
            let (client, deadlines) = self.parties(&exchange);
            let answer = refuse(error, exchange, &self.id);
            return Box::pin(unread(answer, body, &client, &deadlines, expects)).await;
        }
        exchange.chosen(choice);
        let multiplexed =
            route.arm(choice.arm).is_some_and(|arm| arm.upstream.protocol == UpstreamProtocol::H2);
        let mut body = self.upload(&plan, &mut exchange, body, multiplexed);
        let mut request = self.dress_for_all(&plan, route);
        if !route.mirrors.is_empty() {
            let (id, te_trailers) = (&self.id, self.scan.te_trailers);
            let (parts, body) = (&request, &body);
            let (route_at, choice, upgrade) = (self.route, &choice, websocket);
            let original = Original { route: route_at, choice, parts, body, id, te_trailers, upgrade };
            mirror::begin(&mut exchange, route, &original);
        }
        if websocket && body.is_empty() {
            body = RequestBody::Tunnel;
            request.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        let dress = PerArm::new(route, &request.headers, self.scan.te_trailers);
        let mut outgoing = again::prepare(&exchange, route, request, body);
        let sent = forward(&mut exchange, route, choice.arm, &mut outgoing, &dress).await;
        let opened = match sent {
            Ok(sent) if sent.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return switch(sent, exchange, &self.client, route, &self.id);
            }
            Ok(mut sent) => match opening(sent.body_mut()).await {
                Ok(frame) => Ok((sent, frame)),
                Err(error) => {
                    exchange.failed(exchange.answering(), FailureReason::BadResponse);
                    Err(ProxyError {
                        kind: Kind::Upstream(FailureReason::BadResponse),
                        cause: error.to_string(),
                    })
                }
            },
            Err(error) => Err(error),
        };
        match opened {
            Ok((sent, frame)) => respond(sent, frame, exchange, &plan, route, &choice, self.client.secure),
            Err(error) => {
                let error = client_side(&exchange, error);
                let fixed = guard::fixed(route, choice.arm, &error).filter(|_| !exchange.is_grpc());
                let mut response = match fixed {
                    Some(respond) => guard::answer(respond, exchange, &self.id),
                    None => refuse(error, exchange, &self.id),
                };
                issue_cookie(response.headers_mut(), route, &choice);
                response
            }
        }
    }

    /// Who sends the body, and the clock it is held to.
    fn parties(&self, exchange: &Exchange) -> (Rc<Client>, Rc<Deadlines>) {
        (Rc::clone(&self.client), Rc::clone(&exchange.worker().deadlines))
    }

    /// A declared length over the limit is refused before any upstream hears of it.
    fn check_body(&self, plan: &Plan, body: &Incoming) -> Result<(), ProxyError> {
        let limit = plan.listeners.get(self.client.listener).map_or(0, |one| one.limits.body_bytes.0);
        let lower = body.size_hint().lower();
        if limit > 0 && lower > limit {
            let cause = format!("a body of {lower} bytes is over the limit of {limit}");
            return Err(ProxyError::reject(RejectReason::BodyTooLarge, cause));
        }
        Ok(())
    }

    fn upload(&self, plan: &Plan, exchange: &mut Exchange, body: Incoming, multiplexed: bool) -> RequestBody {
        if body.is_end_stream() {
            return RequestBody::Empty;
        }
        let trailers = match body.size_hint().exact() {
            _ if multiplexed && self.parts.version == Version::HTTP_2 => Announced::Any,
            Some(_) => Announced::None,
            None => Announced::by(&self.parts.headers),
        };
        let limit = plan.listeners.get(self.client.listener).map_or(0, |one| one.limits.body_bytes.0);
        let (client, deadlines) = self.parties(exchange);
        let upload = Rc::new(Upload::new(&client, &deadlines, limit, trailers));
        exchange.uploading(&upload);
        RequestBody::Streaming(body, upload)
    }

    /// Edits the head for any arm: target, Host, forwarded headers, request id, filters.
    fn dress_for_all(&mut self, plan: &Plan, route: &Route) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        std::mem::swap(&mut parts, &mut self.parts);
        let trusted = identity::is_trusted(&plan.trusted_proxies, self.client.peer.ip());
        let asked = self.host.clone();
        match &route.filters.hostname {
            Some(host) => drop(parts.headers.insert(HOST, host.clone())),
            // What was asked for is the Host that came.
            None if self.scan.hosts == 1 && parts.uri.authority().is_none() => {}
            None => drop(parts.headers.insert(HOST, asked.clone())),
        }
        if self.scan.forwarded || self.scan.underscore {
            identity::strip_identity(&mut parts.headers);
        }
        identity::forward(&mut parts.headers, &self.client, trusted, self.scan.forwarded, &asked);
        parts.headers.insert(X_REQUEST_ID, self.id.clone());
        for name in &route.private_headers {
            parts.headers.remove(name);
        }
        if let Some(pin) = &route.split.pin {
            pin.strip(&mut parts.headers);
        }
        if plan.listeners.get(self.client.listener).is_some_and(|listener| listener.via) {
            // The protocol it was received by (RFC 9110 section 7.6.3).
            let via = match parts.version {
                Version::HTTP_2 => "2 switchback",
                Version::HTTP_10 => "1.0 switchback",
                _ => "1.1 switchback",
            };
            parts.headers.append(VIA, HeaderValue::from_static(via));
        }
        if route.filters.path.is_some() || !is_origin_form(&parts.uri) {
            parts.uri = self.target(&parts.uri, route);
        }
        parts.version = Version::HTTP_11;
        route.filters.request.apply(&mut parts.headers);
        parts
    }

    /// The target in origin form, rewritten if the route says so.
    fn target(&self, uri: &Uri, route: &Route) -> Uri {
        let mut target = http::uri::Parts::default();
        target.path_and_query = match &route.filters.path {
            // An absolute target may have a query and no path (RFC 9112 section 3.2.1).
            None if uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?')) => {
                PathAndQuery::try_from(format!("/?{}", uri.query().unwrap_or_default())).ok()
            }
            None => uri.path_and_query().cloned(),
            Some(edit) => {
                let mut path = edit.apply(uri.path(), self.prefix_len);
                if let Some(query) = uri.query() {
                    path.push('?');
                    path.push_str(query);
                }
                PathAndQuery::try_from(path).ok().or_else(|| uri.path_and_query().cloned())
            }
        };
        Uri::from_parts(target).unwrap_or_default()
    }

    /// Answers without an upstream.
    fn answer(&self, mut exchange: Box<Exchange>, route: &Route) -> Response<Body> {
        let host = head::routing_host(&self.host).into_owned();
        let mut response = match &route.filters.answer {
            Some(Answer::Redirect(redirect)) => {
                let location = redirect.location(&Location {
                    scheme: if self.client.secure { "https" } else { "http" },
                    host: &host,
                    port: self.client.local.port(),
                    path: self.parts.uri.path(),
                    query: self.parts.uri.query(),
                    prefix_len: self.prefix_len,
                });
                let mut response = Response::new(bytes::Bytes::new());
                *response.status_mut() = redirect.status;
                if let Ok(location) = HeaderValue::try_from(location) {
                    response.headers_mut().insert(http::header::LOCATION, location);
                }
                response
            }
            Some(Answer::Respond(respond)) => {
                let mut response = Response::new(respond.body.clone());
                *response.status_mut() = respond.status;
                response.headers_mut().insert(http::header::CONTENT_TYPE, respond.content_type.clone());
                if let Some(after) = &respond.retry_after {
                    response.headers_mut().insert(RETRY_AFTER, after.clone());
                }
                response
            }
            None => Response::default(),
        };
        route.filters.response.apply(response.headers_mut());
        exchange.answered(response.status());
        exchange.complete();
        response.map(|text| Body::Fixed(Some(text), exchange))
    }
}

/// A failure the client caused is not the upstream's.
fn client_side(exchange: &Exchange, error: ProxyError) -> ProxyError {
    exchange
        .client_error()
        .map_or(error, |reason| ProxyError::reject(reason, "the client broke its own body"))
}

/// Whether a target is a path, perhaps with a query, as it is forwarded (RFC 9112 section 3.2.1).
fn is_origin_form(uri: &Uri) -> bool {
    let path = uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/'));
    path && uri.authority().is_none() && uri.scheme().is_none()
}

/// The host a request names, for the log, whether or not it can be served.
fn asked_host(parts: &request::Parts) -> HeaderValue {
    let named = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    named.or_else(|| parts.headers.get(HOST).cloned()).unwrap_or(HeaderValue::from_static(""))
}

fn rules(listener: &Listener) -> Rules {
    Rules {
        header_bytes: listener.limits.header_bytes.0,
        header_count: listener.limits.header_count.value,
        target_bytes: listener.limits.target_bytes.0,
        paths: listener.paths,
    }
}
