//! `oci`: a container image with an appliance in it, as an OCI image layout (image-spec 1.1): a folder that registries'
//! tools take (`skopeo copy oci:FOLDER docker://...`), made without a daemon.
//!
//! What is in it, and for whom: the image as `/boot/NAME` and the initrd as `/boot/initrd`, which belong to the user
//! 107 that KubeVirt runs QEMU as (`kernelBoot`); a disk as `/disk/disk.img` (`containerDisk`); urunc's annotations,
//! and the file `/urunc.json` that says the same. The same input makes the same bytes.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::DeployOptions;
use crate::deploy::{Appliance, Words, appliance};
use crate::unfinished::Unfinished;

/// `qemu` in KubeVirt's launcher.
const OWNER: u64 = 107;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Where the initrd is in it.
pub(crate) const INITRD: &str = "/boot/initrd";
/// Memory and processors are not of an image.
const WORDS: Words = Words { form: "oci", takes: &["--disk"], notes: &[] };

/// Writes the layout.
pub(crate) fn run(options: &DeployOptions) -> Result<u8> {
    let appliance = appliance(options, &WORDS)?;
    let folder = &options.output;
    if folder.exists() {
        ensure!(
            folder.join("oci-layout").exists(),
            "{} is there, and no image layout: choose another folder with -o",
            folder.display()
        );
    }
    let new = Unfinished::new(folder);
    write(&appliance, new.path()).with_context(|| format!("cannot write {}", folder.display()))?;
    // An old one goes last.
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    new.finish()?;
    println!("{}", folder.display());
    eprintln!("next: skopeo copy oci:{} docker://REGISTRY/{}", folder.display(), appliance.name);
    Ok(0)
}

/// A blob's digest and length, as descriptors name it.
struct Blob {
    digest: String,
    bytes: usize,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes })
    }
}

fn write(appliance: &Appliance, folder: &Path) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let add = |content: &[u8]| -> Result<Blob> {
        let digest = hex(content);
        fs::write(blobs.join(&digest), content)?;
        Ok(Blob { digest: format!("sha256:{digest}"), bytes: content.len() })
    };
    let annotations = annotations(appliance);
    let archive = archive(appliance, &annotations)?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(&archive)?;
    let layer = add(&gzip.finish()?)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": [format!("/boot/{}", appliance.name)], "Labels": annotations },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&archive))] },
    });
    let config = add(&serde_json::to_vec(&config)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer.descriptor(LAYER)],
        "annotations": annotations,
    });
    let manifest = add(&serde_json::to_vec(&manifest)?)?;
    let mut entry = manifest.descriptor(MANIFEST);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    Ok(())
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What urunc reads: which machine to start, with what.
fn annotations(appliance: &Appliance) -> Value {
    let word = |name: &str| format!("com.urunc.unikernel.{name}");
    let mut annotations = json!({
        // A kernel that takes Linux's words, in the form of Linux's boot.
        word("unikernelType"): "linux",
        word("hypervisor"): "qemu",
        word("binary"): format!("/boot/{}", appliance.name),
        word("cmdline"): appliance.command_line,
        word("mountRootfs"): "false",
    });
    if appliance.initrd.is_some() {
        annotations[word("initrd")] = json!(INITRD);
    }
    annotations
}

/// The files, as a tar archive.
fn archive(appliance: &Appliance, annotations: &Value) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: Option<&[u8]>, owner| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        let (kind, mode) = match content {
            Some(_) => (tar::EntryType::Regular, 0o444),
            None => (tar::EntryType::Directory, 0o755),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(0);
        let content = content.unwrap_or_default();
        header.set_size(content.len() as u64);
        Ok(builder.append_data(&mut header, path, content)?)
    };
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    add("boot/", None, 0)?;
    add(&format!("boot/{}", appliance.name), Some(&read(&appliance.image)?), OWNER)?;
    if let Some(initrd) = &appliance.initrd {
        add(INITRD.trim_start_matches('/'), Some(&read(initrd)?), OWNER)?;
    }
    match &appliance.disks[..] {
        [] => {}
        [disk] => {
            add("disk/", None, OWNER)?;
            add("disk/disk.img", Some(&read(&disk.path)?), OWNER)?;
        }
        _ => bail!("a container image carries one disk at most (KubeVirt's containerDisk)"),
    }
    add("urunc.json", Some(&serde_json::to_vec_pretty(&encoded(annotations))?), 0)?;
    Ok(builder.into_inner()?)
}

/// In the file, urunc wants each value in base64.
fn encoded(annotations: &Value) -> Value {
    let engine = base64::engine::general_purpose::STANDARD;
    let pairs = annotations.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| (name.clone(), json!(engine.encode(value.as_str().unwrap_or_default()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::disk::Disk;

    fn layout(folder: &Path) -> Value {
        let image = folder.join("image");
        fs::write(&image, "the image").unwrap();
        let appliance = Appliance {
            name: "server".into(),
            image: image.clone(),
            initrd: Some(image.clone()),
            memory_mib: 64,
            cpus: 1,
            ports: (80, 80),
            disks: vec![Disk::new(&image)],
            shares: Vec::new(),
            qemu_arguments: Vec::new(),
            command_line: "log=info -- \"a b\"".into(),
            replicas: 1,
            is_translated: false,
            has_user_network: false,
        };
        write(&appliance, &folder.join("layout")).unwrap();
        serde_json::from_slice(&fs::read(folder.join("layout/index.json")).unwrap()).unwrap()
    }

    /// A blob, whose content must be what its name says.
    fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let content = fs::read(folder.join("layout/blobs/sha256").join(digest)).unwrap();
        assert_eq!(
            (hex(&content).as_str(), content.len() as u64),
            (digest, descriptor["size"].as_u64().unwrap())
        );
        content
    }

    #[test]
    fn descriptors_lead_to_the_files() {
        let folder = std::env::temp_dir().join(format!("oci-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let index = layout(&folder);
        let manifest: Value = serde_json::from_slice(&blob(&folder, &index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"])).unwrap();
        let mut layer = Vec::new();
        let compressed = blob(&folder, &manifest["layers"][0]);
        flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&layer)));
        let mut archive = tar::Archive::new(&layer[..]);
        let mut entries = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            entries.push((entry.path().unwrap().display().to_string(), entry.header().uid().unwrap()));
        }
        let entries: Vec<_> = entries.iter().map(|(path, owner)| (path.as_str(), *owner)).collect();
        let expected = [
            ("boot/", 0),
            ("boot/server", 107),
            ("boot/initrd", 107),
            ("disk/", 107),
            ("disk/disk.img", 107),
            ("urunc.json", 0),
        ];
        assert_eq!(entries, expected);
        assert_eq!(manifest["annotations"]["com.urunc.unikernel.cmdline"], "log=info -- \"a b\"");
        // Once more: the same bytes.
        fs::remove_dir_all(folder.join("layout")).unwrap();
        assert_eq!(layout(&folder), index);
        fs::remove_dir_all(folder).unwrap();
    }
}
