//! A session in front of a scripted HTTP/2 server on an in-memory transport.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use h2::Reason;
use h2::server::{self, SendResponse};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, Collected, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::model::time::{CoarseClock, UnixMillis};

type Server = server::Connection<DuplexStream, Bytes>;

const TRANSPORT: usize = 256 << 10;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn clock() -> (Rc<CoarseClock>, Rc<Deadlines>) {
    let clock = Rc::new(CoarseClock::default());
    (Rc::clone(&clock), Deadlines::new(clock))
}

async fn pair(settings: &server::Builder) -> (Rc<Session>, Server) {
    let (near, far) = duplex(TRANSPORT);
    let (_, deadlines) = clock();
    let room = Rc::default();
    let (session, server) =
        tokio::join!(Session::open(near, &deadlines, &room), settings.handshake::<_, Bytes>(far));
    (session.unwrap(), server.unwrap())
}

#[expect(clippy::unnecessary_wraps, reason = "a request to be taken out")]
fn get() -> Option<Request<Empty<Bytes>>> {
    let request = Request::get("/x?y").header("host", "shop.example");
    Some(request.body(Empty::new()).unwrap())
}

/// Drives a server that answers nothing further.
fn drive(mut server: Server) {
    tokio::task::spawn_local(async move { while server.accept().await.is_some() {} });
}

async fn first(server: &mut Server) -> (Request<RecvStream>, SendResponse<Bytes>) {
    server.accept().await.unwrap().unwrap()
}

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

