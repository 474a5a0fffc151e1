//! A connection that is used again for the next call, and given up on any doubt.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection that knows whether it may carry another call.
pub trait Idle {
    /// Whether every request that was sent over it has been answered in full.
    ///
    /// A late reply, read by the next call, would hand out numbers that are older than some
    /// already answered.
    fn is_idle(&self) -> bool;
}

/// Keeps one connection between the calls of one thread. A clone has a connection of its own.
///
/// While a call uses the connection it is not kept, so a call whose future is dropped half-way
/// closes it; and it is kept again only if it [is idle](Idle::is_idle).
#[derive(Debug)]
pub struct Reusable<C>(Mutex<Option<C>>);

impl<C> Default for Reusable<C> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<C> Clone for Reusable<C> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<C: Idle> Reusable<C> {
    /// Calls `call` with the kept connection, or with a new one from `open`.
    ///
    /// A kept connection may have died unnoticed, as after a restart of the other side; so where
    /// it breaks, a new one is tried at once. What the lost call may have taken stays a gap.
    ///
    /// # Errors
    ///
    /// Those of `open`, or of `call` where it was answered or had a new connection.
    pub async fn call<T, E>(
        &self,
        open: impl AsyncFn() -> Result<C, E>,
        call: impl AsyncFn(&mut C) -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let kept = self.lock().take();
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => open().await?,
            };
            let result = call(&mut connection).await;
            let is_idle = connection.is_idle();
            if is_idle {
                let other = self.lock().replace(connection);
                debug_assert!(other.is_none(), "a handle is used for one call at a time");
            }
            if is_new || is_idle || result.is_ok() {
                return result;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<C>> {
        // The value is replaced whole, so a panic elsewhere cannot have left half of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Numbered {
        number: u32,
        idle: bool,
    }

    impl Idle for Numbered {
        fn is_idle(&self) -> bool {
            self.idle
        }
    }

    /// Opens connections that are numbered from 1. Those below `alive` break in use.
    #[derive(Default)]
    struct Server {
        opened: Cell<u32>,
        alive: Cell<u32>,
        kept: Reusable<Numbered>,
    }

    impl Server {
        async fn open(&self) -> Result<Numbered, &'static str> {
            self.opened.set(self.opened.get() + 1);
            let number = self.opened.get();
            Ok(Numbered { number, idle: true })
        }

        async fn call(&self, answer: Result<(), &'static str>) -> Result<u32, &'static str> {
            let call = async |connection: &mut Numbered| {
                connection.idle = connection.number >= self.alive.get();
                match connection.idle {
                    true => answer.map(|()| connection.number),
                    false => Err("broken"),
                }
            };
            self.kept.call(async || self.open().await, call).await
        }
    }

    #[tokio::test]
    async fn one_connection_serves_call_after_call_also_after_a_refusal() {
        let server = Server::default();
        for _ in 0..3 {
            assert_eq!(server.call(Ok(())).await, Ok(1));
            assert_eq!(server.call(Err("refused")).await, Err("refused"));
        }
        assert_eq!(server.opened.get(), 1);
    }

    #[tokio::test]
    async fn a_kept_connection_that_breaks_is_replaced_within_the_call() {
        let server = Server::default();
        assert_eq!(server.call(Ok(())).await, Ok(1));
        server.alive.set(2);
        assert_eq!(server.call(Ok(())).await, Ok(2));
        server.alive.set(9);
        assert_eq!(server.call(Ok(())).await, Err("broken"), "a new one broke");
        server.alive.set(4);
        assert_eq!(server.call(Ok(())).await, Ok(4), "and was not kept");
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_loses_its_connection() {
        let server = Server::default();
        assert_eq!(server.call(Ok(())).await, Ok(1));
        let open = async || server.open().await;
        let hung = server.kept.call(open, async |_| {
            std::future::pending::<Result<u32, _>>().await
        });
        let waited = tokio::time::timeout(std::time::Duration::from_millis(1), hung).await;
        assert!(waited.is_err());
        assert_eq!(server.call(Ok(())).await, Ok(2));
    }
}
