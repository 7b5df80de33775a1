//! `sign`: what, as what, with which key.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;
use unikernel_trust::Kind;

use super::{shown, unexpected};

/// What is to be signed, or looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SignOptions {
    pub(crate) what: Signed,
    /// A secret key, or a public one if signatures are only checked.
    pub(crate) key: PathBuf,
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Signed {
    /// Nothing: the key's word is shown.
    Nothing,
    /// A file, or a folder that becomes an archive first; where it goes, if not to where it was.
    File(PathBuf, Kind, Option<PathBuf>),
    /// A file that is signed already is checked.
    Check(PathBuf, Kind),
    /// The root hash of a disk.
    Root(String),
}

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<SignOptions> {
    let (mut file, mut kind, mut key, mut output, mut root, mut is_check) =
        (None, None, None, None, None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) if file.is_none() => file = Some(PathBuf::from(path)),
            Long("as") => {
                let name = parser.value()?.string()?;
                let named = Kind::named(&name).filter(|kind| *kind != Kind::Verity);
                kind = Some(named.with_context(|| format!("--as {name}: initrd, configuration or module"))?);
            }
            Long("key") => key = Some(PathBuf::from(parser.value()?)),
            Short('o') | Long("output") => output = Some(PathBuf::from(parser.value()?)),
            Long("root") => root = Some(parser.value()?.string()?),
            Long("check") => is_check = true,
            other => return Err(unexpected(&shown(&other))),
        }
    }
    let key = key.context(
        "with which key? `openssl genpkey -algorithm ed25519 -out key.pem` makes one for `--key key.pem`",
    )?;
    let as_what = || kind.context("as what? `--as initrd`, `--as configuration` or `--as module`");
    ensure!(output.is_none() || !is_check, "--output does not go with --check, which writes nothing");
    let what = match (file, root) {
        (Some(file), None) if is_check => Signed::Check(file, as_what()?),
        (Some(file), None) => Signed::File(file, as_what()?, output),
        (None, Some(root)) => Signed::Root(root),
        (None, None) => Signed::Nothing,
        (Some(_), Some(_)) => bail!("--root is the hash of a disk: it does not go with a file"),
    };
    Ok(SignOptions { what, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_signed_as_something_and_roots_by_themselves() {
        let parse = |words: &[&str]| parse(&mut lexopt::Parser::from_args(words));
        let file = PathBuf::from("a");
        let key = PathBuf::from("k");
        let what = |words: &[&str]| parse(words).unwrap().what;
        assert_eq!(
            what(&["a", "--as", "initrd", "--key", "k"]),
            Signed::File(file.clone(), Kind::Initrd, None)
        );
        assert_eq!(
            what(&["a", "--as", "module", "--check", "--key", "k"]),
            Signed::Check(file, Kind::Module)
        );
        assert_eq!(what(&["--root", "00", "--key", "k"]), Signed::Root("00".into()));
        assert_eq!(parse(&["--key", "k"]).unwrap(), SignOptions { what: Signed::Nothing, key });
        for words in [
            &["a", "--as", "initrd"][..],
            &["a", "--key", "k"],
            &["a", "--as", "program", "--key", "k"],
            &["a", "--as", "verity", "--key", "k"],
            &["a", "--as", "initrd", "--root", "00", "--key", "k"],
            &["a", "--as", "initrd", "--check", "-o", "b", "--key", "k"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
