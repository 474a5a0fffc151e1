//! One chain, its clients, and what happens to it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use checker::Operation;
use fastrand::Rng;
use hash_server::HttpSequence;
use sequence::{Block, Coalescer, Count, Error, Limits, Marks, Monitor, Ratchet, Sequence as _};
use tokio::{
    sync::{Notify, mpsc},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    mutant::Mutant,
    network::{Caller, Callers},
    replica::Replica,
    store::Database,
};

const CLIENTS: u16 = 4;
const REQUESTS: u32 = 8;

pub(crate) const LIMITS: Limits = Limits::new(Duration::from_secs(3), 100);

/// What the requests of one chain came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

/// What happens to a chain, besides faults of its network and its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Two of each service crash; the store keeps what it has answered.
    Crashes,
    /// The store loses writes that its one `persistence_server` remembers.
    Losses,
    /// The store loses writes while its one `persistence_server` is down; the one worker of the one
    /// `hash_server` remembers, and may refuse to go on.
    UnseenLosses,
}

/// Runs one chain until its clients have asked enough, and then without faults.
///
/// # Errors
///
/// The violation of the promise, or who waits in vain; and what happened before.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>) -> Result<Seen, String> {
    fastrand::seed(seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let chain = async {
        let chain = Rc::new(Chain::new(seed, mutant));
        let lived = timeout(Duration::from_secs(3600), Rc::clone(&chain).live());
        let lived = lived
            .await
            .unwrap_or(Err("a client waits for ever".to_owned()));
        let history = chain.history.borrow();
        let proven = checker::verify(&history).map_err(|violation| violation.to_string());
        let story = || format!("{:?}: {}", chain.trouble, chain.story.borrow().join(", "));
        proven
            .map(drop)
            .and(lived)
            .map_err(|error| format!("{error}\n{}", story()))?;
        Ok(chain.seen.get())
    };
    LocalSet::new().block_on(&runtime.expect("a runtime"), chain)
}

struct Chain {
    trouble: Trouble,
    mutant: Option<Mutant>,
    databases: [Database; 2],
    replicas: Vec<Rc<Replica>>,
    callers: Callers,
    fronts: Vec<Front>,
    rng: RefCell<Rng>,
    /// Orders what clients see: virtual time stands still for many events.
    clock: Cell<u64>,
    history: RefCell<Vec<Operation>>,
    seen: Cell<Seen>,
    story: RefCell<Vec<String>>,
}

/// A `hash_server`.
#[derive(Default)]
struct Front {
    workers: RefCell<Vec<Coalescer>>,
    crashes: Notify,
}

