//! Images made for tests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::EntryType;

use crate::container::stream::digest_of;

/// A folder, removed in the end.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("unikernel-container-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A layer under construction. Paths go in as they are, whatever they are.
#[derive(Default)]
pub(super) struct Layer(pub(super) Vec<u8>);

impl Layer {
    pub(super) fn raw(
        mut self,
        path: &[u8],
        kind: EntryType,
        mode: u32,
        link: &[u8],
        size: u64,
        content: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.set_size(size);
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(path);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn entry(self, path: &str, kind: EntryType, link: &str) -> Self {
        let mode = if kind == EntryType::Directory { 0o750 } else { 0o755 };
        self.raw(path.as_bytes(), kind, mode, link.as_bytes(), 0, &[])
    }

    pub(super) fn folder(self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, "")
    }

    pub(super) fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, target)
    }

    pub(super) fn hard(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, target)
    }

    pub(super) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.raw(path.as_bytes(), EntryType::Regular, 0o755, &[], content.len() as u64, content)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A static program, as far as packing looks.
pub(super) fn program() -> Vec<u8> {
    let mut file = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 2u16), (18, 62), (20, 1), (52, 64), (54, 56), (56, 1), (58, 64)] {
        put(at, &value.to_le_bytes());
    }
    let words = [
        (24, 0x40_0100u64),
        (32, 64),
        (80, 0x40_0000),
        (88, 0x40_0000),
        (96, 0x1000),
        (104, 0x1000),
        (112, 0x1000),
    ];
    words.iter().for_each(|(at, word)| put(*at, &word.to_le_bytes()));
    put(64, &[1, 0, 0, 0, 5]);
    file
}

pub(super) fn base() -> Layer {
    Layer::default().folder("bin").file("bin/server", program())
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub(super) fn run_config() -> Value {
    json!({ "Entrypoint": ["/bin/server"] })
}

pub(super) fn config_of(config: &Value, contents: &[String]) -> Value {
    json!({ "architecture": "amd64", "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": contents } })
}

/// Writes a blob; answers its descriptor.
pub(super) fn blob(folder: &Path, bytes: &[u8]) -> Value {
    let digest = digest_of(bytes);
    fs::write(folder.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
    json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() })
}

pub(super) fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

/// An image layout of these layers, each with what it holds.
pub(super) fn layout(folder: &Path, config: &Value, layers: &[(Vec<u8>, Vec<u8>)]) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let contents: Vec<String> = layers.iter().map(|(_, content)| digest_of(content)).collect();
    let layers: Vec<Value> = layers.iter().map(|(layer, _)| blob(folder, layer)).collect();
    let config = blob(folder, &text(&config_of(config, &contents)));
    let manifest = blob(folder, &text(&json!({ "schemaVersion": 2, "config": config, "layers": layers })));
    fs::write(folder.join("index.json"), text(&json!({ "schemaVersion": 2, "manifests": [manifest] })))
        .unwrap();
}
