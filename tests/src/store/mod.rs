//! Real stores: servers from the distribution's packages, each with a port and a folder of its
//! own, stopped and deleted when dropped.

pub mod etcd;
pub mod postgres;
pub mod redis;
mod server;

pub use etcd::Etcd;
pub use postgres::Postgres;
pub use redis::Redis;