impl Chain {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let trouble = match rng.u32(..3) {
            0 => Trouble::Crashes,
            1 => Trouble::Losses,
            _ => Trouble::UnseenLosses,
        };
        let faults = if rng.bool() { 0 } else { rng.u64(5..50) };
        let breaks = if rng.bool() { 0 } else { rng.u64(10..100) };
        let loses_updates = mutant == Some(Mutant::LosesUpdates);
        let first = Database::new(rng.u64(..), faults, loses_updates);
        let second = match mutant {
            Some(Mutant::TwoStores) => Database::new(rng.u64(..), faults, false),
            _ => first.clone(),
        };
        let databases = [first, second];
        let (replicas, fronts) = match trouble {
            Trouble::Crashes => (2, 2),
            Trouble::Losses => (1, 2),
            Trouble::UnseenLosses => (1, 1),
        };
        let has_ratchet = mutant != Some(Mutant::WithoutRatchet);
        let replica = |at: usize| {
            let database = databases[at].clone();
            Replica::start(database, has_ratchet, rng.u64(..), breaks)
        };
        let (callers, called) = mpsc::unbounded_channel();
        let replicas: Vec<_> = (0..replicas).map(replica).collect();
        spawn_local(connect(called, replicas.clone(), rng.fork()));
        let chain = Self {
            trouble,
            mutant,
            databases,
            replicas,
            callers: Callers(callers),
            fronts: (0..fronts).map(|_| Front::default()).collect(),
            rng: RefCell::new(rng),
            clock: Cell::new(0),
            history: RefCell::default(),
            seen: Cell::default(),
            story: RefCell::default(),
        };
        for front in &chain.fronts {
            chain.start(front);
        }
        chain
    }

    fn sequence(&self) -> HttpSequence {
        let host = "persistence".to_owned().try_into().expect("a host");
        let port = 1.try_into().expect("a port");
        HttpSequence::through(Arc::new(self.callers.clone()), &host, port)
    }

    fn start(&self, front: &Front) {
        let ratchet = Ratchet::new(self.sequence(), Marks::default());
        let monitor = Monitor::default();
        let worker = || {
            let sequence = match self.mutant {
                Some(Mutant::WithoutSecondRatchet) => Mutant::changed(None, self.sequence()),
                mutant => Mutant::changed(mutant, ratchet.clone()),
            };
            Coalescer::start(sequence, LIMITS, monitor.clone())
        };
        // What one worker asked for before a loss may get to another's number after it.
        let workers = if self.trouble == Trouble::UnseenLosses {
            1
        } else {
            2
        };
        *front.workers.borrow_mut() = (0..workers).map(|_| worker()).collect();
    }

    async fn live(self: Rc<Self>) -> Result<(), String> {
        let clients = (0..CLIENTS).map(|number| spawn_local(Rc::clone(&self).client(number)));
        let clients: Vec<_> = clients.collect();
        let trouble = spawn_local(Rc::clone(&self).make_trouble());
        for client in clients {
            client.await.map_err(|error| error.to_string())?;
        }
        trouble.abort();
        self.databases.iter().for_each(Database::calm_down);
        self.replicas.iter().for_each(|replica| replica.calm_down());
        if self.trouble == Trouble::UnseenLosses {
            return Ok(());
        }
        for front in &self.fronts {
            let worker = front.workers.borrow()[0].clone();
            let recovered = async { while worker.reserve(Count::ONE).await.is_err() {} };
            let recovered = timeout(Duration::from_secs(30), recovered).await;
            recovered.map_err(|_| "no number 30 s after the last fault".to_owned())?;
        }
        Ok(())
    }

    /// Asks a worker of a `hash_server`, or `persistence_server` itself, again and again.
    async fn client(self: Rc<Self>, number: u16) {
        let direct = self.sequence();
        for _ in 0..REQUESTS {
            let (pause, is_direct, size, hangs_up) = {
                let mut rng = self.rng.borrow_mut();
                let is_direct = self.trouble != Trouble::UnseenLosses && rng.u32(..4) == 0;
                let hangs_up = rng.u32(..10) == 0;
                (rng.u64(..40), is_direct, rng.u32(1..4), hangs_up)
            };
            sleep(Duration::from_millis(pause)).await;
            let patience = Duration::from_millis(if hangs_up { 5 } else { 5_000 });
            let sent = self.tick();
            let answer = if is_direct {
                let count = Count::new(size).expect("a count");
                timeout(patience, direct.reserve(count)).await
            } else {
                timeout(patience, self.ask_a_front()).await
            };
            let received = self.tick();
            let mut seen = self.seen.get();
            match answer {
                Ok(Ok(block)) => {
                    seen.answered += 1;
                    self.history.borrow_mut().push(Operation {
                        sent,
                        received,
                        number: block.first(),
                        count: block.count().get(),
                        connection: number,
                        run: 0,
                    });
                }
                _ => seen.failed += 1,
            }
            self.seen.set(seen);
        }
    }

    async fn ask_a_front(&self) -> Result<Block, Error> {
        let (front, worker) = {
            let mut rng = self.rng.borrow_mut();
            let front = &self.fronts[rng.usize(..self.fronts.len())];
            let workers = front.workers.borrow();
            (front, workers[rng.usize(..workers.len())].clone())
        };
        tokio::select! {
            biased;
            () = front.crashes.notified() => Err(Error::unavailable("hash_server crashed")),
            block = worker.reserve(Count::ONE) => block,
        }
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    async fn make_trouble(self: Rc<Self>) {
        loop {
            let (pause, what, which, length) = {
                let mut rng = self.rng.borrow_mut();
                (
                    rng.u64(1..80),
                    rng.u32(..4),
                    rng.usize(..2),
                    rng.u64(1..600),
                )
            };
            sleep(Duration::from_millis(pause)).await;
            let at = which % self.replicas.len();
            let replica = Rc::clone(&self.replicas[at]);
            let length = Duration::from_millis(length);
            let told = match (what, self.trouble) {
                (0, _) => {
                    replica.cut_off(length);
                    "cut off"
                }
                (1, Trouble::Crashes | Trouble::UnseenLosses) if replica.is_up() => {
                    replica.crash(length);
                    let early = self.mutant == Some(Mutant::AnswersBeforeItIsDurable);
                    if self.trouble == Trouble::UnseenLosses || early {
                        self.databases[at].lose_writes();
                    }
                    "persistence_server crashes"
                }
                (1, Trouble::Losses) => {
                    self.databases[at].lose_writes();
                    "writes are lost"
                }
                (2, Trouble::Crashes) => {
                    let front = &self.fronts[which];
                    self.start(front);
                    front.crashes.notify_waiters();
                    "hash_server crashes"
                }
                _ => continue,
            };
            let told = format!("{told} ({which}, {} ms)", length.as_millis());
            self.story.borrow_mut().push(told);
        }
    }
}

/// Connects callers to any replica, as a balancer of connections does.
async fn connect(
    mut called: mpsc::UnboundedReceiver<Caller>,
    replicas: Vec<Rc<Replica>>,
    mut rng: Rng,
) {
    while let Some(caller) = called.recv().await {
        let replica = Rc::clone(&replicas[rng.usize(..replicas.len())]);
        spawn_local(async move { replica.accept(caller).await });
    }
}
