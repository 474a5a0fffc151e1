//! Request metrics: counted per worker without locks, added up when they are read.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix_web::http::Method;
use opentelemetry::TraceId;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::CounterWithExemplar, gauge::ConstGauge},
    registry::Unit,
};

/// Upper bounds of the duration histogram, in seconds.
const BOUNDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The labels of a request.
///
/// All three come from small sets, whatever the requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

impl Labels {
    fn pairs(&self) -> [(&'static str, String); 3] {
        [
            ("method", self.method.to_owned()),
            ("route", self.route.to_owned()),
            ("status", self.status.to_string()),
        ]
    }
}

/// What one worker has counted for one set of labels. Only that worker writes.
#[derive(Debug)]
struct Series {
    labels: Labels,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    /// The newest trace that was sampled.
    exemplar: CounterWithExemplar<[(&'static str, String); 1]>,
}

impl Series {
    fn new(labels: Labels) -> Self {
        Self {
            labels,
            buckets: Default::default(),
            nanoseconds: AtomicU64::new(0),
            exemplar: CounterWithExemplar::default(),
        }
    }

    fn record(&self, duration: Duration, trace: Option<TraceId>) {
        if let Some(trace) = trace {
            let labels = [("trace_id", trace.to_string())];
            self.exemplar
                .inc_by(1, Some(labels), Some(SystemTime::now()));
        }
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().take_while(|&&bound| seconds > bound).count();
        add(&self.buckets[bucket], 1);
        add(
            &self.nanoseconds,
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        );
    }
}

/// What all workers have counted for one set of labels.
struct Total {
    labels: Labels,
    count: u64,
    buckets: [u64; BOUNDS.len() + 1],
    seconds: f64,
    exemplar: CounterWithExemplar<[(&'static str, String); 1]>,
}

/// Adds without a locked instruction: only one thread writes to this counter.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// A number that something else keeps, read whenever the metrics are.
pub(crate) struct Reading {
    /// A counter, which must never go down, or a gauge.
    pub(crate) kind: MetricType,
    pub(crate) read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reading").field(&(self.read)()).finish()
    }
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.kind {
            MetricType::Counter => {
                encoder.encode_counter::<NoLabelSet, _, u64>(&(self.read)(), None)
            }
            _ => encoder.encode_gauge(&(self.read)()),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

/// A histogram that something else keeps.
pub(crate) struct Distribution(pub(crate) Box<dyn Fn() -> Buckets + Send + Sync>);

/// The buckets of a histogram, each the upper bound (the last is infinite) and the count, and the
/// sum of all values.
pub type Buckets = (Vec<(f64, u64)>, f64);

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Distribution").field(&(self.0)()).finish()
    }
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let (buckets, sum) = (self.0)();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Writes a metric without labels and without a unit.
pub(crate) fn describe(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// The request metrics of a process. A clone shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestMetrics(Arc<All>);

#[derive(Debug, Default)]
struct All {
    series: Mutex<Vec<Arc<Series>>>,
    /// Of each worker.
    in_flight: Mutex<Vec<Arc<AtomicU64>>>,
}

impl RequestMetrics {
    /// The part that one worker writes to.
    pub(crate) fn for_worker(&self) -> WorkerMetrics {
        let in_flight = Arc::default();
        let all = self.0.in_flight.lock();
        all.unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&in_flight));
        WorkerMetrics {
            all: self.clone(),
            mine: RefCell::default(),
            in_flight,
        }
    }

    fn in_flight(&self) -> u64 {
        let all = self.0.in_flight.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|worker| worker.load(Ordering::Relaxed))
            .sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Series>>> {
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sums over all workers, by labels.
    fn totals(&self) -> Vec<Total> {
        let mut series = self.lock().clone();
        series.sort_by_key(|series| series.labels);
        series
            .chunk_by(|a, b| a.labels == b.labels)
            .map(|workers| {
                let mut buckets = [0; BOUNDS.len() + 1];
                let mut seconds = 0.0;
                for worker in workers {
                    for (sum, part) in buckets.iter_mut().zip(&worker.buckets) {
                        *sum += part.load(Ordering::Relaxed);
                    }
                    let nanoseconds = worker.nanoseconds.load(Ordering::Relaxed);
                    seconds += Duration::from_nanos(nanoseconds).as_secs_f64();
                }
                Total {
                    labels: workers[0].labels,
                    count: buckets.iter().sum(),
                    buckets,
                    seconds,
                    exemplar: workers[0].exemplar.clone(),
                }
            })
            .collect()
    }
}

/// The request metrics that one worker writes to.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    all: RequestMetrics,
    /// Few enough for a linear search; the most common one settles at the front.
    mine: RefCell<Vec<Arc<Series>>>,
    in_flight: Arc<AtomicU64>,
}

impl WorkerMetrics {
    /// Counts a request that has arrived.
    pub(crate) fn begin(&self) {
        add(&self.in_flight, 1);
    }

    /// Counts one that has been answered, or whose client is gone.
    pub(crate) fn end(&self) {
        // One less, since it wraps around.
        add(&self.in_flight, u64::MAX);
    }

    /// Counts one answered request. `route` is the path of the service's resource, or `unmatched`.
    pub(crate) fn record(
        &self,
        method: &Method,
        route: &'static str,
        status: u16,
        duration: Duration,
        trace: Option<TraceId>,
    ) {
        let labels = Labels {
            method: method_label(method),
            route,
            status,
        };
        let mut mine = self.mine.borrow_mut();
        if let Some(series) = mine.iter().find(|series| series.labels == labels) {
            series.record(duration, trace);
            return;
        }
        let series = Arc::new(Series::new(labels));
        series.record(duration, trace);
        self.all.lock().push(Arc::clone(&series));
        mine.push(series);
    }
}

/// The method, or `other`: a client can invent methods, and each would be a series.
pub(crate) fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 8] = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
        (Method::TRACE, "TRACE"),
    ];
    KNOWN
        .iter()
        .find(|(known, _)| known == method)
        .map_or("other", |(_, label)| label)
}

impl Collector for RequestMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        let mut requests = encoder.encode_descriptor(
            "http_requests",
            "Requests answered",
            None,
            MetricType::Counter,
        )?;
        for total in &totals {
            let (_, exemplar) = total.exemplar.get();
            requests
                .encode_family(&total.labels.pairs())?
                .encode_counter(&total.count, exemplar.as_ref())?;
        }

