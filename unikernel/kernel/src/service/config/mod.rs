//! What the machine is told at boot beside its command line (`config=`), before the app starts: its name, addresses, files and
//! variables. `unikernel_config` reads and checks it; the command line counts before it.
//!
//! - here: what becomes of it; [`volume`]: NoCloud, from a disk, before there is a network; [`metadata`]: services in
//!   the network, which a thread asks before it starts the app.
//!
//! As with cloud-init, what cannot be had or understood is told in the log, and the machine goes on without it.

pub(crate) mod metadata;
mod volume;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use unikernel_cmdline::{ConfigSource, Options, Shown, is_host_name};
use unikernel_config::network::{self, Card};
use unikernel_config::yaml::Value;
use unikernel_config::{File, UserData, Variable};

use crate::fs;
use crate::platform::smbios;
use crate::process::host_name;

/// How the serial number of a machine begins that has its configuration on a volume.
const NOCLOUD_SERIAL: &str = "ds=nocloud";
/// Where the app finds what it was told, as it came. It may have secrets in it.
const META_DATA_PATH: &str = "/run/meta-data";
const USER_DATA_PATH: &str = "/run/user-data";
const SECRET: u16 = 0o600;

/// What was told, as far as it is for the app.
#[derive(Default)]
pub(crate) struct Told {
    files: Vec<File>,
}

/// Reads the configuration where that needs no network, into what the command line says. `macs` are those of the cards.
///
/// # Errors
///
/// If it must be signed and is not: a text for people.
pub(crate) fn read(options: &mut Options, macs: &[[u8; 6]]) -> Result<Told, String> {
    let mut told = Told::default();
    let serial = match options.system.config {
        ConfigSource::Unsaid => smbios::system_serial().filter(|serial| serial.starts_with(NOCLOUD_SERIAL)),
        _ => None,
    };
    if let Some(serial) = &serial {
        log::debug!("serial number `{}`", Shown(serial));
        options.system.config = ConfigSource::NoCloud;
        take_serial(serial, options);
    }
    if options.system.config == ConfigSource::NoCloud {
        volume::read(options, macs, &mut told)?;
    }
    Ok(told)
}

/// `h=` or `local-hostname=` behind the source.
fn take_serial(serial: &str, options: &mut Options) {
    for word in serial.split(';').skip(1) {
        match word.split_once('=') {
            Some(("h" | "local-hostname", name)) => take_host_name(name, options),
            Some(("i" | "instance-id", _)) => {}
            _ => log::warn!("serial number: `{}` is not used", Shown(word)),
        }
    }
}

fn take_host_name(name: &str, options: &mut Options) {
    if !is_host_name(name) {
        return log::error!("configuration: `{}` is no host name", Shown(name));
    }
    options.system.host_name.get_or_insert_with(|| name.to_string());
}

/// Takes user data in: for the app as it is, and what it asks for.
fn take_user_data(bytes: Vec<u8>, options: &mut Options, told: &mut Told) {
    match UserData::parse(&bytes) {
        Ok(data) => {
            data.complaints.iter().for_each(|text| log::warn!("user-data: {}", Shown(text)));
            if let Some(name) = &data.host_name {
                take_host_name(name, options);
            }
            data.environment.into_iter().for_each(|variable| take_variable(variable, options));
            told.files.extend(data.files);
        }
        Err(error) => log::error!("user-data: not used: {error}"),
    }
    told.add_secret(USER_DATA_PATH, bytes);
}

/// The command line counts.
fn take_variable((name, value): Variable, options: &mut Options) {
    if !options.environment.iter().any(|(known, _)| *known == name) {
        options.environment.push((name, value));
    }
}

fn take_network(value: &Value, options: &mut Options, macs: &[[u8; 6]]) {
    let network = network::read(value);
    network.complaints.iter().for_each(|text| log::warn!("network-config: {}", Shown(text)));
    for (index, card) in network.cards.iter().enumerate() {
        if let Err(problem) = take_card(card, index, options, macs) {
            log::error!("network-config: {}: {}", Shown(&card.name), Shown(&problem));
        }
    }
}

fn take_card(card: &Card, index: usize, options: &mut Options, macs: &[[u8; 6]]) -> Result<(), String> {
    let named = card.name.strip_prefix("eth").and_then(|number| number.parse().ok());
    let number = match card.mac {
        Some(mac) => macs.iter().position(|own| *own == mac),
        None => Some(named.unwrap_or(index)).filter(|number| *number < macs.len()),
    };
    let number = number.ok_or("there is no such card")?;
    match options.configure_card(number, &card.words) {
        Ok(true) => log::info!("eth{number}: configured"),
        Ok(false) => log::info!("eth{number}: the command line counts"),
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

impl Told {
    fn add_secret(&mut self, path: &str, content: Vec<u8>) {
        self.files.push(File { path: path.to_string(), permissions: SECRET, content });
    }

    /// Puts the files where the app finds them. All filesystems are mounted.
    pub(crate) fn put_files(self) {
        for file in self.files {
            let path = Shown(&file.path);
            match fs::put(file.path.as_bytes(), file.permissions, &file.content) {
                Ok(()) => log::debug!("{path}: {} bytes of the configuration", file.content.len()),
                Err(error) => log::error!("configuration: {path} cannot be written: {error:?}"),
            }
        }
    }
}

/// Who the machine is, as `/run/meta-data` tells it when a service said it.
fn meta_data_text(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
    let lines = entries.iter().filter_map(|(key, value)| value.map(|value| format!("{key}: {value}\n")));
    lines.collect::<String>().into_bytes()
}

/// Gives the machine the name that it has by now.
pub(crate) fn set_host_name(options: &Options) {
    if let Some(name) = &options.system.host_name {
        host_name::set(name);
    }
}
