//! The programs of the Rust toolchain that the build runs, and how their failures are told.

use std::env;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

/// Makes commands for the toolchain's own programs.
pub(crate) struct Tool;

impl Tool {
    /// The cargo that runs this build, with the environment that concerns only the app's half
    /// taken away: its flags are for another target.
    pub(crate) fn cargo() -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            let is_ours = name.starts_with("CARGO_ENCODED")
                || name.starts_with("CARGO_BUILD")
                || name.starts_with("CARGO_CFG")
                || name.starts_with("CARGO_PROFILE")
                || name.ends_with("RUSTFLAGS")
                || name == "RUSTC_WORKSPACE_WRAPPER"
                || name == "CARGO_TARGET_DIR"
                || name == "CLIPPY_ARGS";
            if is_ours {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// The toolchain's LLD.
    pub(crate) fn linker() -> Command {
        Command::new(tool_dir().join("rust-lld"))
    }

    /// The toolchain's objcopy, which finds its LLVM library only when told where.
    pub(crate) fn objcopy() -> Command {
        let mut command = Command::new(tool_dir().join("rust-objcopy"));
        command.env("LD_LIBRARY_PATH", sysroot().join("lib"));
        command
    }
}

/// What `rustc --print` answers.
fn told_by_rustc(topic: &str) -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", topic]).output().expect("rustc runs");
    String::from_utf8(output.stdout).expect("a path in UTF-8").trim().to_owned()
}

fn sysroot() -> PathBuf {
    PathBuf::from(told_by_rustc("sysroot"))
}

/// Where the toolchain keeps the programs that are not meant for users.
pub(crate) fn tool_dir() -> PathBuf {
    sysroot().join("lib/rustlib").join(told_by_rustc("host-tuple")).join("bin")
}

/// Runs a command; stops the build with its output if it fails.
pub(crate) fn run(command: &mut Command) {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = command.get_program().display();
            panic!("the toolchain has no {program}: run `rustup component add llvm-tools`");
        }
        Err(error) => panic!("cannot run {command:?}: {error}"),
    };
    if output.status.success() {
        return;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("target may not be installed") || errors.contains("can't find crate for `core`") {
        panic!("the kernel's target is missing: run `rustup target add x86_64-unknown-none`\n{errors}");
    }
    panic!("{command:?} failed ({}):\n{errors}", output.status);
}
