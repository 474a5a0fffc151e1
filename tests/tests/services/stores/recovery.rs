//! How soon the rate is back after an outage longer than a request may wait.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use e2e::{
    proxy::{Fault, Proxy},
    service::Builder,
    soak::{figure, scaled},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{LocalSet, spawn_local},
    time::sleep_until,
};

use super::backend::{Backend, Kind};
use crate::started::{in_front_of, memory, ready};

super::on_every_store!(
    the_rate_is_back_soon_after_the_store_hung,
    the_rate_is_back_soon_after_the_store_refused,
);

/// Shorter than the outage, so that requests expire in it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

const OUTAGE: Duration = Duration::from_secs(5);

/// How long to look on after the outage.
const AFTER: Duration = Duration::from_secs(8);

/// The rate is looked at in slots of this length.
const SLOT: Duration = Duration::from_millis(250);

/// A request that took longer was waiting for the store to come back.
const PROMPT: Duration = Duration::from_millis(500);

fn the_rate_is_back_soon_after_the_store_hung(kind: Kind) {
    after_an_outage_of_the_store(kind, Fault::BlackHole);
}

fn the_rate_is_back_soon_after_the_store_refused(kind: Kind) {
    after_an_outage_of_the_store(kind, Fault::Refuse);
}

fn after_an_outage_of_the_store(kind: Kind, fault: Fault) {
    let Some(backend) = Backend::start(kind) else {
        return;
    };
    let proxy = Proxy::start(backend.addr());
    let name = format!("{kind:?}");
    recovers(&name, &proxy, fault, backend.client_at(proxy.addr()));
}

#[test]
fn the_rate_is_back_soon_after_persistence_hung() {
    after_an_outage_of_persistence(Fault::BlackHole);
}

#[test]
fn the_rate_is_back_soon_after_persistence_refused() {
    after_an_outage_of_persistence(Fault::Refuse);
}

fn after_an_outage_of_persistence(fault: Fault) {
    let persistence = memory();
    let proxy = Proxy::start(persistence.addr());
    let port = proxy.port().to_string();
    let hash = in_front_of(&persistence).env("PERSISTENCE_PORT", port);
    recovers("persistence", &proxy, fault, hash);
}

/// Takes the proxy's server away and looks how long its return takes to show in the rate.
#[track_caller]
fn recovers(name: &str, proxy: &Proxy, fault: Fault, client: Builder) {
    let timeout = REQUEST_TIMEOUT.as_millis().to_string();
    let service = ready(client.env("REQUEST_TIMEOUT_MS", timeout));
    let rate = scaled(1000, 200);
    let runs = usize::try_from(scaled(20, 1)).expect("a small number");
    for round_trip in [1, 10, 50].into_iter().cycle().skip(1).take(runs) {
        let pass = Fault::Latency {
            delay: Duration::from_millis(round_trip),
            jitter: Duration::ZERO,
        };
        proxy.set(pass);
        let answers = under_open_load(service.addr(), rate, || {
            thread::sleep(Duration::from_secs(1));
            proxy.set(fault);
            thread::sleep(OUTAGE);
            proxy.set(pass);
            let back = Instant::now();
            thread::sleep(AFTER);
            back
        });
        let skipped = answers.skipped;
        figure(format_args!(
            "{name}, {fault:?}, {round_trip} ms round trip: the rate is back after {:.2?}, \
             {skipped} numbers skipped",
            answers.recovered
        ));
        // Noise of the machine may add some; the old luck took until requests had expired.
        let limit = Duration::from_secs(scaled(3, 6));
        let recovered = answers.recovered.unwrap_or(AFTER);
        assert!(recovered <= limit, "{name}, {fault:?}: {recovered:?}");
        assert!(
            skipped <= 2 * rate,
            "{name}, {fault:?}: {skipped} numbers skipped"
        );
    }
}

struct Answered {
    sent: Instant,
    after: Duration,
    number: u64,
}

struct Answers {
    /// Numbers that no request received.
    skipped: u64,
    /// From the end of the outage until nine tenths of the requests are answered promptly, for a
    /// second at least.
    recovered: Option<Duration>,
}

/// Sends requests at a fixed rate, whether or not answers come, while `outage` runs. It returns
/// when the outage was over.
fn under_open_load(
    addr: SocketAddr,
    rate: u64,
    outage: impl FnOnce() -> Instant + Send,
) -> Answers {
    thread::scope(|scope| {
        let outage = scope.spawn(outage);
        let answered = Rc::new(RefCell::new(Vec::new()));
        let idle = Rc::new(RefCell::new(Vec::new()));
        let load = async {
            let begin = Instant::now();
            let mut sent = 0;
            while !outage.is_finished() {
                sleep_until((begin + Duration::from_secs(sent) / rate as u32).into()).await;
                sent += 1;
                let (answered, idle) = (Rc::clone(&answered), Rc::clone(&idle));
                spawn_local(async move {
                    let sent = Instant::now();
                    let kept = idle.borrow_mut().pop();
                    if let Some((number, connection)) = ask(addr, kept).await {
                        let answer = Answered {
                            sent,
                            after: sent.elapsed(),
                            number,
                        };
                        answered.borrow_mut().push(answer);
                        idle.borrow_mut().push(connection);
                    }
                });
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, load);
        let back = outage.join().expect("the outage does not panic");
        let answered = answered.take();
        let numbers = || answered.iter().map(|answer| answer.number);
        let span = numbers()
            .max()
            .zip(numbers().min())
            .map_or(0, |(max, min)| max + 1 - min);
        Answers {
            skipped: span - answered.len() as u64,
            recovered: recovery(&answered, back, rate),
        }
    })
}

/// One request; if it was answered with a number, that and the connection.
async fn ask(addr: SocketAddr, kept: Option<TcpStream>) -> Option<(u64, TcpStream)> {
    let mut connection = match kept {
        Some(kept) => kept,
        None => TcpStream::connect(addr).await.ok()?,
    };
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") {
        if connection.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    let answer = String::from_utf8(answer).ok()?;
    let (_, number) = answer.split_once("{\"data\":{\"number\":")?;
    let end = number.find(|byte: char| !byte.is_ascii_digit())?;
    Some((number[..end].parse().ok()?, connection))
}

fn recovery(answered: &[Answered], back: Instant, rate: u64) -> Option<Duration> {
    let slots = usize::try_from(AFTER.as_millis() / SLOT.as_millis()).expect("few slots");
    let mut prompt = vec![0; slots];
    for answer in answered.iter().filter(|answer| answer.after <= PROMPT) {
        if let Some(since) = answer.sent.checked_duration_since(back)
            && let Some(count) = prompt.get_mut((since.as_millis() / SLOT.as_millis()) as usize)
        {
            *count += 1;
        }
    }
    let enough = SLOT.as_secs_f64() * rate as f64 * 0.9;
    let is_back = |slots: &[u32]| slots.iter().all(|&count| f64::from(count) >= enough);
    let first = prompt.windows(4).position(is_back)?;
    // The first of those requests may have waited so long.
    Some(SLOT * u32::try_from(first).expect("few slots") + PROMPT)
}
