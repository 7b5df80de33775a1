//! The network device (specification, section 5.1): pairs of queues, many receive buffers
//! posted ahead, packets written straight into DMA memory.
//!
//! The stack drains it in batches (run to completion): interrupts are off while there is work
//! ([`Nic::disable_interrupts`]), packets to send are put into the ring one by one and announced
//! together ([`Nic::kick`]), and sent buffers are taken back when the next is needed, without an
//! interrupt. Before the core sleeps, [`Nic::enable_interrupts`] looks once more.
//!
//! [`phy`](super::phy) makes it a device of `smoltcp`.

use alloc::vec::Vec;

use bitflags::bitflags;
use unikernel_cmdline::Offloads;
use unikernel_net::pcapng;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::net_commands::CommandQueue;
use super::ring::{Direction, Ring};
use super::transport::Link;
use super::{StartError, VirtioDevice};
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
        /// The configuration has a link state.
        const STATUS = 1 << 16;
        /// There is a queue for commands.
        const CTRL_VQ = 1 << 17;
        /// There can be several pairs of queues.
        const MQ = 1 << 22;
        /// Header and packet may share a descriptor.
        const ANY_LAYOUT = 1 << 27;
        /// The device is modern.
        const VERSION_1 = 1 << 32;
    }
}

/// Pairs of queues at most: more cores share them.
pub const MAX_PAIRS: usize = 8;
/// Buffers on the way in: as many as QEMU's queue has, so that a burst of 256 connections fits.
const RX_BUFFERS: u16 = 256;
/// Buffers on the way out. QEMU takes them back within a batch, so fewer do.
const TX_BUFFERS: u16 = 256;
/// Header, Ethernet header and 1,500 bytes fit, and two buffers make a page.
const BUFFER_BYTES: usize = 2048;
/// `struct virtio_net_hdr`, with the number of merged buffers that every modern device has.
pub(super) const HEADER_BYTES: usize = 12;
/// The same on a legacy device.
const LEGACY_HEADER_BYTES: usize = 10;
const ETHERNET_HEADER_BYTES: usize = 14;
const DEFAULT_MTU: usize = 1500;
/// The least that IPv6 needs (RFC 8200, section 5); a device that says less is wrong.
const MIN_MTU: usize = 1280;
/// Offsets in the configuration (section 5.1.4).
const CONFIG_MAC: usize = 0;
const CONFIG_STATUS: usize = 6;
const CONFIG_MAX_PAIRS: usize = 8;
const CONFIG_MTU: usize = 10;
const STATUS_LINK_UP: u16 = 1;

/// Who is shown each frame of a card.
#[derive(Clone, Copy)]
pub struct Tap {
    /// Which card it is.
    pub interface: u32,
    /// Called with each frame as the device brings or gets it.
    pub see: fn(interface: u32, direction: pcapng::Direction, frame: &[u8]),
}

/// What happened so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames dropped because they were too short or their checksum was wrong.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Times that no buffer was free to send with.
    pub tx_full: u64,
    /// Notifications of the device.
    pub kicks: u64,
    /// Nonsense in the rings.
    pub bad_completions: u64,
}

impl core::ops::Add for Counters {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            rx_frames: self.rx_frames + other.rx_frames,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            rx_dropped: self.rx_dropped + other.rx_dropped,
            tx_frames: self.tx_frames + other.tx_frames,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            tx_full: self.tx_full + other.tx_full,
            kicks: self.kicks + other.kicks,
            bad_completions: self.bad_completions + other.bad_completions,
        }
    }
}

/// A network card, started.
pub struct Card {
    link: Link,
    features: Features,
    /// Kept, as the device may look at it.
    _commands: Option<CommandQueue>,
    mac: [u8; 6],
    mtu: usize,
    /// Its pairs of queues.
    pub pairs: Vec<Nic>,
}

/// One pair of a card's queues: a card of its own, for a stack that has the flows of this pair.
pub struct Nic {
    mac: [u8; 6],
    mtu: usize,
    pub(super) rx: Receiver,
    pub(super) tx: Sender,
    kicks: u64,
}

/// The way in.
pub(super) struct Receiver {
    pub(super) ring: Ring,
    pub(super) header_bytes: usize,
    pub(super) verifies_checksums: bool,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
    pub(super) tap: Option<Tap>,
}

