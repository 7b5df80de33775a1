//! How the build runs cargo and other programs, and how their failures are told.

use std::io::{self, ErrorKind};
#[cfg(feature = "image")]
use std::path::Path;
use std::process::{self, Command};
use std::{env, fmt};

/// The cargo that runs this build, with the environment that concerns only the app's half
/// taken away: its flags are for another target.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let names = env::vars_os().map(|(name, _)| name);
    names.filter(|name| concerns_app(&name.to_string_lossy())).for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// Where the output of a command goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// To whoever started this process.
    Shown,
    /// Into the [`Failure`], if it comes to one.
    Kept,
}

/// A step of the build that did not work, and what to do about it.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    #[cfg(feature = "image")]
    pub(crate) fn of_file(path: &Path, error: &io::Error) -> Self {
        Self(format!("cannot write {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// True for a variable that says how the app is compiled, and not how the kernel is: flags for another target, wrappers that
/// add such flags.
fn concerns_app(variable: &str) -> bool {
    ["CARGO_ENCODED", "CARGO_BUILD", "CARGO_CFG", "CARGO_PROFILE"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
        || variable.ends_with("RUSTFLAGS")
        || matches!(
            variable,
            "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CARGO_TARGET_DIR" | "CLIPPY_ARGS"
        )
}

/// What `rustc --print` answers.
pub(crate) fn told_by_rustc(topic: &[&str]) -> Result<String, Failure> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = output_of(rustc.arg("--print").args(topic))?;
    let text = String::from_utf8(output.stdout);
    text.map(|text| text.trim().to_owned()).map_err(|_| Failure("the toolchain's path is not UTF-8".into()))
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, output: Output) -> Result<(), Failure> {
    match output {
        Output::Kept => output_of(command).map(drop),
        Output::Shown => match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure(format!("{command:?} failed ({status}); its messages are above"))),
            Err(error) => Err(not_started(command, &error)),
        },
    }
}

pub(crate) fn output_of(command: &mut Command) -> Result<process::Output, Failure> {
    let output = command.output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(output);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("target may not be installed") || errors.contains("can't find crate for `core`") {
        let what = "the kernel's target is missing: run `rustup target add x86_64-unknown-none`";
        return Err(Failure(format!("{what}\n{errors}")));
    }
    Err(Failure(format!("{command:?} failed ({}):\n{errors}", output.status)))
}

fn not_started(command: &Command, error: &io::Error) -> Failure {
    let program = command.get_program().display();
    Failure(match error.kind() {
        ErrorKind::NotFound => {
            format!("the toolchain has no {program}: run `rustup component add llvm-tools`")
        }
        _ => format!("cannot run {program}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::concerns_app;

    #[test]
    fn kernel_is_compiled_without_the_settings_of_apps() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_X86_64_UNKNOWN_NONE_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_TARGET_DIR",
        ] {
            assert!(concerns_app(name), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "CARGO_NET_OFFLINE", "RUSTC", "HOME"] {
            assert!(!concerns_app(name), "{name}");
        }
    }
}
