//! What `/openapi.json` says, held against what the services do.

use std::time::Duration;

use e2e::{http, launch::Launch, service::Service, skip};

use crate::started::{hash, hello, memory};

/// It sends some hundred requests, and takes seconds.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn schemathesis_finds_nothing_that_is_not_as_described() {
    if skip::unless(skip::python_tools().map(drop)) {
        return;
    }
    let tools = skip::python_tools().expect("it was looked for");
    let schemathesis = tools.join("schemathesis/bin/schemathesis");
    let persistence = memory();
    let folder = tempfile::tempdir().unwrap();
    for service in [&hello(), &hash(&persistence), &persistence] {
        let launch = Launch::new(&schemathesis)
            .args([
                "run",
                "--checks",
                "all",
                "--max-examples",
                "50",
                "--seed",
                "1",
            ])
            .args(["--no-color", "--url", &service.public_url()])
            .arg(format!("http://{}/openapi.json", service.admin_addr()))
            // It keeps what it has found.
            .under(["env", "-C", folder.path().to_str().unwrap()].map(str::to_owned));
        launch.run_to_end(LIMIT).success().unwrap();
        describes(service);
    }
}

/// Whether its description has the version that it runs.
fn describes(service: &Service) {
    let openapi = http::get(service.admin_addr(), "/openapi.json")
        .unwrap()
        .json();
    let answer = http::get(service.addr(), "/").unwrap();
    let info = &openapi["info"];
    let described = [&info["title"], &info["version"]].map(|text| text.as_str().unwrap());
    assert_eq!(answer.header("server"), Some(&*described.join("/")));
}
