//! The memory balloon (specification, section 5.5): the host says how many pages it would like to have, and is told which
//! ones it may take, or that it has to do without some again. Who chooses them is `service::balloon`.
//!
//! One message is under way at a time, in either direction, so that the kernel knows what the host has heard of.

use core::sync::atomic::{AtomicUsize, Ordering};

use bitflags::bitflags;
use virtio_drivers::transport::{DeviceType, Transport};

use super::ring::{Direction, Ring};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::drivers::registry::{Driver, keep};

/// The driver. The device is started together with who has pages to give.
pub(crate) const DRIVER: Driver = Driver { device_type: DeviceType::MemoryBalloon, probe: keep };

/// Pages that a message names at most.
pub(crate) const BATCH_PAGES: usize = 256;

/// Queues (section 5.5.2).
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const STATISTICS: u16 = 2;
/// A queue has two buffers at least, of which one is used.
const BUFFERS: u16 = 2;
const BUFFER: u16 = 0;
const PAGE_NUMBER_BYTES: usize = size_of::<u32>();
/// `struct virtio_balloon_stat` (section 5.5.6.3): a tag and a value, packed.
const STATISTIC_BYTES: usize = 10;
const MOST_STATISTICS: usize = 8;
/// Offsets in the configuration (section 5.5.4): how many pages the host wants, how many it has.
const CONFIG_WANTED: usize = 0;
const CONFIG_ACTUAL: usize = 4;

bitflags! {
    /// Feature bits (sections 5.5.3 and 6). The host is told of pages before they are used again if it can be waited for, so
    /// `VIRTIO_BALLOON_F_MUST_TELL_HOST`, which demands that always, is not accepted.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        /// There is a queue for statistics.
        const STATS_VQ = 1 << 1;
        /// Pages may be taken back where memory is short.
        const DEFLATE_ON_OOM = 1 << 2;
        const VERSION_1 = 1 << 32;
    }
}

/// What was last reported.
static PAGES: AtomicUsize = AtomicUsize::new(0);

/// How many pages the host has, as far as it knows.
pub(crate) fn pages() -> usize {
    PAGES.load(Ordering::Relaxed)
}

/// What the host can be told of memory (section 5.5.6.3), in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Statistic {
    /// That nobody uses.
    Free = 4,
    /// All that there is.
    Total = 5,
    /// That a program could get.
    Available = 6,
    /// That caches use.
    Caches = 7,
}

/// The device.
pub(crate) struct Balloon {
    link: VirtioTransport,
    inflate: Ring,
    deflate: Ring,
    statistics: Option<Ring>,
    features: Features,
    /// A message is under way.
    is_busy: bool,
    /// The host has the statistics, and has not asked for new ones.
    has_statistics: bool,
}

impl Balloon {
    /// Starts the device; `on_interrupt` is called from the interrupt handler.
    pub(crate) fn start(device: VirtioDevice, on_interrupt: fn()) -> Result<Self, StartError> {
        let mut link = device.link;
        let features = link.negotiate(|offered: Features| offered)?;
        link.connect_interrupt(on_interrupt, 1)?;
        let mut queue = |number, bytes| Ring::new(&mut link, number, BUFFERS, bytes, Direction::ToDevice);
        let inflate = queue(INFLATE, BATCH_PAGES * PAGE_NUMBER_BYTES)?;
        let deflate = queue(DEFLATE, BATCH_PAGES * PAGE_NUMBER_BYTES)?;
        let statistics = match features.contains(Features::STATS_VQ) {
            true => Some(queue(STATISTICS, MOST_STATISTICS * STATISTIC_BYTES)?),
            false => None,
        };
        link.start();
        log::debug!("{}: balloon, {features:?}", device.place);
        Ok(Self { link, inflate, deflate, statistics, features, is_busy: false, has_statistics: false })
    }

    /// True if pages may be taken back without asking when memory is short.
    pub(crate) fn may_take_back(&self) -> bool {
        self.features.contains(Features::DEFLATE_ON_OOM)
    }

    /// How many pages the host wants to have in all. Its word for it: it may be more than there are.
    pub(crate) fn wanted_pages(&self) -> usize {
        self.link.read_config_space::<u32>(CONFIG_WANTED).map_or(0, |pages| pages as usize)
    }

    /// Says how many pages the host has in all.
    pub(crate) fn report(&mut self, pages: usize) {
        PAGES.store(pages, Ordering::Relaxed);
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        // A device without the field does not want to know.
        let _ = self.link.write_config_space(CONFIG_ACTUAL, pages);
    }

    /// Gives the host up to [`BATCH_PAGES`] pages, by number.
    ///
    /// # Panics
    ///
    /// If a message is under way, or there are more.
    pub(crate) fn give(&mut self, pages: &[u32]) {
        self.is_busy = true;
        send(&mut self.inflate, pages);
    }

    /// Tells the host that it does not have pages any more that it was given.
    ///
    /// # Panics
    ///
    /// If a message is under way, or there are more than [`BATCH_PAGES`].
    pub(crate) fn take_back(&mut self, pages: &[u32]) {
        self.is_busy = true;
        send(&mut self.deflate, pages);
    }

    /// True if the host has not heard of the last message yet.
    pub(crate) fn is_busy(&mut self) -> bool {
        // Of the two queues one has the message.
        let is_heard = self.inflate.take().or_else(|| self.deflate.take()).is_some();
        self.is_busy &= !is_heard;
        self.is_busy
    }

    /// Tells the host the statistics, at first and whenever it asks for them.
    pub(crate) fn tell_statistics(&mut self, statistics: impl FnOnce() -> [(Statistic, u64); 4]) {
        let Some(ring) = &mut self.statistics else { return };
        if self.has_statistics && ring.take().is_none() {
            return;
        }
        self.has_statistics = true;
        let buffer = ring.buffer(BUFFER);
        let mut len = 0;
        for (statistic, bytes) in statistics() {
            buffer[len..len + 2].copy_from_slice(&(statistic as u16).to_le_bytes());
            buffer[len + 2..len + STATISTIC_BYTES].copy_from_slice(&bytes.to_le_bytes());
            len += STATISTIC_BYTES;
        }
        ring.post(BUFFER, len);
        ring.notify();
    }
}

fn send(ring: &mut Ring, pages: &[u32]) {
    let buffer = ring.buffer(BUFFER);
    for (bytes, page) in buffer.chunks_exact_mut(PAGE_NUMBER_BYTES).zip(pages) {
        bytes.copy_from_slice(&page.to_le_bytes());
    }
    ring.post(BUFFER, pages.len() * PAGE_NUMBER_BYTES);
    ring.notify();
}
