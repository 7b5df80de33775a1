//! `deploy`: which form, and of what.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lexopt::prelude::*;

use super::run::{self, RunOptions, What};
use super::{shown, value};
use crate::deploy::Given;
use crate::package::{PackageOptions, take_option};

/// Which files to write.
#[derive(Clone, Debug)]
pub(crate) struct DeployOptions {
    pub(crate) form: String,
    /// The folder that they go to.
    pub(crate) output: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) replicas: u32,
    /// What would be booted here.
    pub(crate) run: RunOptions,
    /// What of that was said, for forms that have no word for it.
    pub(crate) given: Vec<Given>,
}

/// `form` is known for `oci`, which is a command of its own with the same options.
pub(super) fn parse(
    parser: &mut lexopt::Parser,
    form: Option<&str>,
    app_arguments: Vec<String>,
) -> Result<DeployOptions> {
    let mut form = form.map(str::to_owned);
    let (mut image, mut package) = (None, PackageOptions::default());
    let (mut output, mut name, mut replicas) = (None, None, 1);
    let (mut run, mut given) = (RunOptions::new(app_arguments), Vec::new());
    while let Some(argument) = parser.next()? {
        let option = match argument {
            Value(word) if form.is_none() => {
                form = Some(word.string()?);
                continue;
            }
            Value(word) if image.is_none() => {
                image = Some(word.string()?);
                continue;
            }
            other => shown(&other),
        };
        match option.as_str() {
            "-o" | "--output" => output = Some(parser.value()?.into()),
            "--name" => name = Some(parser.value()?.string()?),
            _ if take_option(&option, &mut package, parser)? => {}
            _ => {
                given.push((option.clone(), value_of(&option, parser)));
                match option.as_str() {
                    "--replicas" => replicas = value(parser, "replicas")?,
                    _ => run::take(&option, &mut run, parser)?,
                }
            }
        }
    }
    // What is shipped is not a debug build, unless somebody says so.
    package.profile.get_or_insert_with(|| "release".to_owned());
    run.what = image.map_or(What::Package(package), What::Named);
    let form = form.context("which form? For example: `cargo unikernel deploy systemd`")?;
    ensure!(replicas > 0, "--replicas 0: there is one at least");
    let output = output.unwrap_or_else(|| PathBuf::from("deploy").join(&form));
    Ok(DeployOptions { form, output, name, replicas, run, given })
}

/// What an option's value will be, of those that forms tell apart by it.
fn value_of(option: &str, parser: &lexopt::Parser) -> Option<String> {
    let is_told_apart = ["--machine", "--net", "--accel"].contains(&option);
    is_told_apart.then(|| parser.clone().value().ok()?.string().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_comes_first_then_an_image() {
        let parse = |words: &[&str]| parse(&mut lexopt::Parser::from_args(words), None, Vec::new());
        let options = parse(&["systemd", "server", "--replicas", "3", "--memory", "64"]).unwrap();
        assert_eq!((options.form.as_str(), options.replicas, options.run.memory_mib), ("systemd", 3, 64));
        assert!(matches!(options.run.what, What::Named(name) if name == "server"));
        let options = parse(&["nomad", "--bin", "server"]).unwrap();
        assert!(matches!(options.run.what, What::Package(package) if package.profile() == "release"));
        assert!(parse(&[]).is_err());
        assert!(parse(&["nomad", "--replicas", "0"]).is_err());
    }
}
