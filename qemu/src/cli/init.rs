//! `init`: which package, and where our crates come from.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use lexopt::prelude::*;

use super::{shown, unexpected};
use crate::package::{InitOptions, Origin, take_option};

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<InitOptions> {
    let mut options = InitOptions::default();
    while let Some(argument) = parser.next()? {
        let option = match argument {
            // As `cargo init` has it.
            Value(folder) if options.package.manifest.is_none() => {
                options.package.manifest = Some(PathBuf::from(folder).join("Cargo.toml"));
                continue;
            }
            other => shown(&other),
        };
        match option.as_str() {
            "--dry-run" => options.is_dry = true,
            "--path" => set(&mut options, Origin::of_folder(Path::new(&parser.value()?))?)?,
            "--git" => {
                let url = parser.value()?.string()?;
                set(&mut options, Origin::Git { url, revision: None })?;
            }
            _ if take_option(&option, &mut options.package, parser)? => {}
            other => return Err(unexpected(other)),
        }
    }
    Ok(options)
}

fn set(options: &mut InitOptions, origin: Origin) -> Result<()> {
    ensure!(options.origin.is_none(), "one of --path and --git");
    options.origin = Some(origin);
    Ok(())
}
