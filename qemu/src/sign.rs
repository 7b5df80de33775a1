//! `sign`: signs what a machine with `trust=` uses, and says which words it is to be told.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use unikernel_cmdline::from_hex;
use unikernel_trust::{Keys, Kind, PublicKey, Signer, without_trailer};

use crate::cli::{SignOptions, Signed};
use crate::cpio::Archive;
use crate::unfinished::Unfinished;

/// Signs, or checks.
pub(crate) fn run(options: &SignOptions) -> Result<u8> {
    let public = public_key(&options.key)?;
    match &options.what {
        Signed::Nothing => {}
        Signed::Check(file, kind) => {
            let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            match Keys::new(vec![public]).open(*kind, &content) {
                Ok(content) => {
                    println!("{}: signed, {} bytes as {}", file.display(), content.len(), kind.name());
                }
                Err(error) => bail!("{}: {error}", file.display()),
            }
            return Ok(0);
        }
        Signed::File(file, kind, output) => {
            let output = output.as_deref().unwrap_or(file);
            ensure!(!output.is_dir(), "{} is a folder: name the archive with --output", output.display());
            let sealed = signer(&options.key)?.seal(*kind, &content(file, *kind)?);
            let new = Unfinished::new(output);
            fs::File::create(new.path())
                .and_then(|mut file| file.write_all(&sealed))
                .with_context(|| format!("cannot write {}", output.display()))?;
            new.finish()?;
            println!("{}: signed as {}", output.display(), kind.name());
        }
        Signed::Root(root) => {
            let bytes = from_hex(root)
                .with_context(|| format!("--root {root}: hexadecimal digits, as veritysetup shows them"))?;
            let signature = signer(&options.key)?.sign(Kind::Verity, &bytes);
            let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("verity={root}@PLACE,signature={hex}");
        }
    }
    println!("the machine's word: trust={public}");
    Ok(0)
}

/// The key that a machine is told, from a file with it or with the secret one.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = PublicKey::from_pem(&text).or_else(|| Signer::from_pem(&text).map(|signer| signer.public()));
    key.or_else(|| PublicKey::parse(text.trim())).with_context(|| {
        format!(
            "{} has no Ed25519 key; `openssl genpkey -algorithm ed25519 -out key.pem` makes one",
            path.display()
        )
    })
}

fn signer(path: &Path) -> Result<Signer> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Signer::from_pem(&text)
        .with_context(|| format!("{} has no secret key, which signing takes", path.display()))
}

/// What is in a file without a signature that is there already; what is in a folder as an archive.
fn content(file: &Path, kind: Kind) -> Result<Vec<u8>> {
    if !file.is_dir() {
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        return Ok(without_trailer(&content).to_vec());
    }
    ensure!(kind == Kind::Initrd, "{} is a folder, which only an initrd can be", file.display());
    let mut archive = Archive::default();
    archive.add_folder(file, "")?;
    Ok(archive.finish())
}
