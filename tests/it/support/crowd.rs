//! Many users asking at once, over a fixed set of keep-alive connections.
//!
//! Splitting is only visible in numbers, and the numbers must come from real requests. It must
//! never hide a failure: one answer that is not a 200 fails the test at once.

use std::net::SocketAddr;

use super::client::{Conn, Request, Response};

pub const CONNECTIONS: usize = 16;

/// Sends request `0..count` and returns the answering origin of each, in order.
pub fn ask(addr: SocketAddr, count: usize, request: impl Fn(usize) -> Request + Sync) -> Vec<String> {
    ask_with(addr, count, request, |response| {
        assert_eq!(response.status, 200, "unexpected answer: {response:?}");
        response.origin().to_owned()
    })
}

/// The same, for tests that want something else out of each answer.
pub fn ask_with<T: Send>(
    addr: SocketAddr,
    count: usize,
    request: impl Fn(usize) -> Request + Sync,
    read: impl Fn(Response) -> T + Sync,
) -> Vec<T> {
    let share = count.div_ceil(CONNECTIONS).max(1);
    let (request, read) = (&request, &read);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .step_by(share)
            .map(|first| {
                scope.spawn(move || {
                    let mut conn = Conn::open(addr);
                    (first..count.min(first + share))
                        .map(|index| read(conn.ask(&request(index))))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a client thread failed")).collect()
    })
}

pub fn count(answers: &[String], origin: &str) -> usize {
    answers.iter().filter(|answer| *answer == origin).count()
}
