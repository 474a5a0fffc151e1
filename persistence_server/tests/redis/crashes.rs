//! Servers that die, and others that take their place.

use std::{io, net::SocketAddr, thread::sleep, time::Duration};

use async_trait::async_trait;
use e2e::{
    Fault, Proxy,
    load::{History, Load},
    store::{Redis, redis::Options},
};
use sequence::{Block, Count, Error, Sequence};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{server, skipped};

/// Takes numbers while the server is killed and started again, some times.
fn numbers_over_restarts<S: Sequence + 'static>(
    appendonly: bool,
    open: impl Fn(SocketAddr) -> S + Clone + Send + 'static,
) -> History {
    let mut redis = Redis::start_with(Options {
        appendonly,
        ..Options::default()
    });
    let addr = redis.addr();
    let load = Load::start(8, move || open(addr));
    for _ in 0..5 {
        load.wait_for(100);
        redis.kill9();
        sleep(Duration::from_millis(50));
        redis.restart();
    }
    load.wait_for(100);
    load.finish()
}

#[test]
fn a_server_killed_again_and_again_under_load_repeats_nothing() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_restarts(true, |addr| {
        let server = server(addr.port(), &[("REDIS_REQUIRE_DURABLE", "true")]);
        server.clone()
    });
    numbers.assert_proven();
}

#[test]
fn without_its_log_a_server_repeats_and_the_test_sees_it() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_restarts(false, |addr| server(addr.port(), &[]));
    let fault = numbers.verify().expect_err("it begins again at 1");
    assert_eq!(fault.kind(), "duplicate", "{fault}");
}

/// Takes numbers while the replica falls behind, the primary is killed and the replica is
/// promoted in its place.
fn numbers_over_a_failover<S: Sequence + 'static>(
    open: impl Fn(SocketAddr) -> S + Clone + Send + 'static,
) -> History {
    let primary = Redis::start();
    let link = Proxy::start(primary.addr());
    let mut replica = Redis::start_with(Options {
        replica_of: Some(link.addr()),
        ..Options::default()
    });
    let front = Proxy::start(primary.addr());
    let addr = front.addr();
    let load = Load::start(8, move || open(addr));
    load.wait_for(200);
    // The replica falls behind. Suspending it would not do: what was sent to it meanwhile waits
    // in the kernel, and it would still read that.
    link.set(Fault::BlackHole);
    // Long enough for callers to learn that a write was not confirmed.
    sleep(Duration::from_millis(1500));
    primary.kill9();
    replica.promote();
    // The new primary needs a replica to confirm its writes.
    let _next = Redis::start_with(Options {
        replica_of: Some(replica.addr()),
        ..Options::default()
    });
    front.redirect(replica.addr());
    load.wait_for(200);
    load.finish()
}

#[test]
fn a_failover_repeats_nothing_when_a_replica_confirms_each_write() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_a_failover(|addr| {
        let variables = [
            ("REDIS_REQUIRE_DURABLE", "true"),
            ("REDIS_MIN_REPLICAS", "1"),
        ];
        server(addr.port(), &variables)
    });
    numbers.assert_proven();
}

#[test]
fn a_failover_repeats_with_plain_incrby_and_the_test_sees_it() {
    if skipped() {
        return;
    }
    let numbers = numbers_over_a_failover(Naive);
    let fault = numbers.verify().expect_err("the replica was behind");
    assert_eq!(fault.kind(), "duplicate", "{fault}");
}

/// `INCRBY` and nothing else, as one would do it without thinking of crashes.
struct Naive(SocketAddr);

#[async_trait(?Send)]
impl Sequence for Naive {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let call = async {
            let mut stream = BufReader::new(TcpStream::connect(self.0).await?);
            let command = format!("INCRBY sequence:numbers {count}\r\n");
            stream.write_all(command.as_bytes()).await?;
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            Ok(line)
        };
        let line = call
            .await
            .map_err(|error: io::Error| Error::unavailable(error))?;
        let last = line.trim().strip_prefix(':').and_then(|n| n.parse().ok());
        let last: u64 = last.ok_or_else(|| Error::unavailable("no number"))?;
        Ok(Block::after(last - u64::from(count.get()), count)?)
    }
}
