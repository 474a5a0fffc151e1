//! The coalescer under every order of events in a small system.
//!
//! Two replicas, each with a coalescer of its own, share one store. A schedule says who asks,
//! who hangs up, when the store takes the numbers and whether its reply arrives. Whatever it
//! says, the answers must be a linearizable history, and nobody may wait for ever.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use async_trait::async_trait;
use checker::Operation;
use fastrand::Rng;
use sequence::{Block, Coalescer, Count, Error, Limits, Monitor, Sequence};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, LocalSet, spawn_local, yield_now},
};

/// One store for all replicas, where every step of a reservation is let through by hand.
#[derive(Default)]
struct Store {
    last: Cell<u64>,
    /// Calls that have been sent and not been answered, in order.
    calls: RefCell<Vec<Call>>,
}

struct Call {
    count: Count,
    /// The numbers, once the store has taken them.
    taken: Option<Block>,
    reply: oneshot::Sender<Result<Block, Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// This replica gets another request.
    Ask(usize),
    /// This request's client hangs up.
    HangUp(usize),
    /// The store takes the numbers of this call.
    Take(usize),
    /// The reply to this call arrives: with its numbers, if they were taken, or as a failure.
    Reply(usize),
    /// The reply to this call is lost.
    Lose(usize),
}

struct Replica(Rc<Store>);

#[async_trait(?Send)]
impl Sequence for Replica {
    async fn reserve(&self, count: Count) -> Result<Block, Error> {
        let (reply, answer) = oneshot::channel();
        self.0.calls.borrow_mut().push(Call {
            count,
            taken: None,
            reply,
        });
        answer
            .await
            .unwrap_or_else(|_| Err(Error::unavailable("the reply is lost")))
    }
}

struct System {
    store: Rc<Store>,
    replicas: Vec<Coalescer>,
    clients: Vec<AbortHandle>,
    history: Rc<RefCell<Vec<Operation>>>,
    finished: Rc<Cell<usize>>,
    clock: Rc<Cell<u64>>,
    asks_left: usize,
    faults_left: usize,
}

impl System {
    fn new(replicas: usize, asks: usize, faults: usize) -> Self {
        let store = Rc::new(Store::default());
        let limits = Limits {
            deadline: Duration::from_secs(3600),
            attempt: Duration::from_secs(3600),
            waiting: 100,
        };
        let start = |_| Coalescer::start(Replica(Rc::clone(&store)), limits, Monitor::default());
        Self {
            replicas: (0..replicas).map(start).collect(),
            store,
            clients: Vec::new(),
            history: Rc::default(),
            finished: Rc::default(),
            clock: Rc::default(),
            asks_left: asks,
            faults_left: faults,
        }
    }

    /// Everything that could happen next.
    fn possible(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.asks_left > 0 {
            events.extend((0..self.replicas.len()).map(Event::Ask));
        }
        for (i, call) in self.store.calls.borrow().iter().enumerate() {
            if call.taken.is_some() {
                events.push(Event::Reply(i));
                if self.faults_left > 0 {
                    events.push(Event::Lose(i));
                }
            } else {
                events.push(Event::Take(i));
                if self.faults_left > 0 {
                    events.push(Event::Reply(i));
                }
            }
        }
        if self.faults_left > 0 {
            let waiting = |client: &&AbortHandle| !client.is_finished();
            let some = self
                .clients
                .iter()
                .enumerate()
                .filter(|(_, client)| waiting(client));
            events.extend(some.map(|(i, _)| Event::HangUp(i)));
        }
        events
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask(replica) => {
                self.asks_left -= 1;
                self.ask(replica);
            }
            Event::HangUp(client) => {
                self.faults_left -= 1;
                self.clients[client].abort();
            }
            Event::Take(i) => {
                let call = &mut self.store.calls.borrow_mut()[i];
                let block =
                    Block::after(self.store.last.get(), call.count).expect("far from the end");
                self.store.last.set(block.last());
                call.taken = Some(block);
            }
            Event::Reply(i) => {
                let call = self.store.calls.borrow_mut().remove(i);
                let answer = call.taken.ok_or_else(|| {
                    self.faults_left -= 1;
                    Error::unavailable("refused")
                });
                // The coalescer may be gone at the end of a schedule.
                let _ = call.reply.send(answer);
            }
            Event::Lose(i) => {
                self.faults_left -= 1;
                drop(self.store.calls.borrow_mut().remove(i));
            }
        }
    }

    fn ask(&mut self, replica: usize) {
        let coalescer = self.replicas[replica].clone();
        let (history, clock) = (Rc::clone(&self.history), Rc::clone(&self.clock));
        let finished = Rc::clone(&self.finished);
        // Sizes differ, so that a part dealt out wrongly shows.
        let count = Count::new(1 + self.clients.len() as u32 % 2).expect("1 or 2");
        let connection = self.clients.len() as u16;
        let sent = tick(&clock);
        let client = spawn_local(async move {
            let answer = coalescer.reserve(count).await;
            finished.set(finished.get() + 1);
            if let Ok(block) = answer {
                assert_eq!(block.count(), count);
                let operation = checked(connection, sent, tick(&clock), block);
                history.borrow_mut().push(operation);
            }
        });
        self.clients.push(client.abort_handle());
    }
}

