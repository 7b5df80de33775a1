//! One layer of an image (image-spec 1.1, "Image Layer Filesystem Changeset"): a tar archive of what it adds and changes, and of
//! marks for what it takes away.

use std::cell::Cell;
use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};
use tar::EntryType;

use super::stream::{self, Hashed, Metered, Padded};
use super::tree::{Kind, MOST_PATH_BYTES, NodeId, Owner, Tree, parts};

/// What may come between two files: names, attributes (a file of Linux's has 64 KiB of them at most).
const MOST_HEADER_BYTES: u64 = 1 << 20;
/// Marks of what is taken away.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other marks, of AUFS, that are to be ignored.
const AUFS: &[u8] = b".wh..wh.";
/// Devices that the kernel has itself: they need not come.
const USUAL_DEVICES: [&[u8]; 9] = [
    b"dev/null",
    b"dev/zero",
    b"dev/full",
    b"dev/random",
    b"dev/urandom",
    b"dev/tty",
    b"dev/console",
    b"dev/ptmx",
    b"dev/pts/ptmx",
];

/// What is left of the room for an image.
pub(super) struct Budget {
    entries: Cell<u64>,
    bytes: Cell<u64>,
}

impl Budget {
    pub(super) fn new(entries: u64, bytes: u64) -> Self {
        Self { entries: Cell::new(entries), bytes: Cell::new(bytes) }
    }

    fn take(left: &Cell<u64>, count: u64, told: &str) -> Result<()> {
        left.set(left.get().checked_sub(count).with_context(|| told.to_owned())?);
        Ok(())
    }

    fn take_entry(&self) -> Result<()> {
        Self::take(&self.entries, 1, "the image has more files than can be taken (half a million)")
    }

    fn take_bytes(&self, count: u64) -> Result<()> {
        Self::take(&self.bytes, count, "the files of the image have too many bytes (2 GiB are the most)")
    }
}

/// Puts layer number `layer` over what is there. Answers the digest of what the blob holds.
pub(super) fn apply(
    tree: &mut Tree,
    layer: usize,
    blob: impl Read,
    bytes: u64,
    budget: &Budget,
) -> Result<String> {
    let (plain, digest) = Hashed::new(stream::decompressed(blob, bytes)?);
    let (plain, has_ended) = Padded::new(plain);
    let (plain, left) = Metered::new(plain, MOST_HEADER_BYTES, "what comes before a file is too long");
    let mut archive = tar::Archive::new(plain);
    for entry in archive.entries()? {
        let mut entry = entry.context("a damaged archive")?;
        budget.take_entry()?;
        let name = entry.path_bytes().into_owned();
        left.set(u64::MAX);
        add(tree, layer, &mut entry, budget).with_context(|| String::from_utf8_lossy(&name).into_owned())?;
        ensure!(!has_ended.get(), "{}: it is cut short", String::from_utf8_lossy(&name));
        left.set(MOST_HEADER_BYTES);
    }
    // Some tools write more than the end.
    left.set(u64::MAX);
    io::copy(&mut archive.into_inner(), &mut io::sink()).context("a damaged archive")?;
    Ok(digest.text())
}

fn add(tree: &mut Tree, layer: usize, entry: &mut tar::Entry<'_, impl Read>, budget: &Budget) -> Result<()> {
    let name = entry.path_bytes().into_owned();
    let path = parts(&name)?;
    let owner = owner(entry.header())?;
    let Some((&last, way)) = path.split_last() else {
        ensure!(entry.header().entry_type() == EntryType::Directory, "the root is no folder");
        tree.set_root(owner);
        return Ok(());
    };
    let parent = tree.make_folder(way, layer)?;
    if last.starts_with(WHITEOUT) {
        return take_away(tree, parent, last, layer);
    }
    match entry.header().entry_type() {
        EntryType::Directory => tree.add_folder(parent, last, owner, layer)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let content = content(entry, budget)?;
            tree.put(parent, last, Kind::File(content), owner, layer)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().context("a link without a target")?.into_owned();
            let is_good = !target.is_empty() && target.len() <= MOST_PATH_BYTES && !target.contains(&0);
            ensure!(is_good, "a link with a target that no link has");
            tree.put(parent, last, Kind::Link(target), owner, layer)?;
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().context("a hard link without a target")?.into_owned();
            tree.add_link(parent, last, &target, layer)?;
        }
        EntryType::Char | EntryType::Block => {
            let path = path.join(&b'/');
            ensure!(USUAL_DEVICES.contains(&&path[..]), "a device, which no image can bring");
        }
        EntryType::Fifo => bail!("a named pipe, which no image can bring"),
        EntryType::XGlobalHeader => {}
        other => bail!("an entry of an unknown kind ({:#x})", other.as_byte()),
    }
    Ok(())
}

fn take_away(tree: &mut Tree, parent: NodeId, mark: &[u8], layer: usize) -> Result<()> {
    if mark == OPAQUE {
        tree.empty(parent, layer);
        return Ok(());
    }
    if mark.starts_with(AUFS) {
        return Ok(());
    }
    let name = &mark[WHITEOUT.len()..];
    ensure!(!matches!(name, b"" | b"." | b".."), "a mark that takes away what no name is");
    tree.take_away(parent, name, layer);
    Ok(())
}

/// What the file holds: as many bytes as its header says.
fn content(entry: &mut tar::Entry<'_, impl Read>, budget: &Budget) -> Result<Vec<u8>> {
    const FIRST_BYTES: u64 = 1 << 20;
    let bytes = entry.size();
    budget.take_bytes(bytes)?;
    // Whoever lies about the length gets no memory for it.
    let mut content = Vec::with_capacity(bytes.min(FIRST_BYTES) as usize);
    entry.take(bytes).read_to_end(&mut content)?;
    ensure!(content.len() as u64 == bytes, "it is cut short: {} of {bytes} bytes", content.len());
    Ok(content)
}

fn owner(header: &tar::Header) -> Result<Owner> {
    let id =
        |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX).context("an owner that nobody can be");
    Ok(Owner {
        permissions: header.mode()?,
        user: id(header.uid()?)?,
        group: id(header.gid()?)?,
        modified_s: header.mtime()?.try_into().unwrap_or(u32::MAX),
    })
}
