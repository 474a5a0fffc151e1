//! What the simulation does, in closed form. All times are in seconds, all rates per second.

/// Levels of workers, each with one coalescer, in front of a store.
#[derive(Clone, Debug)]
pub(crate) struct System {
    /// Requests that come to the first level, all together.
    pub(crate) rate: f64,
    /// From the one that requests meet to the one that calls the store.
    pub(crate) levels: Vec<Level>,
    pub(crate) store: Store,
}

/// Workers of one kind. Those of the level above are spread over them evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub(crate) workers: usize,
    /// CPU time for one call from above.
    pub(crate) cost: f64,
    /// The network's part in the round trip of one call to the level below.
    pub(crate) trip: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    /// The part of an operation that keeps all others waiting.
    pub(crate) turn: f64,
    /// The part that goes on beside others.
    pub(crate) trip: f64,
}

impl Level {
    /// One worker that costs nothing.
    pub(crate) const ONE: Self = Self {
        workers: 1,
        cost: 0.0,
        trip: 0.0,
    };
}

impl Store {
    pub(crate) const fn new(turn: f64, trip: f64) -> Self {
        Self { turn, trip }
    }
}

/// One coalescer, with requests that come at random at `rate`, in front of what takes `trip`.
///
/// Let N requests come during one trip. With N > 0 the next trip begins at once and serves them
/// all. With N = 0, which has the probability e^-a where a = rate * trip, it begins with the next
/// request, 1 / rate later, and serves that one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coalesced {
    pub(crate) rate: f64,
    pub(crate) trip: f64,
}

impl Coalesced {
    /// How many come during one trip, and how likely it is that none do.
    fn during_a_trip(self) -> (f64, f64) {
        let come = self.rate * self.trip;
        (come, (-come).exp())
    }

    /// Trips: requests, divided by those that share one.
    pub(crate) fn operations(self) -> f64 {
        let (come, none) = self.during_a_trip();
        self.rate / (come + none)
    }

    /// Who comes during a trip waits half of it on average, and then a whole one.
    pub(crate) fn mean(self) -> f64 {
        let (come, none) = self.during_a_trip();
        self.trip * (1.5 * come + none) / (come + none)
    }

    /// Who comes to an idle coalescer takes one trip; all others between one and two, evenly.
    pub(crate) fn quantile(self, quantile: f64) -> f64 {
        let (come, none) = self.during_a_trip();
        let idle = none / (come + none);
        self.trip * (1.0 + ((quantile - idle) / (1.0 - idle)).max(0.0))
    }
}

impl System {
    /// The round trip of the calls of each level, while requests are many.
    ///
    /// Where several callers share a worker, those that it serves together come back while it
    /// serves the others: so a caller takes two of the worker's own round trips, or the CPU time
    /// of all callers, if that is longer. (Those whose way back takes longer than a round trip of
    /// the worker miss a turn. The formula does not count that: it can be one round trip short.)
    pub(crate) fn trips(&self) -> Vec<f64> {
        let last = self.levels.len() - 1;
        let in_line = self.levels[last].workers as f64 * self.store.turn;
        let mut trips = vec![in_line.max(self.store.turn + self.store.trip)];
        for pair in self.levels.windows(2).rev() {
            let (above, below) = (pair[0], pair[1]);
            let callers = above.workers as f64 / below.workers as f64;
            let alone = above.trip + below.cost + trips[0];
            let shared = (2.0 * trips[0]).max(callers * below.cost);
            let shared = if callers > 1.0 { shared } else { 0.0 };
            trips.insert(0, alone.max(shared));
        }
        trips
    }

    /// The calls of each level; those of the last one are operations on the store.
    pub(crate) fn calls(&self) -> Vec<f64> {
        let trips = self.trips();
        let workers = self.levels[0].workers as f64;
        let one = Coalesced {
            rate: self.rate / workers,
            trip: trips[0],
        };
        let mut calls = vec![workers * one.operations()];
        for (level, trip) in self.levels.iter().zip(&trips).skip(1) {
            let most = level.workers as f64 / trip;
            calls.push(most.min(calls[calls.len() - 1]));
        }
        calls
    }

    /// The same with only so many requests that hardly a call is late for want of them.
    ///
    /// More requests make the batches larger, and no call shorter, longer or more frequent.
    pub(crate) fn thinned(&self) -> System {
        let enough = 6.0 / self.trips()[0] * self.levels[0].workers as f64;
        System {
            rate: self.rate.min(enough),
            ..self.clone()
        }
    }
}