/// The way out.
pub(super) struct Sender {
    pub(super) ring: Ring,
    pub(super) free: Vec<u16>,
    pub(super) header_bytes: usize,
    pub(super) offloads_checksums: bool,
    is_waiting: bool,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    full: u64,
    pub(super) tap: Option<Tap>,
}

impl Card {
    /// Starts the device with up to `most_pairs` pairs of queues, and what `offloads` lets it do. `on_interrupt` is called from the interrupt
    /// handler.
    pub fn start(
        device: VirtioDevice,
        offloads: Offloads,
        on_interrupt: fn(),
        most_pairs: usize,
    ) -> Result<Self, StartError> {
        let mut link = device.link;
        let features = negotiate(&mut link, wanted(offloads))?;
        let offered = offered_pairs(&link, features)?;
        let count = offered.min(most_pairs).clamp(1, MAX_PAIRS);
        link.connect_interrupt(on_interrupt, count)?;
        let mac = read_mac(&link, features)?;
        let mtu = read_mtu(&link, features)?;
        let start_pair = |pair| Nic::start(&mut link, features, pair as u16, (mac, mtu));
        let mut pairs = (0..count).map(start_pair).collect::<Result<Vec<_>, _>>()?;
        let mut commands = if count > 1 { Some(CommandQueue::new(&mut link, offered)?) } else { None };
        link.finish_init();
        if let Some(commands) = &mut commands
            && !commands.use_pairs(&mut link, count as u16)
        {
            log::warn!("{}: the device does not use {count} pairs of queues", device.place);
            pairs.truncate(1);
        }
        for pair in &mut pairs {
            pair.rx.ring.notify();
        }
        log::debug!("{}: network, {features:?}, MTU {mtu}, {} of {offered} pairs", device.place, pairs.len());
        Ok(Self { link, features, _commands: commands, mac, mtu, pairs })
    }

    /// Sends the interrupts of each pair to a core of its own, where the device can.
    pub fn spread_interrupts(&self) {
        self.link.spread_interrupts();
    }

    /// The card's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The largest IP packet, in bytes.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Shows every frame from now on to `tap`.
    pub fn set_tap(&mut self, tap: Tap) {
        for pair in &mut self.pairs {
            (pair.rx.tap, pair.tx.tap) = (Some(tap), Some(tap));
        }
    }

    /// What was agreed with the device.
    pub fn features(&self) -> Features {
        self.features
    }

    /// True if the cable is in, as far as the device knows.
    pub fn is_link_up(&self) -> bool {
        let status = || self.link.read_config_space::<u16>(CONFIG_STATUS);
        !self.features.contains(Features::STATUS) || status().is_ok_and(|status| status & STATUS_LINK_UP != 0)
    }
}

impl Nic {
    fn start(
        link: &mut Link,
        features: Features,
        pair: u16,
        (mac, mtu): ([u8; 6], usize),
    ) -> Result<Self, StartError> {
        let header_bytes =
            if features.contains(Features::VERSION_1) { HEADER_BYTES } else { LEGACY_HEADER_BYTES };
        let rx_ring = Ring::new(link, 2 * pair, RX_BUFFERS, BUFFER_BYTES, Direction::ToDriver)?;
        let tx_ring = Ring::new(link, 2 * pair + 1, TX_BUFFERS, BUFFER_BYTES, Direction::ToDevice)?;
        Ok(Self {
            rx: Receiver::new(rx_ring, header_bytes, features.contains(Features::GUEST_CSUM)),
            tx: Sender::new(tx_ring, header_bytes, features.contains(Features::CSUM)),
            mac,
            mtu,
            kicks: 0,
        })
    }

    /// The card's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The largest IP packet.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// True if its frames are shown to somebody.
    #[inline]
    pub fn has_tap(&self) -> bool {
        self.tx.tap.is_some()
    }

    /// True if a frame has come in.
    #[inline]
    pub fn has_rx(&self) -> bool {
        self.rx.ring.has_completions()
    }

    /// True if a sender found no buffer, and there is one now.
    #[inline]
    pub fn can_send_again(&self) -> bool {
        self.tx.is_waiting && self.tx.ring.has_completions()
    }

    /// Asks the device for no interrupts, for as long as the stack is at work.
    #[inline]
    pub fn disable_interrupts(&mut self) {
        self.rx.ring.disable_interrupts();
    }

