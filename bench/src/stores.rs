//! What a store of its own costs: `persistence_server` on Redis, `PostgreSQL` and etcd against
//! programs that speak their protocols. Everything shares all cores.

use e2e::{
    service::Service,
    store::{Etcd, Postgres, Redis},
};

use crate::{
    Plan,
    candidate::{self, ready_on},
    generator::Wrk,
    results::Results,
    rounds::{self, Cell, Load},
};

/// Measures them.
pub(crate) fn measure(plan: Plan, results: &mut Results) -> Result<(), String> {
    on_redis(plan, results)?;
    on_postgres(plan, results)?;
    on_etcd(plan, results)
}

fn wrk(url: String, connections: u32) -> Load {
    Load::Wrk(Wrk {
        url,
        connections,
        closing: false,
        cores: None,
    })
}

/// `persistence_server` with its store, whose time counts too.
fn ours_on(candidate: &'static str, ours: &Service, store: u32, connections: u32) -> Cell {
    Cell {
        candidate,
        connections,
        pids: vec![ours.pid(), store],
        admin: Some(ours.admin_addr()),
        load: wrk(ours.public_url(), connections),
    }
}

fn on_redis(plan: Plan, results: &mut Results) -> Result<(), String> {
    let redis = Redis::start();
    let ours = ready_on("redis", &[("REDIS_PORT", redis.port().to_string())]);
    let webdis = candidate::webdis(redis.port());
    let mut cells = Vec::new();
    for connections in [64, 256] {
        let redis_pid = redis.process().pid();
        cells.push(ours_on("redis", &ours, redis_pid, connections));
        cells.push(Cell {
            candidate: "webdis",
            connections,
            pids: vec![webdis.pid(), redis_pid],
            admin: None,
            load: wrk(format!("http://{}/INCR/x", webdis.addr()), connections),
        });
        cells.push(Cell {
            candidate: "redis-benchmark",
            connections,
            pids: vec![redis_pid],
            admin: None,
            load: Load::RedisBenchmark(redis.port()),
        });
    }
    results.samples.extend(rounds::run(&cells, plan)?);
    results.prove("redis", &ours, plan.numbers, 64)
}

fn on_postgres(plan: Plan, results: &mut Results) -> Result<(), String> {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE counter (value bigint); INSERT INTO counter VALUES (0)");
    postgres.sql("CREATE SEQUENCE numbers_witness");
    let port = postgres.port();
    let ours = ready_on("postgres", &[("PGPORT", port.to_string())]);
    let pid = postgres.process().pid();
    let pgbench = |candidate, statement| Cell {
        candidate,
        connections: 64,
        pids: vec![pid],
        admin: None,
        load: Load::Pgbench(port, statement),
    };
    let cells = [
        ours_on("postgres", &ours, pid, 64),
        pgbench(
            "pgbench UPDATE",
            "UPDATE counter SET value = value + 1 RETURNING value",
        ),
        pgbench("pgbench nextval", "SELECT nextval('numbers_witness')"),
    ];
    results.samples.extend(rounds::run(&cells, plan)?);
    results.prove("postgres", &ours, plan.numbers, 64)
}

fn on_etcd(plan: Plan, results: &mut Results) -> Result<(), String> {
    let etcd = Etcd::start();
    let ours = ready_on("etcd", &[("ETCD_ENDPOINTS", etcd.endpoints())]);
    let pid = etcd.process(0).pid();
    let cells = [
        ours_on("etcd", &ours, pid, 256),
        // One transaction for each number: the next one needs to know what the last one has led to.
        ours_on("etcd", &ours, pid, 1),
        Cell {
            candidate: "etcd puts",
            connections: 256,
            pids: vec![pid],
            admin: None,
            load: Load::Puts(etcd.endpoints()),
        },
    ];
    results.samples.extend(rounds::run(&cells, plan)?);
    results.prove("etcd", &ours, plan.numbers, 256)
}
