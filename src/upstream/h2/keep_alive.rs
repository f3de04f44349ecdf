//! Keep-alive of a connection: a PING when it has been in use for a while, an end when none answers.
//!
//! It finds the origin that vanished without a word. It must never ping a connection nobody uses.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};

use crate::upstream::deadline::{Deadline, Deadlines};

/// Between two PINGs while exchanges run.
const EVERY: Duration = Duration::from_secs(10);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The PINGs of one connection.
#[derive(Debug)]
pub(super) struct KeepAlive {
    pings: Option<PingPong>,
    deadline: Deadline,
    asked: bool,
}

impl KeepAlive {
    pub(super) fn new(pings: Option<PingPong>, deadlines: &Rc<Deadlines>) -> Self {
        Self { pings, deadline: Deadline::new(deadlines, EVERY), asked: false }
    }

    /// Ready when the peer no longer answers. To be polled whenever the connection is.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        // Two rounds at most: an answer, then the wait for the next question.
        for _ in 0..2 {
            if self.asked {
                match pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.asked = false;
                        self.deadline.restart(EVERY);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.deadline.poll_over(cx),
                }
            }
            if !busy {
                return Poll::Pending;
            }
            ready!(self.deadline.poll_over(cx));
            self.asked = pings.send_ping(Ping::opaque()).is_ok();
            self.deadline.restart(PATIENCE);
        }
        Poll::Pending
    }
}
