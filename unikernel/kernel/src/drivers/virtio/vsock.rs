//! The socket device (specification, section 5.10): queues of packets to and from the host. The protocol is
//! [`unikernel_net::vsock`].

use alloc::vec::Vec;

use bitflags::bitflags;
use unikernel_net::vsock::HEADER_BYTES;
use virtio_drivers::transport::{DeviceType, Transport};

use super::ring::{Direction, Ring};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::drivers::registry::{Driver, keep};

/// Queues (section 5.10.2).
const RX: u16 = 0;
const TX: u16 = 1;
const EVENTS: u16 = 2;
/// Buffers of the first two; a host's packets are cut to them.
const BUFFERS: u16 = 64;
const BUFFER_BYTES: usize = 4096;
/// Events under way at most, and the bytes of one.
const EVENT_BUFFERS: u16 = 4;
const EVENT_BYTES: usize = 64;
/// Offset of the context id in the configuration (section 5.10.4).
const CONFIG_CID: usize = 0;

bitflags! {
    /// Streams need no feature (section 5.10.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
    }
}

/// The driver. The device is started together with the protocol.
pub(crate) const DRIVER: Driver = Driver { device_type: DeviceType::Socket, probe: keep };

/// The device.
pub(crate) struct SocketDevice {
    link: VirtioTransport,
    rx: Ring,
    tx: Ring,
    events: Ring,
    free: Vec<u16>,
}

impl SocketDevice {
    /// Starts the device; `on_interrupt` is called from the interrupt handler.
    pub(crate) fn start(device: VirtioDevice, on_interrupt: fn()) -> Result<Self, StartError> {
        let mut link = device.link;
        link.negotiate(|offered: Features| offered)?;
        link.connect_interrupt(on_interrupt, 1)?;
        let mut rx = Ring::new(&mut link, RX, BUFFERS, BUFFER_BYTES, Direction::ToDriver)?;
        let mut tx = Ring::new(&mut link, TX, BUFFERS, BUFFER_BYTES, Direction::ToDevice)?;
        let mut events = Ring::new(&mut link, EVENTS, EVENT_BUFFERS, EVENT_BYTES, Direction::ToDriver)?;
        (0..rx.size()).for_each(|buffer| rx.post(buffer, BUFFER_BYTES));
        (0..events.size()).for_each(|buffer| events.post(buffer, EVENT_BYTES));
        tx.disable_interrupts();
        link.start();
        rx.notify();
        events.notify();
        let free = (0..tx.size()).rev().collect();
        Ok(Self { link, rx, tx, events, free })
    }

    /// The machine's number among those of its host.
    pub(crate) fn cid(&self) -> Option<u64> {
        // Two words, because registers in memory have four bytes at most.
        let read = || self.link.read_config_space::<[u32; 2]>(CONFIG_CID);
        self.link.read_consistent(read).ok().map(|[low, high]| u64::from(high) << 32 | u64::from(low))
    }

    /// True if the device has brought something, or has room again for who found none.
    pub(crate) fn has_arrivals(&self) -> bool {
        let has_room = self.free.is_empty() && self.tx.has_completions();
        self.rx.has_completions() || self.events.has_completions() || has_room
    }

    /// Gives every packet that has come in to `take`. True if there were any.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        let mut has_any = false;
        // What comes meanwhile waits for the next time.
        for _ in 0..self.rx.size() {
            let Some(completion) = self.rx.take() else { break };
            take(&self.rx.buffer(completion.buffer)[..completion.len as usize]);
            self.rx.post(completion.buffer, BUFFER_BYTES);
            has_any = true;
        }
        self.rx.notify();
        has_any
    }

    /// True if the device has said that the machine was moved (section 5.10.6.7), the one event that there is.
    pub(crate) fn take_reset(&mut self) -> bool {
        let mut has_any = false;
        for _ in 0..self.events.size() {
            let Some(completion) = self.events.take() else { break };
            self.events.post(completion.buffer, EVENT_BYTES);
            has_any = true;
        }
        self.events.notify();
        has_any
    }

    /// Sends packets for as long as `write` gives any and there is room, and tells the device once.
    pub(crate) fn send(&mut self, mut write: impl FnMut(&mut [u8]) -> Option<usize>) {
        while let Some(buffer) = self.take_buffer() {
            let Some(len) = write(self.tx.buffer(buffer)).filter(|len| *len >= HEADER_BYTES) else {
                self.free.push(buffer);
                break;
            };
            self.tx.post(buffer, len);
        }
        self.tx.notify();
    }

    /// A free buffer; when there is none, the device interrupts as soon as there is.
    fn take_buffer(&mut self) -> Option<u16> {
        if self.free.is_empty() {
            self.reclaim();
            let has_raced = self.free.is_empty() && self.tx.enable_interrupts();
            if has_raced {
                self.reclaim();
            }
            if !self.free.is_empty() {
                self.tx.disable_interrupts();
            }
        }
        self.free.pop()
    }

    fn reclaim(&mut self) {
        while let Some(completion) = self.tx.take() {
            self.free.push(completion.buffer);
        }
    }
}
