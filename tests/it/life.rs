//! The end of a process as its clients see it: delay, grace, the last word of every protocol.
//!
//! Nothing that was under way may be cut short without a word: uploads and streams come to their end,
//! HTTP/2 is told twice, tunnels end in order. Times are printed; what is asserted of them is what a
//! busy machine cannot stretch, but for the long form.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::h2raw::{ACK, DATA, END_STREAM, GOAWAY, H2Raw, HEADERS, PING, request};
use crate::support::recorder::{After, Recorder};
use crate::support::tools::binary;
use crate::support::{
    Behaviour, Conn, Gate, Origin, Proxy, Request, Site, eventually, get, long, needs, upstreams,
};

const ASK: &str = "GET /ws HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZQ==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn text(origins: &[&Origin], shutdown: &str) -> String {
    format!("shutdown: {shutdown}\n{}routes: [{{ name: all, split: {{ stable: 1 }} }}]\n", upstreams(origins))
}

/// An upstream that agrees to every tunnel and sends back what it gets.
fn echoes() -> Recorder {
    Recorder::start(|exchange| {
        exchange.send(AGREE.as_bytes());
        exchange.echo();
        After::Close
    })
}

fn tunnelled(up: &Recorder, more: &str) -> String {
    format!(
        "{more}upstreams: {{ app: \"{}\" }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}, upgrades: [websocket] }}]\n",
        up.url()
    )
}

fn tunnel(proxy: &Proxy) -> Conn {
    let mut conn = proxy.conn();
    conn.write(ASK.as_bytes()).expect("send");
    assert_eq!(conn.read_head("GET").expect("an answer").status, 101);
    conn
}

#[track_caller]
fn echo(conn: &mut Conn, word: &[u8]) {
    conn.write(word).expect("send");
    let back: Vec<u8> = word.iter().map(|_| conn.byte().expect("an echo")).collect();
    assert_eq!(back, word);
}

#[test]
fn delay_and_grace_are_what_a_client_that_keeps_coming_sees() {
    let stable = Origin::start("stable");
    stable.on("/hang", Behaviour::Hang);
    let (delay, grace) = (Duration::from_secs(2), Duration::from_secs(2));
    let mut proxy = Proxy::start(&text(&[&stable], "{ delay: 2s, grace: 2s }"));
    let mut hanging = proxy.conn();
    hanging.write(format!("{}\r\n", get("/hang").head()).as_bytes()).expect("send");
    eventually("it is in flight", || stable.requests() == 1);
    let told = Instant::now();
    proxy.signal("TERM");
    let (mut served, mut last) = (0, Duration::ZERO);
    let refused = loop {
        let at = told.elapsed();
        match Conn::try_open(proxy.web()) {
            // One that was accepted is served, whatever happens next.
            Ok(mut conn) => {
                conn.ask(&get("/")).expect_status(200);
                (served, last) = (served + 1, at);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                break told.elapsed();
            }
        }
        assert!(at < Duration::from_secs(30), "it accepts for ever");
    };
    assert_eq!(proxy.await_exit().code(), Some(0));
    let exit = told.elapsed();
    println!(
        "FIGURE | delay 2 s, grace 2 s | {served} served after SIGTERM, the last asked at {last:.2?}, \
              refused at {refused:.2?}, exit at {exit:.2?}"
    );
    assert!(served > 10 && refused >= delay, "{refused:?}");
    assert!(exit >= delay + grace, "{exit:?}: the hanging request had its grace");
    assert!(!long() || exit <= delay + grace + Duration::from_secs(1), "{exit:?}");
}

