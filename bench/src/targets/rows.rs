//! The targets and their bounds.

use super::{
    Bound::{self, AtLeast, AtMost},
    figures::{CPU, Figures, P50, RATE},
};
use crate::spread::Spread;

pub(super) type Row = (&'static str, Bound, Option<Spread>);

pub(super) fn http(figures: &Figures<'_>) -> Vec<Row> {
    let cpu = |above, below, connections| figures.ratio(CPU, above, below, connections);
    vec![
        (
            "P1 hello, CPU against nginx, 32 connections",
            AtMost(1.00),
            cpu("hello", "nginx", 32),
        ),
        (
            "P1 hello, CPU against the floor, 32 connections",
            AtMost(1.10),
            cpu("hello", "floor", 32),
        ),
        (
            "P2 persistence in memory, CPU against the floor, 32",
            AtMost(1.15),
            cpu("memory", "floor", 32),
        ),
        (
            "P3 chain, CPU against one call per request, 256",
            AtMost(0.30),
            cpu("chain", "naive chain", 256),
        ),
        (
            "P3 chain, CPU against one call per request, 32",
            AtMost(0.45),
            cpu("chain", "naive chain", 32),
        ),
        (
            "P3 chain, CPU against the floor, 256",
            AtMost(1.5),
            cpu("chain", "floor", 256),
        ),
        (
            "P3 chain, CPU against the floor, 32",
            AtMost(1.9),
            cpu("chain", "floor", 32),
        ),
        (
            "P4 chain, p50 against hello's, 1",
            AtMost(2.2),
            figures.ratio(P50, "chain", "hello", 1),
        ),
    ]
}

pub(super) fn stores(figures: &Figures<'_>) -> Vec<Row> {
    let rate = |above, below, connections| figures.ratio(RATE, above, below, connections);
    vec![
        (
            "P5 file, requests/s against memory, 32",
            AtLeast(0.6),
            rate("file", "memory", 32),
        ),
        (
            "P5 file, requests/s against memory, 256",
            AtLeast(0.8),
            rate("file", "memory", 256),
        ),
        (
            "P5 file beyond memory at 1, in times of fdatasync",
            AtMost(2.0),
            figures.beyond_memory(),
        ),
        (
            "P6 Redis, requests/s against webdis, 64",
            AtLeast(2.0),
            rate("redis", "webdis", 64),
        ),
        (
            "P6 Redis, requests/s against webdis, 256",
            AtLeast(1.5),
            rate("redis", "webdis", 256),
        ),
        (
            "P6 Redis, CPU against webdis, 64",
            AtMost(0.5),
            figures.ratio(CPU, "redis", "webdis", 64),
        ),
        (
            "P6 Redis, requests/s against redis-benchmark, 64",
            AtLeast(0.9),
            rate("redis", "redis-benchmark", 64),
        ),
        (
            "P7 PostgreSQL, requests/s against UPDATE, 64",
            AtLeast(10.0),
            rate("postgres", "pgbench UPDATE", 64),
        ),
        (
            "P7 PostgreSQL, requests/s against nextval, 64",
            AtLeast(1.0),
            rate("postgres", "pgbench nextval", 64),
        ),
        (
            "P8 etcd, requests/s against one transaction for each number, 256",
            AtLeast(10.0),
            figures.together_against_alone(),
        ),
    ]
}

pub(super) fn growth(figures: &Figures<'_>) -> Vec<Row> {
    let workers = |two_workers, one| figures.ratio(CPU, two_workers, one, 256);
    vec![
        (
            "P9 blocks of 1000 on file, million numbers/s",
            AtLeast(20.0),
            figures.0.spread("blocks of 1000 on file", 32, |sample| {
                sample.per_second * 1000.0 / 1e6
            }),
        ),
        (
            "P10 file, most store operations/s, in times of 1/fdatasync",
            AtMost(1.0),
            figures.busiest_store(),
        ),
        (
            "P10 file, store operations/s at 1024 against at 1",
            AtMost(1.0),
            figures.many_against_one(),
        ),
        (
            "P11 hello, CPU with two workers against one, 256",
            AtMost(1.1),
            workers("hello, two workers", "hello"),
        ),
        (
            "P11 persistence in memory, CPU with two workers against one, 256",
            AtMost(1.1),
            workers("memory, two workers", "memory"),
        ),
        (
            "P11 chain, CPU with two workers against one, 256",
            AtMost(1.1),
            workers("chain, two workers", "chain"),
        ),
    ]
}

pub(super) fn processes(figures: &Figures<'_>) -> Vec<Row> {
    vec![
        (
            "P12 hello, resident idle, MB",
            AtMost(4.0),
            figures.fact("hello: resident idle, MB"),
        ),
        (
            "P12 hash, resident idle, MB",
            AtMost(5.0),
            figures.fact("hash: resident idle, MB"),
        ),
        (
            "P12 persistence, resident idle, MB",
            AtMost(6.0),
            figures.fact("persistence: resident idle, MB"),
        ),
        (
            "P12 hello, resident at 1024 connections, MB",
            AtMost(25.0),
            figures.fact("hello: resident loaded, MB"),
        ),
        (
            "P12 hash, resident at 1024 connections, MB",
            AtMost(25.0),
            figures.fact("hash: resident loaded, MB"),
        ),
        (
            "P12 persistence, resident behind it, MB",
            AtMost(25.0),
            figures.fact("persistence: resident loaded, MB"),
        ),
        (
            "P13 hello, start to first answer, ms",
            AtMost(10.0),
            figures.fact("hello_server: start, ms"),
        ),
        (
            "P13 persistence, start to first answer, ms",
            AtMost(10.0),
            figures.fact("persistence_server: start, ms"),
        ),
        (
            "P13 hash, start to first answer, ms",
            AtMost(10.0),
            figures.fact("hash_server: start, ms"),
        ),
        (
            "P13 hello, image, MB",
            AtMost(4.0),
            figures.fact("hello_server: image, MB"),
        ),
        (
            "P13 hash, image, MB",
            AtMost(6.0),
            figures.fact("hash_server: image, MB"),
        ),
        (
            "P13 persistence, image, MB",
            AtMost(10.0),
            figures.fact("persistence_server: image, MB"),
        ),
    ]
}
