//! `run`: how to boot one appliance.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use super::{cpus, shown, unexpected, value};
use crate::debug::DebugOptions;
use crate::disk::Disk;
use crate::host_files::{Certificates, HostFiles};
use crate::machine::{Accelerator, Kind};
use crate::observe;
use crate::package::{PackageOptions, take_option};
use crate::share::Share;

/// What to boot.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A package's program, which is built first.
    Package(PackageOptions),
    /// An image, by its path, or an app of this repository.
    Named(String),
}

/// How to boot one appliance.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) what: What,
    pub(crate) machine: Kind,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    /// Host and guest port.
    pub(crate) ports: (u16, u16),
    /// What each network device is connected to; the usual one if there is none.
    pub(crate) networks: Vec<Network>,
    pub(crate) initrd: Option<PathBuf>,
    /// Beside the initrd.
    pub(crate) host_files: HostFiles,
    pub(crate) disks: Vec<Disk>,
    /// What is written to the disks is forgotten.
    pub(crate) forgets_writes: bool,
    pub(crate) shares: Vec<Share>,
    pub(crate) append: String,
    /// Words for it that say what the app may do.
    pub(crate) policy: Option<PathBuf>,
    /// Where is written what the app did.
    pub(crate) learns: Option<PathBuf>,
    /// Variables for the app.
    pub(crate) environment: Vec<(String, String)>,
    /// QEMU's own, at the end of its command line.
    pub(crate) qemu_arguments: Vec<String>,
    /// Where the guest's frames are written to.
    pub(crate) capture: Option<PathBuf>,
    /// The port where this host asks what goes on in it.
    pub(crate) observed_at: Option<u16>,
    pub(crate) accelerator: Accelerator,
    pub(crate) time_out: Option<Duration>,
    pub(crate) waits_for_gdb: bool,
    pub(crate) is_verbose: bool,
    /// It goes on without this process.
    pub(crate) is_detached: bool,
    /// It has a TPM, which lives as long as this process.
    pub(crate) has_tpm: bool,
    /// What a detached one is called.
    pub(crate) name: Option<String>,
    pub(crate) app_arguments: Vec<String>,
}

/// What the guest's network device is connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Network {
    /// A forwarded port.
    User,
    /// There is no device.
    None,
    /// A tap device that exists.
    Tap(String),
}

impl FromStr for Network {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("tap=")) {
            ("user", _) => Ok(Self::User),
            ("none", _) => Ok(Self::None),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Tap(name.to_owned())),
            _ => bail!("no such network; there are user, none and tap=NAME"),
        }
    }
}

impl RunOptions {
    /// As if an image were named and nothing else said.
    pub(crate) fn of_image(path: &Path) -> Self {
        let what = What::Named(path.to_string_lossy().into_owned());
        Self { what, ..Self::new(Vec::new()) }
    }

    /// As nothing is said.
    pub(super) fn new(app_arguments: Vec<String>) -> Self {
        Self {
            what: What::Package(PackageOptions::default()),
            machine: Kind::Q35,
            memory_mib: 256,
            cpus: 1,
            ports: (8080, 8080),
            networks: Vec::new(),
            initrd: None,
            host_files: HostFiles::default(),
            disks: Vec::new(),
            forgets_writes: false,
            shares: Vec::new(),
            append: String::new(),
            policy: None,
            learns: None,
            environment: Vec::new(),
            qemu_arguments: Vec::new(),
            capture: None,
            observed_at: None,
            accelerator: Accelerator::Auto,
            time_out: None,
            waits_for_gdb: false,
            is_verbose: false,
            is_detached: false,
            has_tpm: false,
            name: None,
            app_arguments,
        }
    }
}

