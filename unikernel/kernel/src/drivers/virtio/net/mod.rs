//! The network device (specification, section 5.1): pairs of queues, many receive buffers
//! posted ahead, packets written straight into DMA memory.
//!
//! The stack drains it in batches (run to completion): interrupts are off while there is work
//! ([`NetQueues::disable_interrupts`]), packets to send are put into the ring one by one and announced
//! together ([`NetQueues::kick`]), and sent buffers are taken back when the next is needed, without an
//! interrupt. Before the core sleeps, [`NetQueues::enable_interrupts`] looks once more.
//!
//! - [`features`]: what is agreed on; [`receive`], [`send`]: the two queues of a pair; [`commands`]: the queue for commands;
//! - [`phy`] makes a pair a device of `smoltcp`.

mod commands;
mod features;
mod phy;
mod receive;
mod send;

use alloc::boxed::Box;
use alloc::vec::Vec;

use unikernel_cmdline::{MAX_CARDS, Offloads};
use virtio_drivers::transport::{DeviceType, Transport};

use super::ring::{Direction, Ring};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::drivers::network::{Counters, NetDevice, NetQueues, QueuePair, Tap};
use crate::drivers::registry::Driver;
use crate::drivers::{Devices, Settings};
use commands::CommandQueue;
use features::CONFIG_STATUS;
pub(crate) use features::Features;
use receive::{BUFFER_BYTES, RX_BUFFERS, Receiver};
use send::{LARGE_BUFFERS, Sender, TX_BUFFERS};

/// Pairs of queues at most: more cores share them.
pub(crate) const MAX_PAIRS: usize = 8;
const ETHERNET_HEADER_BYTES: usize = 14;
const STATUS_LINK_UP: u16 = 1;

/// The driver.
pub(crate) const DRIVER: Driver = Driver { device_type: DeviceType::Network, probe };

fn probe(device: VirtioDevice, settings: &Settings, devices: &mut Devices) -> Result<(), StartError> {
    if devices.cards.len() == MAX_CARDS {
        return Err(StartError::TooMany(MAX_CARDS));
    }
    let card = Card::start(device, settings.offloads, settings.on_network, settings.most_queues())?;
    devices.cards.push(Box::new(card));
    Ok(())
}

/// A network card, started.
pub(crate) struct Card {
    link: VirtioTransport,
    features: Features,
    /// Kept, as the device may look at it.
    _commands: Option<CommandQueue>,
    mac: [u8; 6],
    mtu: usize,
    /// Its pairs of queues, until somebody takes them.
    pairs: Vec<Nic>,
}

/// One pair of a card's queues: a card of its own, for a stack that has the flows of this pair.
pub(crate) struct Nic {
    mtu: usize,
    rx: Receiver,
    tx: Sender,
    kicks: u64,
}

impl Card {
    /// Starts the device with up to `most_pairs` pairs of queues, and what `offloads` lets it do. `on_interrupt` is called from the interrupt
    /// handler.
    fn start(
        device: VirtioDevice,
        offloads: Offloads,
        on_interrupt: fn(),
        most_pairs: usize,
    ) -> Result<Self, StartError> {
        let mut link = device.link;
        let features = features::negotiate(&mut link, offloads)?;
        let offered = features::offered_pairs(&link, features)?;
        let count = offered.min(most_pairs).clamp(1, MAX_PAIRS);
        link.connect_interrupt(on_interrupt, count)?;
        let mac = features::read_mac(&link, features)?;
        let mtu = features::read_mtu(&link, features)?;
        let mut pairs = Vec::with_capacity(count);
        for pair in 0..count {
            pairs.push(Nic::start(&mut link, features, pair as u16, mtu)?);
        }
        let mut commands = if count > 1 { Some(CommandQueue::new(&mut link, offered)?) } else { None };
        link.start();
        if let Some(commands) = &mut commands
            && !commands.use_pairs(count as u16)
        {
            log::warn!("{}: the device does not use {count} pairs of queues", device.place);
            pairs.truncate(1);
        }
        for pair in &mut pairs {
            pair.rx.ring().notify();
        }
        log::debug!("{}: network, {features:?}, MTU {mtu}, {} of {offered} pairs", device.place, pairs.len());
        Ok(Self { link, features, _commands: commands, mac, mtu, pairs })
    }
}

impl NetDevice for Card {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn is_link_up(&self) -> bool {
        let status = || self.link.read_config_space::<u16>(CONFIG_STATUS);
        !self.features.contains(Features::STATUS) || status().is_ok_and(|status| status & STATUS_LINK_UP != 0)
    }

    fn spread_interrupts(&self) {
        self.link.spread_interrupts();
    }

    fn set_tap(&mut self, tap: Tap) {
        for pair in &mut self.pairs {
            (pair.rx.tap, pair.tx.tap) = (Some(tap), Some(tap));
        }
    }

    fn take_queues(&mut self) -> Vec<QueuePair> {
        core::mem::take(&mut self.pairs)
    }
}

impl Nic {
    fn start(
        link: &mut VirtioTransport,
        features: Features,
        pair: u16,
        mtu: usize,
    ) -> Result<Self, StartError> {
        let mut rx_ring = Ring::new(link, 2 * pair, RX_BUFFERS, BUFFER_BYTES, Direction::ToDriver)?;
        let cuts = features.intersects(Features::HOST_TSO4 | Features::HOST_TSO6);
        let sizes = (TX_BUFFERS, if cuts { LARGE_BUFFERS } else { 0 });
        let mut tx_ring = Ring::with_large(link, 2 * pair + 1, sizes, BUFFER_BYTES, Direction::ToDevice)?;
        if features.contains(Features::EVENT_IDX) {
            rx_ring.use_event_index();
            tx_ring.use_event_index();
        }
        Ok(Self { rx: Receiver::new(rx_ring, features), tx: Sender::new(tx_ring, features), mtu, kicks: 0 })
    }
}

impl NetQueues for Nic {
    fn has_sent_all(&mut self) -> bool {
        self.tx.has_sent_all()
    }

    fn set_tap(&mut self, tap: Option<Tap>) {
        (self.rx.tap, self.tx.tap) = (tap, tap);
    }

    #[inline]
    fn has_rx(&self) -> bool {
        self.rx.has_completions()
    }

    #[inline]
    fn can_send_again(&self) -> bool {
        self.tx.can_send_again()
    }

    #[inline]
    fn disable_interrupts(&mut self) {
        self.rx.ring().disable_interrupts();
    }

    #[inline]
    fn enable_interrupts(&mut self) -> bool {
        // A frame is taken in when there is room for its answer. Until then there is nothing to do: the send queue's interrupt
        // says when.
        let has_frames = self.rx.ring().enable_interrupts() && self.tx.is_ready();
        has_frames | self.can_send_again()
    }

    #[inline]
    fn kick(&mut self) {
        self.kicks += u64::from(self.tx.ring.notify());
        self.kicks += u64::from(self.rx.ring().notify());
    }

    fn counters(&self) -> Counters {
        Counters {
            rx_frames: self.rx.frames,
            rx_bytes: self.rx.bytes,
            rx_dropped: self.rx.dropped,
            tx_frames: self.tx.frames,
            tx_bytes: self.tx.bytes,
            tx_large: self.tx.large,
            tx_full: self.tx.full,
            kicks: self.kicks,
            bad_completions: self.rx.bad_completions() + self.tx.ring.bad_completions(),
        }
    }
}
