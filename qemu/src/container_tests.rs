//! Container images, made by the tools of others (umoci, skopeo), packed with a kernel (`pack --from`) and booted: the program
//! finds what the image says, in each form that an image has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::boot_tests::{hello, run};
use crate::guest_tests::NamedTest;
use crate::machine::Kind;
use crate::package_tests::{succeeds, unikernel};
use crate::program_tests::{FORMS, arguments, busybox, put, root};
use crate::project;

/// All of them, where the tools are.
pub(crate) fn all() -> Vec<NamedTest> {
    for tool in ["umoci", "skopeo"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("left out: container_*, for this host has no {tool}");
            return Vec::new();
        }
    }
    let mut tests: Vec<NamedTest> = Vec::new();
    let mut add = |name: &str, check: fn() -> Result<()>| tests.push((name.to_owned(), Box::new(check)));
    add("container_forms", forms);
    add("container_configuration", configuration);
    add("container_damaged", damaged);
    tests
}

/// A folder of this test's, empty.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = project::work_dir("containers")?.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn umoci<const N: usize>(arguments: [&str; N]) -> Result<()> {
    let mut command = Command::new("umoci");
    command.args(arguments);
    succeeds(command).map(drop)
}

fn skopeo(from: &str, to: &str) -> Result<()> {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", from, to]);
    succeeds(command).map(drop)
}

/// An image with the files of a folder; `settings` are umoci's.
fn image(folder: &Path, root: &Path, settings: &[&str]) -> Result<PathBuf> {
    let layout = folder.join("layout");
    let name = format!("{}:latest", layout.display());
    umoci(["init", "--layout", &layout.display().to_string()])?;
    umoci(["new", "--image", &name])?;
    umoci(["insert", "--rootless", "--image", &name, &root.display().to_string(), "/"])?;
    let mut command = Command::new("umoci");
    command.args(["config", "--image", &name]).args(settings);
    succeeds(command)?;
    // What the earlier steps have left.
    umoci(["gc", "--layout", &layout.display().to_string()])?;
    Ok(layout)
}

/// Packs as a user does; an error is the message.
fn pack(from: &Path, image: &Path) -> Result<()> {
    let folder = project::work_dir("containers")?;
    let output = unikernel(&folder, ["pack", "--from"])?.arg(from).arg("-o").arg(image).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Boots a packed image with these words; answers its console.
fn boots(image: &Path, append: &str) -> Result<String> {
    let mut machine = hello(Kind::Microvm, append)?;
    machine.kernel = image.to_owned();
    let ending = run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(ending.console)
}

/// A dynamic program runs from an image layout, from an archive of one, and from one of `docker save`, compressed or not.
fn forms() -> Result<()> {
    let folder = folder("forms")?;
    let form = FORMS[3];
    let arguments = arguments(form).map(|argument| format!("--config.cmd={argument}"));
    let mut settings = vec!["--config.entrypoint=/bin/probe", "--config.env=PROBE=yes"];
    settings.extend(arguments.iter().map(String::as_str));
    let layout = image(&folder, &root(form, "root-container")?, &settings)?;
    let archive = |name: &str| folder.join(name).display().to_string();
    let from = format!("oci:{}:latest", layout.display());
    skopeo(&from, &format!("oci-archive:{}", archive("oci.tar")))?;
    skopeo(&from, &format!("docker-archive:{}:probe:1", archive("docker.tar")))?;
    let mut gzip = Command::new("gzip");
    gzip.args(["--fast", "--keep", &archive("docker.tar")]);
    succeeds(gzip)?;
    for form in ["layout", "oci.tar", "docker.tar", "docker.tar.gz"] {
        let image = folder.join("image");
        pack(&folder.join(form), &image).with_context(|| form.to_owned())?;
        boots(&image, "").with_context(|| form.to_owned())?;
    }
    Ok(fs::remove_dir_all(folder)?)
}

/// Arguments, variables, folder, user: as the image says, or whoever boots it.
fn configuration() -> Result<()> {
    let folder = folder("configuration")?;
    let root = folder.join("root");
    put(&root.join("bin/busybox"), &busybox()?)?;
    std::os::unix::fs::symlink("busybox", root.join("bin/sh"))?;
    std::os::unix::fs::symlink("busybox", root.join("bin/id"))?;
    put(&root.join("etc/passwd"), b"root:x:0:0::/root:\nweb:x:33:44::/srv/web:\n")?;
    put(&root.join("gone"), b"")?;
    let script = "test -e /gone && exit 9; read line < /note; echo \"it is $PWD $HOME $A $0 $1 $line\"";
    let settings = [
        "--config.entrypoint=sh",
        "--config.entrypoint=-c",
        &format!("--config.entrypoint={script}"),
        "--config.cmd=zero",
        "--config.cmd=one \"more\"",
        "--config.env=A=a=\"b\"",
        "--config.workingdir=/srv/www",
        "--config.user=web",
    ];
    let layout = image(&folder, &root, &settings)?;
    let name = format!("{}:latest", layout.display());
    umoci(["insert", "--rootless", "--whiteout", "--image", &name, "/gone"])?;
    put(&folder.join("note"), b"noted\n")?;
    let note = folder.join("note").display().to_string();
    umoci(["insert", "--rootless", "--image", &name, &note, "/note"])?;
    let packed = folder.join("image");
    pack(&layout, &packed)?;
    let expect = |append: &str, expected: &str| -> Result<()> {
        let console = boots(&packed, append)?;
        ensure!(console.contains(expected), "not {expected:?}: {console}");
        Ok(())
    };
    expect("", "it is /srv/www /srv/web a=\"b\" zero one \"more\" noted")?;
    expect("env.A=c cwd=/ env.HOME=/h -- 0 1", "it is / /h c 0 1 noted")?;
    expect("init=/bin/id", "uid=33(web) gid=44")?;
    expect("init=/bin/id user=0", "uid=0(root) gid=0")?;
    Ok(fs::remove_dir_all(folder)?)
}

/// Nothing is left of an image that cannot be packed.
fn damaged() -> Result<()> {
    let folder = folder("damaged")?;
    let root = root(FORMS[0], "root-container-damaged")?;
    let layout = image(&folder, &root, &["--config.entrypoint=/bin/probe"])?;
    let blobs = fs::read_dir(layout.join("blobs/sha256"))?.collect::<Result<Vec<_>, _>>()?;
    for blob in blobs {
        let good = fs::read(blob.path())?;
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(blob.path(), bad)?;
        let packed = folder.join("image");
        let error = pack(&layout, &packed).err().context("a damaged blob is taken")?;
        ensure!(format!("{error:#}").contains("is damaged"), "{error:#}");
        ensure!(fs::read_dir(&folder)?.count() == 1, "something is left");
        fs::write(blob.path(), good)?;
    }
    Ok(fs::remove_dir_all(folder)?)
}