#[test]
fn uploads_and_streams_come_to_their_end_after_the_word_to_stop() {
    let stable = Origin::start("stable");
    let gate = Gate::closed();
    stable.on("/up", Behaviour::Swallow);
    stable.on("/events", Behaviour::Lines("text/event-stream", Duration::from_millis(5), gate.clone()));
    let mut proxy = Proxy::start(&text(&[&stable], "{ grace: 30s }"));
    let mut upload = proxy.conn();
    let head = Request::new("POST", "/up").header("transfer-encoding", "chunked").head();
    upload.write(format!("{head}\r\n").as_bytes()).expect("send");
    let piece = vec![7_u8; 16 << 10];
    upload.write_chunk(&piece).expect("send");
    let mut events = proxy.conn();
    assert_eq!(events.begin(&get("/events")).expect("a head").status, 200);
    eventually("both are in flight", || stable.requests() == 2 && stable.received() >= piece.len());

    let addr = proxy.web();
    proxy.signal("TERM");
    eventually("nobody else is let in", || Conn::try_open(addr).is_err());
    for _ in 0..100 {
        upload.write_chunk(&piece).expect("the upload goes on");
    }
    upload.write(b"0\r\n\r\n").expect("its end");
    let mut answer = upload.read_head("POST").expect("an answer").expect_status(200);
    while let Some(more) = upload.piece().expect("a whole body") {
        answer.body.extend(more);
    }
    assert!(answer.text().contains(&(101 * piece.len()).to_string()), "{}", answer.text());
    assert!(proxy.exited().is_none(), "the stream is not at its end");
    gate.open();
    let mut lines = Vec::new();
    while let Some(more) = events.piece().expect("a whole stream") {
        lines.extend(more);
    }
    assert!(lines.ends_with(b"\n"), "the last line is whole");
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn tunnels_last_to_the_grace_and_end_in_order_whoever_is_sending() {
    let up = echoes();
    let mut proxy = Proxy::start(&tunnelled(&up, "shutdown: { grace: 2s }\n"));
    let mut quiet = tunnel(&proxy);
    let mut wire = TcpStream::connect(proxy.web()).expect("connect");
    wire.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    wire.write_all(ASK.as_bytes()).expect("send");
    let mut head = vec![0; AGREE.len() * 4];
    let mut read = 0;
    while !head[..read].ends_with(b"\r\n\r\n") {
        read += wire.read(&mut head[read..=read]).expect("a head");
    }
    // This one never stops sending.
    let (sending, stop) = (wire.try_clone().expect("one socket"), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let sender = std::thread::spawn(move || {
        let mut sending = sending;
        while !stopped.load(Ordering::SeqCst) && sending.write_all(&[1; 512]).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let addr = proxy.web();
    proxy.signal("TERM");
    eventually("nobody else is let in", || Conn::try_open(addr).is_err());
    echo(&mut quiet, b"still here");
    assert_eq!(quiet.rest(), b"", "nothing but the end");
    let (mut piece, mut heard) = ([0; 4096], 0);
    let end = loop {
        match wire.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(count) => heard += count,
            Err(error) => break Err(error.kind()),
        }
    };
    stop.store(true, Ordering::SeqCst);
    sender.join().expect("the sender");
    assert_eq!(end, Ok(()), "an end in order after {heard} bytes, not a reset");
    assert!(heard > 0);
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn http2_is_told_twice_and_what_was_on_its_way_is_served() {
    let stable = Origin::start("stable");
    let gate = Gate::closed();
    stable.on("/slow", Behaviour::Gated(gate.clone()));
    let mut proxy = Proxy::start(&text(&[&stable], "{ grace: 30s }"));
    let mut raw = H2Raw::open(proxy.web());
    let authority = proxy.web().to_string();
    let slow = raw.open_stream(&request("GET", &authority, "/slow"), true);
    eventually("it is in flight", || stable.requests() == 1);
    proxy.signal("TERM");
    let last_id = |payload: &[u8]| u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
    let (mut told, mut late, mut ended) = (Vec::new(), None, Vec::new());
    while let Some(frame) = raw.next_frame() {
        match frame.kind {
            GOAWAY => {
                assert_eq!(frame.payload[4..8], [0; 4], "nobody did anything wrong");
                told.push(last_id(&frame.payload));
                if told.len() == 1 {
                    // A request that crossed the first word.
                    late = Some(raw.open_stream(&request("GET", &authority, "/"), true));
                } else {
                    gate.open();
                }
            }
            PING if frame.flags & ACK == 0 => raw.frame(PING, ACK, 0, &frame.payload),
            HEADERS | DATA if frame.flags & END_STREAM != 0 => ended.push(frame.stream),
            _ => {}
        }
    }
    ended.sort_unstable();
    let late = late.expect("a first word");
    assert_eq!(told, [0x7fff_ffff, late], "first all may come, then none after the last");
    assert_eq!(ended, [slow, late]);
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn a_second_word_ends_at_once() {
    let stable = Origin::start("stable");
    stable.on("/hang", Behaviour::Hang);
    let mut proxy = Proxy::start(&text(&[&stable], "{ delay: 1h, grace: 1h }"));
    let mut conn = proxy.conn();
    conn.write(format!("{}\r\n", get("/hang").head()).as_bytes()).expect("send");
    eventually("it is in flight", || stable.requests() == 1);
    proxy.signal("TERM");
    let draining = |proxy: &Proxy| proxy.admin(&proxy.admin_request("GET", "/readyz")).status == 503;
    eventually("it drains", || draining(&proxy));
    proxy.signal("INT");
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn reloads_cut_no_tunnel() {
    let up = echoes();
    let (tunnels, reloads) = if long() { (100, 1_000) } else { (20, 50) };
    let proxy = Proxy::start(&tunnelled(&up, ""));
    let mut open: Vec<Conn> = (0..tunnels).map(|_| tunnel(&proxy)).collect();
    for round in 0..reloads {
        proxy.reload(&tunnelled(
            &up,
            &format!("trustedProxies: [\"10.{}.{}.0/24\"]\n", round / 250, round % 250),
        ));
        echo(&mut open[round % tunnels], b"here");
    }
    for conn in &mut open {
        echo(conn, b"all of us");
    }
    println!("FIGURE | {reloads} reloads | {tunnels} tunnels, none cut");
}

#[test]
fn there_are_as_many_workers_as_cores_that_may_be_used() {
    needs!("taskset");
    let stable = Origin::start("stable");
    let site = Site::new(&text(&[&stable], "{ grace: 1s }"));
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(binary()).args(["run", "-c"]).arg(site.file()).current_dir(site.folder());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("taskset");
    let workers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
        let name =
            |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        tasks.map(name).filter(|name| name.starts_with("worker-")).count()
    };
    eventually("it accepts", || Conn::try_open(site.web()).is_ok());
    eventually("its workers run", || workers() > 0);
    let count = workers();
    child.kill().expect("kill");
    child.wait().expect("reap");
    assert_eq!(count, 1);
}
