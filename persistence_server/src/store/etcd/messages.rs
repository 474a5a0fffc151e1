//! The few messages of etcd's API that a sequence needs, written out by hand.
//!
//! Names and numbers are those of `rpc.proto` and `kv.proto` in etcd's API version 3, which never
//! change: every release since 3.0 speaks them. Fields that are not read here are left out, which
//! protocol buffers allow; and a `oneof` is written as several optional fields, which look the same
//! on the wire. `etcd-client` would need `protoc` on every machine that builds this.

use prost::Message;

pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// What every answer begins with.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    /// Of the whole cluster; every write makes it higher.
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
}

/// A key with its value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

/// Reads one key.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
}

/// Writes one key.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
    /// Keeps the value that is there.
    #[prost(bool, tag = "5")]
    pub(super) ignore_value: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {}

/// One condition of a transaction.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    /// [`EQUAL`] or [`LESS`].
    #[prost(int32, tag = "1")]
    pub(super) result: i32,
    /// [`VERSION`] or [`VALUE`]; the field of that name is set.
    #[prost(int32, tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    #[prost(int64, optional, tag = "4")]
    pub(super) version: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(super) value: Option<Vec<u8>>,
}

pub(super) const EQUAL: i32 = 0;
pub(super) const LESS: i32 = 2;
pub(super) const VERSION: i32 = 0;
pub(super) const VALUE: i32 = 3;

/// One step of a transaction, either of these.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeRequest>,
    #[prost(message, optional, tag = "2")]
    pub(super) put: Option<PutRequest>,
}

/// What came of the step.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeResponse>,
    #[prost(message, optional, tag = "2")]
    pub(super) put: Option<PutResponse>,
}

/// Does one thing if all conditions hold, and another if not, with nothing in between.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

/// Asks for a token. It and its answer cannot be printed.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

/// Asks a server about itself.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}
