//! The console device (specification, section 5.3), as a way out for bulk data: one port, one direction, large
//! buffers that the device takes by itself, so that writing costs a copy and a batch one notification.
//!
//! It is polled: nobody waits for a buffer, who finds none loses what was to be written.

use alloc::vec::Vec;

use bitflags::bitflags;
use virtio_drivers::transport::Transport;

use super::ring::{Direction, Ring};
use super::transport::Link;
use super::{StartError, VirtioDevice};

/// The queue towards the host of the first port (section 5.3.2).
const QUEUE: u16 = 1;

bitflags! {
    /// Without `VIRTIO_CONSOLE_F_MULTIPORT` there is one port, which needs no opening.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
    }
}

/// A console that is only written to.
pub struct Output {
    /// Kept, as the device is in use for as long.
    _link: Link,
    ring: Ring,
    free: Vec<u16>,
}

impl Output {
    /// Starts the device with up to `count` buffers of `buffer_bytes` each.
    pub fn start(device: VirtioDevice, count: u16, buffer_bytes: usize) -> Result<Self, StartError> {
        let mut link = device.link;
        link.begin_init(Features::all());
        let mut ring = Ring::new(&mut link, QUEUE, count, buffer_bytes, Direction::ToDevice)?;
        ring.disable_interrupts();
        link.finish_init();
        let free = (0..ring.size()).rev().collect();
        Ok(Self { _link: link, ring, free })
    }

    /// A buffer to write into, if the device has left one.
    pub fn take(&mut self) -> Option<u16> {
        if self.free.is_empty() {
            self.reclaim();
        }
        self.free.pop()
    }

    /// The bytes of a buffer that [`Self::take`] gave.
    #[inline]
    pub fn bytes(&mut self, buffer: u16) -> &mut [u8] {
        self.ring.buffer(buffer)
    }

    /// Sends the first `len` bytes of a buffer, as soon as [`Self::notify`] says so.
    pub fn post(&mut self, buffer: u16, len: usize) {
        self.ring.post(buffer, len);
    }

    /// Tells the device about what was posted.
    pub fn notify(&mut self) {
        self.ring.notify();
    }

    /// True if the device has written everything.
    pub fn is_drained(&mut self) -> bool {
        self.reclaim();
        self.free.len() == usize::from(self.ring.size())
    }

    fn reclaim(&mut self) {
        while let Some(completion) = self.ring.take() {
            self.free.push(completion.buffer);
        }
    }
}
