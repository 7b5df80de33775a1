//! NoCloud: the configuration on a disk called `cidata`.

use unikernel_cmdline::{Options, Shown};
use unikernel_config::{MetaData, Seed, read_seed, yaml};

use super::{META_DATA_PATH, Told, take_host_name, take_network, take_user_data};
use crate::block;

/// Looks for the volume and takes in what is on it.
pub(super) fn read(options: &mut Options, macs: &[[u8; 6]], told: &mut Told) {
    match find() {
        Some(seed) => take(seed, options, macs, told),
        None => log::error!("config=nocloud: there is no volume called `cidata`"),
    }
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
