//! The static files, read once at the start: an appliance's files do not change while it runs.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use unikernel::Error;
use unikernel::embedded_io::Read;
use unikernel::fs::{self, File};

/// Folders within folders, at most.
const MAX_DEPTH: usize = 8;

/// One file.
pub(crate) struct StaticFile {
    pub(crate) content_type: &'static str,
    /// Shared with the connections that are sending it.
    pub(crate) content: Rc<[u8]>,
}

/// All files by their path below the root. What is not in this map is not served, so no path,
/// however it is spelled, leads out of it.
#[derive(Default)]
pub(crate) struct Files(BTreeMap<String, StaticFile>);

impl Files {
    /// Reads a folder. One that is missing has no files.
    pub(crate) fn load(root: &str) -> Self {
        let mut files = Self::default();
        match files.add_folder(root, "", 0) {
            Ok(()) | Err(Error::NOT_FOUND) => {}
            Err(error) => log::warn!("{root}: {error}"),
        }
        files
    }

    fn add_folder(&mut self, folder: &str, prefix: &str, depth: usize) -> Result<(), Error> {
        let mut names = Vec::new();
        fs::read_directory(folder, |name| names.push(name.to_string()))?;
        for name in names {
            let (path, key) = (format!("{folder}/{name}"), format!("{prefix}{name}"));
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            if !metadata.is_directory() {
                let mut content = alloc::vec![0; metadata.len() as usize];
                file.read_exact(&mut content).map_err(|_| Error::INVALID)?;
                self.0.insert(key, StaticFile { content_type: content_type(&name), content: content.into() });
            } else if depth < MAX_DEPTH {
                self.add_folder(&path, &format!("{key}/"), depth + 1)?;
            }
        }
        Ok(())
    }

    /// The file at a path below the root.
    pub(crate) fn find(&self, path: &str) -> Option<&StaticFile> {
        self.0.get(path)
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
