//! `run`: how to boot one appliance.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use super::{cpus, unexpected, value};
use crate::disk::Disk;
use crate::machine::{Accelerator, Kind};

/// How to boot one appliance.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) app: String,
    pub(crate) machine: Kind,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    /// Host and guest port.
    pub(crate) ports: (u16, u16),
    /// What each network device is connected to; the usual one if there is none.
    pub(crate) networks: Vec<Network>,
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) disks: Vec<Disk>,
    /// What is written to the disks is forgotten.
    pub(crate) forgets_writes: bool,
    pub(crate) append: String,
    /// Where the guest's frames are written to.
    pub(crate) capture: Option<PathBuf>,
    pub(crate) accelerator: Accelerator,
    pub(crate) time_out: Option<Duration>,
    pub(crate) waits_for_gdb: bool,
    pub(crate) is_verbose: bool,
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

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<RunOptions> {
    let mut options = RunOptions {
        app: String::new(),
        machine: Kind::Q35,
        memory_mib: 256,
        cpus: 1,
        ports: (8080, 8080),
        networks: Vec::new(),
        initrd: None,
        disks: Vec::new(),
        forgets_writes: false,
        append: String::new(),
        capture: None,
        accelerator: Accelerator::Auto,
        time_out: None,
        waits_for_gdb: false,
        is_verbose: false,
        app_arguments: Vec::new(),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(app) if options.app.is_empty() => options.app = app.string()?,
            // lexopt hands out what follows `--` as plain values.
            Value(argument) => options.app_arguments.push(argument.string()?),
            Long("machine") => options.machine = value(parser, "machine")?,
            Long("memory") => options.memory_mib = memory(&parser.value()?.string()?)?,
            Long("smp") => options.cpus = cpus(value(parser, "smp")?)?,
            Long("port") => options.ports = ports(&parser.value()?.string()?)?,
            Long("net") => options.networks.push(value(parser, "net")?),
            Long("initrd") => options.initrd = Some(parser.value()?.into()),
            Long("disk") => options.disks.push(value(parser, "disk")?),
            Long("snapshot") => options.forgets_writes = true,
            Long("append") => options.append = parser.value()?.string()?,
            Long("pcap") => options.capture = Some(parser.value()?.into()),
            Long("accel") => options.accelerator = value(parser, "accel")?,
            Long("time-out") => options.time_out = Some(Duration::from_secs(value(parser, "time-out")?)),
            Long("gdb") => options.waits_for_gdb = true,
            Long("verbose") => options.is_verbose = true,
            other => return Err(unexpected(&other)),
        }
    }
    if options.app.is_empty() {
        bail!("which app? For example: `make run APP=hello`");
    }
    Ok(options)
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
}
