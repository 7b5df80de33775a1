//! `--share`: folders of this host that a guest has as its own, by QEMU's virtio-9p.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::machine::{Kind, option_value};

/// Where a folder appears in the guest if nobody says.
const USUAL_PLACE: &str = "/host";

/// A folder of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    folder: PathBuf,
    /// Where the guest has it.
    place: String,
    is_read_only: bool,
}

impl FromStr for Share {
    type Err = anyhow::Error;

    /// Reads `FOLDER[:/PLACE][:ro]`. A folder's name may have a colon, as long as no slash follows it.
    fn from_str(text: &str) -> Result<Self> {
        let (rest, is_read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (folder, place) = match rest.rfind(":/") {
            Some(colon) => (&rest[..colon], &rest[colon + 1..]),
            None => (rest, USUAL_PLACE),
        };
        ensure!(!folder.is_empty(), "FOLDER, FOLDER:/PLACE or FOLDER:/PLACE:ro");
        ensure!(place.len() > 1, "{place}: a folder of this host cannot be the root; name another place");
        // The kernel's words end with a space, and the parts of this one with a colon.
        let is_plain =
            !place.contains(|character: char| character.is_whitespace() || ":\"".contains(character));
        ensure!(is_plain, "{place}: a place in the guest has no spaces, colons or quotes");
        Ok(Self { folder: folder.into(), place: place.to_owned(), is_read_only })
    }
}

impl Share {
    /// Tells what is missing before QEMU does.
    pub(crate) fn check(&self) -> Result<()> {
        let shown = self.folder.display();
        let metadata =
            self.folder.metadata().with_context(|| format!("--share {shown}: cannot be looked at"))?;
        ensure!(metadata.is_dir(), "--share {shown}: it is no folder");
        Ok(())
    }

    /// The same folder by its whole path.
    pub(crate) fn resolved(&self) -> Result<Self> {
        let folder = std::path::absolute(&self.folder).context("the current folder is gone")?;
        Ok(Self { folder, ..self.clone() })
    }

    /// For other forms than QEMU's: the folder, the tag of share number `number`, and whether the guest may only read.
    pub(crate) fn parts(&self, number: usize) -> (&Path, String, bool) {
        (&self.folder, format!("share{number}"), self.is_read_only)
    }

    /// The word of the kernel's command line that mounts share number `number`.
    fn word(&self, number: usize) -> String {
        let mode = if self.is_read_only { ":ro" } else { "" };
        format!("mount={}:share{number}:9p{mode}", self.place)
    }

    /// QEMU's arguments for it. What the guest makes belongs to the user who runs QEMU, and only that user's rights count.
    pub(crate) fn arguments(&self, number: usize, kind: Kind) -> [String; 4] {
        let mode = if self.is_read_only { ",readonly=on" } else { "" };
        let folder = option_value(&self.folder);
        // Files of several filesystems of the host may have one inode number.
        let source =
            format!("local,id=share{number},path={folder},security_model=none,multidevs=remap{mode}");
        let device = match kind {
            Kind::Microvm => "virtio-9p-device",
            Kind::Q35 | Kind::Pc => "virtio-9p-pci",
        };
        let device = format!("{device},fsdev=share{number},mount_tag=share{number}");
        ["-fsdev".into(), source, "-device".into(), device]
    }
}

/// A command line for the kernel, with the words that mount these before it.
pub(crate) fn with_mounts(shares: &[Share], line: &str) -> String {
    let words = shares.iter().enumerate().map(|(number, share)| share.word(number));
    let all: Vec<String> = words.chain([line.to_owned()]).filter(|words| !words.is_empty()).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_name_a_folder_and_perhaps_more() {
        let share = |folder: &str, place: &str, is_read_only| Share {
            folder: folder.into(),
            place: place.to_owned(),
            is_read_only,
        };
        assert_eq!("data".parse::<Share>().unwrap(), share("data", "/host", false));
        assert_eq!("/srv/www:/www:ro".parse::<Share>().unwrap(), share("/srv/www", "/www", true));
        assert_eq!("a:b:/c".parse::<Share>().unwrap(), share("a:b", "/c", false));
        assert_eq!("../x:ro".parse::<Share>().unwrap(), share("../x", "/host", true));
        for wrong in ["", ":/www", "data:/", "data:/a b", "data:/a\"b"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_a_device_and_a_word() {
        let share: Share = "a,b:/c:ro".parse().unwrap();
        assert_eq!(with_mounts(std::slice::from_ref(&share), "log=info"), "mount=/c:share0:9p:ro log=info");
        assert_eq!(with_mounts(&[], ""), "");
        let [_, source, _, device] = share.arguments(1, Kind::Microvm);
        assert!(source.contains("path=a,,b,") && source.ends_with(",readonly=on"), "{source}");
        assert_eq!(device, "virtio-9p-device,fsdev=share1,mount_tag=share1");
    }
}
