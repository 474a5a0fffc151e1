//! The page of `hash_server` in a real browser.

use std::{cell::Cell, fs, path::Path};

use e2e::{browser::Browser, http, port::Port, service::Service, skip, wait};
use serde_json::json;

use crate::{
    proof::Longest,
    started::{self, SOON, file, hash, memory},
    stores::rollout::Tier,
};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[test]
fn the_page_is_for_browsers_and_takes_no_number() {
    let persistence = memory();
    let hash = hash(&persistence);
    let ask = |method: &str, accept: &str| {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        http::request(hash.addr(), request).unwrap()
    };
    for method in ["GET", "HEAD"] {
        let page = ask(method, BROWSER);
        assert_eq!(page.status, 200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(page.header("vary"), Some("Accept"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    }
    assert_eq!(ask("HEAD", "*/*").status, 405);
    for accept in ["*/*", "application/json"] {
        assert_eq!(
            ask("GET", accept).header("content-type"),
            Some("application/json")
        );
    }
    let watched = http::get(hash.addr(), "/?watch").unwrap();
    assert_eq!(watched.json()["data"]["number"], 3, "no page took one");
    assert_eq!(watched.header("connection"), Some("close"));
    let timing = watched.header("server-timing").unwrap();
    let parts: Vec<_> = timing
        .split(", ")
        .map(|part| part.split(';').next())
        .collect();
    assert_eq!(
        parts,
        ["hash", "persistence", "store"].map(Some),
        "{timing}"
    );
}

/// A replica whose host has this name, as a pod's has.
fn named(persistence: &Service, name: &str) -> e2e::service::Builder {
    let shell = format!("hostname {name} && exec \"$@\"");
    let tool = [
        "unshare",
        "--user",
        "--map-root-user",
        "--uts",
        "sh",
        "-c",
        &shell,
        "sh",
    ];
    started::in_front_of(persistence).under(tool.map(str::to_owned))
}

#[track_caller]
fn becomes(browser: &Browser, condition: &str) {
    wait::until(condition, SOON, || {
        let holds = browser.run(&format!("return Boolean({condition})"));
        (holds == true).then_some(())
    });
}

/// The script of the accessibility checker.
fn axe() -> String {
    let tools = skip::python_tools().expect("it was looked for");
    let mut versions = fs::read_dir(tools.join("lib")).unwrap().flatten();
    let file = "site-packages/axe_playwright_python/axe.min.js";
    let script = versions.find_map(|python| fs::read_to_string(python.path().join(file)).ok());
    script.expect("it is one of the tools")
}

#[test]
fn the_page_shows_replicas_restarts_and_outages() {
    if skip::unless(Browser::available())
        || skip::unless(skip::installed("haproxy", "haproxy"))
        || skip::unless(skip::python_tools().map(drop))
    {
        return;
    }
    let (mut persistence, _dir) = file();
    let count = Cell::new(0);
    let mut tier = Tier::start(|| {
        count.set(count.get() + 1);
        named(&persistence, &format!("replica-{}", count.get()))
    });
    let browser = Browser::start();
    let url = format!("http://{}/", tier.addr());
    browser.open(&url);
    assert_eq!(browser.run("return $('number').textContent"), "–");

    browser.run("$('rate').value = '20'");
    browser.press("#run", "\u{e007}");
    becomes(&browser, "instances.size === 2 && checked > 40");
    becomes(&browser, "$('path').children.length === 4");
    assert_eq!(browser.run("return Math.min(...seen)"), 1);
    let [mut unready, mut ended] = [(); 2].map(|()| Longest::default());
    tier.restart_in_turn(&mut unready, &mut ended);
    becomes(&browser, "seconds.at(-2).times.length > 5");
    let healthy =
        "return [failures.length, repeated, disordered, mismatched, $('state').className]";
    assert_eq!(browser.run(healthy), json!([0, 0, 0, 0, "good"]));
    assert_eq!(browser.log("browser"), [] as [serde_json::Value; 0]);
    accessible(&browser, &axe());

    persistence.kill9();
    becomes(&browser, "$('state').className === 'bad'");
    becomes(&browser, "failures.length > 0");
    becomes(&browser, "squares.querySelector('.failed')");
    picture(&browser, "outage");
    persistence.restart();
    becomes(
        &browser,
        "failingSince === null && $('state').textContent.startsWith('Works again')",
    );
    let sound = "return [repeated, disordered, mismatched]";
    assert_eq!(browser.run(sound), json!([0, 0, 0]));
    for entry in browser.log("browser") {
        assert_eq!(entry["source"], "network", "{entry}");
    }
    for entry in browser.log("performance") {
        let message: serde_json::Value =
            serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        if let Some(asked) = message["message"]["params"]["request"]["url"].as_str() {
            assert!(asked.starts_with(&url) || asked == "data:,", "{asked}");
        }
    }
}

#[test]
fn the_page_asks_for_faults_where_they_are_on() {
    if skip::unless(Browser::available()) || skip::unless(skip::python_tools().map(drop)) {
        return;
    }
    let persistence = memory();
    let admin = Port::free();
    let hash = started::ready(
        started::in_front_of(&persistence)
            .env("FAULTS", "on")
            .env("REQUEST_TIMEOUT_MS", "300")
            .env("ADMIN_PORT", admin.number().to_string()),
    );
    let browser = Browser::start();
    browser.open(&format!("{}/", hash.public_url()));
    browser.press("#run", "\u{e007}");
    becomes(&browser, "checked > 0");
    browser.press("[data-plan='dependency_error_rate=1']", "\u{e007}");
    becomes(&browser, "$('state').className === 'bad'");
    becomes(&browser, "$('plan').textContent === 'Persistence down.'");
    picture(&browser, "faults");
    browser.press("[data-plan='']", "\u{e007}");
    becomes(&browser, "$('state').textContent.startsWith('Works again')");
    accessible(&browser, &axe());
}

/// Looks at both color schemes, and at the width of a phone.
#[track_caller]
fn accessible(browser: &Browser, axe: &str) {
    browser.run(axe);
    for scheme in ["light", "dark"] {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &feature);
        let found = browser.run("return axe.run().then((found) => found.violations)");
        assert_eq!(found, json!([]), "{scheme}");
        picture(browser, scheme);
    }
    let phone = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    let width = browser.run("return document.documentElement.scrollWidth");
    picture(browser, "phone");
    assert_eq!(width, 360, "it scrolls sideways");
    browser.devtools("Emulation.clearDeviceMetricsOverride", &json!({}));
}

fn picture(browser: &Browser, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page");
    fs::create_dir_all(&folder).unwrap();
    browser
        .screenshot(&folder.join(format!("{name}.png")))
        .unwrap();
}
