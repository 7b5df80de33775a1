//! What an appliance is made of: the crates of the program and those of the kernel, for `sbom` ([`cyclonedx`]) and
//! `licenses` ([`licenses`](mod@licenses)). cargo tells the crates ([`graph`]), and the toolchain the [`libraries`]; nothing is compiled.

mod cyclonedx;
mod graph;
mod libraries;
mod licenses;

use std::path::PathBuf;

use anyhow::Result;

use crate::package::PackageOptions;
use crate::unfinished::{NewText, write_all};
use graph::Graph;

/// Of which package, and where it goes.
#[derive(Clone, Default, Debug)]
pub(crate) struct BomOptions {
    pub(crate) package: PackageOptions,
    /// A file in place of the standard output.
    pub(crate) output: Option<PathBuf>,
    /// The texts of licences too.
    pub(crate) has_texts: bool,
}

/// `sbom`: the list for programs.
pub(crate) fn sbom(options: &BomOptions) -> Result<u8> {
    let graph = Graph::of(&options.package)?;
    let text = serde_json::to_string_pretty(&cyclonedx::document(&graph))? + "\n";
    write(options, &text)
}

/// `licenses`: the list for people.
pub(crate) fn licenses(options: &BomOptions) -> Result<u8> {
    let graph = Graph::of(&options.package)?;
    let mut text = licenses::table(&graph);
    if options.has_texts {
        text.push_str(&licenses::texts(&graph)?);
    }
    write(options, &text)
}

fn write(options: &BomOptions, text: &str) -> Result<u8> {
    match &options.output {
        None => print!("{text}"),
        Some(path) => {
            write_all([NewText { path, text, mode: None }])?;
            eprintln!("written: {}", path.display());
        }
    }
    Ok(0)
}
