//! `verity=` behind a disk: the root of the hashes against which its blocks are checked, and where they are.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::mounts::is_disk;

/// Bytes of a root hash: SHA-256's and SHA-512's.
const ROOT_BYTES: [usize; 2] = [32, 64];
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// How a disk's blocks are checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerityOptions {
    /// The root hash.
    pub root: Vec<u8>,
    /// Where the hashes are.
    pub place: HashPlace,
    /// What becomes of a block that is not what it was.
    pub on_corruption: OnCorruption,
    /// The root hash's signature (Ed25519).
    pub signature: Option<[u8; SIGNATURE_BYTES]>,
}

/// Where the hashes of a disk are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashPlace {
    /// On the disk itself, from this byte on (`veritysetup --hash-offset`).
    Offset(u64),
    /// On a disk of their own, with a name or a tag.
    Disk(String),
}

/// What becomes of a block that is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnCorruption {
    /// Who reads it gets an error (EIO).
    #[default]
    Error,
    /// The machine starts again (dm-verity's `restart_on_corruption`).
    Restart,
    /// The kernel panics (`panic_on_corruption`).
    Panic,
}

impl VerityOptions {
    /// How the word begins.
    pub(crate) const KEY: &str = "verity=";

    /// Reads `verity=ROOTHASH@PLACE[,restart|,panic][,signature=HEX]`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (hash, mut place) = word.strip_prefix(Self::KEY)?.split_once('@')?;
        let (mut on_corruption, mut signature) = (OnCorruption::Error, None);
        // From the end, as labels may have commas.
        while let Some((rest, option)) = place.rsplit_once(',') {
            match option.split_once('=') {
                None if option == "restart" => on_corruption = OnCorruption::Restart,
                None if option == "panic" => on_corruption = OnCorruption::Panic,
                Some(("signature", hex)) => signature = Some(from_hex(hex)?.try_into().ok()?),
                _ => break,
            }
            place = rest;
        }
        let place = match bytes(place) {
            Some(offset) => HashPlace::Offset(offset),
            None if is_disk(place) => HashPlace::Disk(place.to_owned()),
            None => return None,
        };
        let root = from_hex(hash).filter(|root| ROOT_BYTES.contains(&root.len()))?;
        Some(Self { root, place, on_corruption, signature })
    }
}

/// A number of bytes, or with `K`, `M` or `G` behind it.
fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) if text.ends_with('M') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text, 1),
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

/// Bytes that are written in hexadecimal digits, two for each; none if there is anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(&pair[0])? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use super::*;
    use crate::MountPoint;

    #[test]
    fn hashes_are_behind_the_data_or_on_another_disk() {
        let root = "0Af1".repeat(16);
        let parse = |rest: &str| MountPoint::root(&format!("blk0:verity={root}@{rest}")).ok();
        for (rest, place, on_corruption) in [
            ("4096", HashPlace::Offset(4096), OnCorruption::Error),
            ("64M", HashPlace::Offset(64 << 20), OnCorruption::Error),
            ("2K:ro", HashPlace::Offset(2048), OnCorruption::Error),
            ("1G,restart", HashPlace::Offset(1 << 30), OnCorruption::Restart),
            ("blk1,panic", HashPlace::Disk("blk1".into()), OnCorruption::Panic),
            ("PARTLABEL=root,verity", HashPlace::Disk("PARTLABEL=root,verity".into()), OnCorruption::Error),
        ] {
            let point = parse(rest).unwrap();
            let verity =
                VerityOptions { root: [0x0a, 0xf1].repeat(16), place, on_corruption, signature: None };
            assert_eq!(point.verity, Some(verity), "{rest}");
            assert!(point.is_read_only && point.kind.is_none() && point.disk == "blk0");
        }
        let point = MountPoint::parse(&format!("/usr:blk0p2:ext4:verity={root}@blk0p3:ro")).unwrap();
        assert_eq!(point.kind.as_deref(), Some("ext4"));
        assert_eq!(point.verity.unwrap().place, HashPlace::Disk("blk0p3".into()));
        let signature = "5A".repeat(64);
        let verity = parse(&format!("blk1,panic,signature={signature}:ro")).unwrap().verity.unwrap();
        assert_eq!((verity.signature, verity.on_corruption), (Some([0x5a; 64]), OnCorruption::Panic));
    }

    #[test]
    fn malformed_hashes_and_places_are_refused() {
        let root = "00".repeat(32);
        let words = vec![
            format!("verity={root}"),
            format!("verity={root}@"),
            format!("verity={root}@-1"),
            format!("verity={root}@+1"),
            format!("verity={root}@1T"),
            format!("verity={root}@99999999999G"),
            format!("verity={root}@vda"),
            format!("verity={root}@0,reboot"),
            format!("verity={root}@0,signature=00"),
            format!("verity={}@0", &root[2..]),
            format!("verity={}@0", &root[1..]),
            format!("verity={}g0@0", &root[2..]),
            format!("verity={root}é@0"),
            format!("verity={root}@0:verity={root}@0"),
        ];
        for word in words {
            assert!(MountPoint::root(&format!("blk0:{word}")).is_err(), "{word}");
        }
    }
}
