//! Where an image's parts are: in a folder, or in a tar archive of one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};

use super::stream::{self, Metered};

/// What an archive of an image may have at most.
const MOST_PARTS: usize = 10_000;
/// Names and the like between two parts.
const MOST_HEADER_BYTES: u64 = 1 << 20;
/// The longest text (image-spec recommends that registries take manifests of 4 MiB).
const MOST_TEXT_BYTES: u64 = 4 << 20;
/// What a compressed archive may hold.
const MOST_ARCHIVE_BYTES: u64 = 8 << 30;
/// Links to links in an archive of `docker save`.
const MOST_LINKS: usize = 8;

/// The parts, by name.
pub(super) enum Source {
    Folder(PathBuf),
    Archive { file: File, parts: HashMap<String, Part> },
}

/// Where a part of an archive is.
pub(super) enum Part {
    At {
        start: u64,
        bytes: u64,
    },
    /// Another one, from the folder that the link is in.
    Link(String),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        ensure!(path.exists(), "there is no such file");
        ensure!(path.is_file(), "it is neither a file nor a folder");
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let plain = plain(file, bytes)?;
        let parts = list(&plain).context("it is no archive of an image (tar)")?;
        Ok(Self::Archive { file: plain, parts })
    }

    /// True if there is a part of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.part(name).is_ok()
    }

    /// A part's bytes, and how many there are.
    pub(super) fn part(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let missing = || format!("it has no {name}");
                ensure!(fs::metadata(&path).with_context(missing)?.is_file(), "{name} is no file");
                let file = File::open(&path).with_context(missing)?;
                let bytes = file.metadata()?.len();
                Ok((Box::new(file), bytes))
            }
            Self::Archive { file, parts } => {
                let mut name = name.to_owned();
                for _ in 0..=MOST_LINKS {
                    match parts.get(&name).with_context(|| format!("it has no {name}"))? {
                        &Part::At { start, bytes } => {
                            return Ok((
                                Box::new(At { file, at: start, end: start.saturating_add(bytes) }),
                                bytes,
                            ));
                        }
                        Part::Link(target) => name = followed(&name, target)?,
                    }
                }
                bail!("{name} is a link to a link to a link")
            }
        }
    }

    /// A part that is a text.
    pub(super) fn text(&self, name: &str) -> Result<Vec<u8>> {
        let (reader, bytes) = self.part(name)?;
        ensure!(bytes <= MOST_TEXT_BYTES, "{name} has {bytes} bytes; {MOST_TEXT_BYTES} are the most");
        let mut text = Vec::new();
        reader.take(MOST_TEXT_BYTES).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
        ensure!(text.len() as u64 == bytes, "{name} is cut short");
        Ok(text)
    }
}

/// A range of a file, which others read, too.
struct At<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut bytes[..most], self.at)?;
        if count == 0 && most != 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// The archive as it is, or decompressed into a file without a name.
fn plain(file: File, bytes: u64) -> Result<File> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let mut start = [0; 8];
    let count = file.read_at(&mut start, 0)?;
    let start = &start[..count];
    if start.starts_with(b"\x7fELF") {
        bail!("it is a program, no container image: `cargo unikernel pack PROGRAM`");
    }
    if !stream::is_compressed(start) {
        return Ok(file);
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("unikernel-image-{}-{number}", std::process::id()));
    let plain = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    let reader = stream::decompressed(&file, bytes)?;
    let (mut reader, _) = Metered::new(reader, MOST_ARCHIVE_BYTES, "it is too large");
    io::copy(&mut reader, &mut &plain).context("cannot decompress it")?;
    Ok(plain)
}

/// What is where in an archive.
fn list(file: &File) -> Result<HashMap<String, Part>> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let (reader, left) = Metered::new(file, MOST_HEADER_BYTES, "it has names that are too long");
    let mut archive = tar::Archive::new(reader);
    let mut parts = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        ensure!(parts.len() < MOST_PARTS, "it has more than {MOST_PARTS} parts");
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let part = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                Part::At { start: entry.raw_file_position(), bytes: entry.size() }
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let target = entry.link_name_bytes().context("a link without a target")?;
                let target = String::from_utf8_lossy(&target).into_owned();
                // A hard link names it from the top.
                let is_hard = entry.header().entry_type() == tar::EntryType::Link;
                Part::Link(if is_hard { format!("/{target}") } else { target })
            }
            _ => continue,
        };
        parts.insert(name, part);
        left.set(MOST_HEADER_BYTES);
    }
    Ok(parts)
}

/// The name that a link leads to.
fn followed(link: &str, target: &str) -> Result<String> {
    let mut way: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => link.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(way.pop().with_context(|| format!("{link} leads out of the archive"))?),
            part => way.push(part),
        }
    }
    Ok(way.join("/"))
}
