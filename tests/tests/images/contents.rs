//! What is in an image, and what it says of itself.

use std::{collections::BTreeSet, time::Duration};

use e2e::{launch::Launch, soak};
use serde_json::{Value, json};

use crate::docker::{self, Run as _, VERSION, docker, inspect, repository, script, try_docker};

const MEGABYTE: u64 = 1_000_000;

pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) ports: Option<(u16, u16)>,
    /// Files and directories besides the program.
    others: &'static [&'static str],
    largest: u64,
}

pub(crate) const HELLO: Image = Image {
    name: "hello_server",
    ports: Some((8080, 9080)),
    others: &[],
    largest: 4 * MEGABYTE,
};

pub(crate) const PERSISTENCE: Image = Image {
    name: "persistence_server",
    ports: Some((8081, 9081)),
    others: &[
        "data/",
        "etc/ssl/",
        "etc/ssl/certs/",
        "etc/ssl/certs/ca-certificates.crt",
    ],
    largest: 10 * MEGABYTE,
};

pub(crate) const HASH: Image = Image {
    name: "hash_server",
    ports: Some((8082, 9082)),
    others: &[],
    largest: 6 * MEGABYTE,
};

const CHECKER: Image = Image {
    name: "checker",
    ports: None,
    others: &[],
    largest: 6 * MEGABYTE,
};

pub(crate) const SERVICES: [Image; 3] = [HELLO, PERSISTENCE, HASH];
const ALL: [Image; 4] = [HELLO, PERSISTENCE, HASH, CHECKER];

impl Image {
    /// Its name with its tag.
    pub(crate) fn tagged(&self) -> String {
        format!("{}:{VERSION}", self.name)
    }
}

/// What Docker adds to the files of every container.
const OF_DOCKER: [&str; 13] = [
    ".dockerenv",
    "dev/",
    "dev/console",
    "dev/pts/",
    "dev/shm/",
    "etc/",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc/",
    "sys/",
    "",
];

/// The files of an image as `tar` lists them, with owner and time.
fn files(image: &Image, details: &[&str]) -> String {
    let id = docker(&["create", &image.tagged()]);
    let archive = tempfile::NamedTempFile::new().expect("a file");
    let path = archive.path().to_str().expect("text");
    docker(&["export", "--output", path, &id]);
    docker(&["rm", &id]);
    let list = Launch::new("tar").args(details).arg("--file").arg(path);
    list.run(Duration::from_secs(60))
}

#[test]
fn an_image_holds_its_program_and_no_shell_or_anything_else() {
    if docker::skip() {
        return;
    }
    for image in ALL {
        let list = files(&image, &["--list"]);
        let mut found: Vec<&str> = list.lines().collect();
        found.retain(|file| !OF_DOCKER.contains(file));
        found.sort_unstable();
        let mut expected = [image.others, &[image.name]].concat();
        expected.sort_unstable();
        assert_eq!(found, expected, "{}", image.name);
    }
}

#[test]
fn the_data_directory_belongs_to_the_user_and_to_group_0_with_the_same_rights() {
    if docker::skip() {
        return;
    }
    let list = files(&PERSISTENCE, &["--list", "--verbose", "--numeric-owner"]);
    let data = list.lines().find(|line| line.ends_with(" data/"));
    let data = data.expect("there is one");
    assert!(
        data.starts_with("drwxrwx") && data.contains("65532/0 "),
        "{data}"
    );
}

#[test]
fn files_have_the_time_of_the_commit() {
    if docker::skip() {
        return;
    }
    for image in ALL {
        let list = files(&image, &["--list", "--verbose", "--full-time", "--utc"]);
        let program = list.lines().find(|line| line.ends_with(image.name));
        let program = program.expect("there is one");
        let date = time_of_commit(&image);
        assert!(program.contains(&date), "{program}: expected {date}");
    }
}

/// When the commit was made from which an image says that it was built; 1970 where there is no
/// history to ask.
fn time_of_commit(image: &Image) -> String {
    let labels = &inspect(&image.tagged())["Config"]["Labels"];
    let revision = labels["org.opencontainers.image.revision"].as_str();
    let revision = revision.expect("a label").trim_end_matches("-modified");
    let limit = Duration::from_secs(10);
    let git = Launch::new("git").arg("-C").arg(repository());
    let epoch = match revision {
        "" => "0".to_owned(),
        revision => git.args(["log", "-1", "--format=%ct", revision]).run(limit),
    };
    let date = Launch::new("date").args(["--utc", "+%F %T"]);
    date.arg(format!("--date=@{epoch}")).run(limit)
}

