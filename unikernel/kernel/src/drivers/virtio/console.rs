//! The console device (specification, section 5.3), as a way out for bulk data: one port, one direction, large
//! buffers that the device takes by itself, so that writing costs a copy and a batch one notification.
//!
//! A device with several ports has its console on port 0, from which QEMU throws away what the host does not take at once;
//! then port 1 is used, which holds it back. Ports are opened by messages on queues of their own.
//!
//! It is polled: nobody waits for a buffer, who finds none loses what was to be written.

use alloc::vec::Vec;

use bitflags::bitflags;
use virtio_drivers::transport::DeviceType;

use super::ring::{Direction, Ring};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::drivers::registry::{Driver, keep};
use crate::platform::time;

/// Queues (section 5.3.2): towards the host of the ports 0 and 1, and for messages about ports, to us and from us.
const FIRST_PORT: u16 = 1;
const SECOND_PORT: u16 = 5;
const MESSAGES_IN: u16 = 2;
const MESSAGES_OUT: u16 = 3;
/// Messages under way at most, and room for one, with a name perhaps.
const MESSAGES: u16 = 8;
const MESSAGE_BYTES: usize = 64;
/// Events (section 5.3.6.2).
const DEVICE_READY: u16 = 0;
const DEVICE_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
/// The port that is used of several, and what a message about none of them has in its place.
const PORT: u32 = 1;
const NO_PORT: u32 = u32::MAX;
/// How long the device may take to say which ports there are.
const PATIENCE_NS: u64 = 10_000_000;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        /// There may be several ports.
        const MULTIPORT = 1 << 1;
        const VERSION_1 = 1 << 32;
    }
}

/// The driver. The device is started by who needs one: as [`Output`] for a capture, or as a
/// [`terminal`](super::terminal).
pub(crate) const DRIVER: Driver = Driver { device_type: DeviceType::Console, probe: keep };

/// A port that is only written to.
pub(crate) struct Output {
    /// Kept, as the device is in use for as long.
    _link: VirtioTransport,
    _messages: Option<Messages>,
    ring: Ring,
    free: Vec<u16>,
}

impl Output {
    /// Starts the device with up to `count` buffers of `buffer_bytes` each.
    pub(crate) fn start(device: VirtioDevice, count: u16, buffer_bytes: usize) -> Result<Self, StartError> {
        let mut link = device.link;
        let has_ports = link.negotiate(|offered: Features| offered)?.contains(Features::MULTIPORT);
        let queue = if has_ports { SECOND_PORT } else { FIRST_PORT };
        let mut messages = if has_ports { Some(Messages::start(&mut link)?) } else { None };
        let mut ring = Ring::new(&mut link, queue, count, buffer_bytes, Direction::ToDevice)?;
        ring.disable_interrupts();
        link.start();
        if messages.as_mut().is_some_and(|messages| !messages.open()) {
            log::warn!("{}: it has no port {PORT}: what is written may be lost", device.place);
        }
        let free = (0..ring.size()).rev().collect();
        Ok(Self { _link: link, _messages: messages, ring, free })
    }

    /// A buffer to write into, if the device has left one.
    pub(crate) fn take(&mut self) -> Option<u16> {
        if self.free.is_empty() {
            self.reclaim();
        }
        self.free.pop()
    }

    /// The bytes of a buffer that [`Self::take`] gave.
    #[inline]
    pub(crate) fn bytes(&mut self, buffer: u16) -> &mut [u8] {
        self.ring.buffer(buffer)
    }

    /// Sends the first `len` bytes of a buffer, as soon as [`Self::notify`] says so.
    pub(crate) fn post(&mut self, buffer: u16, len: usize) {
        self.ring.post(buffer, len);
    }

    /// Tells the device about what was posted.
    pub(crate) fn notify(&mut self) {
        self.ring.notify();
    }

    /// True if the device has written everything.
    pub(crate) fn is_drained(&mut self) -> bool {
        self.reclaim();
        self.free.len() == usize::from(self.ring.size())
    }

    fn reclaim(&mut self) {
        while let Some(completion) = self.ring.take() {
            self.free.push(completion.buffer);
        }
    }
}

/// The queues for messages about ports.
struct Messages {
    from_device: Ring,
    to_device: Ring,
    next: u16,
}

impl Messages {
    fn start(link: &mut VirtioTransport) -> Result<Self, StartError> {
        let mut from_device = Ring::new(link, MESSAGES_IN, MESSAGES, MESSAGE_BYTES, Direction::ToDriver)?;
        (0..from_device.size()).for_each(|buffer| from_device.post(buffer, MESSAGE_BYTES));
        let mut to_device = Ring::new(link, MESSAGES_OUT, MESSAGES, MESSAGE_BYTES, Direction::ToDevice)?;
        from_device.disable_interrupts();
        to_device.disable_interrupts();
        Ok(Self { from_device, to_device, next: 0 })
    }

    /// Opens the port; false if the device does not say that there is one.
    fn open(&mut self) -> bool {
        self.from_device.notify();
        self.tell(NO_PORT, DEVICE_READY);
        let is_there = self.hears_of_port();
        self.tell(PORT, PORT_READY);
        self.tell(PORT, PORT_OPEN);
        is_there
    }

    /// Three messages are sent in all, so each has a buffer of its own.
    fn tell(&mut self, port: u32, event: u16) {
        let message = encode(port, event);
        self.to_device.buffer(self.next)[..message.len()].copy_from_slice(&message);
        self.to_device.post(self.next, message.len());
        self.to_device.notify();
        self.next += 1;
    }

    fn hears_of_port(&mut self) -> bool {
        let deadline_ns = time::now_ns() + PATIENCE_NS;
        while time::now_ns() < deadline_ns {
            let Some(completion) = self.from_device.take() else {
                core::hint::spin_loop();
                continue;
            };
            let added = encode(PORT, DEVICE_ADD);
            // The value behind port and event says nothing here.
            let is_it = self.from_device.buffer(completion.buffer)[..6] == added[..6];
            if is_it && completion.len as usize >= added.len() {
                return true;
            }
        }
        false
    }
}

/// `struct virtio_console_control`: port, event, and the value 1.
fn encode(port: u32, event: u16) -> [u8; 8] {
    let mut message = [0; 8];
    message[..4].copy_from_slice(&port.to_le_bytes());
    message[4..6].copy_from_slice(&event.to_le_bytes());
    message[6] = 1;
    message
}
