//! What the client is told: the upstream's answer, cleaned and edited, or an error of ours.
//!
//! Every answer carries its exchange to its end. It must never pass on what concerns only the
//! upstream's connection, nor the cause of an error.

use std::any::Any;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use http::header::{CONNECTION, RETRY_AFTER, SET_COOKIE, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::body::{Body, Passing};
use super::error::{Kind, ProxyError};
use super::exchange::Exchange;
use super::identity::X_REQUEST_ID;
use super::tunnel::Opened;
use super::tunnels::Claim;
use super::worker::PlanRef;
use super::{grpc, head, tunnel};
use crate::model::trailers::Announced;
use crate::model::{Client, FailureReason};
use crate::plan::Route;
use crate::split::Choice;
use crate::upstream::{Arrived, DRAIN_BYTES, Deadlines, RequestBody, Upload};

/// The upstream's response, cleaned and edited, with the exchange riding on its body.
pub fn respond(
    sent: Response<Arrived>,
    frame: Option<Frame<bytes::Bytes>>,
    mut exchange: Box<Exchange>,
    plan: &PlanRef,
    route: &Route,
    choice: &Choice,
    secure: bool,
) -> Response<Body> {
    let (mut parts, body) = sent.into_parts();
    exchange.grpc_fields(&parts.headers);
    head::strip_response(&mut parts);
    if let Some(captured) = exchange.captured() {
        captured.headers(&parts.headers);
    }
    parts.version = Version::HTTP_11;
    route.filters.response.apply(&mut parts.headers);
    let answering = exchange.answering();
    if let Some(arm) = route.arm(answering) {
        arm.response_ops.apply(&mut parts.headers);
        if let Some(name) = &route.arm_header_client {
            parts.headers.insert(name.clone(), arm.header_value.clone());
        }
    }
    issue_cookie(&mut parts.headers, route, choice);
    if answering == choice.arm {
        pin_cookie(&mut parts.headers, route, choice, exchange.worker().clock.unix().seconds(), secure);
    }
    debug_assert!(Rc::ptr_eq(plan, exchange.plan()), "one plan per request");
    if exchange.is_uploading() {
        // Answered early: nobody may read the rest, and a client that hears so can stop sending it.
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let begins_with_trailers = frame.as_ref().is_some_and(Frame::is_trailers);
    let trailers = match body.size_hint().exact() {
        _ if body.is_multiplexed() => Announced::Any,
        Some(_) if !begins_with_trailers => Announced::None,
        _ => Announced::by(&parts.headers),
    };
    let passing = Passing::new(body, frame, exchange, route.timeouts.stream_idle, trailers);
    Response::from_parts(parts, Body::Upstream(passing))
}

/// The upstream agreed to a tunnel: the client is told, and its connection finds the tunnel once the
/// answer is out. An upstream that agreed to something else answered wrongly.
pub fn switch(
    sent: Response<Arrived>,
    mut exchange: Box<Exchange>,
    client: &Rc<Client>,
    route: &Route,
    id: &HeaderValue,
) -> Response<Body> {
    let (mut parts, body) = sent.into_parts();
    let opened = body.into_tunnel().filter(|_| tunnel::is_websocket(&parts.headers));
    let Some(upstream) = opened else {
        exchange.failed(exchange.answering(), FailureReason::BadResponse);
        let cause = "the upstream switched to another protocol".to_owned();
        let error = ProxyError { kind: Kind::Upstream(FailureReason::BadResponse), cause };
        return refuse(error, exchange, id);
    };
    head::strip_response(&mut parts);
    route.filters.response.apply(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let deadlines = Rc::clone(&exchange.worker().deadlines);
    let claim = exchange.cell().map(|cell| Claim::new(exchange.worker(), cell));
    let (owner, idle) = (Rc::clone(client), route.timeouts.stream_idle);
    let opened: Box<dyn Any> = Box::new(Opened { upstream, client: owner, deadlines, idle, claim });
    client.tunnel.replace(Some(opened));
    exchange.complete();
    Response::from_parts(parts, Body::Fixed(None, exchange))
}

/// Gives a keyless client its id, whatever the answer: its next request must find the same arm.
pub fn issue_cookie(headers: &mut HeaderMap, route: &Route, choice: &Choice) {
    if let (Some(id), Some(cookie)) = (choice.issue, &route.split.issue) {
        headers.append(SET_COOKIE, cookie.header(id));
    }
}

/// Pins the client to the arm that answered; an error of ours pins nobody.
fn pin_cookie(headers: &mut HeaderMap, route: &Route, choice: &Choice, now: i64, secure: bool) {
    let Some((since, pin)) = choice.pin.zip(route.split.pin.as_ref()) else { return };
    if let Some(cookie) = pin.header(choice.arm, since, now, secure) {
        headers.append(SET_COOKIE, cookie);
    }
}

/// An answer given before the request's body was read: a short body is read and thrown away, so that
/// the connection stays in step; a long one, or one the client waits to be asked for, ends the
/// connection, and says so. An answer that ends the connection anyway waits for nothing.
pub async fn unread(
    mut response: Response<Body>,
    body: Incoming,
    client: &Rc<Client>,
    deadlines: &Rc<Deadlines>,
    expects: bool,
) -> Response<Body> {
    if body.is_end_stream() {
        return response;
    }
    let mut left = DRAIN_BYTES;
    // Watched as any upload: who does not send what was announced is ended.
    let mut body = RequestBody::Streaming(body, Rc::new(Upload::new(client, deadlines, 0, Announced::None)));
    let ends = response.headers().contains_key(CONNECTION) || body.size_hint().lower() > DRAIN_BYTES;
    if ends || expects {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let length = match frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => DRAIN_BYTES + 1,
            None => break,
        };
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                break;
            }
        }
    }
    response
}

/// An error of ours: a short fixed text and the request id, never a cause.
pub fn refuse(error: ProxyError, mut exchange: Box<Exchange>, id: &HeaderValue) -> Response<Body> {
    exchange.refused(&error);
    let wait = exchange.retry_after;
    exchange.complete();
    let (status, close) = error.kind.answer();
    let text = format!("{} {}: {}", status.as_u16(), reason_phrase(status), error.kind.label());
    let mut response = if exchange.is_grpc() {
        let mut response = Response::new(Body::Fixed(None, exchange));
        grpc::tell(&mut response, error.kind.grpc(), &text);
        response
    } else {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let mut response = Response::new(Body::Fixed(Some((text + "\n").into()), exchange));
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
        response
    };
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id.clone());
    if wait > 0 {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait));
    } else if matches!(error.kind, Kind::Upstream(FailureReason::Overflow | FailureReason::Breaker)) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn reason_phrase(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}
