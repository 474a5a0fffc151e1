//! What a program calls itself, and its command line.

use std::fmt::Write as _;

use crate::settings::{Common, Environment, Settings, Variable};

/// What a program calls itself, and where it listens by default.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name, as users type it.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The commit it was built from, where whoever built it said so.
    pub revision: Option<&'static str>,
    /// What it does, in a few words.
    pub about: &'static str,
    /// The port it serves on by default.
    pub port: u16,
    /// The port for probes and metrics by default.
    pub admin_port: u16,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Serve,
    Help,
    Version,
    HealthCheck,
}

impl Command {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Self::Serve),
            ["--help" | "-h" | "help"] => Ok(Self::Help),
            ["--version" | "-V" | "version"] => Ok(Self::Version),
            ["healthcheck"] => Ok(Self::HealthCheck),
            _ => Err(format!(
                "unexpected argument {:?}: expected healthcheck, --help, --version or nothing; \
                 settings are environment variables",
                arguments.join(" ")
            )),
        }
    }
}

impl Program {
    /// The environment of this process, with this program's defaults.
    pub(crate) fn environment(&self) -> Environment {
        Environment::of_process()
            .with_default("PORT", self.port)
            .with_default("ADMIN_PORT", self.admin_port)
    }

    /// The text of `--version`.
    pub(crate) fn version_line(&self) -> String {
        let Self { name, version, .. } = self;
        match self.revision() {
            None => format!("{name} {version}\n"),
            Some(revision) => format!("{name} {version} (revision {revision})\n"),
        }
    }

    /// The revision, where it is known: a build argument that is not given is an empty variable.
    pub(crate) fn revision(&self) -> Option<&'static str> {
        self.revision.filter(|revision| !revision.is_empty())
    }

    /// The text of `--help`: every variable with its default.
    pub(crate) fn help<S: Settings>(&self) -> String {
        let Self { name, about, .. } = self;
        let mut text = format!(
            "{about}\n\n\
             Usage: {name}              serve, with the settings below\n       \
             {name} healthcheck  ask the running service whether it is ready: exit code 0 or 1\n       \
             {name} --help | --version\n\n\
             Environment variables:\n"
        );
        let environment = self.environment();
        for variable in S::variables().into_iter().chain(Common::variables()) {
            describe(&mut text, &variable, &environment.default_of(&variable));
        }
        text.push_str("\nExit codes: 0 stopped as asked, 1 failed, 2 a setting is invalid\n");
        text
    }
}

fn describe(text: &mut String, variable: &Variable, default: &str) {
    let Variable { accepts, help, .. } = variable;
    let default = if default.is_empty() { "none" } else { default };
    // Writing to a string cannot fail.
    let mut names = variable.name();
    if variable.secret {
        names = format!("{names} or {}", variable.file_name());
    }
    let _ = writeln!(text, "  {names} (default: {default})");
    let _ = writeln!(text, "      {}\n      Accepts {accepts}.", help.trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETER: Program = Program {
        name: "greeter",
        version: "1.2.3",
        revision: None,
        about: "Greets",
        port: 8080,
        admin_port: 9080,
    };

    #[test]
    fn the_command_line_accepts_four_things_and_says_so() {
        let parse = |words: &[&str]| {
            Command::parse(
                &words
                    .iter()
                    .map(|&word| word.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(parse(&[]), Ok(Command::Serve));
        assert_eq!(parse(&["--help"]), Ok(Command::Help));
        assert_eq!(parse(&["--version"]), Ok(Command::Version));
        assert_eq!(parse(&["healthcheck"]), Ok(Command::HealthCheck));
        let error = parse(&["--port", "80"]).unwrap_err();
        assert!(
            error.contains("--port 80") && error.contains("--help"),
            "{error}"
        );
    }

    #[test]
    fn help_lists_every_variable_with_its_default() {
        let help = GREETER.help::<Common>();
        for variable in Common::variables() {
            assert!(
                help.contains(&format!("  {} (default: ", variable.name())),
                "{help}"
            );
        }
        assert!(
            help.contains("PORT (default: 8080)") && help.contains("HOST (default: 127.0.0.1)")
        );
        // Longer than Google's load balancers keep theirs.
        assert!(help.contains("KEEP_ALIVE_SECONDS (default: 620)"), "{help}");
    }

    #[test]
    fn the_version_names_the_revision_where_it_is_known() {
        let version_line = |revision| {
            Program {
                revision,
                ..GREETER
            }
            .version_line()
        };
        assert_eq!(version_line(None), "greeter 1.2.3\n");
        assert_eq!(version_line(Some("")), "greeter 1.2.3\n");
        assert_eq!(version_line(Some("abc")), "greeter 1.2.3 (revision abc)\n");
    }
}
