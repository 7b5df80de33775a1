//! Which drivers there are. A driver is its file and a line in [`DRIVERS`].

use virtio_drivers::transport::DeviceType;

use super::virtio::{StartError, VirtioDevice, balloon, blk, console, net, p9, rng, vsock};
use super::{Devices, Settings};

/// A driver for one type of device.
pub(crate) struct Driver {
    /// What it drives (virtio specification, section 5).
    pub device_type: DeviceType,
    /// Starts a device, or puts it into [`Devices`] for who will.
    pub probe: fn(VirtioDevice, &Settings, &mut Devices) -> Result<(), StartError>,
}

/// All of them, on every transport.
const DRIVERS: [&Driver; 7] = [
    &net::DRIVER,
    &blk::DRIVER,
    &rng::DRIVER,
    &console::DRIVER,
    &vsock::DRIVER,
    &balloon::DRIVER,
    &p9::DRIVER,
];

/// A [`Driver::probe`] for devices that somebody else starts ([`Devices::take`]).
pub(crate) fn keep(device: VirtioDevice, _: &Settings, devices: &mut Devices) -> Result<(), StartError> {
    devices.kept.push(device);
    Ok(())
}

/// The driver for a type of device, if there is one.
pub(crate) fn find(device_type: DeviceType) -> Option<&'static Driver> {
    DRIVERS.into_iter().find(|driver| driver.device_type == device_type)
}
