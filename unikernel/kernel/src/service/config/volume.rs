//! NoCloud: the configuration on a disk called `cidata`. If what is used must be signed, each of its files must be.

use alloc::format;
use alloc::string::String;

use unikernel_cmdline::{Options, Shown};
use unikernel_config::{MetaData, Seed, read_seed, yaml};
use unikernel_trust::Kind;

use super::{META_DATA_PATH, Told, take_host_name, take_network, take_user_data};
use crate::block;
use crate::service::measure;
use crate::trust;

/// Looks for the volume and takes in what is on it.
pub(super) fn read(options: &mut Options, macs: &[[u8; 6]], told: &mut Told) -> Result<(), String> {
    match find() {
        Some(seed) => take(opened(seed)?, options, macs, told),
        None => log::error!("config=nocloud: there is no volume called `cidata`"),
    }
    Ok(())
}

/// The files without their signatures, which are checked if they must be there.
fn opened(mut seed: Seed) -> Result<Seed, String> {
    let files = [
        ("meta-data", Some(&mut seed.meta_data)),
        ("user-data", seed.user_data.as_mut()),
        ("network-config", seed.network_config.as_mut()),
    ];
    for (name, file) in files {
        let Some(file) = file else { continue };
        measure::file_at_boot(Kind::Configuration, name, file);
        let len = trust::open(Kind::Configuration, file).map(<[u8]>::len);
        file.truncate(len.map_err(|error| format!("config=nocloud: {name}: {error}"))?);
    }
    Ok(seed)
}

fn find() -> Option<Seed> {
    block::all().iter().find_map(|device| match read_seed(&device.volume) {
        Ok(Some(seed)) => {
            log::info!("{}: the machine's configuration", Shown(&device.name));
            Some(seed)
        }
        Ok(None) => None,
        Err(error) => {
            log::error!("{}: no configuration: {error}", Shown(&device.name));
            None
        }
    })
}

fn take(seed: Seed, options: &mut Options, macs: &[[u8; 6]], told: &mut Told) {
    let meta_data = MetaData::parse(&seed.meta_data).unwrap_or_else(|error| {
        log::error!("meta-data: not used: {error}");
        MetaData::default()
    });
    if let Some(name) = &meta_data.host_name {
        take_host_name(name, options);
    }
    match seed.network_config.as_deref().map(yaml::parse) {
        Some(Ok(network)) => take_network(&network, options, macs),
        Some(Err(error)) => log::error!("network-config: not used: {error}"),
        None => meta_data.network.iter().for_each(|network| take_network(network, options, macs)),
    }
    told.add_secret(META_DATA_PATH, seed.meta_data);
    if let Some(bytes) = seed.user_data {
        take_user_data(bytes, options, told);
    }
}
