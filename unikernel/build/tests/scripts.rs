//! The wrappers of compiler and linker, around programs that say how they were called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MUSL: &str = "--target=x86_64-unknown-linux-musl";
/// What an image needs, whatever the user's flags say.
const NEEDED: [&str; 4] = [
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Clink-self-contained=yes",
    "-Cforce-frame-pointers=yes",
];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The arguments that come out, one a line.
fn said(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What the compiler is told under such RUSTFLAGS, encoded ones or others.
fn compiler_told(arguments: &[&str], (name, flags): (&str, &str)) -> Vec<String> {
    let mut command = Command::new(script("rustc"));
    command.args(["printf", "%s\\n"]).args(arguments);
    said(command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env(name, flags))
}

/// A folder, in a place with a difficult name, that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ein Ördner {name} {}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that fails leaves it, at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn flags_of_the_environment_do_not_replace_what_an_image_needs() {
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        let told = compiler_told(&["a.rs", MUSL, "-Crelocation-model=pic"], (name, "--cfg\u{1f}x"));
        let own = told.iter().position(|argument| argument == "-Crelocation-model=pic").unwrap();
        let linker = format!("-Clinker={}", script("lld").display());
        for needed in NEEDED.into_iter().chain([&*linker]) {
            assert!(told[own..].iter().any(|argument| argument == needed), "{needed}: {told:?}");
        }
        let told = compiler_told(&["a.rs", "--target", "x86_64-unknown-linux-gnu"], (name, "-Cx"));
        assert!(told.contains(&"-Crelocation-model=static".to_owned()), "{told:?}");
        for other in ["--target=x86_64-unknown-none", "-O"] {
            assert_eq!(compiler_told(&["a.rs", other], (name, "-Cx")), ["a.rs", other], "it is no app");
        }
    }
    assert_eq!(compiler_told(&["a.rs", MUSL], ("RUSTFLAGS", "")), ["a.rs", MUSL], "cargo has its own");
}

#[test]
fn programs_without_std_abort() {
    let folder = Folder::new("no_std");
    let without = folder.program("main.rs", "//! A program.\n#![no_std]\n");
    let with = folder.program("other.rs", "fn main() {}\n");
    for (source, kind, aborts) in [(&without, "bin", true), (&with, "bin", false), (&without, "lib", false)] {
        let told = compiler_told(&[source.to_str().unwrap(), "--crate-type", kind], ("RUSTFLAGS", ""));
        assert_eq!(told.contains(&"-Cpanic=abort".to_owned()), aborts, "{told:?}");
    }
}

#[test]
fn other_wrappers_learn_what_compiler_it_is() {
    let told = said(Command::new(script("rustc")).arg("-vV").env("RUSTC", "echo"));
    assert_eq!(told, ["-vV"]);
}

#[test]
fn linker_understands_what_is_meant_for_a_driver() {
    let folder = Folder::new("lld");
    folder.program("rust-lld", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    let tool = folder.program("image tool", "#!/bin/sh\nprintf 'tool:%s\\n' \"$UNIKERNEL_EMBED_SYMBOLS\"\n");
    let path = format!("{}:{}", folder.0.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(script("lld"));
    command.args(["-flavor", "gnu", "-fuse-ld=mold", "-Wl,-z,now", "-Wl,--build-id", "-o", "the image"]);
    command.arg(format!("--unikernel-image-tool={}", tool.display())).env("PATH", path);
    let told = said(&mut command);
    assert_eq!(told, ["-flavor", "gnu", "-z", "now", "--build-id", "-o", "the image", "tool:the image"]);
}
