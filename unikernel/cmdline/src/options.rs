//! The words for the kernel, one by one.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::card::{self, CardOptions};
use crate::error::ParseError;
use crate::filter::{self, FilterRule};
use crate::linux::{self, LinuxRoot};
use crate::mmio::{self, MmioDevice};
use crate::mounts::MountPoint;
use crate::observe::{self, Observe};
use crate::offloads::{self, Offloads};
use crate::policy::{self, PolicyOptions};
use crate::suggest::nearest;
use crate::system::{self, SystemOptions};
use crate::trust::{self, TrustOptions};
use crate::user::User;
use crate::words;

/// Every key there is; `env.` takes any name behind it.
const KEYS: &[&str] = &[
    "ip",
    "gw",
    "dns",
    "route",
    "slaac",
    "eth1.",
    "filter",
    "allow",
    "deny",
    "pcap",
    "log",
    "trace",
    "exit",
    "stop",
    "env.",
    "cwd",
    "user",
    "init",
    "root",
    "mount",
    "format",
    "overcommit",
    "hostname",
    "loopback",
    "forward",
    "ntp",
    "syslog",
    "config",
    "wx",
    "allow-calls",
    "allow-paths",
    "allow-net",
    "module",
    "modules",
    system::KASLR,
    observe::KEY,
    trust::KEY,
    offloads::KEY,
    mmio::KEY,
];

/// What happens when the app has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ExitAction {
    /// The processor stops; the machine stays for whoever wants to look.
    Halt,
    /// The machine starts again.
    Reboot,
    /// The machine is switched off, after its exit code was offered to the debug-exit port.
    #[default]
    PowerOff,
    /// The exit code is written to QEMU's `isa-debug-exit`; without the device, the processor stops.
    DebugExit,
}

/// The command line, understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// What is said about each card, as far as any is named; see [`Options::card`].
    pub cards: Vec<CardOptions>,
    /// `filter=deny`: what no rule names is dropped.
    pub denies_by_default: bool,
    /// `allow=` and `deny=`, in order.
    pub filter_rules: Vec<FilterRule>,
    /// `offload=`, what the network card may do.
    pub offloads: Offloads,
    /// `pcap=`: the frames of all cards are recorded.
    pub captures: bool,
    /// `pcap=` with a number: how many bytes of each frame are recorded; none for all.
    pub snap_len: Option<u32>,
    /// `log=`, as the logger reads it.
    pub log: Option<String>,
    /// `trace=syscalls`.
    pub traces_syscalls: bool,
    /// `trace=time`.
    pub traces_time: bool,
    /// `trace=events`: what happens is recorded from the start.
    pub traces_events: bool,
    /// `trace=policy`: what the app does is told at its end, in the words that would allow it.
    pub records_policy: bool,
    /// `observe=`: where the kernel tells what goes on in the machine.
    pub observe: Option<Observe>,
    /// `exit=`.
    pub exit_action: ExitAction,
    /// `stop=`: how many seconds a stop takes at most.
    pub stop_seconds: Option<u32>,
    /// `overcommit=strict`: what the app is promised is set aside for it.
    pub is_commit_strict: bool,
    /// `cwd=`, an absolute path.
    pub current_directory: Option<String>,
    /// `user=`: whom the app runs as.
    pub user: Option<User>,
    /// `init=`, the absolute path of a program to run in place of the linked one.
    pub init: Option<String>,
    /// What the app is told that it is called, if not by its path.
    pub app_name: Option<String>,
    /// `root=` and `mount=`, in order.
    pub mounts: Vec<MountPoint>,
    /// Which of them came as Linux's `root=/dev/vda`, to which Linux's `ro` belongs.
    linux_root: Option<usize>,
    /// `hostname=` and the words of services.
    pub system: SystemOptions,
    /// `allow-calls=`, `allow-paths=`, `allow-net=`.
    pub policy: PolicyOptions,
    /// The same, from the image.
    pub image_policy: PolicyOptions,
    /// `trust=`.
    pub trust: TrustOptions,
    /// `format=`, disks that get a filesystem if they have none.
    pub formatted: Vec<String>,
    /// `env.NAME=value`, in order.
    pub environment: Vec<(String, String)>,
    /// Devices announced by the hypervisor.
    pub mmio_devices: Vec<MmioDevice>,
    /// Words for Linux, which have no effect here.
    pub ignored: Vec<String>,
    /// Everything behind `--`.
    pub app_arguments: Vec<String>,
}

