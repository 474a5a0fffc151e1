//! How long things take fits together.

use crate::agreement::{binary, known_settings};
use crate::pod::{Pod, each};
use crate::rendered::Objects;

/// A setting of a pod, or its default in the program.
fn seconds(pod: Pod<'_>, objects: &Objects, setting: &str) -> u64 {
    let environment = pod.environment(objects);
    let set = environment.into_iter().find(|(name, _)| name == setting);
    let default = || known_settings(&binary(pod).unwrap())[setting].clone();
    set.map_or_else(default, |(_, value)| value)
        .parse()
        .unwrap()
}

#[test]
fn a_pod_has_the_time_to_answer_every_request_before_it_is_killed() {
    each(|name, pod, objects| {
        timely(name, pod, objects);
        if binary(pod).is_some() {
            // Endpoints are taken out meanwhile, unless there is nobody to take over.
            let alone = pod.label("store") == "file";
            let drain = seconds(pod, objects, "DRAIN_SECONDS");
            assert_eq!(drain, if alone { 0 } else { 10 }, "{name}");
        }
    });
}

/// A pod is not killed while it drains or finishes, and finishes what it has accepted.
#[track_caller]
pub(crate) fn timely(what: &str, pod: Pod<'_>, objects: &Objects) {
    if binary(pod).is_none() {
        return;
    }
    let hook = &pod.containers()[0]["lifecycle"]["preStop"];
    let pre_stop = hook["sleep"]["seconds"].as_u64().unwrap_or(0);
    let drain = seconds(pod, objects, "DRAIN_SECONDS");
    let shutdown = seconds(pod, objects, "SHUTDOWN_TIMEOUT_SECONDS");
    let request = seconds(pod, objects, "REQUEST_TIMEOUT_MS") / 1000;
    let grace = pod.spec()["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    assert!(
        grace >= pre_stop + drain + shutdown + 5,
        "{what}: {grace} s"
    );
    assert!(
        shutdown >= request,
        "{what}: {shutdown} s for requests of {request} s"
    );
}

#[test]
fn requests_wait_for_a_dependency_before_their_pod_is_taken_out() {
    each(|name, pod, objects| {
        if binary(pod).is_none() || pod.name() == "hello-server" {
            return;
        }
        let request = seconds(pod, objects, "REQUEST_TIMEOUT_MS") / 1000;
        let probe = &pod.containers()[0]["readinessProbe"];
        let patience =
            probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
        assert!(
            patience >= request,
            "{name}: {patience} s for requests of {request} s"
        );
        // And a pod of any kind needs less than that to be replaced.
        assert!(request >= 15, "{name}");
    });
}