#[test]
fn an_image_is_small() {
    if docker::skip() {
        return;
    }
    for image in ALL {
        let size = inspect(&image.tagged())["Size"].as_u64().expect("a size");
        soak::figure(format_args!(
            "{}: {:.2} MB",
            image.name,
            size as f64 / MEGABYTE as f64
        ));
        assert!(size <= image.largest, "{}: {size} bytes", image.name);
    }
}

#[test]
fn an_image_runs_its_program_as_a_user_without_rights() {
    if docker::skip() {
        return;
    }
    for image in ALL {
        let config = &inspect(&image.tagged())["Config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["StopSignal"], "SIGTERM");
        let program = format!("/{}", image.name);
        assert_eq!(config["Entrypoint"], json!([program]));
        assert_eq!(config["Cmd"], Value::Null);
        assert_eq!(config["Volumes"], Value::Null);
        let Some((port, _)) = image.ports else {
            continue;
        };
        assert_eq!(
            config["Healthcheck"]["Test"],
            json!(["CMD", program, "healthcheck"])
        );
        // `docker run -P` publishes to everybody, so not the admin port.
        assert_eq!(config["ExposedPorts"], json!({format!("{port}/tcp"): {}}));
    }
}

#[test]
fn the_labels_say_what_the_program_says() {
    if docker::skip() {
        return;
    }
    for image in ALL {
        let labels = &inspect(&image.tagged())["Config"]["Labels"];
        let label = |name: &str| {
            let value = labels[format!("org.opencontainers.image.{name}")].as_str();
            value.unwrap_or_else(|| panic!("{}: no label {name}", image.name))
        };
        assert_eq!(label("title"), image.name);
        assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
        assert_ne!(label("description"), "");
        let said = docker(&["run", "--rm", &image.tagged(), "--version"]);
        let (version, revision) = (label("version"), label("revision"));
        let expected = match revision {
            "" => format!("{} {version}", image.name),
            revision => format!("{} {version} (revision {revision})", image.name),
        };
        assert_eq!(said, expected);
    }
}

#[test]
fn the_crates_of_a_program_are_listed_in_it() {
    if docker::skip() {
        return;
    }
    script("scripts/sbom").run(Duration::from_secs(600));
    for image in ALL {
        let list = repository().join(format!("target/sbom/{}.cdx.json", image.name));
        let list = std::fs::read_to_string(list).expect("the list was written");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!(list["bomFormat"], "CycloneDX");
        let components = list["components"].as_array().expect("components");
        let listed = components.iter().map(|component| {
            let field = |name: &str| component[name].as_str().expect("text").to_owned();
            format!("{} v{}", field("name"), field("version"))
        });
        let listed: BTreeSet<String> = listed.collect();
        // Cargo's own account of what is linked into it.
        let tree = crates_of(image.name).run(Duration::from_secs(60));
        for line in tree.lines() {
            let mut words = line.split(' ');
            let named: Vec<&str> = words.by_ref().take(2).collect();
            let named = named.join(" ");
            assert!(
                listed.contains(&named) || named.starts_with(image.name),
                "{named} is missing in the list of {}",
                image.name
            );
        }
    }
}

/// Lists the crates that are linked into a program, one a line.
fn crates_of(program: &str) -> Launch {
    let tree = [
        "tree",
        "--locked",
        "--prefix=none",
        "--edges=normal,no-proc-macro",
    ];
    let manifest = repository().join("Cargo.toml");
    docker::at_home(env!("CARGO"))
        .args(tree)
        .args(["--package", program, "--manifest-path"])
        .arg(manifest)
}

/// Compiles everything from nothing, which takes minutes: a part of `make soak`.
#[test]
fn the_same_sources_make_the_same_layers() {
    if docker::skip() || soak::scaled(1, 0) == 0 {
        return;
    }
    let layers = |image: &Image| inspect(&image.tagged())["RootFS"]["Layers"].take();
    let before: Vec<Value> = ALL.iter().map(layers).collect();
    // A name that Docker has not seen, so that it keeps no layer either.
    let cache = format!("CACHE=none-{}", std::process::id());
    let again = script("scripts/images").args(["--build-arg", &cache]);
    again.run(Duration::from_secs(40 * 60));
    let after: Vec<Value> = ALL.iter().map(layers).collect();
    assert_eq!(before, after);
    soak::figure("all images built twice from nothing: the same layers");
}

#[test]
fn what_a_program_does_not_accept_ends_it_with_2_and_its_name() {
    if docker::skip() {
        return;
    }
    for image in SERVICES {
        let output = try_docker(&["run", "--rm", "--env", "PORT=none", &image.tagged()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stderr.contains("PORT"), "{output:?}");
    }
}
