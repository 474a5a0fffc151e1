//! Requests at a fixed rate, whether or not answers come.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use checker::client::{Client, Clock, Failed, Failure};
use checker::load::Outcome;
use checker::{Operation, Target};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep_until;

/// How long connecting, and each answer, may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One request in so many is the last on its connection, as clients come and go.
const LAST: u64 = 16;

/// Sends so many requests a second for as long as `goes_on` says, and waits for their answers.
///
/// When as many `connections` are waiting for an answer, further requests wait for one of them.
/// `clock` gives the times of the operations.
///
/// # Panics
///
/// When the target is none that the checker accepts.
#[track_caller]
pub fn run(
    url: &str,
    rate: u32,
    connections: usize,
    clock: Clock,
    goes_on: impl Fn() -> bool,
) -> Outcome {
    let target: Target = url.parse().expect("a URL");
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let idle = Rc::new(RefCell::new(Vec::<Client>::new()));
    let free = Rc::new(Semaphore::new(connections));
    let load = async {
        let begin = Instant::now();
        let mut sent = 0;
        while goes_on() {
            sleep_until((begin + Duration::from_secs(sent) / rate).into()).await;
            sent += 1;
            let is_last = sent % LAST == 0;
            let (outcome, target) = (Rc::clone(&outcome), target.clone());
            let (idle, free) = (Rc::clone(&idle), Rc::clone(&free));
            spawn_local(async move {
                let _free = free.acquire().await.expect("it is not closed");
                let kept = idle.borrow_mut().pop();
                let mut client = kept.unwrap_or_else(|| Client::new(target, 1, TIMEOUT, clock));
                let answer = ask(&mut client).await;
                let mut outcome = outcome.borrow_mut();
                match answer {
                    Ok(operation) => outcome.history.operations.push(operation),
                    Err(Failed { failure, detail }) => {
                        let known = outcome.failures.entry(failure).or_default();
                        known.count += 1;
                        known.example = detail;
                    }
                }
                if !is_last {
                    idle.borrow_mut().push(client);
                }
            });
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    let requests = LocalSet::new();
    requests.block_on(&runtime, load);
    runtime.block_on(requests);
    outcome.take()
}

async fn ask(client: &mut Client) -> Result<Operation, Failed> {
    let reply = client.exchange().await?;
    let number = serde_json::from_slice(&reply.body)
        .ok()
        .and_then(|body: Value| body["data"]["number"].as_u64());
    match (reply.status.as_u16(), number) {
        (200, Some(number)) => Ok(Operation {
            sent: reply.sent,
            received: reply.received,
            number,
            count: 1,
            connection: 0,
            run: 0,
        }),
        (status, _) => Err(Failed {
            failure: Failure::Status(status),
            detail: String::from_utf8_lossy(&reply.body).into_owned(),
        }),
    }
}
