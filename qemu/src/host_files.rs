//! Files of this host that an image gets on request: its time zone's, and the certificates of authorities.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cpio::Archive;

/// Where the time zones are, here and in the image (tzfile(5)).
const ZONES: &str = "usr/share/zoneinfo";
const ZONE_MAGIC: &[u8] = b"TZif";
/// Where distributions have the certificates in one file: Debian, Arch and Alpine; Fedora; OpenSUSE; and others.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where programs look for it: OpenSSL and `rustls-native-certs` as Debian builds and expects them, OpenSSL as others do, and
/// musl's distributions. Go looks at the first, too.
const BUNDLE_NAMES: [&str; 2] = ["etc/ssl/certs/ca-certificates.crt", "etc/ssl/cert.pem"];
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;

/// Which certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Certificates {
    /// Those that this host trusts.
    OfHost,
    /// Those in this file.
    File(PathBuf),
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct HostFiles {
    /// A zone's name, such as `Europe/Berlin`.
    pub(crate) time_zone: Option<String>,
    pub(crate) certificates: Option<Certificates>,
}

impl HostFiles {
    /// An archive with them; none if none are wanted.
    pub(crate) fn archive(&self) -> Result<Option<Vec<u8>>> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        if let Some(name) = &self.time_zone {
            let zone = zone(Path::new("/").join(ZONES).as_path(), name)?;
            // For programs that look for their zone's name (`TZ`), and for those that want the zone that is set.
            files.push((format!("{ZONES}/{name}"), zone.clone()));
            files.push(("etc/localtime".into(), zone));
            files.push(("etc/timezone".into(), format!("{name}\n").into_bytes()));
        }
        if let Some(certificates) = &self.certificates {
            let bundle = bundle(certificates)?;
            files.extend(BUNDLE_NAMES.map(|name| (name.to_owned(), bundle.clone())));
        }
        Ok((!files.is_empty()).then(|| archive(&files)))
    }
}

/// With the folders on the way, which other archives may have, too.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    let mut folders: Vec<&str> = Vec::new();
    for (name, content) in files {
        for (end, _) in name.match_indices('/') {
            if !folders.contains(&&name[..end]) {
                folders.push(&name[..end]);
                archive.add(&name[..end], DIRECTORY, 0, &[]);
            }
        }
        archive.add(name, FILE, 0, content);
    }
    archive.finish()
}

/// The file of a zone.
fn zone(zones: &Path, name: &str) -> Result<Vec<u8>> {
    let is_part = |part: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte);
        !part.is_empty() && part.bytes().all(is_plain)
    };
    ensure!(
        name.split('/').all(is_part),
        "--timezone {name}: a name such as `Europe/Berlin` or `UTC` is wanted"
    );
    let path = zones.join(name);
    let zone = fs::read(&path).with_context(|| {
        format!(
            "--timezone {name}: there is no {}: is the name right, and `tzdata` installed?",
            path.display()
        )
    })?;
    ensure!(zone.starts_with(ZONE_MAGIC), "--timezone {name}: {} is no time zone", path.display());
    Ok(zone)
}

fn bundle(certificates: &Certificates) -> Result<Vec<u8>> {
    let path = match certificates {
        Certificates::File(path) => path.as_path(),
        Certificates::OfHost => {
            let known = BUNDLES.iter().map(Path::new).find(|path| path.is_file());
            known
                .context("--ca-certificates: this host has none: install `ca-certificates`, or name a file")?
        }
    };
    let bundle =
        fs::read(path).with_context(|| format!("--ca-certificates: cannot read {}", path.display()))?;
    let has_one = bundle.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE);
    ensure!(has_one, "--ca-certificates: there is no certificate in {} (PEM is wanted)", path.display());
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(time_zone: Option<&str>, certificates: Option<Certificates>) -> Result<Option<Vec<u8>>> {
        HostFiles { time_zone: time_zone.map(str::to_owned), certificates }.archive()
    }

    #[test]
    fn nothing_is_added_unasked() {
        assert_eq!(asked(None, None).unwrap(), None);
    }

    #[test]
    fn zones_have_names_and_not_paths() {
        let zones = std::env::temp_dir().join(format!("zones-{}", std::process::id()));
        fs::create_dir_all(zones.join("Europe")).unwrap();
        fs::write(zones.join("Europe/Berlin"), b"TZif2").unwrap();
        fs::write(zones.join("note"), b"no zone").unwrap();
        assert_eq!(zone(&zones, "Europe/Berlin").unwrap(), b"TZif2");
        for wrong in ["", "/etc/passwd", "../etc", "Europe/../note", "Europe/", "Europe", "note", "Mars/Base"]
        {
            assert!(zone(&zones, wrong).is_err(), "{wrong}");
        }
        fs::remove_dir_all(zones).unwrap();
    }

    #[test]
    fn certificates_are_where_programs_look() {
        let path = std::env::temp_dir().join(format!("bundle-{}", std::process::id()));
        fs::write(&path, b"# ours\n-----BEGIN CERTIFICATE-----\n").unwrap();
        let archive = asked(None, Some(Certificates::File(path.clone()))).unwrap().unwrap();
        for name in BUNDLE_NAMES {
            assert!(archive.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
        }
        fs::write(&path, b"nothing").unwrap();
        assert!(asked(None, Some(Certificates::File(path.clone()))).is_err());
        fs::remove_file(path).unwrap();
    }
}
