//! What an image is made of: in an OCI image layout, or in an archive of `docker save`.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::ImageConfig;
use super::source::Source;
use super::stream::digest_of;

/// Lists of lists of images.
const MOST_INDEXES: usize = 4;
/// Docker makes 127 at most.
const MOST_LAYERS: usize = 500;
const SYSTEM: (&str, &str) = ("linux", "amd64");
/// What a list of images is, among what lists name.
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// A layer of an image.
pub(super) struct LayerPart {
    /// The part's name.
    pub(super) name: String,
    /// Its digest and length, if they are known.
    pub(super) blob: Option<(String, u64)>,
    /// The digest of what it holds.
    pub(super) content: String,
}

/// An image's parts.
pub(super) struct Manifest {
    pub(super) config: ImageConfig,
    /// The lowest first.
    pub(super) layers: Vec<LayerPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
    repo_tags: Option<Vec<String>>,
}

/// Finds the image.
pub(super) fn read(source: &Source) -> Result<Manifest> {
    let manifest = if source.has("index.json") {
        of_layout(source)?
    } else if source.has("manifest.json") {
        of_saved(source)?
    } else {
        bail!(
            "it is neither an OCI image layout nor from `docker save`: it has no index.json and no manifest.json"
        );
    };
    manifest.config.check()?;
    Ok(manifest)
}

fn parse<T: DeserializeOwned>(text: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(text).with_context(|| format!("{name} is damaged"))
}

/// A text whose digest and length are known.
fn blob<T: DeserializeOwned>(source: &Source, descriptor: &Descriptor) -> Result<T> {
    let name = blob_name(&descriptor.digest)?;
    let text = source.text(&name)?;
    let (digest, bytes) = (digest_of(&text), text.len() as u64);
    check(&name, (&digest, bytes), (&descriptor.digest, descriptor.size))?;
    parse(&text, &name)
}

/// Compares what a part is with what was said of it.
pub(super) fn check(name: &str, found: (&str, u64), said: (&str, u64)) -> Result<()> {
    ensure!(found.1 == said.1, "{name} has {} bytes, and not {} as the image says", found.1, said.1);
    ensure!(found.0 == said.0, "{name} is damaged: its digest is {}, and not {}", found.0, said.0);
    Ok(())
}

/// Where a blob is.
fn blob_name(digest: &str) -> Result<String> {
    let hex = digest.strip_prefix("sha256:");
    let is_lower = |hex: &&str| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let hex = hex.filter(|hex| hex.len() == 64).filter(is_lower);
    let hex = hex.with_context(|| format!("`{}`: expected a digest by SHA-256", digest.escape_debug()))?;
    Ok(format!("blobs/sha256/{hex}"))
}

fn of_layout(source: &Source) -> Result<Manifest> {
    let index: Index = parse(&source.text("index.json")?, "index.json")?;
    let mut manifests = index.manifests;
    for _ in 0..MOST_INDEXES {
        let descriptor = chosen(manifests)?;
        if !INDEXES.contains(&&*descriptor.media_type) {
            return of_manifest(source, &descriptor);
        }
        manifests = blob::<Index>(source, &descriptor)?.manifests;
    }
    bail!("it has lists of lists of lists of images");
}

/// The image for this machine.
fn chosen(manifests: Vec<Descriptor>) -> Result<Descriptor> {
    let name = |descriptor: &Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform
            .map_or_else(|| "unknown".into(), |platform| format!("{}/{}", platform.os, platform.architecture))
    };
    let is_ours = |descriptor: &Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_none_or(|platform| (&*platform.os, &*platform.architecture) == SYSTEM)
    };
    let names: Vec<String> = manifests.iter().map(name).collect();
    let mut ours: Vec<Descriptor> = manifests.into_iter().filter(is_ours).collect();
    // The same image may have several names.
    ours.dedup_by(|a, b| a.digest == b.digest);
    ensure!(
        ours.len() <= 1,
        "it holds {} images: copy one of them (`skopeo copy`, `docker save NAME`)",
        ours.len()
    );
    ours.pop().with_context(|| {
        if names.is_empty() {
            "it holds no image".to_owned()
        } else {
            format!("it holds no image for linux/amd64, only for {}", names.join(", ").escape_debug())
        }
    })
}

fn of_manifest(source: &Source, descriptor: &Descriptor) -> Result<Manifest> {
    let manifest: OciManifest = blob(source, descriptor)?;
    let config: ImageConfig = blob(source, &manifest.config).context("the image's configuration")?;
    let contents = contents(&config, manifest.layers.len())?;
    let layer = |(layer, content): (Descriptor, String)| {
        ensure!(!layer.media_type.contains("encrypted"), "its layers are encrypted");
        Ok(LayerPart { name: blob_name(&layer.digest)?, blob: Some((layer.digest, layer.size)), content })
    };
    let layers = manifest.layers.into_iter().zip(contents).map(layer).collect::<Result<_>>()?;
    Ok(Manifest { config, layers })
}

/// `docker save`, before version 25, names each image by its configuration's digest, and layers by names of its own.
fn of_saved(source: &Source) -> Result<Manifest> {
    let mut images: Vec<Saved> = parse(&source.text("manifest.json")?, "manifest.json")?;
    let names: Vec<String> =
        images.iter().flat_map(|image| image.repo_tags.clone().unwrap_or_default()).collect();
    ensure!(
        images.len() <= 1,
        "it holds {} images: save one of {}",
        images.len(),
        names.join(", ").escape_debug()
    );
    let image = images.pop().context("it holds no image")?;
    let text = source.text(&image.config)?;
    let named = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if named.len() == 64 {
        let said = format!("sha256:{named}");
        check(&image.config, (&digest_of(&text), 0), (&said, 0))?;
    }
    let config: ImageConfig = parse(&text, &image.config)?;
    let contents = contents(&config, image.layers.len())?;
    let layers = image.layers.into_iter().zip(contents);
    let layers = layers.map(|(name, content)| LayerPart { name, blob: None, content }).collect();
    Ok(Manifest { config, layers })
}

/// The digests of what the layers hold.
fn contents(config: &ImageConfig, layers: usize) -> Result<Vec<String>> {
    let contents = config.contents();
    ensure!(layers <= MOST_LAYERS, "it has {layers} layers; {MOST_LAYERS} are the most");
    ensure!(
        contents.len() == layers,
        "it has {layers} layers, and its configuration tells of {}",
        contents.len()
    );
    Ok(contents)
}
