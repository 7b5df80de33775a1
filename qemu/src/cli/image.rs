//! `image`: which disk, of what.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use super::run::{self, RunOptions, What};
use super::{shown, unexpected, value};
use crate::image::data_bytes;
use crate::package::{PackageOptions, take_option};

/// The form of a disk's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ImageFormat {
    /// Block by block.
    Raw,
    /// QEMU's, which is as small as its content.
    Qcow2,
}

impl ImageFormat {
    /// How such files are called.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Raw => "img",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl FromStr for ImageFormat {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => bail!("no such format; there are raw and qcow2"),
        }
    }
}

/// Which disk image to make.
#[derive(Clone, Debug)]
pub(crate) struct ImageOptions {
    /// The file; after the program's name if none is said.
    pub(crate) output: Option<PathBuf>,
    pub(crate) format: ImageFormat,
    /// Size of a partition for data.
    pub(crate) data_bytes: Option<u64>,
    /// What would be booted here.
    pub(crate) run: RunOptions,
}

/// Of the options of `run`, those that are about what is on the disk.
const OF_RUN: [&str; 5] = ["--initrd", "--timezone", "--ca-certificates", "--append", "--env"];

pub(super) fn parse(parser: &mut lexopt::Parser, app_arguments: Vec<String>) -> Result<ImageOptions> {
    let (mut image, mut package) = (None, PackageOptions::default());
    let (mut output, mut format, mut data) = (None, None, None);
    let mut run = RunOptions::new(app_arguments);
    while let Some(argument) = parser.next()? {
        let option = match argument {
            Value(word) if image.is_none() => {
                image = Some(word.string()?);
                continue;
            }
            other => shown(&other),
        };
        match option.as_str() {
            "-o" | "--output" => output = Some(PathBuf::from(parser.value()?)),
            "--format" => format = Some(value(parser, "format")?),
            "--data" => data = Some(data_bytes(&parser.value()?.string()?)?),
            _ if take_option(&option, &mut package, parser)? => {}
            option if OF_RUN.contains(&option) => run::take(option, &mut run, parser)?,
            other => return Err(unexpected(other)),
        }
    }
    // What is shipped is not a debug build, unless somebody says so.
    package.profile.get_or_insert_with(|| "release".to_owned());
    run.what = image.map_or(What::Package(package), What::Named);
    let is_qcow2 = output.as_ref().is_some_and(|path| path.extension().is_some_and(|end| end == "qcow2"));
    let usual = if is_qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw };
    Ok(ImageOptions { output, format: format.unwrap_or(usual), data_bytes: data, run })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_follows_the_file_unless_it_is_said() {
        let parse = |words: &[&str]| parse(&mut lexopt::Parser::from_args(words), Vec::new());
        assert_eq!(parse(&[]).unwrap().format, ImageFormat::Raw);
        assert_eq!(parse(&["-o", "disk.qcow2"]).unwrap().format, ImageFormat::Qcow2);
        assert_eq!(parse(&["-o", "a.qcow2", "--format", "raw"]).unwrap().format, ImageFormat::Raw);
        assert_eq!(parse(&["server", "--data", "2G"]).unwrap().data_bytes, Some(2 << 30));
        for wrong in [
            &["--format", "vmdk"][..],
            &["--data", "1"],
            &["--data", "7M"],
            &["--data", "M"],
            &["--data", "99999999999999999999G"],
            &["--data", "18014398509481984G"],
            &["--memory", "64"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
