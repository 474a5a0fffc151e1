//! The whole of it for a moment, so that it works when it is needed.

use e2e::{service::build, skip};

use crate::{Plan, kept, measure, targets::targets};

const SMOKE: Plan = Plan {
    rounds: 1,
    seconds: 0.3,
    warm_up: 0.1,
    numbers: 2_000,
};

#[test]
fn every_target_is_measured_and_the_promise_is_proven() {
    if missing_programs() {
        return;
    }
    build(&["--package", "bench"]);
    let results = measure(SMOKE).unwrap();
    for target in targets(&results).into_iter().flatten() {
        // The images are tested where they are built.
        let has_image = !target.what.contains("image") || results.missing.is_empty();
        let value = target.value.map(|value| value.median);
        assert!(
            value.is_some_and(f64::is_finite) || !has_image,
            "{target:?}"
        );
    }
    assert!(results.samples.iter().all(|sample| sample.per_second > 0.0));
    assert_eq!(results.paced_runs().len(), 6);
    let proven: Vec<&str> = results.proofs.keys().map(String::as_str).collect();
    assert_eq!(
        proven,
        [
            "chain",
            "chain in memory",
            "etcd",
            "file",
            "postgres",
            "redis"
        ]
    );
    assert_eq!(kept::files(&results, "smoke").unwrap().len(), 4);
}

fn missing_programs() -> bool {
    let packages = [
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("webdis", "webdis"),
        ("wrk", "wrk"),
        ("redis-server", "redis-server"),
        ("redis-benchmark", "redis-tools"),
        ("pgbench", "postgresql"),
        ("etcd", "etcd-server"),
        ("etcdctl", "etcd-client"),
    ];
    let missing =
        packages.map(|(program, package)| skip::unless(skip::installed(program, package)));
    missing.contains(&true)
}
