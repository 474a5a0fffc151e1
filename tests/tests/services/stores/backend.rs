//! A real server that keeps the numbers, of any of the three kinds.

use std::net::SocketAddr;

use e2e::{
    service::{Builder, Service},
    skip,
    store::{etcd::Etcd, postgres::Postgres, redis::Redis},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Postgres,
    Etcd,
}

pub(crate) enum Backend {
    Redis(Redis),
    Postgres(Postgres),
    Etcd(Etcd),
}

impl Backend {
    /// Starts a server in its durable form; none if it is not installed, which has been said.
    #[track_caller]
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let available = match kind {
            Kind::Redis => Redis::available(),
            Kind::Postgres => Postgres::available(),
            Kind::Etcd => Etcd::available(),
        };
        if skip::unless(available) {
            return None;
        }
        Some(match kind {
            Kind::Redis => Self::Redis(Redis::start()),
            Kind::Postgres => Self::Postgres(Postgres::start()),
            Kind::Etcd => Self::Etcd(Etcd::start()),
        })
    }

    /// A persistence server on this store.
    pub(crate) fn client(&self) -> Builder {
        self.client_at(self.addr())
    }

    /// A persistence server that reaches this store at another address, as through a proxy.
    pub(crate) fn client_at(&self, addr: SocketAddr) -> Builder {
        let service = Service::builder("persistence_server");
        let port = addr.port().to_string();
        match self {
            Self::Redis(_) => {
                let service = service.env("STORE", "redis").env("REDIS_PORT", port);
                service.env("REDIS_REQUIRE_DURABLE", "true")
            }
            Self::Postgres(_) => service.env("STORE", "postgres").env("PGPORT", port),
            Self::Etcd(_) => service
                .env("STORE", "etcd")
                .env("ETCD_ENDPOINTS", format!("http://{addr}")),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Redis(redis) => redis.addr(),
            Self::Postgres(postgres) => postgres.addr(),
            Self::Etcd(etcd) => etcd.addrs()[0],
        }
    }

    /// Stops the server in its tracks, as on a machine that hangs.
    pub(crate) fn pause(&self) {
        match self {
            Self::Redis(redis) => redis.pause(),
            Self::Postgres(postgres) => postgres.pause(),
            Self::Etcd(etcd) => etcd.pause(0),
        }
    }

    pub(crate) fn resume(&self) {
        match self {
            Self::Redis(redis) => redis.resume(),
            Self::Postgres(postgres) => postgres.resume(),
            Self::Etcd(etcd) => etcd.resume(0),
        }
    }

    pub(crate) fn kill9(&self) {
        match self {
            Self::Redis(redis) => redis.kill9(),
            Self::Postgres(postgres) => postgres.kill9(),
            Self::Etcd(etcd) => etcd.kill9(0),
        }
    }

    /// Starts the server again on its data and its port.
    pub(crate) fn restart(&mut self) {
        match self {
            Self::Redis(redis) => redis.restart(),
            Self::Postgres(postgres) => postgres.restart(),
            Self::Etcd(etcd) => etcd.restart(0),
        }
    }
}
