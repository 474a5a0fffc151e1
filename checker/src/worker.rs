//! One connection's share of the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;

use crate::answer::{Answer, excerpt, explain, hash_of};
use crate::client::{Client, Failed, Failure, Reply};
use crate::load::{Control, Ending, FailureCount, KEPT, Outcome};
use crate::{Operation, Violation};

/// Asks again and again on one connection.
pub(crate) struct Worker {
    pub(crate) connection: u16,
    pub(crate) client: Client,
    pub(crate) asked: u32,
    pub(crate) max_failures: Option<u64>,
    /// How many requests are left to be answered, for all workers.
    pub(crate) tickets: Arc<AtomicU64>,
    pub(crate) control: Control,
    pub(crate) outcome: Outcome,
}

impl Worker {
    /// Works until there are no tickets left or the run is stopped, and tells what happened.
    pub(crate) async fn run(mut self) -> Outcome {
        let control = self.control.clone();
        tokio::select! {
            biased;
            () = self.work() => {}
            () = control.until_abandoned() => {
                self.outcome.abandoned += u64::from(self.client.in_flight);
            }
        }
        self.outcome.connections = self.client.opened;
        self.outcome
    }

    async fn work(&mut self) {
        while !self.control.is_stopping() && self.take_ticket() {
            let mut failures = 0;
            // A ticket stands for an answer: a failed request is made again on the same ticket.
            while let Err(Failed { failure, detail }) = self.attempt().await {
                failures += 1;
                let failed = FailureCount {
                    count: 1,
                    example: detail,
                };
                self.outcome.add_failures(failure, failed);
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

    fn take_ticket(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        let taken = self
            .tickets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    async fn attempt(&mut self) -> Result<(), Failed> {
        let reply = self.client.exchange().await?;
        if let Some(name) = &reply.served_by {
            let name = String::from_utf8_lossy(name.as_bytes());
            match self.outcome.served_by.get_mut(&*name) {
                Some(count) => *count += 1,
                None => drop(self.outcome.served_by.insert(name.into_owned(), 1)),
            }
        }
        if reply.status != StatusCode::OK {
            let failure = Failure::Status(reply.status.as_u16());
            return Err(Failed::new(failure, explain(&reply.body)));
        }
        let Some(answer) = Answer::parse(&reply.body) else {
            let body = excerpt(&String::from_utf8_lossy(&reply.body));
            self.wrong(Violation::NoNumber {
                operation: self.operation(&reply, 0, 0),
                body: body.clone(),
            });
            return Err(Failed::new(Failure::NoNumber, body));
        };

        let operation = self.operation(&reply, answer.number, answer.count);
        if let Some(hash) = answer.hash {
            self.outcome.hashes += 1;
            let expected = hash_of(answer.number);
            if hash != expected {
                self.wrong(Violation::WrongHash {
                    operation,
                    hash: excerpt(&hash),
                    expected,
                });
            }
        }
        if answer.count != self.asked {
            self.wrong(Violation::WrongCount {
                operation,
                asked: self.asked,
            });
        }
        self.outcome.history.operations.push(operation);
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

    fn wrong(&mut self, violation: Violation) {
        self.outcome.wrong_answers += 1;
        if self.outcome.wrong.len() < KEPT {
            self.outcome.wrong.push(violation);
        }
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