/// Reads the options of `run`; `app_arguments` are the words behind `--`.
pub(super) fn parse(parser: &mut lexopt::Parser, app_arguments: Vec<String>) -> Result<RunOptions> {
    let mut name = None;
    let (mut is_detached, mut has_tpm) = (false, false);
    let mut options = parse_with(parser, app_arguments, |option, parser| {
        match option {
            "-d" | "--detach" => is_detached = true,
            "--tpm" => has_tpm = true,
            "--name" => name = Some(parser.value()?.string()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if is_detached && (options.waits_for_gdb || options.time_out.is_some()) {
        bail!("--detach does not go with --gdb and --time-out: nobody waits for the guest");
    }
    if is_detached && has_tpm {
        bail!("--detach does not go with --tpm: nobody would end the TPM's program");
    }
    if name.is_some() && !is_detached {
        bail!("--name is for --detach: `cargo unikernel logs` and `stop` know the guest by it");
    }
    (options.name, options.is_detached, options.has_tpm) = (name, is_detached, has_tpm);
    Ok(options)
}

/// The same for `learn`.
pub(super) fn parse_learn(parser: &mut lexopt::Parser, app_arguments: Vec<String>) -> Result<RunOptions> {
    let mut file = PathBuf::from("policy.txt");
    let options = parse_with(parser, app_arguments, |option, parser| {
        let is_own = matches!(option, "-o" | "--output");
        if is_own {
            file = parser.value()?.into();
        }
        Ok(is_own)
    })?;
    Ok(RunOptions { learns: Some(file), ..options })
}

/// The same for `debug`.
pub(super) fn parse_debug(parser: &mut lexopt::Parser, app_arguments: Vec<String>) -> Result<DebugOptions> {
    let mut commands = Vec::new();
    let run = parse_with(parser, app_arguments, |option, parser| {
        if option == "--ex" {
            commands.push(parser.value()?.string()?);
        }
        Ok(option == "--ex")
    })?;
    if run.waits_for_gdb {
        bail!("--gdb is for `run`: `debug` starts gdb itself");
    }
    Ok(DebugOptions { run, commands })
}

/// What to boot and on which machine; `take_own` takes options that only one command has.
fn parse_with(
    parser: &mut lexopt::Parser,
    app_arguments: Vec<String>,
    mut take_own: impl FnMut(&str, &mut lexopt::Parser) -> Result<bool>,
) -> Result<RunOptions> {
    let mut options = RunOptions::new(app_arguments);
    let (mut named, mut package) = (None, PackageOptions::default());
    let mut has_package_options = false;
    while let Some(argument) = parser.next()? {
        let option = match argument {
            Value(app) if named.is_none() => {
                named = Some(app.string()?);
                continue;
            }
            other => shown(&other),
        };
        if take_own(&option, parser)? {
            continue;
        }
        if take_option(&option, &mut package, parser)? {
            has_package_options = true;
        } else {
            take(&option, &mut options, parser)?;
        }
    }
    options.what = match named {
        Some(name) if has_package_options => {
            bail!("`{name}` is an image or an app of this repository: options about packages do not fit it")
        }
        Some(name) => What::Named(name),
        None => What::Package(package),
    };
    Ok(options)
}

/// Takes an option that is about files of this host.
pub(super) fn take_host_files(
    option: &str,
    files: &mut HostFiles,
    parser: &mut lexopt::Parser,
) -> Result<bool> {
    match option {
        "--timezone" => files.time_zone = Some(parser.value()?.string()?),
        "--ca-certificates" => {
            let file = parser.optional_value().map(|path| Certificates::File(path.into()));
            files.certificates = Some(file.unwrap_or(Certificates::OfHost));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Takes an option that is about the machine.
pub(super) fn take(option: &str, options: &mut RunOptions, parser: &mut lexopt::Parser) -> Result<()> {
    match option {
        "--machine" => options.machine = value(parser, "machine")?,
        "--memory" => options.memory_mib = memory(&parser.value()?.string()?)?,
        "--smp" => options.cpus = cpus(value(parser, "smp")?)?,
        "--port" => options.ports = ports(&parser.value()?.string()?)?,
        "--net" => options.networks.push(value(parser, "net")?),
        "--initrd" => options.initrd = Some(parser.value()?.into()),
        "--disk" => options.disks.push(value(parser, "disk")?),
        "--snapshot" => options.forgets_writes = true,
        "--share" => options.shares.push(value(parser, "share")?),
        "--policy" => options.policy = Some(parser.value()?.into()),
        "--append" => options.append = parser.value()?.string()?,
        "--env" => options.environment.push(variable(&parser.value()?.string()?)?),
        "--qemu-arg" => options.qemu_arguments.push(parser.value()?.string()?),
        "--pcap" => options.capture = Some(parser.value()?.into()),
        "--observe" => options.observed_at = Some(port_or_usual(parser)?),
        "--accel" => options.accelerator = value(parser, "accel")?,
        "--time-out" => options.time_out = Some(Duration::from_secs(value(parser, "time-out")?)),
        "--gdb" => options.waits_for_gdb = true,
        "-v" | "--verbose" => options.is_verbose = true,
        other if take_host_files(other, &mut options.host_files, parser)? => {}
        other => return Err(unexpected(other)),
    }
    Ok(())
}

/// The port behind `--observe=`, which may be left out.
fn port_or_usual(parser: &mut lexopt::Parser) -> Result<u16> {
    let Some(text) = parser.optional_value() else { return Ok(observe::PORT) };
    let port = text.to_str().and_then(|text| text.parse().ok()).filter(|port| *port > 0);
    port.with_context(|| format!("`{}` is no port", text.to_string_lossy()))
}

/// `NAME=VALUE`, or `NAME` with the value that it has here, as `docker run --env` takes it.
fn variable(text: &str) -> Result<(String, String)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).with_context(|| format!("--env {text}: it is not set here"))?),
    };
    if name.is_empty() || name.contains(|character: char| character.is_whitespace() || character == '"') {
        bail!("--env {text}: NAME=VALUE, such as RUST_LOG=debug");
    }
    // The kernel's command line has no way to write a quote.
    if value.contains('"') {
        bail!("--env {name}: a quote cannot stand on the kernel's command line");
    }
    Ok((name.to_owned(), value))
}

/// A size in MiB, with an optional M or G.
fn memory(text: &str) -> Result<u64> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let number: u64 =
        digits.parse().with_context(|| format!("--memory {text}: a number of MiB, such as 256"))?;
    Ok(number * factor)
}

fn ports(text: &str) -> Result<(u16, u16)> {
    let (host, guest) = text.split_once(':').unwrap_or((text, "8080"));
    let parse = |port: &str| port.parse().with_context(|| format!("--port {text}: HOST or HOST:GUEST"));
    Ok((parse(host)?, parse(guest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_takes_units() {
        assert_eq!(memory("16").unwrap(), 16);
        assert_eq!(memory("64M").unwrap(), 64);
        assert_eq!(memory("2G").unwrap(), 2048);
        assert!(memory("much").is_err());
    }

    #[test]
    fn ports_default_to_the_apps_own() {
        assert_eq!(ports("9000").unwrap(), (9000, 8080));
        assert_eq!(ports("9000:80").unwrap(), (9000, 80));
        assert!(ports("70000").is_err());
    }

    #[test]
    fn networks_are_user_none_or_a_named_tap() {
        assert_eq!("tap=tap7".parse::<Network>().unwrap(), Network::Tap("tap7".into()));
        assert_eq!("none".parse::<Network>().unwrap(), Network::None);
        assert!("tap=".parse::<Network>().is_err());
    }

    #[test]
    fn variables_have_a_name_and_no_quotes() {
        assert_eq!(variable("A=b c=d").unwrap(), ("A".into(), "b c=d".into()));
        assert_eq!(variable("A=").unwrap(), ("A".into(), String::new()));
        for wrong in ["=b", "A B=c", "A=\"", "NOT_SET_ANYWHERE_HERE"] {
            assert!(variable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_follows_two_dashes_is_the_apps() {
        let parse = |words: &[&str], behind: &[&str]| {
            let behind = behind.iter().map(|&word| word.to_owned()).collect();
            parse(&mut lexopt::Parser::from_args(words), behind)
        };
        let options = parse(&["--smp", "2"], &["--smp", "3"]).unwrap();
        assert!(matches!(options.what, What::Package(_)));
        assert_eq!((options.cpus, options.app_arguments.len()), (2, 2));
        assert!(matches!(parse(&["http"], &[]).unwrap().what, What::Named(name) if name == "http"));
        assert!(parse(&["http", "--release"], &[]).is_err());
    }
}