/// Parses a whole command line.
pub fn parse(line: &str) -> Result<Options, ParseError> {
    let mut options = Options::default();
    options.take_line(line)?;
    Ok(options)
}

impl Options {
    /// The root that came as `root=PARTUUID=...` or `root=/dev/nvme...`, which are written into configurations for Linux and mean nothing to a machine
    /// without such a partition, or without the module. Who names a disk or a filesystem means it.
    pub fn root_for_linux(&self) -> Option<&MountPoint> {
        let point = self.mounts.get(self.linux_root?)?;
        Some(point).filter(|point| ["PARTUUID=", "nvme"].iter().any(|start| point.disk.starts_with(start)))
    }

    /// Takes the words of a whole command line.
    pub(crate) fn take_line(&mut self, line: &str) -> Result<(), ParseError> {
        let words = words::split(line).map_err(|_| ParseError::UnclosedQuote)?;
        let mut words = words.into_iter();
        // Linux's `ro` and `rw` are about its `root=`; the last one counts.
        let mut root_is_read_only = None;
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            match word.as_str() {
                "ro" => root_is_read_only = Some(true),
                "rw" => root_is_read_only = Some(false),
                _ => {}
            }
            self.take(&word)?;
        }
        if let (Some(is_read_only), Some(index)) = (root_is_read_only, self.linux_root) {
            self.mounts[index].is_read_only = is_read_only;
        }
        self.app_arguments = words.collect();
        self.mmio_devices.extend(MmioDevice::take_appended(&mut self.app_arguments));
        for (number, card) in self.cards.iter().enumerate() {
            card.check().map_err(|error| of_card(number, error))?;
        }
        self.check_mounts()?;
        self.check_formats()
    }

    pub(crate) fn take(&mut self, word: &str) -> Result<(), ParseError> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, value),
            None if linux::is_for_linux(word) => {
                self.ignored.push(word.to_owned());
                return Ok(());
            }
            None if KEYS.contains(&word) => return Err(ParseError::MissingValue(word.to_owned())),
            None => return Err(unknown(word, word)),
        };
        match key {
            "filter" => self.denies_by_default = denies(value)?,
            "allow" => self.filter_rules.push(filter_rule("allow", value)?),
            "deny" => self.filter_rules.push(filter_rule("deny", value)?),
            observe::KEY => {
                let observe = Observe::parse(value)?;
                self.filter_rules.splice(0..0, observe.rules());
                self.observe = Some(observe);
            }
            offloads::KEY if self.offloads.restrict(value) => {}
            offloads::KEY => {
                return Err(ParseError::BadValue(offloads::KEY, value.to_owned(), offloads::EXPECTED));
            }
            "pcap" => (self.captures, self.snap_len) = capture(value)?,
            "log" => self.log = Some(value.to_owned()),
            "trace" if value == "syscalls" => self.traces_syscalls = true,
            "trace" if value == "time" => self.traces_time = true,
            "trace" if value == "events" => self.traces_events = true,
            "trace" if value == "policy" => self.records_policy = true,
            "trace" => {
                return Err(ParseError::BadValue(
                    "trace",
                    value.to_owned(),
                    "`syscalls`, `events`, `time` or `policy`",
                ));
            }
            "exit" => self.exit_action = exit_action(value)?,
            "stop" => self.stop_seconds = Some(stop_seconds(value)?),
            "overcommit" => self.is_commit_strict = is_strict(value)?,
            "cwd" if value.starts_with('/') => self.current_directory = Some(value.to_owned()),
            "cwd" => return Err(ParseError::BadValue("cwd", value.to_owned(), "an absolute path")),
            "user" => self.user = Some(User::parse(value)?),
            "init" if value.starts_with('/') => self.init = Some(value.to_owned()),
            "init" => return Err(ParseError::BadValue("init", value.to_owned(), "an absolute path")),
            "root" => self.take_root(word, value)?,
            "mount" => self.mounts.push(MountPoint::parse(value)?),
            trust::KEY => self.trust.take(value)?,
            "format" => self.formatted.push(value.to_owned()),
            mmio::KEY => self.mmio_devices.push(mmio_device(value)?),
            _ if let Some(key) = system::KEYS.into_iter().find(|known| *known == key) => {
                self.system.take(key, value)?;
            }
            _ if let Some(key) = policy::KEYS.into_iter().find(|known| *known == key) => {
                self.policy.take(key, value)?;
            }
            _ => match key.strip_prefix("env.") {
                Some(name) if !name.is_empty() => self.set_variable(name, value),
                _ if linux::is_for_linux(word) => self.ignored.push(word.to_owned()),
                _ => self.take_card(word, key, value)?,
            },
        }
        Ok(())
    }

    /// A variable has one value, the last.
    fn set_variable(&mut self, name: &str, value: &str) {
        match self.environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.environment.push((name.to_owned(), value.to_owned())),
        }
    }

    /// `root=` in our form or in Linux's. The last one counts, but ours before one of Linux's, which may be the
    /// hypervisor's.
    fn take_root(&mut self, word: &str, value: &str) -> Result<(), ParseError> {
        let known = self.mounts.iter().position(|point| point.path == "/");
        let (point, is_linux) = match LinuxRoot::parse(value) {
            Some(LinuxRoot::Disk(point)) if known.is_none() || known == self.linux_root => (point, true),
            Some(_) => {
                self.ignored.push(word.to_owned());
                return Ok(());
            }
            None => (MountPoint::root(value)?, false),
        };
        let index = known.unwrap_or(self.mounts.len());
        match self.mounts.get_mut(index) {
            Some(known) => *known = point,
            None => self.mounts.push(point),
        }
        self.linux_root = is_linux.then_some(index);
        Ok(())
    }

    /// A word about a card, the first if none is named.
    fn take_card(&mut self, word: &str, key: &str, value: &str) -> Result<(), ParseError> {
        let (number, key, near) = match card::split(key) {
            Some((number, key)) => (number, key, nearest(key, &card::KEYS)),
            None => (0, key, nearest(key, KEYS)),
        };
        let known = card::KEYS.into_iter().find(|known| *known == key);
        let key = known.ok_or_else(|| ParseError::UnknownWord(word.to_owned(), near))?;
        if number >= self.cards.len() {
            self.cards.resize(number + 1, CardOptions::default());
        }
        self.cards[number].take(key, value).map_err(|error| of_card(number, error))
    }

    /// What is said about a card: nothing if it is not named.
    pub fn card(&self, number: usize) -> CardOptions {
        self.cards.get(number).cloned().unwrap_or_default()
    }
}

