//! Container images, read: an OCI image layout (image-spec 1.1) or an archive of `docker save`, as a folder or a file, becomes an
//! archive of files for the kernel, and words that say what runs of them. [`crate::oci`] writes such images.
//!
//! An image is a stranger's: [`source`] has its parts, [`manifest`] says which they are, [`stream`] measures and checks them,
//! [`layer`] puts them over each other in a [`tree`], and [`config`] finds the program. Nothing is written here.

mod config;
mod layer;
mod manifest;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use layer::Budget;
use manifest::LayerPart;
use source::Source;
use stream::Hashed;
use tree::Tree;

/// What all layers of an image may bring: an image in memory is smaller than 3 GiB.
const MOST_ENTRIES: u64 = 500_000;
const MOST_BYTES: u64 = 2 << 30;

/// What an image brings.
#[derive(Debug)]
pub(crate) struct Container {
    /// What its program is called.
    pub(crate) name: String,
    /// Its files (cpio).
    pub(crate) files: Vec<u8>,
    /// What runs of them, for the kernel.
    pub(crate) words: Vec<u8>,
}

/// Reads an image.
pub(crate) fn read(path: &Path) -> Result<Container> {
    unpack(path).with_context(|| path.display().to_string())
}

fn unpack(path: &Path) -> Result<Container> {
    let source = Source::open(path)?;
    let manifest = manifest::read(&source)?;
    let (mut tree, budget) = (Tree::new(), Budget::new(MOST_ENTRIES, MOST_BYTES));
    for (number, part) in manifest.layers.iter().enumerate() {
        add_layer(&source, &mut tree, number, part, &budget)
            .with_context(|| format!("layer {}", number + 1))?;
    }
    let start = manifest.config.start(&mut tree)?;
    Ok(Container { name: start.name, files: tree.archive()?, words: start.words })
}

fn add_layer(
    source: &Source,
    tree: &mut Tree,
    number: usize,
    part: &LayerPart,
    budget: &Budget,
) -> Result<()> {
    if let Some((said, said_bytes)) = &part.blob {
        // Before anybody looks into it.
        let (blob, bytes) = source.part(&part.name)?;
        let (mut blob, digest) = Hashed::new(blob);
        io::copy(&mut blob, &mut io::sink())?;
        manifest::check(&part.name, (&digest.text(), bytes), (said, *said_bytes))?;
    }
    let (blob, bytes) = source.part(&part.name)?;
    let content = layer::apply(tree, number, blob, bytes, budget)?;
    let what = format!("what {} holds", part.name);
    manifest::check(&what, (&content, 0), (&part.content, 0))
}