    /// Asks for interrupts again. True if there is work already, which may not raise one: then do
    /// it before sleeping.
    #[inline]
    pub fn enable_interrupts(&mut self) -> bool {
        self.rx.ring.enable_interrupts() | self.can_send_again()
    }

    /// Announces the frames put into the ring since the last time, and the receive buffers that
    /// were given back.
    #[inline]
    pub fn kick(&mut self) {
        self.kicks += u64::from(self.tx.ring.notify());
        self.kicks += u64::from(self.rx.ring.notify());
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        Counters {
            rx_frames: self.rx.frames,
            rx_bytes: self.rx.bytes,
            rx_dropped: self.rx.dropped,
            tx_frames: self.tx.frames,
            tx_bytes: self.tx.bytes,
            tx_full: self.tx.full,
            kicks: self.kicks,
            bad_completions: self.rx.ring.bad_completions() + self.tx.ring.bad_completions(),
        }
    }
}

impl Receiver {
    fn new(mut ring: Ring, header_bytes: usize, verifies_checksums: bool) -> Self {
        for buffer in 0..ring.size() {
            ring.post(buffer, ring.buffer_bytes());
        }
        Self { ring, header_bytes, verifies_checksums, frames: 0, bytes: 0, dropped: 0, tap: None }
    }
}

impl Sender {
    fn new(mut ring: Ring, header_bytes: usize, offloads_checksums: bool) -> Self {
        ring.disable_interrupts();
        let free = (0..ring.size()).rev().collect();
        Self {
            ring,
            free,
            header_bytes,
            offloads_checksums,
            is_waiting: false,
            frames: 0,
            bytes: 0,
            full: 0,
            tap: None,
        }
    }

    /// True if a frame can be sent now. When none can, the device will interrupt as soon as one
    /// can again.
    #[inline]
    pub(super) fn is_ready(&mut self) -> bool {
        !self.free.is_empty() || self.reclaim()
    }

    /// Takes sent buffers back.
    fn reclaim(&mut self) -> bool {
        while let Some(completion) = self.ring.take() {
            self.free.push(completion.buffer);
        }
        if self.free.is_empty() {
            return self.wait_for_room();
        }
        if self.is_waiting {
            self.ring.disable_interrupts();
            self.is_waiting = false;
        }
        true
    }

    #[cold]
    fn wait_for_room(&mut self) -> bool {
        self.full += 1;
        self.is_waiting = true;
        self.ring.enable_interrupts() && self.reclaim()
    }
}

/// Every feature that there is a use for, but those of offloads that are off.
fn wanted(offloads: Offloads) -> Features {
    let mut wanted = Features::all();
    wanted.set(Features::CSUM, offloads.checksums_sent);
    wanted.set(Features::GUEST_CSUM, offloads.checksums_received);
    wanted.set(Features::MQ, offloads.queue_pairs);
    wanted
}

/// Agrees with the device on features.
fn negotiate(link: &mut Link, wanted: Features) -> Result<Features, StartError> {
    let features = link.begin_init(wanted);
    if !link.get_status().contains(DeviceStatus::FEATURES_OK) && features.contains(Features::VERSION_1) {
        return Err(StartError::FeaturesRefused);
    }
    if !features.intersects(Features::VERSION_1 | Features::ANY_LAYOUT) {
        return Err(StartError::NoAnyLayout);
    }
    Ok(features)
}

/// Pairs of queues that the device has.
fn offered_pairs(link: &Link, features: Features) -> Result<usize, StartError> {
    if !features.contains(Features::MQ | Features::CTRL_VQ) {
        return Ok(1);
    }
    let pairs = link.read_config_space::<u16>(CONFIG_MAX_PAIRS).map_err(|_| StartError::BadConfiguration)?;
    Ok(usize::from(pairs).max(1))
}

/// The device's address, or a random one of our own with the "local" bit.
fn read_mac(link: &Link, features: Features) -> Result<[u8; 6], StartError> {
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
fn read_mtu(link: &Link, features: Features) -> Result<usize, StartError> {
    const LARGEST: usize = BUFFER_BYTES - HEADER_BYTES - ETHERNET_HEADER_BYTES;
    if !features.contains(Features::MTU) {
        return Ok(DEFAULT_MTU);
    }
    let mtu = link.read_config_space::<u16>(CONFIG_MTU).map_err(|_| StartError::BadConfiguration)?;
    Ok(usize::from(mtu).clamp(MIN_MTU, LARGEST))
}