#[test]
fn an_exchange_has_its_head_body_and_trailers_both_ways() {
    run(async {
        let (session, mut server) = pair(&server::Builder::new()).await;
        tokio::task::spawn_local(async move {
            let (request, mut respond) = first(&mut server).await;
            assert_eq!(request.uri(), "http://shop.example/x");
            assert_eq!(request.headers()["content-length"], "4");
            drive(server);
            let mut body = request.into_body();
            let mut got = Vec::new();
            while let Some(data) = body.data().await {
                got.extend_from_slice(&data.unwrap());
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            let mut stream = respond.send_response(head(200), false).unwrap();
            stream.send_data(got.into(), false).unwrap();
            stream.send_trailers(trailers).unwrap();
        });
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames = [Frame::data(Bytes::from_static(b"ping")), Frame::trailers(trailers)];
        let body = Given { frames: frames.map(Ok).into(), endless: false };
        let request = Request::post("/x").header("host", "shop.example").header("content-length", "4");
        let mut outgoing = Some(request.body(body).unwrap());
        let response = session.send(&mut outgoing, || {}).await.unwrap();
        let whole = response.into_body().collect().await.unwrap();
        let trailers = whole.trailers().unwrap();
        assert_eq!((trailers.len(), &trailers["grpc-status"]), (1, &"0".parse().unwrap()));
        assert_eq!(whole.to_bytes(), "ping");
        assert_eq!(session.in_flight(), 0);
    });
}

/// What a server does with its first request, and what that is to us: the reason, and whether the
/// request may go out again.
#[test]
fn every_failure_before_the_head_is_told_apart() {
    type Act = fn(&mut SendResponse<Bytes>);
    let rows: [(&str, Act, FailureReason, bool); 8] = [
        ("refused", |r| r.send_reset(Reason::REFUSED_STREAM), FailureReason::Reset, true),
        ("cancelled", |r| r.send_reset(Reason::CANCEL), FailureReason::Reset, false),
        ("not here", |r| r.send_reset(Reason::HTTP_1_1_REQUIRED), FailureReason::BadResponse, false),
        (
            "interims without end",
            |r| (0..33).for_each(|_| r.send_informational(head(103)).unwrap()),
            FailureReason::BadResponse,
            false,
        ),
        ("101", |r| r.send_informational(head(101)).unwrap(), FailureReason::BadResponse, false),
        ("600", |r| drop(r.send_response(head(600), true).unwrap()), FailureReason::BadResponse, false),
        (
            "a head over the limit",
            |r| {
                let mut head = head(200);
                let value = "a".repeat(8 << 10).parse::<http::HeaderValue>().unwrap();
                for name in ["a", "b", "c", "d", "e"] {
                    head.headers_mut().insert(name, value.clone());
                }
                drop(r.send_response(head, true).unwrap());
            },
            FailureReason::BadResponse,
            false,
        ),
        ("gone", |_| {}, FailureReason::Reset, false),
    ];
    for (name, act, reason, again) in rows {
        run(async {
            let (session, mut server) = pair(&server::Builder::new()).await;
            tokio::task::spawn_local(async move {
                let (_request, mut respond) = first(&mut server).await;
                act(&mut respond);
                if name != "gone" {
                    drive(server);
                }
            });
            let mut outgoing = get();
            let refused = session.send(&mut outgoing, || {}).await.unwrap_err();
            assert_eq!((refused.reason, refused.unsent), (reason, again), "{name}: {}", refused.cause);
            // Without a body it could go out again; whether it may is not decided here.
            assert_eq!(outgoing.is_some(), reason == FailureReason::Reset, "{name}");
            assert_eq!(session.in_flight(), 0, "{name}");
        });
    }
}

#[test]
fn goaway_gives_back_what_came_too_late_and_lets_the_rest_end() {
    run(async {
        let (session, mut server) = pair(&server::Builder::new()).await;
        let (told, mut tell) = tokio::sync::mpsc::channel::<()>(1);
        tokio::task::spawn_local(async move {
            let (_request, mut respond) = first(&mut server).await;
            server.graceful_shutdown();
            let (_late, _dropped) = tokio::join!(async { server.accept().await.is_none() }, async {
                tell.recv().await;
                let mut stream = respond.send_response(head(200), false).unwrap();
                stream.send_data(Bytes::from_static(b"whole"), true).unwrap();
            });
        });
        let mut outgoing = get();
        let early = session.send(&mut outgoing, || {});
        let late = async {
            while !session.is_leaving() {
                tokio::task::yield_now().await;
            }
            assert!(!session.has_room() && !session.is_closed());
            let mut outgoing = get();
            session.send(&mut outgoing, || {}).await.unwrap_err();
            assert!(outgoing.is_some(), "never sent");
            told.send(()).await.unwrap();
        };
        let (early, ()) = tokio::join!(early, late);
        assert_eq!(early.unwrap().into_body().collect().await.unwrap().to_bytes(), "whole");
        while !session.is_closed() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_request_that_met_a_closed_connection_never_left() {
    run(async {
        let (session, server) = pair(&server::Builder::new()).await;
        // Nobody here has heard of it yet: the connection's task runs only when this one waits.
        drop(server);
        let mut outgoing = get();
        session.send(&mut outgoing, || {}).await.unwrap_err();
        assert!(outgoing.is_some());
    });
}

#[test]
fn a_response_that_ends_early_is_an_error_and_one_that_ended_is_not() {
    let rows = [
        ("no end", Some(Reason::NO_ERROR), false, false),
        ("cut", Some(Reason::INTERNAL_ERROR), false, false),
        ("gone", None, false, false),
        ("complete, then reset without error", Some(Reason::NO_ERROR), true, true),
    ];
    for (name, reset, ended, fine) in rows {
        run(async {
            let (session, mut server) = pair(&server::Builder::new()).await;
            tokio::task::spawn_local(async move {
                let (request, mut respond) = first(&mut server).await;
                let mut stream = respond.send_response(head(200), false).unwrap();
                stream.send_data(Bytes::from_static(b"half"), ended).unwrap();
                // The reset must not overtake the data.
                for _ in 0..8 {
                    let _ = tokio::time::timeout(Duration::from_millis(1), server.accept()).await;
                }
                if let Some(reason) = reset {
                    stream.send_reset(reason);
                    drive(server);
                }
                drop(request);
            });
            // The request does not end by itself.
            let body = Given { frames: VecDeque::new(), endless: true };
            let request = Request::post("/").header("host", "a").body(body).unwrap();
            let response = session.send(&mut Some(request), || {}).await.unwrap();
            let whole = response.into_body().collect().await.map(Collected::to_bytes);
            assert_eq!(whole.is_ok(), fine, "{name}: {whole:?}");
            assert_eq!(session.in_flight(), 0, "{name}");
        });
    }
}

#[test]
fn a_dropped_response_cancels_its_stream_and_no_other() {
    run(async {
        let (session, mut server) = pair(&server::Builder::new()).await;
        let (cancelled, mut cancel) = tokio::sync::mpsc::channel(1);
        tokio::task::spawn_local(async move {
            let mut kept = Vec::new();
            for _ in 0..2 {
                let (_, mut respond) = first(&mut server).await;
                kept.push(respond.send_response(head(200), false).unwrap());
            }
            drive(server);
            let reason = std::future::poll_fn(|cx| kept[0].poll_reset(cx)).await.unwrap();
            kept[1].send_data(Bytes::from_static(b"whole"), true).unwrap();
            cancelled.send(reason).await.unwrap();
        });
        let dropped = session.send(&mut get(), || {}).await.unwrap();
        let kept = session.send(&mut get(), || {}).await.unwrap();
        assert_eq!(session.in_flight(), 2);
        drop(dropped);
        assert_eq!(cancel.recv().await, Some(Reason::CANCEL));
        assert_eq!(kept.into_body().collect().await.unwrap().to_bytes(), "whole");
        assert_eq!(session.in_flight(), 0);
    });
}

#[test]
fn a_body_that_its_client_broke_cancels_the_stream() {
    run(async {
        let (session, mut server) = pair(&server::Builder::new()).await;
        let (ended, mut end) = tokio::sync::mpsc::channel(1);
        tokio::task::spawn_local(async move {
            let (mut request, _respond) = first(&mut server).await;
            drive(server);
            while let Some(data) = request.body_mut().data().await {
                if let Err(error) = data {
                    ended.send(error.reason()).await.unwrap();
                }
            }
        });
        let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(std::io::Error::other("broken"))];
        let body = Given { frames: frames.into(), endless: false };
        let mut outgoing = Some(Request::post("/").header("host", "a").body(body).unwrap());
        let refused = session.send(&mut outgoing, || {}).await.unwrap_err();
        assert_eq!((refused.reason, outgoing.is_none()), (FailureReason::Reset, true));
        assert_eq!(end.recv().await, Some(Some(Reason::CANCEL)));
    });
}

#[test]
fn thousands_of_cancels_leave_the_connection_alone() {
    const ROUNDS: usize = 25;
    const STREAMS: usize = 200;
    run(async {
        let mut settings = server::Builder::new();
        settings.max_concurrent_reset_streams(10_000);
        let (near, far) = duplex(1 << 10);
        let (_, deadlines) = clock();
        let room = Rc::default();
        let (session, server) =
            tokio::join!(Session::open(near, &deadlines, &room), settings.handshake::<_, Bytes>(far));
        let (session, mut server) = (session.unwrap(), server.unwrap());
        tokio::task::spawn_local(async move {
            let mut before = Vec::new();
            let mut streams = Vec::new();
            while let Some(Ok((_, mut respond))) = server.accept().await {
                streams.push(respond.send_response(head(200), false).unwrap());
                if streams.len() == STREAMS {
                    // Behind the narrow transport these are still under way when the cancels come.
                    for stream in &mut streams {
                        let _ = stream.send_data(Bytes::from_static(&[0; 64]), false);
                    }
                    before = std::mem::take(&mut streams);
                }
            }
            drop(before);
        });
        for round in 0..ROUNDS {
            let sending = (0..STREAMS).map(|_| {
                let session = Rc::clone(&session);
                tokio::task::spawn_local(async move { session.send(&mut get(), || {}).await.unwrap() })
            });
            let mut responses = Vec::new();
            for sent in sending.collect::<Vec<_>>() {
                responses.push(sent.await.unwrap());
            }
            drop(responses);
            assert!(session.has_room(), "round {round}");
            assert_eq!(session.in_flight(), 0);
        }
    });
}

#[test]
fn tiny_messages_wait_for_a_slow_reader() {
    const MESSAGES: usize = 20_000;
    run(async {
        let (session, mut server) = pair(&server::Builder::new()).await;
        tokio::task::spawn_local(async move {
            let (_, mut respond) = first(&mut server).await;
            let mut stream = respond.send_response(head(200), false).unwrap();
            for _ in 0..MESSAGES {
                stream.send_data(Bytes::from_static(b"\0\0\0\0\x01x"), false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
            drive(server);
        });
        let response = session.send(&mut get(), || {}).await.unwrap();
        // Everything that the window lets through arrives unread.
        for _ in 0..MESSAGES {
            tokio::task::yield_now().await;
        }
        let whole = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(whole.len(), MESSAGES * 6);
    });
}

#[test]
fn large_bodies_pass_both_ways_within_the_windows() {
    const SIZE: usize = 3 << 20;
    run(async {
        let (session, mut server) = pair(&server::Builder::new()).await;
        tokio::task::spawn_local(async move {
            let (request, mut respond) = first(&mut server).await;
            drive(server);
            let mut body = request.into_body();
            let mut stream = respond.send_response(head(200), false).unwrap();
            // Sends back what it gets, so that both directions run at once.
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                let _ = body.flow_control().release_capacity(data.len());
                let mut rest = data;
                while !rest.is_empty() {
                    stream.reserve_capacity(rest.len());
                    if stream.capacity() == 0 {
                        std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                    }
                    stream.send_data(rest.split_to(rest.len().min(stream.capacity())), false).unwrap();
                }
            }
            stream.send_data(Bytes::new(), true).unwrap();
        });
        let body = Full::new(Bytes::from(vec![7; SIZE]));
        let mut outgoing = Some(Request::post("/").header("host", "a").body(body).unwrap());
        let response = session.send(&mut outgoing, || {}).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), SIZE);
    });
}

#[test]
fn only_a_peer_that_speaks_http2_is_a_connection() {
    run(async {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let (near, mut far) = duplex(TRANSPORT);
            tokio::task::spawn_local(async move {
                let mut preface = [0; 24];
                far.read_exact(&mut preface).await.unwrap();
                far.write_all(answer).await.unwrap();
            });
            let (_, deadlines) = clock();
            assert!(Session::open(near, &deadlines, &Rc::default()).await.is_err(), "{answer:?}");
        }
    });
}

#[test]
fn the_origin_says_how_many_exchanges_a_connection_takes() {
    run(async {
        let (session, mut server) = pair(server::Builder::new().max_concurrent_streams(1)).await;
        tokio::task::spawn_local(async move {
            let (_, mut respond) = first(&mut server).await;
            let _kept = respond.send_response(head(200), false).unwrap();
            drive(server);
            std::future::pending::<()>().await;
        });
        assert!(session.has_room());
        let response = session.send(&mut get(), || {}).await.unwrap();
        assert!(!session.has_room() && session.idle_since().is_none());
        drop(response);
        assert!(session.has_room() && session.idle_since().is_some());
    });
}

#[test]
fn a_peer_that_went_silent_is_found_by_ping() {
    run(async {
        let (near, far) = duplex(TRANSPORT);
        let (clock, deadlines) = clock();
        let room = Rc::default();
        let (session, server) = tokio::join!(Session::open(near, &deadlines, &room), server::handshake(far));
        let (session, _silent) = (session.unwrap(), server.unwrap());
        let mut outgoing = get();
        let waiting = session.send(&mut outgoing, || {});
        let time = async {
            for tick in 1..=400 {
                clock.set(Tick(tick), UnixMillis(0));
                deadlines.sweep();
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                if session.is_closed() {
                    return tick;
                }
            }
            0
        };
        let (refused, after) = tokio::join!(waiting, time);
        assert_eq!(refused.unwrap_err().reason, FailureReason::Reset);
        assert!((300..=310).contains(&after), "10 s and 5 s in ticks of 50 ms: {after}");
    });
}

/// A body of given frames.
struct Given {
    frames: VecDeque<io::Result<Frame<Bytes>>>,
    /// Whether it waits after them instead of ending.
    endless: bool,
}

impl Body for Given {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.frames.pop_front() {
            None if self.endless => Poll::Pending,
            frame => Poll::Ready(frame),
        }
    }
}