        describe(
            &mut encoder,
            "http_requests_in_flight",
            "Requests that are being answered",
            &ConstGauge::new(self.in_flight()),
        )?;

        let mut durations = encoder.encode_descriptor(
            "http_request_duration",
            "Time from the request's head to its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for total in &totals {
            let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
            let bounded: Vec<(f64, u64)> = bounds.zip(total.buckets).collect();
            durations
                .encode_family(&total.labels.pairs())?
                .encode_histogram::<NoLabelSet>(total.seconds, total.count, &bounded, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn workers_are_added_up_by_method_route_and_status() {
        let metrics = RequestMetrics::default();
        let workers = [metrics.for_worker(), metrics.for_worker()];
        for worker in &workers {
            worker.record(&Method::GET, "/", 200, Duration::from_micros(200), None);
            worker.record(&Method::GET, "/", 200, Duration::from_secs(60), None);
        }
        let invented = Method::from_bytes(b"BREW").unwrap();
        workers[0].record(&invented, "unmatched", 404, Duration::ZERO, None);

        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let get = "{method=\"GET\",route=\"/\",status=\"200\"";
        for line in [
            format!("http_requests_total{get}}} 4"),
            "http_requests_total{method=\"other\",route=\"unmatched\",status=\"404\"} 1".to_owned(),
            format!("http_request_duration_seconds_count{get}}} 4"),
            format!("http_request_duration_seconds_sum{get}}} 120.0004"),
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} is not in\n{text}"
            );
        }
        for (bound, count) in [("0.0001", 0), ("0.00025", 2), ("10.0", 2), ("+Inf", 4)] {
            let found = text.lines().any(|line| {
                line.starts_with("http_request_duration_seconds_bucket{")
                    && line.contains("GET")
                    && line.contains(&format!("le=\"{bound}\""))
                    && line.ends_with(&format!(" {count}"))
            });
            assert!(found, "le={bound} {count} is not in\n{text}");
        }
    }
}
