//! What a store of its own costs: `persistence_server` on Redis and `PostgreSQL` against programs that
//! speak their protocols. Everything shares all cores.

use e2e::store::{postgres::Postgres, redis::Redis};

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
    on_postgres(plan, results)
}

fn wrk(url: String, connections: u32) -> Load {
    Load::Wrk(Wrk {
        url,
        connections,
        core: None,
    })
}

fn on_redis(plan: Plan, results: &mut Results) -> Result<(), String> {
    if let Err(missing) = Redis::available() {
        results.missing.push(missing.to_string());
        return Ok(());
    }
    let redis = Redis::start();
    let ours = ready_on("redis", &[("REDIS_PORT", redis.port().to_string())]);
    let webdis = candidate::webdis(redis.port());
    let mut cells = Vec::new();
    for connections in [64, 256] {
        let redis_pid = redis.process().pid();
        cells.push(Cell {
            candidate: "redis",
            connections,
            pids: vec![ours.pid(), redis_pid],
            admin: Some(ours.admin_addr()),
            load: wrk(ours.public_url(), connections),
        });
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
    Ok(())
}

fn on_postgres(plan: Plan, results: &mut Results) -> Result<(), String> {
    if let Err(missing) = Postgres::available() {
        results.missing.push(missing.to_string());
        return Ok(());
    }
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
        Cell {
            candidate: "postgres",
            connections: 64,
            pids: vec![ours.pid(), pid],
            admin: Some(ours.admin_addr()),
            load: wrk(ours.public_url(), 64),
        },
        pgbench(
            "pgbench UPDATE",
            "UPDATE counter SET value = value + 1 RETURNING value",
        ),
        pgbench("pgbench nextval", "SELECT nextval('numbers_witness')"),
    ];
    results.samples.extend(rounds::run(&cells, plan)?);
    Ok(())
}
