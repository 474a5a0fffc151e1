//! The sequence that `persistence_server` serves over HTTP.

mod connection;

use async_trait::async_trait;
use chassis::settings::Host;
use sequence::{
    Block, Count, Error, Kept, Sequence, Store,
    wire::{self, EXHAUSTED},
};
use serde::Deserialize;

use self::connection::{Answer, Connection};

/// A sequence behind HTTP, over one connection that is kept between calls.
#[derive(Debug)]
pub struct HttpSequence {
    host: Host,
    port: u16,
    kept: Kept<Connection>,
}

impl HttpSequence {
    /// The sequence at `host` and `port`; connects at the first call.
    pub fn new(host: &Host, port: u16) -> Self {
        Self {
            host: host.clone(),
            port,
            kept: Kept::new(),
        }
    }

    async fn exchange(&self, method: &str, target: &str) -> Result<Answer, Error> {
        let open = async || Connection::open(&self.host, self.port).await;
        let call = async |connection: &mut Connection| connection.exchange(method, target).await;
        let answer = self
            .kept
            .call(open, call)
            .await
            .map_err(|failure| self.unavailable(failure))?;
        if !answer.keeps_connection {
            self.kept.give_up();
        }
        Ok(answer)
    }

    fn refusal(&self, answer: &Answer) -> Error {
        #[derive(Deserialize)]
        struct Problem {
            r#type: String,
            detail: String,
        }

        match serde_json::from_slice(&answer.body) {
            Ok(Problem { r#type, .. }) if r#type == EXHAUSTED => Error::Exhausted,
            Ok(Problem { detail, .. }) => {
                self.unavailable(format!("answered {}: {detail}", answer.status))
            }
            Err(_) => self.unavailable(format!("answered {}", answer.status)),
        }
    }

    fn unavailable(&self, cause: impl std::fmt::Display) -> Error {
        let address = self.host.with_port(self.port);
        Error::unavailable(format!("persistence at {address}: {cause}"))
    }
}

#[async_trait(?Send)]
impl Sequence for HttpSequence {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let answer = self.exchange("GET", &wire::request_target(count)).await?;
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        wire::decode_block(&answer.body, count).map_err(|error| {
            // Whatever answers there, it cannot be trusted with another call.
            self.kept.give_up();
            self.unavailable(error)
        })
    }
}

#[async_trait(?Send)]
impl Store for HttpSequence {
    /// Fails: `persistence_server` has no request for that.
    async fn raise_above(&self, floor: u64) -> Result<(), Error> {
        Err(self.unavailable(format_args!(
            "it lost writes and hands out old numbers; restart it with SEQUENCE_FLOOR={floor}"
        )))
    }

    /// Asks whether `persistence_server` is ready. What it returns may be a second behind what
    /// another replica has handed out; it is 0 behind a proxy that drops the field.
    async fn check(&self) -> Result<u64, Error> {
        let answer = self.exchange("OPTIONS", "/").await?;
        match answer.status {
            ..500 => Ok(answer.last.unwrap_or(0)),
            _ => Err(self.refusal(&answer)),
        }
    }
}
