//! Many callers at once, what they got, and whether it was right.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use e2e::wait;
use sequence::{Block, Count, Error, Sequence};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::LocalSet,
    time::{sleep, timeout},
};

/// One block that a caller got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    asked: Instant,
    answered: Instant,
    pub(crate) block: Block,
}

/// Callers in a thread of their own, so that a test can block.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Taken>>>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts so many callers, each with a handle from `open` and counts of its own.
    pub(crate) fn start<S: Sequence + 'static>(
        callers: u32,
        open: impl Fn() -> S + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (until, into) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let tasks = LocalSet::new();
            for caller in 1..=callers {
                let sequence = open();
                let (until, into) = (Arc::clone(&until), Arc::clone(&into));
                tasks.spawn_local(async move { call(sequence, caller, &until, &into).await });
            }
            runtime.block_on(tasks);
        });
        Self {
            stop,
            taken,
            thread,
        }
    }

    /// How many blocks were taken so far.
    pub(crate) fn progress(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Waits until so many more blocks have been taken.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: usize) {
        let goal = self.progress() + more;
        wait::until("progress", Duration::from_secs(30), || {
            (self.progress() >= goal).then_some(())
        });
    }

    /// Stops the callers: all that they got.
    pub(crate) fn finish(self) -> Vec<Taken> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("callers do not panic");
        std::mem::take(&mut *self.taken.lock().unwrap())
    }
}

async fn call(sequence: impl Sequence, caller: u32, stop: &AtomicBool, taken: &Mutex<Vec<Taken>>) {
    let count = Count::new(caller).expect("a valid count");
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        // As the coalescer does.
        let limit = Duration::from_secs(2);
        match timeout(limit, sequence.reserve(count)).await {
            Ok(Ok(block)) => taken.lock().unwrap().push(Taken {
                asked,
                answered: Instant::now(),
                block,
            }),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// What is wrong with a history: a number that came twice, or one that was too late.
pub(crate) fn fault(mut history: Vec<Taken>) -> Option<String> {
    let mut seen = HashSet::new();
    for number in history
        .iter()
        .flat_map(|t| t.block.first()..=t.block.last())
    {
        if !seen.insert(number) {
            return Some(format!("{number} was handed out twice"));
        }
    }
    history.sort_by_key(|taken| taken.block.first());
    let mut latest = history.first()?.asked;
    for taken in history {
        if taken.answered < latest {
            let first = taken.block.first();
            return Some(format!(
                "{first} was answered before a smaller one was asked for"
            ));
        }
        latest = latest.max(taken.asked);
    }
    None
}

/// `INCRBY` and nothing else, as one would do it without thinking of crashes.
pub(crate) struct Naive(pub(crate) SocketAddr);

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

#[test]
fn a_history_with_a_fault_is_seen() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let taken = |asked, answered, first| Taken {
        asked: at(asked),
        answered: at(answered),
        block: Block::new(first, Count::new(2).unwrap()).unwrap(),
    };
    assert_eq!(fault(vec![]), None);
    assert_eq!(fault(vec![taken(0, 5, 3), taken(1, 4, 1)]), None);
    let twice = fault(vec![taken(0, 1, 1), taken(2, 3, 2)]).unwrap();
    assert!(twice.contains("2 was handed out twice"), "{twice}");
    let late = fault(vec![taken(0, 1, 3), taken(2, 3, 1)]).unwrap();
    assert!(late.contains("3 was answered before"), "{late}");
}
