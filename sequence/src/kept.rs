//! A connection that is kept between calls, and given up on any doubt.

use std::cell::RefCell;

/// Keeps one connection between calls, for one thread.
///
/// While a call uses the connection it is not kept. A call that fails, or whose future is
/// dropped half-way, never puts it back: a late reply, read by the next call, would hand out
/// numbers that are older than some already answered.
#[derive(Debug)]
pub struct Kept<C>(RefCell<Option<C>>);

impl<C> Kept<C> {
    /// Nothing kept yet.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Calls `call` with the kept connection, or with a new one from `open`.
    ///
    /// A kept connection may have died unnoticed, as after a restart of the other side; so where
    /// it fails, a new one is tried at once. What the lost call may have taken stays a gap.
    ///
    /// # Errors
    ///
    /// Those of `open`, or of `call` on a new connection.
    pub async fn call<T, E>(
        &self,
        open: impl AsyncFnOnce() -> Result<C, E>,
        call: impl AsyncFn(&mut C) -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = self.0.borrow_mut().take();
        if let Some(mut connection) = kept
            && let Ok(result) = call(&mut connection).await
        {
            self.0.replace(Some(connection));
            return Ok(result);
        }
        let mut connection = open().await?;
        let result = call(&mut connection).await?;
        self.0.replace(Some(connection));
        Ok(result)
    }

    /// Gives up the kept connection.
    pub fn give_up(&self) {
        self.0.take();
    }
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Opens connections that are numbered from 1.
    struct Server(Cell<u32>);

    impl Server {
        async fn open(&self) -> Result<u32, &'static str> {
            self.0.set(self.0.get() + 1);
            Ok(self.0.get())
        }
    }

    #[tokio::test]
    async fn one_connection_serves_call_after_call() {
        let (server, kept) = (Server(Cell::new(0)), Kept::new());
        for _ in 0..3 {
            let used = kept
                .call(async || server.open().await, async |c| Ok(*c))
                .await;
            assert_eq!(used, Ok(1));
        }
    }

    #[tokio::test]
    async fn a_kept_connection_that_fails_is_replaced_within_the_call() {
        let (server, kept) = (Server(Cell::new(0)), Kept::new());
        let alive = Cell::new(1);
        let call = async || {
            let ask = async |c: &mut u32| {
                if *c >= alive.get() {
                    Ok(*c)
                } else {
                    Err("dead")
                }
            };
            kept.call(async || server.open().await, ask).await
        };
        assert_eq!(call().await, Ok(1));
        alive.set(2);
        assert_eq!(call().await, Ok(2));
        alive.set(9);
        assert_eq!(
            call().await,
            Err("dead"),
            "a new connection that fails is an error"
        );
        alive.set(4);
        assert_eq!(call().await, Ok(4), "and is not kept");
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_loses_its_connection() {
        let (server, kept) = (Server(Cell::new(0)), Kept::new());
        let open = async || server.open().await;
        assert_eq!(kept.call(open, async |c| Ok(*c)).await, Ok(1));
        let hung = kept.call(open, async |_| {
            std::future::pending::<Result<u32, _>>().await
        });
        let waited = tokio::time::timeout(std::time::Duration::from_millis(1), hung).await;
        assert!(waited.is_err());
        assert_eq!(kept.call(open, async |c| Ok(*c)).await, Ok(2));
    }
}
