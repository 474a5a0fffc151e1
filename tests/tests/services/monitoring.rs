//! The alerts and the dashboard against a real Prometheus that scrapes the services.

use std::{fs, path::Path, thread, time::Duration};

use e2e::{http, launch::Launch, port::Port, process::Process, service::Service, skip, wait};
use serde_json::Value;

use crate::started::{SOON, hash, hello, memory};

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../k8s/components/monitoring")
        .join(name)
}

fn skipped() -> bool {
    let prometheus = skip::installed("prometheus", "prometheus");
    skip::unless(prometheus.and_then(|()| skip::installed("promtool", "prometheus")))
}

#[test]
fn promtool_finds_each_alert_when_it_should() {
    if skipped() {
        return;
    }
    let promtool = || Launch::new("promtool");
    let lint = promtool().args(["check", "rules"]).arg(file("alerts.yml"));
    lint.run_to_end(SOON).success().unwrap();
    let tests = promtool()
        .args(["test", "rules"])
        .arg(file("alerts-test.yml"));
    tests.run_to_end(SOON).success().unwrap();
    let operations = fs::read_to_string(file("../../../docs/operations.md")).unwrap();
    let tests = fs::read_to_string(file("alerts-test.yml")).unwrap();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(
            operations.contains(&format!("### {name}\n")),
            "no runbook: {name}"
        );
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "no test: {name}"
        );
        let runbook = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"], runbook.as_str());
    }
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(file(name)).unwrap()).unwrap()
}

#[test]
fn the_operator_gets_the_same_alerts() {
    assert_eq!(yaml("prometheus-rule.yaml")["spec"], yaml("alerts.yml"));
}

fn alerts() -> Vec<Value> {
    yaml("alerts.yml")["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .clone()
}

/// What alerts and panels ask for: of an alert, without the bound that it must not cross.
fn queries() -> Vec<String> {
    let bound = |expr: &str| expr.rfind([' ', '\n']).map_or(0, |end| end - 1);
    let alerts = alerts().into_iter().map(|alert| {
        let expr = alert["expr"].as_str().unwrap().trim();
        expr[..bound(expr)]
            .trim_end_matches(['=', '>', ' ', '\n'])
            .to_owned()
    });
    let dashboard = fs::read_to_string(file("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    let targets = panels
        .into_iter()
        .flat_map(|panel| panel["targets"].as_array().cloned());
    let panels = targets.flatten().map(|target| {
        let expr = target["expr"].as_str().unwrap();
        expr.replace("$__rate_interval", "1m").replace("$job", ".*")
    });
    alerts.chain(panels).collect()
}

#[test]
fn every_alert_and_every_panel_asks_for_something_that_is_there() {
    if skipped() {
        return;
    }
    let persistence = memory();
    let (hello, hash) = (hello(), hash(&persistence));
    let closed = Port::free();
    let failing = Service::builder("hash_server")
        .env("PERSISTENCE_PORT", closed.number().to_string())
        .env("REQUEST_TIMEOUT_MS", "200")
        .start();
    let folder = tempfile::tempdir().unwrap();
    let job = |name: &str, service: &Service| {
        let admin = service.admin_addr();
        format!("  - job_name: {name}\n    static_configs: [{{targets: ['{admin}']}}]\n")
    };
    let config = format!(
        "global: {{scrape_interval: 1s}}\nrule_files: [{:?}]\nscrape_configs:\n{}{}{}{}",
        file("alerts.yml"),
        job("hello", &hello),
        job("persistence", &persistence),
        job("hash", &hash),
        job("failing", &failing),
    );
    let config_file = folder.path().join("prometheus.yml");
    fs::write(&config_file, config).unwrap();
    let port = Port::free();
    let launch = Launch::new("prometheus")
        .arg(format!("--web.listen-address={}", port.addr()))
        .arg(format!("--config.file={}", config_file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().display()));
    let _prometheus = Process::start(&launch);
    let mut missing = queries();
    assert!(missing.len() > 20, "{missing:?}");
    let found = wait::within(2 * SOON, || {
        for service in [&hello, &hash, &persistence, &failing] {
            http::get(service.addr(), "/").unwrap();
        }
        missing.retain(|query| !has_data(&port, query));
        thread::sleep(Duration::from_millis(500));
        missing.is_empty().then_some(())
    });
    assert!(found.is_some(), "no data for {missing:#?}");
}

fn has_data(port: &Port, query: &str) -> bool {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let Ok(answer) = http::get(port.addr(), &format!("/api/v1/query?query={encoded}")) else {
        return false;
    };
    // While it starts, it answers 503.
    answer.status != 503 && {
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let found = &answer.json()["data"]["result"];
        found.as_array().is_some_and(|series| !series.is_empty())
    }
}
