//! Half the load that the services can bear, for `SOAK_MINUTES`: 30 in `make soak`, else half a minute.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use checker::{
    client::Clock,
    load::{self, Options},
};
use e2e::{
    open_load,
    proof::{options, proven, until_it_serves},
    service::Service,
    soak::{figure, scaled},
};

/// The load pauses so many times, to look at what the services hold while they are idle.
const PARTS: u32 = 12;

/// In the first of them memory grows to what the load needs.
const WARM_UP: usize = 4;

#[test]
fn half_of_the_possible_load_leaves_no_memory_and_no_file_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let persistence = Service::builder("persistence_server").env("DATA_DIR", dir.path());
    let persistence = persistence.env("ACCESS_LOG", "off").start();
    let port = persistence.addr().port().to_string();
    let hash = Service::builder("hash_server").env("PERSISTENCE_PORT", port);
    let hash = hash.env("ACCESS_LOG", "off").start();
    until_it_serves(&hash);

    let most = load::run(&Options {
        requests: None,
        duration: Some(Duration::from_secs(scaled(20, 3))),
        ..options([&hash], 0)
    });
    let most = most.expect("a load");
    assert_eq!(most.failed(), 0, "{:?}", most.failures);
    let proof = proven(&most);
    let rate = (proof.numbers as f64 / most.elapsed.as_secs_f64() / 2.0) as u32;
    let (_, mut last) = proof.range.expect("numbers");

    let length = match env::var("SOAK_MINUTES") {
        Ok(minutes) => 60 * minutes.parse::<u64>().expect("whole SOAK_MINUTES"),
        Err(_) => scaled(30 * 60, 30),
    };
    let length = Duration::from_secs(length);
    let (begin, clock) = (Instant::now(), Clock::start());
    let mut held = [Vec::new(), Vec::new()];
    for _ in 0..PARTS {
        let end = Instant::now() + length / PARTS;
        let goes_on = || Instant::now() < end;
        let load = open_load::run(&hash.public_url(), rate, 64, clock, goes_on);
        assert_eq!(load.failed(), 0, "{:?}", load.failures);
        let proof = proven(&load);
        let (first, largest) = proof.range.expect("numbers");
        let no_gap = (last + 1, 0);
        assert_eq!((first, proof.skipped), no_gap, "nothing fails");
        last = largest;
        for (service, held) in [&hash, &persistence].into_iter().zip(&mut held) {
            held.push(Held::by(service, begin));
        }
    }
    for (name, held) in ["hash_server", "persistence_server"].into_iter().zip(&held) {
        assert_flat(name, rate, &held[WARM_UP..]);
    }
}

/// What an idle service holds, and when.
#[derive(Debug)]
struct Held {
    minutes: f64,
    megabytes: f64,
    files: usize,
}

impl Held {
    fn by(service: &Service, begin: Instant) -> Self {
        // Clients' connections are closed in a moment, and the check of readiness opens some.
        let files = (0..10).map(|_| {
            thread::sleep(Duration::from_millis(50));
            service.open_files()
        });
        Self {
            files: files.min().expect("some"),
            megabytes: service.rss_bytes() as f64 / 1e6,
            minutes: begin.elapsed().as_secs_f64() / 60.0,
        }
    }
}

#[track_caller]
fn assert_flat(name: &str, rate: u32, held: &[Held]) {
    let [first, .., last] = held else {
        panic!("too few parts: {held:?}");
    };
    let growth = slope(held) * (last.minutes - first.minutes);
    let (earlier, later) = held.split_at(held.len() / 2);
    let [before, after] = [earlier, later].map(|held| held.iter().map(|held| held.files).min());
    figure(format_args!(
        "soak, {rate} requests/s for {:.0} minutes: {name} grew by {growth:.2} MB to {:.1} MB; it \
         has {after:?} files open, before {before:?}",
        last.minutes, last.megabytes
    ));
    // 1 MB in 10 minutes; in a shorter time, what an allocator keeps is no sign of a leak.
    let limit = ((last.minutes - first.minutes) / 10.0).max(1.0);
    assert!(growth <= limit, "{name} grew by {growth:.2} MB: {held:#?}");
    assert!(after <= before, "{name} has more files open: {held:#?}");
}

/// Of the line through the points by least squares, in megabytes a minute.
fn slope(held: &[Held]) -> f64 {
    let count = held.len() as f64;
    let minutes = held.iter().map(|held| held.minutes).sum::<f64>() / count;
    let megabytes = held.iter().map(|held| held.megabytes).sum::<f64>() / count;
    let (above, below) = held.iter().fold((0.0, 0.0), |(above, below), held| {
        let time = held.minutes - minutes;
        (
            above + time * (held.megabytes - megabytes),
            below + time * time,
        )
    });
    above / below
}
