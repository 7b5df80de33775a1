//! `bench`: what to measure, of a server of the user's or, with `--marks`, of this repository's apps.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use serde::Serialize;

use super::run::{self, RunOptions, What};
use super::{Command, list, shown, unexpected, value};
use crate::package::{PackageOptions, take_option};

/// The server of the user's, and what to ask of it.
#[derive(Clone, Debug)]
pub(crate) struct OwnBenchOptions {
    pub(crate) run: RunOptions,
    /// Where the server listens.
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) connections: Vec<u32>,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    /// Where table and picture go.
    pub(crate) output: PathBuf,
}

impl Default for OwnBenchOptions {
    fn default() -> Self {
        Self {
            run: RunOptions::new(Vec::new()),
            port: 8080,
            path: "/".into(),
            connections: vec![1, 16, 64],
            rounds: 3,
            seconds: 3,
            output: "bench".into(),
        }
    }
}

/// Of the options of `run`, those that hold for both systems, or say how ours is booted.
const OF_RUN: [&str; 6] = ["--machine", "--memory", "--smp", "--initrd", "--env", "--append"];

/// What to measure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BenchOptions {
    pub(crate) apps: Vec<String>,
    pub(crate) connections: Vec<u32>,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) skip: Vec<String>,
}

impl Default for BenchOptions {
    /// All that the marks ask for.
    fn default() -> Self {
        Self {
            apps: ["http", "http-mio", "http-axum", "axum-rest:64", "axum-rest@2:64"]
                .map(str::to_owned)
                .to_vec(),
            connections: vec![1, 16, 64, 256],
            rounds: 3,
            seconds: 3,
            skip: Vec::new(),
        }
    }
}

impl BenchOptions {
    /// The apps but those that are measured at one number of connections, or on more processors: they have no mark for another.
    pub(crate) fn plain_apps(&self) -> impl Iterator<Item = &str> {
        self.apps.iter().map(String::as_str).filter(|app| !app.contains([':', '@']))
    }

    /// False for a part that is left out.
    pub(crate) fn wants(&self, part: &str) -> bool {
        !self.skip.iter().any(|skipped| skipped == part)
    }

    /// True if nothing that the marks ask for is left out.
    pub(crate) fn is_complete(&self) -> bool {
        let all = Self::default();
        self.skip.is_empty()
            && self.rounds >= all.rounds
            && all.apps.iter().all(|app| self.apps.contains(app))
            && all.connections.iter().all(|connections| self.connections.contains(connections))
    }
}

/// Reads the options; `app_arguments` are the words behind `--`.
pub(super) fn parse(parser: &mut lexopt::Parser, app_arguments: Vec<String>) -> Result<Command> {
    let (mut own, mut marks) = (OwnBenchOptions::default(), BenchOptions::default());
    own.run.app_arguments = app_arguments;
    let (mut named, mut package) = (None, PackageOptions::default());
    // Which of the two an option belongs to, by the last that belongs to one.
    let (mut of_marks, mut of_own) = (None, None);
    while let Some(argument) = parser.next()? {
        let option = match argument {
            Value(image) if named.is_none() => {
                named = Some(image.string()?);
                of_own = named.clone();
                continue;
            }
            other => shown(&other),
        };
        if take_shared(&option, &mut own, &mut marks, parser)? {
            continue;
        }
        if take_of_marks(&option, &mut marks, parser)? {
            of_marks = Some(option);
        } else if take_own(&option, &mut own, parser)? || take_option(&option, &mut package, parser)? {
            of_own = Some(option);
        } else {
            return Err(unexpected(&option));
        }
    }
    match (of_marks, of_own) {
        (Some(marks), Some(own)) => {
            bail!("`{own}` is about a server of yours, `{marks}` about the apps here")
        }
        (Some(_), None) => {
            ensure!(own.run.app_arguments.is_empty(), "`bench --marks` takes nothing behind `--`");
            Ok(Command::Bench(marks))
        }
        (None, _) => {
            // A debug build has a kernel that checks itself: nobody wants to know how slow that is.
            package.profile.get_or_insert_with(|| "release".into());
            own.run.what = named.map_or(What::Package(package), What::Named);
            Ok(Command::OwnBench(Box::new(own)))
        }
    }
}

/// Options of both.
fn take_shared(
    option: &str,
    own: &mut OwnBenchOptions,
    marks: &mut BenchOptions,
    parser: &mut lexopt::Parser,
) -> Result<bool> {
    match option {
        "--connections" => {
            let text = parser.value()?.string()?;
            let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
            let numbers = numbers.with_context(|| format!("--connections {text}: numbers such as 1,64"))?;
            ensure!(!numbers.contains(&0), "--connections {text}: one at least");
            marks.connections.clone_from(&numbers);
            own.connections = numbers;
        }
        "--rounds" => {
            own.rounds = value(parser, "rounds")?;
            ensure!(own.rounds > 0, "--rounds 0: one at least");
            marks.rounds = own.rounds;
        }
        "--seconds" | "--duration" => {
            own.seconds = value(parser, "seconds")?;
            ensure!(own.seconds > 0, "{option} 0: one at least");
            marks.seconds = own.seconds;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn take_of_marks(option: &str, marks: &mut BenchOptions, parser: &mut lexopt::Parser) -> Result<bool> {
    match option {
        "--marks" => {}
        "--apps" => {
            marks.apps = list(parser.value()?.string()?).into_iter().filter(|app| app != "none").collect();
        }
        "--skip" => marks.skip = list(parser.value()?.string()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn take_own(option: &str, own: &mut OwnBenchOptions, parser: &mut lexopt::Parser) -> Result<bool> {
    match option {
        "--port" => own.port = value(parser, "port")?,
        "--path" => {
            own.path = parser.value()?.string()?;
            let is_path = own.path.starts_with('/') && !own.path.contains(char::is_whitespace);
            ensure!(is_path, "--path {}: a path of URLs such as /index.html", own.path);
        }
        "-o" | "--output" => own.output = parser.value()?.into(),
        _ if OF_RUN.contains(&option) => run::take(option, &mut own.run, parser)?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command> {
        parse(&mut lexopt::Parser::from_args(words), Vec::new())
    }

    #[test]
    fn servers_of_users_and_marks_are_told_apart() {
        let Ok(Command::OwnBench(own)) = parsed(&["--path", "/x", "--port", "3000", "--duration", "1"])
        else {
            panic!("no bench of a server");
        };
        assert_eq!((own.port, own.path.as_str(), own.seconds), (3000, "/x", 1));
        assert!(matches!(&own.run.what, What::Package(package) if package.profile() == "release"));
        let named = parsed(&["./server", "--smp", "2"]);
        assert!(matches!(named, Ok(Command::OwnBench(own)) if matches!(own.run.what, What::Named(_))));
        let marks = parsed(&["--apps", "none", "--seconds", "1"]);
        assert!(matches!(marks, Ok(Command::Bench(marks)) if marks.apps.is_empty() && marks.seconds == 1));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for words in [
            &["--marks", "--path", "/x"][..],
            &["--path", "x"],
            &["--path", "/a b"],
            &["--connections", "0"],
            &["--connections", "many"],
            &["--rounds", "0"],
            &["--seconds", "0"],
            &["--port", "70000"],
            &["--disk", "x.img"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
