//! What is agreed on with a network card: features, and what they say of its configuration.

use bitflags::bitflags;
use unikernel_cmdline::Offloads;
use unikernel_machine::packet::{HEADER_BYTES, LEGACY_HEADER_BYTES};
use virtio_drivers::transport::Transport;

use super::receive::BUFFER_BYTES;
use super::{ETHERNET_HEADER_BYTES, StartError, VirtioTransport};
use crate::platform::random;

bitflags! {
    /// Feature bits (sections 5.1.3 and 6).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// The device completes checksums.
        const CSUM = 1 << 0;
        /// The driver takes packets with incomplete checksums.
        const GUEST_CSUM = 1 << 1;
        /// The configuration has an MTU.
        const MTU = 1 << 3;
        /// The configuration has a MAC address.
        const MAC = 1 << 5;
        /// The driver takes several TCP segments as one, over IPv4.
        const GUEST_TSO4 = 1 << 7;
        /// The same over IPv6.
        const GUEST_TSO6 = 1 << 8;
        /// The device cuts what is sent into TCP segments, over IPv4.
        const HOST_TSO4 = 1 << 11;
        /// The same over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// A received packet may take several buffers.
        const MRG_RXBUF = 1 << 15;
        /// The configuration has a link state.
        const STATUS = 1 << 16;
        /// There is a queue for commands.
        const CTRL_VQ = 1 << 17;
        /// There can be several pairs of queues.
        const MQ = 1 << 22;
        /// Header and packet may share a descriptor.
        const ANY_LAYOUT = 1 << 27;
        /// Both sides say at which packet to call them.
        const EVENT_IDX = 1 << 29;
        /// The device is modern.
        const VERSION_1 = 1 << 32;
    }
}

const DEFAULT_MTU: usize = 1500;
/// The least that IPv6 needs (RFC 8200, section 5); a device that says less is wrong.
const MIN_MTU: usize = 1280;
/// Offsets in the configuration (section 5.1.4).
const CONFIG_MAC: usize = 0;
pub(super) const CONFIG_STATUS: usize = 6;
const CONFIG_MAX_PAIRS: usize = 8;
const CONFIG_MTU: usize = 10;

impl Features {
    /// Every feature that there is a use for, but those of offloads that are off.
    fn wanted(offloads: Offloads) -> Self {
        let mut wanted = Self::all();
        wanted.set(Self::CSUM, offloads.checksums_sent);
        wanted.set(Self::GUEST_CSUM, offloads.checksums_received);
        wanted.set(Self::HOST_TSO4 | Self::HOST_TSO6, offloads.segments_sent);
        wanted.set(Self::GUEST_TSO4 | Self::GUEST_TSO6, offloads.segments_received);
        wanted.set(Self::MRG_RXBUF, offloads.merged_buffers);
        wanted.set(Self::EVENT_IDX, offloads.event_index);
        wanted.set(Self::MQ, offloads.queue_pairs);
        wanted
    }

    /// Without those that rest on others which are not there (section 5.1.3.1). Large packets are received into
    /// several of our buffers or not at all.
    fn consistent(mut self) -> Self {
        if !self.contains(Self::CSUM) {
            self.remove(Self::HOST_TSO4 | Self::HOST_TSO6);
        }
        if !self.contains(Self::GUEST_CSUM | Self::MRG_RXBUF) {
            self.remove(Self::GUEST_TSO4 | Self::GUEST_TSO6);
        }
        self
    }

    /// Bytes in front of each packet. A legacy device has two more when it may merge buffers.
    pub(super) fn header_bytes(self) -> usize {
        if self.intersects(Self::VERSION_1 | Self::MRG_RXBUF) { HEADER_BYTES } else { LEGACY_HEADER_BYTES }
    }
}

/// Agrees with the device on features.
pub(super) fn negotiate(link: &mut VirtioTransport, offloads: Offloads) -> Result<Features, StartError> {
    let features = link.negotiate(|offered: Features| (Features::wanted(offloads) & offered).consistent())?;
    if !features.intersects(Features::VERSION_1 | Features::ANY_LAYOUT) {
        return Err(StartError::NoAnyLayout);
    }
    Ok(features)
}

/// Pairs of queues that the device has.
pub(super) fn offered_pairs(link: &VirtioTransport, features: Features) -> Result<usize, StartError> {
    if !features.contains(Features::MQ | Features::CTRL_VQ) {
        return Ok(1);
    }
    let pairs = link.read_config_space::<u16>(CONFIG_MAX_PAIRS).map_err(|_| StartError::BadConfiguration)?;
    Ok(usize::from(pairs).max(1))
}

/// The device's address, or a random one of our own with the "local" bit.
pub(super) fn read_mac(link: &VirtioTransport, features: Features) -> Result<[u8; 6], StartError> {
    if !features.contains(Features::MAC) {
        let [first, rest @ .., _, _] = random::next_u64().to_le_bytes();
        let mut mac = [0; 6];
        mac[0] = first & !1 | 2;
        mac[1..].copy_from_slice(&rest);
        return Ok(mac);
    }
    link.read_consistent(|| link.read_config_space::<[u8; 6]>(CONFIG_MAC))
        .map_err(|_| StartError::BadConfiguration)
}

/// The device's MTU, as far as our buffers reach.
pub(super) fn read_mtu(link: &VirtioTransport, features: Features) -> Result<usize, StartError> {
    const LARGEST: usize = BUFFER_BYTES - HEADER_BYTES - ETHERNET_HEADER_BYTES;
    if !features.contains(Features::MTU) {
        return Ok(DEFAULT_MTU);
    }
    let mtu = link.read_config_space::<u16>(CONFIG_MTU).map_err(|_| StartError::BadConfiguration)?;
    Ok(usize::from(mtu).clamp(MIN_MTU, LARGEST))
}