impl Options {
    /// Takes what a configuration says about a card, in words of the command line. False if that is about the card itself, which
    /// counts.
    pub fn configure_card(
        &mut self,
        number: usize,
        words: &[(&'static str, String)],
    ) -> Result<bool, ParseError> {
        if self.card(number) != CardOptions::default() {
            return Ok(false);
        }
        let mut card = CardOptions::default();
        words.iter().try_for_each(|(key, value)| card.take(key, value))?;
        card.check()?;
        if number >= self.cards.len() {
            self.cards.resize(number + 1, CardOptions::default());
        }
        self.cards[number] = card;
        Ok(true)
    }
}

impl Options {
    /// Two filesystems over one disk would destroy it.
    fn check_mounts(&self) -> Result<(), ParseError> {
        for (index, point) in self.mounts.iter().enumerate() {
            for earlier in &self.mounts[..index] {
                if earlier.disk == point.disk {
                    return Err(ParseError::DiskTwice(
                        point.disk.clone(),
                        [earlier, point].map(|point| point.path.clone()),
                    ));
                }
                if earlier.path == point.path {
                    return Err(ParseError::PlaceTwice(
                        point.path.clone(),
                        [earlier, point].map(|point| point.disk.clone()),
                    ));
                }
            }
        }
        Ok(())
    }

    /// A disk that is not mounted would be formatted for nothing: a slip of the pen.
    fn check_formats(&self) -> Result<(), ParseError> {
        let is_mounted = |disk: &&String| self.mounts.iter().any(|point| point.disk == **disk);
        match self.formatted.iter().find(|disk| !is_mounted(disk)) {
            Some(disk) => Err(ParseError::FormatWithoutMount(disk.clone())),
            None => Ok(()),
        }
    }
}

/// A mistake in a word that may name the card; the first needs no name.
fn of_card(number: usize, error: ParseError) -> ParseError {
    if number == 0 { error } else { ParseError::OfCard(number, Box::new(error)) }
}

fn unknown(word: &str, key: &str) -> ParseError {
    ParseError::UnknownWord(word.to_owned(), nearest(key, KEYS))
}

pub(crate) fn is_on(key: &'static str, value: &str) -> Result<bool, ParseError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(ParseError::BadValue(key, value.to_owned(), "`on` or `off`")),
    }
}

fn denies(value: &str) -> Result<bool, ParseError> {
    match value {
        "deny" => Ok(true),
        "allow" => Ok(false),
        _ => {
            Err(ParseError::BadValue("filter", value.to_owned(), "`allow` or `deny`, for what no rule names"))
        }
    }
}

fn filter_rule(key: &'static str, value: &str) -> Result<FilterRule, ParseError> {
    let rule = FilterRule::parse(value, key == "allow");
    rule.ok_or_else(|| ParseError::BadValue(key, value.to_owned(), filter::EXPECTED))
}

/// Whether frames are recorded, and how many bytes of each.
fn capture(value: &str) -> Result<(bool, Option<u32>), ParseError> {
    match (value, value.parse()) {
        ("on", _) => Ok((true, None)),
        ("off", _) => Ok((false, None)),
        (_, Ok(snap_len @ 1..)) => Ok((true, Some(snap_len))),
        _ => Err(ParseError::BadValue("pcap", value.to_owned(), "`on`, `off` or a number of bytes")),
    }
}

fn stop_seconds(value: &str) -> Result<u32, ParseError> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = value.parse().ok().filter(|_| is_number);
    seconds.ok_or_else(|| ParseError::BadValue("stop", value.to_owned(), "a number of seconds"))
}

/// Which of Linux's two ways there is to promise memory (its `vm.overcommit_memory` 2 and 0).
fn is_strict(value: &str) -> Result<bool, ParseError> {
    match value {
        "strict" => Ok(true),
        "heuristic" => Ok(false),
        _ => Err(ParseError::BadValue("overcommit", value.to_owned(), "`heuristic` or `strict`")),
    }
}

fn exit_action(value: &str) -> Result<ExitAction, ParseError> {
    Ok(match value {
        "halt" => ExitAction::Halt,
        "reboot" => ExitAction::Reboot,
        "poweroff" => ExitAction::PowerOff,
        "debug-exit" => ExitAction::DebugExit,
        _ => {
            let expected = "`halt`, `reboot`, `poweroff` or `debug-exit`";
            return Err(ParseError::BadValue("exit", value.to_owned(), expected));
        }
    })
}

fn mmio_device(value: &str) -> Result<MmioDevice, ParseError> {
    MmioDevice::parse(value).ok_or_else(|| {
        ParseError::BadValue(mmio::KEY, value.to_owned(), "`size@base:irq`, such as `512@0xfeb00e00:5`")
    })
}
