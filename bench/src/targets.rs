//! What was aimed at, and what became of it.

use crate::{
    http::GROWING,
    results::{FDATASYNC, Results, Sample},
    spread::Spread,
};

/// Something to reach: a figure, most often a ratio of two, and its bound.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) value: Option<Spread>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The verdicts.
pub(crate) const MET: &str = "met";
pub(crate) const MISSED: &str = "**missed**";
pub(crate) const INCONCLUSIVE: &str = "inconclusive";
pub(crate) const NOT_MEASURED: &str = "not measured";

impl Target {
    /// What the rounds say: decided if the middle half of them lies on one side of the bound.
    pub(crate) fn verdict(&self) -> &'static str {
        let Some(Spread { low, high, .. }) = self.value else {
            return NOT_MEASURED;
        };
        let (met, missed) = match self.bound {
            Bound::AtMost(limit) => (high <= limit, low > limit),
            Bound::AtLeast(limit) => (low >= limit, high < limit),
        };
        match (met, missed) {
            (true, _) => MET,
            (_, true) => MISSED,
            _ => INCONCLUSIVE,
        }
    }
}

fn at_most(limit: f64, what: &'static str, value: Option<Spread>) -> Target {
    let bound = Bound::AtMost(limit);
    Target { what, bound, value }
}

fn at_least(limit: f64, what: &'static str, value: Option<Spread>) -> Target {
    let bound = Bound::AtLeast(limit);
    Target { what, bound, value }
}

/// All of them, in groups; the first of each is the one for the README.
pub(crate) fn targets(results: &Results) -> Vec<Vec<Target>> {
    let ratio = |of: fn(&Sample) -> f64, above: &str, below: &str, connections| {
        let [above, below] = [above, below].map(|name| results.cell(name, connections, of));
        Spread::of_ratio(&above, &below)
    };
    let cpu = |above, below, connections| ratio(|s| s.cpu_us, above, below, connections);
    let rate = |above, below, connections| ratio(|s| s.per_second, above, below, connections);
    let fact = |name| Spread::of(results.facts.get(name).map_or(&[], std::slice::from_ref));
    vec![
        vec![
            at_most(
                1.0,
                "hello, CPU against nginx, 32 connections",
                cpu("hello", "nginx", 32),
            ),
            at_most(
                1.1,
                "hello, CPU against a bare responder, 32",
                cpu("hello", "floor", 32),
            ),
        ],
        vec![at_most(
            1.15,
            "persistence in memory, CPU against a bare responder, 32",
            cpu("memory", "floor", 32),
        )],
        vec![
            at_most(
                0.3,
                "chain, CPU against one call per request, 256",
                cpu("chain", "naive chain", 256),
            ),
            at_most(
                0.45,
                "chain, CPU against one call per request, 32",
                cpu("chain", "naive chain", 32),
            ),
            at_most(
                1.5,
                "chain, CPU against a bare responder, 256",
                cpu("chain", "floor", 256),
            ),
            at_most(
                1.9,
                "chain, CPU against a bare responder, 32",
                cpu("chain", "floor", 32),
            ),
        ],
        vec![at_most(
            2.2,
            "chain, p50 against hello's, 1",
            ratio(|s| s.p50_us, "chain", "hello", 1),
        )],
        vec![
            at_least(
                0.6,
                "file, requests/s against memory, 32",
                rate("file", "memory", 32),
            ),
            at_least(
                0.8,
                "file, requests/s against memory, 256",
                rate("file", "memory", 256),
            ),
            at_most(
                2.0,
                "file beyond memory at 1, in times of fdatasync",
                beyond_memory(results),
            ),
        ],
        vec![
            at_least(
                2.0,
                "Redis, requests/s against webdis, 64",
                rate("redis", "webdis", 64),
            ),
            at_least(
                1.5,
                "Redis, requests/s against webdis, 256",
                rate("redis", "webdis", 256),
            ),
            at_most(
                0.5,
                "Redis, CPU against webdis, 64",
                cpu("redis", "webdis", 64),
            ),
            at_least(
                0.9,
                "Redis, requests/s against redis-benchmark, 64",
                rate("redis", "redis-benchmark", 64),
            ),
        ],
        vec![
            at_least(
                10.0,
                "PostgreSQL, requests/s against UPDATE, 64",
                rate("postgres", "pgbench UPDATE", 64),
            ),
            at_least(
                1.0,
                "PostgreSQL, requests/s against nextval, 64",
                rate("postgres", "pgbench nextval", 64),
            ),
        ],
        vec![at_least(
            10.0,
            "etcd, requests/s against one transaction for each number, 256",
            together_against_alone(results),
        )],
        vec![at_least(
            20.0,
            "blocks of 1000 on file, million numbers/s",
            results.spread("blocks of 1000 on file", 32, |s| s.per_second / 1e3),
        )],
        vec![
            at_most(
                1.0,
                "file, most store operations/s, in times of 1/fdatasync",
                busiest_store(results),
            ),
            at_most(
                1.0,
                "file, store operations/s at 1024 against at 1",
                many_against_one(results),
            ),
        ],
        vec![
            at_most(
                1.1,
                "hello, CPU with two workers against one, 256",
                cpu("hello, two workers", "hello", 256),
            ),
            at_most(
                1.1,
                "persistence in memory, CPU with two workers against one, 256",
                cpu("memory, two workers", "memory", 256),
            ),
            at_most(
                1.1,
                "chain, CPU with two workers against one, 256",
                cpu("chain, two workers", "chain", 256),
            ),
        ],
        vec![
            at_most(
                4.0,
                "hello, resident idle, MB",
                fact("hello: resident idle, MB"),
            ),
            at_most(
                5.0,
                "hash, resident idle, MB",
                fact("hash: resident idle, MB"),
            ),
            at_most(
                6.0,
                "persistence, resident idle, MB",
                fact("persistence: resident idle, MB"),
            ),
            at_most(
                25.0,
                "hello, resident at 1024 connections, MB",
                fact("hello: resident loaded, MB"),
            ),
            at_most(
                25.0,
                "hash, resident at 1024 connections, MB",
                fact("hash: resident loaded, MB"),
            ),
            at_most(
                25.0,
                "persistence, resident behind it, MB",
                fact("persistence: resident loaded, MB"),
            ),
        ],
        vec![
            at_most(
                10.0,
                "hello, start to first answer, ms",
                fact("hello_server: start, ms"),
            ),
            at_most(
                10.0,
                "persistence, start to first answer, ms",
                fact("persistence_server: start, ms"),
            ),
            at_most(
                10.0,
                "hash, start to first answer, ms",
                fact("hash_server: start, ms"),
            ),
            at_most(4.0, "hello, image, MB", fact("hello_server: image, MB")),
            at_most(6.0, "hash, image, MB", fact("hash_server: image, MB")),
            at_most(
                10.0,
                "persistence, image, MB",
                fact("persistence_server: image, MB"),
            ),
        ],
    ]
}

