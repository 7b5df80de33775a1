//! What is in every image and no crate: Rust's standard library, and the C library below it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use unikernel_build::c_library;

use super::graph::Component;
use crate::project::TARGET;

/// `std` with `core` and `alloc`, of which both halves have their own.
pub(super) fn standard() -> Result<Component> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split(' ').nth(1).context("rustc has no version")?;
    let license = "MIT OR Apache-2.0";
    Ok(library(
        "rust-std",
        version,
        license,
        "the Rust standard library",
        "https://github.com/rust-lang/rust",
    ))
}

/// The C library that programs for a target are linked with. Its archive tells the version.
pub(super) fn c(target: &str) -> Result<Component> {
    let path = c_library(target).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let archive =
        fs::read(&path).with_context(|| format!("no C library for {target}: {}", path.display()))?;
    let unknown = || format!("{} does not tell its version", path.display());
    Ok(if target == TARGET {
        let version = musl_version(&archive).with_context(unknown)?;
        library(
            "musl",
            &version,
            "MIT",
            "the C library of Rust's target",
            "https://git.musl-libc.org/git/musl",
        )
    } else {
        let version = glibc_version(&archive).with_context(unknown)?;
        let license = "LGPL-2.1-or-later";
        library(
            "glibc",
            &version,
            license,
            "the GNU C library of the host",
            "https://sourceware.org/git/glibc.git",
        )
    })
}

fn library(name: &str, version: &str, license: &str, description: &str, repository: &str) -> Component {
    Component {
        name: name.to_owned(),
        version: version.to_owned(),
        license: Some(license.to_owned()),
        description: Some(description.to_owned()),
        repository: Some(repository.to_owned()),
        source: None,
        sha256: None,
        is_in_image: true,
        is_crate: false,
        folder: None,
        dependencies: BTreeSet::new(),
    }
}

/// A string of its own, such as `1.2.5`: `__libc_version`.
fn musl_version(archive: &[u8]) -> Option<String> {
    let texts = archive.split(|&byte| byte == 0).filter(|text| (5..=12).contains(&text.len()));
    let is_version = |text: &&[u8]| {
        let numbers: Vec<&[u8]> = text.split(|&byte| byte == b'.').collect();
        let is_number = |number: &&[u8]| !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        numbers.len() == 3 && numbers[0] == b"1" && numbers.iter().all(is_number)
    };
    // Other strings may stand in front of it in the same run of bytes, but none is a version.
    texts.filter(is_version).map(|text| String::from_utf8_lossy(text).into_owned()).next()
}

/// `GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.`: the distribution's version, if it tells one.
fn glibc_version(archive: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"GNU C Library (";
    let at = archive.windows(BANNER.len()).position(|window| window == BANNER)?;
    let banner = archive[at..].split(|&byte| byte == b'\n' || byte == 0).next()?;
    let banner = String::from_utf8_lossy(banner);
    let (distribution, release) = banner.split_once(')')?;
    let release = release.split_once("version ")?.1.split(',').next()?.trim_end_matches('.');
    let own = distribution.rsplit(' ').next().filter(|version| version.starts_with(release));
    Some(own.unwrap_or(release).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_libraries_tell_their_versions() {
        assert_eq!(musl_version(b"ELF\x00\x001.2\x001.2.5\x00x").as_deref(), Some("1.2.5"));
        assert_eq!(musl_version(b"ELF\x001.2.x\x00"), None);
        let debian =
            b"x\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\nCopyright";
        assert_eq!(glibc_version(debian).as_deref(), Some("2.36-9+deb12u14"));
        let plain = b"GNU C Library (GNU libc) stable release version 2.43.\n";
        assert_eq!(glibc_version(plain).as_deref(), Some("2.43"));
        assert_eq!(glibc_version(b"no library"), None);
    }

    #[test]
    fn this_hosts_libraries_are_found() {
        let musl = c(TARGET).unwrap();
        assert!(musl.name == "musl" && musl.version.starts_with("1."), "{musl:?}");
        assert!(!musl.is_crate && standard().unwrap().version.starts_with("1."));
    }
}