fn tick(clock: &Cell<u64>) -> u64 {
    clock.set(clock.get() + 1);
    clock.get()
}

fn checked(connection: u16, sent: u64, received: u64, block: Block) -> Operation {
    Operation {
        connection,
        sent,
        received,
        number: block.first(),
        run: 0,
        count: block.count().get(),
    }
}

/// Runs one schedule: `choose` picks the next of so many possible events.
async fn run(mut system: System, mut choose: impl FnMut(usize) -> usize) -> String {
    let mut story = Vec::new();
    loop {
        // Every task does what it can before the next event.
        for _ in 0..20 {
            yield_now().await;
        }
        let possible = system.possible();
        if possible.is_empty() {
            let done = system.clients.iter().all(AbortHandle::is_finished);
            if done {
                break;
            }
            // Somebody backs off before another attempt; the paused clock jumps there.
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(
                !system.possible().is_empty()
                    || system.clients.iter().all(AbortHandle::is_finished),
                "somebody waits for ever after {story:?}"
            );
            continue;
        }
        let event = possible[choose(possible.len())];
        story.push(event);
        system.happen(event);
    }
    let history = system.history.borrow();
    let story = format!("{story:?}");
    if let Err(violation) = checker::verify(&history) {
        panic!("{violation}\nafter {story}");
    }
    story
}

async fn alone(system: impl FnOnce() -> System, choose: impl FnMut(usize) -> usize) -> String {
    LocalSet::new()
        .run_until(async { run(system(), choose).await })
        .await
}

fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(test)
}

/// Goes through the tree of choices, branch by branch.
fn every_schedule(system: impl Fn() -> System) -> u64 {
    let mut schedules = 0;
    // The choice at each step, and how many there were.
    let mut path: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut step = 0;
        in_virtual_time(alone(&system, |choices| {
            if step == path.len() {
                path.push((0, choices));
            }
            let (choice, expected) = path[step];
            assert_eq!(
                choices, expected,
                "a schedule must lead to the same place every time"
            );
            step += 1;
            choice
        }));
        schedules += 1;
        path.truncate(step);
        while path
            .pop_if(|(choice, choices)| *choice + 1 == *choices)
            .is_some()
        {}
        match path.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => return schedules,
        }
    }
}

fn is_soak() -> bool {
    std::env::var("SOAK").is_ok_and(|soak| soak == "full")
}

#[test]
fn every_order_of_events_without_faults_is_linearizable() {
    let schedules = every_schedule(|| System::new(2, 3, 0));
    assert!(schedules > 100, "{schedules}");
}

#[test]
fn every_order_of_events_with_one_fault_is_linearizable() {
    let asks = if is_soak() { 4 } else { 3 };
    let schedules = every_schedule(|| System::new(2, asks, 1));
    assert!(schedules > 1000, "{schedules}");
}

/// Such schedules must be able to see a mistake: here the replica hands on what is left of an
/// earlier block.
#[test]
fn a_sequence_that_keeps_numbers_for_later_is_caught() {
    struct Hoarder {
        inner: Replica,
        spare: Cell<Option<u64>>,
    }

    #[async_trait(?Send)]
    impl Sequence for Hoarder {
        async fn reserve(&self, count: Count) -> Result<Block, Error> {
            if let (Some(spare), Count::ONE) = (self.spare.take(), count) {
                return Ok(Block::new(spare, Count::ONE).expect("a number"));
            }
            let more = count.checked_add(Count::ONE).expect("small counts");
            let block = self.inner.reserve(more).await?;
            self.spare.set(Some(block.last()));
            Ok(Block::new(block.first(), count).expect("a part of a block"))
        }
    }

    let hoarding = || {
        let mut system = System::new(1, 12, 0);
        let limits = Limits {
            deadline: Duration::from_secs(3600),
            attempt: Duration::from_secs(3600),
            waiting: 100,
        };
        system.replicas.push(Coalescer::start(
            Hoarder {
                inner: Replica(Rc::clone(&system.store)),
                spare: Cell::new(None),
            },
            limits,
            Monitor::default(),
        ));
        system
    };
    let caught = (0..300).filter(|&seed| {
        let mut rng = Rng::with_seed(seed);
        let run = || in_virtual_time(alone(hoarding, |choices| rng.usize(..choices)));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
    });
    assert!(caught.count() > 10);
}
