//! The 9P transport (QEMU's `virtio-9p`; its type and layout are in Linux's `virtio_9p.h`, the specification only lists the number): a folder of
//! the host, by the tag that the host gave it. A request is a message of 9P in a buffer that the device reads and one that it
//! writes the answer to. What the messages say is `unikernel_p9`'s matter.
//!
//! One message is under way at a time. Who waits looks for a moment, since the host answers most out of its cache, and then sleeps.

use alloc::string::String;
use alloc::vec::Vec;

use bitflags::bitflags;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use super::ring::{Direction, Ring, Segment};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::drivers::registry::Driver;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// The driver.
pub(crate) const DRIVER: Driver =
    Driver { device_type: DeviceType::_9P, probe: |device, _, _| start(device) };

/// The longest message in either direction, its header included.
pub(crate) const MESSAGE_BYTES: usize = 64 * 1024;

const QUEUE: u16 = 0;
/// A request, and its answer.
const BUFFERS: u16 = 2;
const REQUEST: u16 = 0;
const REPLY: u16 = 1;
/// Offsets in the configuration: the tag's length, and its bytes.
const CONFIG_TAG_LEN: usize = 0;
const CONFIG_TAG: usize = 2;
/// A tag that is longer is none that somebody will type.
const MAX_TAG_BYTES: u16 = 256;
/// How long to look for the answer before sleeping.
const LOOK_NS: u64 = 100_000;
/// Looks between two looks at the clock.
const LOOKS_AT_ONCE: u32 = 64;
/// A host that has not answered after this time will not.
const PATIENCE_NS: u64 = 60_000_000_000;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        /// The device has a tag.
        const MOUNT_TAG = 1 << 0;
        const VERSION_1 = 1 << 32;
    }
}

/// Shares that nobody has taken.
static SHARES: SpinLock<Vec<Share>> = SpinLock::new(Vec::new());
/// Threads that wait for an answer.
static ANSWERED: WaitQueue = WaitQueue::new();

/// A folder of the host.
pub(crate) struct Share {
    tag: String,
    link: VirtioTransport,
    ring: Ring,
    /// The device has not answered in time. It may still write its answer, so nothing more is asked.
    is_lost: bool,
}

/// The host does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unanswered;

fn start(device: VirtioDevice) -> Result<(), StartError> {
    let mut link = device.link;
    let features = link.negotiate(|offered: Features| offered)?;
    if !features.contains(Features::MOUNT_TAG) {
        return Err(StartError::BadConfiguration);
    }
    let tag = read_tag(&link).ok_or(StartError::BadConfiguration)?;
    link.connect_interrupt(|| ANSWERED.wake_all(), 1)?;
    let mut ring = Ring::new(&mut link, QUEUE, BUFFERS, MESSAGE_BYTES, Direction::Chained)?;
    ring.disable_interrupts();
    link.start();
    log::debug!("{}: 9p share `{tag}`", device.place);
    SHARES.lock().push(Share { tag, link, ring, is_lost: false });
    Ok(())
}

fn read_tag(link: &VirtioTransport) -> Option<String> {
    let len = u16::from_le(link.read_config_space(CONFIG_TAG_LEN).ok()?);
    let byte = |at: u16| link.read_config_space::<u8>(CONFIG_TAG + usize::from(at)).ok();
    let bytes: Vec<u8> = (0..len.min(MAX_TAG_BYTES)).map(byte).collect::<Option<_>>()?;
    String::from_utf8(bytes).ok()
}

/// Takes the share with a tag.
pub(crate) fn take(tag: &str) -> Option<Share> {
    let mut shares = SHARES.lock();
    let place = shares.iter().position(|share| share.tag == tag)?;
    Some(shares.remove(place))
}

/// The tags of shares that nobody has taken.
pub(crate) fn tags() -> Vec<String> {
    SHARES.lock().iter().map(|share| share.tag.clone()).collect()
}

impl Share {
    /// Sends a message, and waits for the answer, of which as much as fits goes to `reply`; answers how many bytes that were. May
    /// sleep.
    pub(crate) fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, Unanswered> {
        // A lost request's buffers are the device's for ever.
        if self.is_lost {
            return Err(Unanswered);
        }
        let buffer = self.ring.buffer(REQUEST).get_mut(..request.len()).ok_or(Unanswered)?;
        buffer.copy_from_slice(request);
        let part = |buffer, len, is_written| {
            let address = self.ring.buffer_address(buffer);
            Segment { address, len, is_written }
        };
        let parts = [part(REQUEST, request.len() as u32, false), part(REPLY, MESSAGE_BYTES as u32, true)];
        self.ring.post_chain(REQUEST, parts.into_iter());
        self.ring.notify();
        let len = self.wait().ok_or(Unanswered)?.min(reply.len());
        reply[..len].copy_from_slice(&self.ring.buffer(REPLY)[..len]);
        Ok(len)
    }

    /// Waits for the answer, and tells its length, which is at most the buffer's.
    fn wait(&mut self) -> Option<usize> {
        let start_ns = time::now_ns();
        let may_sleep = scheduler::can_block();
        loop {
            let answer = (0..LOOKS_AT_ONCE).find_map(|_| self.ring.take());
            if let Some(completion) = answer {
                self.ring.disable_interrupts();
                return Some(completion.len as usize);
            }
            let waited_ns = time::now_ns() - start_ns;
            if waited_ns > PATIENCE_NS {
                self.is_lost = true;
                log::error!("9p share `{}`: the host does not answer; given up", self.tag);
                return None;
            }
            if may_sleep && (waited_ns > LOOK_NS || scheduler::has_others_waiting()) {
                // Looks once more after it has asked.
                if self.ring.enable_interrupts() {
                    continue;
                }
                let ring = &self.ring;
                let _ = ANSWERED.wait_uninterrupted(Some(start_ns + PATIENCE_NS), || {
                    ring.has_completions().then_some(())
                });
            }
        }
    }
}

impl Drop for Share {
    /// A share that is not used any more writes nothing: the buffers stay the device's for ever, as those of all rings.
    fn drop(&mut self) {
        self.link.set_status(DeviceStatus::empty());
    }
}