/// What a request on the file takes longer than one in memory, in times of the disk's own.
fn beyond_memory(results: &Results) -> Option<Spread> {
    let disk = *results.facts.get(FDATASYNC)?;
    let [file, memory] = ["file", "memory"].map(|name| results.cell(name, 1, |s| s.p50_us));
    let beyond = file.iter().zip(&memory);
    let beyond = beyond.map(|(file, memory)| (file - memory) / disk);
    Spread::of(&beyond.collect::<Vec<_>>())
}

/// How often the store is asked in the cell where that is most often, as a share of how often the
/// disk could be flushed by a program that does nothing else.
fn busiest_store(results: &Results) -> Option<Spread> {
    let disk = *results.facts.get(FDATASYNC)?;
    let cells = GROWING.into_iter().filter_map(|connections| {
        let share = |sample: &Sample| sample.operations() * disk / 1e6;
        results.spread("file, growing", connections, share)
    });
    cells.max_by(|a, b| a.median.total_cmp(&b.median))
}

/// How many numbers a second come out of etcd for 256 clients, against one after another.
fn together_against_alone(results: &Results) -> Option<Spread> {
    let [together, alone] = [256, 1].map(|c| results.cell("etcd", c, |s| s.per_second));
    Spread::of_ratio(&together, &alone)
}

fn many_against_one(results: &Results) -> Option<Spread> {
    let [many, one] = [1024, 1].map(|c| results.cell("file, growing", c, Sample::operations));
    Spread::of_ratio(&many, &one)
}

#[cfg(test)]
mod tests {
    use super::{
        Bound::{AtLeast, AtMost},
        *,
    };

    #[test]
    fn a_target_is_decided_when_the_middle_half_of_the_rounds_agrees() {
        let verdict = |bound, rounds: &[f64]| {
            let (what, value) = ("a target", Spread::of(rounds));
            Target { what, bound, value }.verdict()
        };
        assert_eq!(verdict(AtMost(1.0), &[0.9, 1.0]), "met");
        assert_eq!(verdict(AtMost(1.0), &[1.1, 1.2]), "**missed**");
        assert_eq!(verdict(AtLeast(1.0), &[1.1, 1.1]), "met");
        // However far apart they are.
        assert_eq!(verdict(AtLeast(10.0), &[17.0, 21.0, 30.0]), "met");
        assert_eq!(verdict(AtLeast(1.0), &[0.5, 1.0, 2.0]), INCONCLUSIVE);
        assert_eq!(verdict(AtLeast(1.0), &[]), NOT_MEASURED);
    }
}
