//! One connection's share of the load.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;

use super::tally::Tally;
use super::tickets::Tickets;
use super::{Control, Ending};
use crate::client::{Answer, Client, Failed, Failure, Reply, excerpt, explain, hash_of};
use crate::{Operation, Violation};

/// Asks again and again on one connection.
pub(super) struct Worker {
    pub(super) connection: u16,
    pub(super) client: Client,
    pub(super) asked: u32,
    pub(super) max_failures: Option<u64>,
    pub(super) tickets: Arc<Tickets>,
    pub(super) control: Control,
    /// Shared by the workers of one thread only, so it is never contended.
    pub(super) tally: Arc<Mutex<Tally>>,
}

impl Worker {
    /// Works until there are no tickets left or the run is stopped.
    pub(super) async fn run(mut self) {
        while !self.control.is_stopping() && self.tickets.take() {
            let mut failures = 0;
            // A ticket stands for an answer: a failed request is made again on the same ticket.
            while let Err(failed) = self.attempt().await {
                failures += 1;
                self.tally().failed(failed);
                let so_far = self.control.note_failure();
                if self.max_failures.is_some_and(|max| so_far > max) {
                    self.control.end(Ending::TooManyFailures);
                }
                if self.control.is_stopping() {
                    return;
                }
                tokio::time::sleep(pause(failures)).await;
                if self.control.is_stopping() {
                    return;
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), Failed> {
        let reply = self.client.exchange().await?;
        let mut tally = self.tally();
        if let Some(name) = &reply.served_by {
            tally.served_by(name);
        }
        if reply.status != StatusCode::OK {
            let failure = Failure::Status(reply.status.as_u16());
            return Err(Failed::new(failure, explain(&reply.body)));
        }
        let Some(answer) = Answer::parse(&reply.body) else {
            let body = excerpt(&String::from_utf8_lossy(&reply.body));
            tally.wrong(Violation::NoNumber {
                operation: self.operation(&reply, 0, 0),
                body: body.clone(),
            });
            return Err(Failed::new(Failure::NoNumber, body));
        };

        let operation = self.operation(&reply, answer.number, answer.count);
        if let Some(hash) = answer.hash {
            tally.hashes += 1;
            let expected = hash_of(answer.number);
            if hash != expected {
                tally.wrong(Violation::WrongHash {
                    operation,
                    hash: excerpt(&hash),
                    expected,
                });
            }
        }
        if answer.count != self.asked {
            tally.wrong(Violation::WrongCount {
                operation,
                asked: self.asked,
            });
        }
        tally.operations.push(operation);
        self.control.note_answer(reply.received);
        Ok(())
    }

    fn operation(&self, reply: &Reply, number: u64, count: u32) -> Operation {
        Operation {
            sent: reply.sent,
            received: reply.received,
            number,
            count,
            connection: self.connection,
            run: 0,
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to leave the service alone after so many failures in a row: from a few milliseconds
/// to a tenth of a second, and not the same for all connections.
fn pause(failures: u32) -> Duration {
    let longest = (5_u64 << failures.min(5)).min(100);
    Duration::from_micros(fastrand::u64(longest * 500..=longest * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short() {
        for failures in [1, 2, 5, 6, 1_000_000] {
            let pause = pause(failures);
            assert!(pause >= Duration::from_millis(5), "{pause:?}");
            assert!(pause <= Duration::from_millis(100), "{pause:?}");
        }
        assert!(pause(1) <= Duration::from_millis(10));
        assert!(pause(9) >= Duration::from_millis(50));
    }
}
