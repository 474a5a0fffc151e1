//! Load with a proof at its end.

use std::{
    thread,
    time::{Duration, Instant},
};

use checker::{
    Proof,
    load::{self, Control, Options, Outcome},
};

use crate::{http, service::Service, wait};

/// So many requests from 64 connections, spread over these services.
///
/// # Panics
///
/// When there is none.
#[track_caller]
pub fn options<'a>(targets: impl IntoIterator<Item = &'a Service>, requests: u64) -> Options {
    options_for(
        targets.into_iter().map(|service| service.public_url()),
        requests,
    )
}

/// So many requests from 64 connections, spread over these URLs.
///
/// # Panics
///
/// When there is none, or one that the checker does not accept.
#[track_caller]
pub fn options_for(urls: impl IntoIterator<Item = String>, requests: u64) -> Options {
    let mut urls = urls.into_iter().map(|url| url.parse().expect("a URL"));
    let mut options = Options::new(urls.next().expect("a target"));
    options.targets.extend(urls);
    options.requests = Some(requests);
    options
}

/// The proof that an outcome keeps the promise.
///
/// # Panics
///
/// When it does not, naming the violation.
#[track_caller]
pub fn proven(outcome: &Outcome) -> Proof {
    assert!(outcome.wrong.is_empty(), "{:?}", outcome.wrong);
    match checker::verify(&outcome.history.operations) {
        Ok(proof) => proof,
        Err(violation) => panic!("{violation}"),
    }
}

/// Keeps the targets of `load` under load for as long as `trouble` happens.
///
/// # Panics
///
/// When `trouble` does.
pub fn under_load(load: Options, trouble: impl FnOnce()) -> Outcome {
    let load = Options {
        requests: None,
        keep_trying: Duration::from_secs(60),
        ..load
    };
    let control = Control::default();
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run_with(&load, &control).expect("a load"));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(trouble));
        thread::sleep(Duration::from_millis(300));
        control.stop();
        let load = load.join().expect("the load does not panic");
        match outcome {
            Ok(()) => load,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A moment that nobody can foresee.
pub fn any_moment() {
    thread::sleep(Duration::from_millis(fastrand::u64(50..600)));
}

/// Waits until the service hands out a number, and tells how long that took.
///
/// # Panics
///
/// When it hands out none within half a minute.
#[track_caller]
pub fn until_it_serves(service: &Service) -> Duration {
    let begin = Instant::now();
    let addr = service.addr();
    wait::until("a number", Duration::from_secs(30), || {
        http::get(addr, "/")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    begin.elapsed()
}

/// The largest of some durations, for a figure.
#[derive(Debug, Default)]
pub struct Longest(Duration);

impl Longest {
    /// Takes one more into account.
    pub fn note(&mut self, duration: Duration) {
        self.0 = self.0.max(duration);
    }
}

impl std::fmt::Display for Longest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}
