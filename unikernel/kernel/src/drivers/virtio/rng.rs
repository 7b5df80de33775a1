//! The entropy device (specification, section 5.4). A request is always under way; what comes back
//! is mixed into the kernel's generator the next time that it looks for fresh entropy.

use bitflags::bitflags;
use virtio_drivers::transport::DeviceType;

use super::ring::{Direction, Ring};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::drivers::registry::Driver;
use crate::platform::{random, time};
use crate::sync::SpinLock;

const QUEUE: u16 = 0;
/// One request at a time needs no more.
const QUEUE_SIZE: u16 = 2;
const BUFFER: u16 = 0;
/// A key's worth, twice over, in case the host's source is not all it should be.
const REQUEST_BYTES: usize = 64;
/// How long the boot waits for the first answer if nothing else has given good entropy.
const FIRST_WAIT_NS: u64 = 5_000_000;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
    }
}

/// The driver.
pub(crate) const DRIVER: Driver =
    Driver { device_type: DeviceType::EntropySource, probe: |device, _, _| start(device) };

struct EntropyDevice {
    /// Its registers are not needed any more; without them, nobody can reset it.
    _link: VirtioTransport,
    ring: Ring,
}

static DEVICE: SpinLock<Option<EntropyDevice>> = SpinLock::new(None);

/// Starts the device and asks it for entropy.
fn start(device: VirtioDevice) -> Result<(), StartError> {
    let mut link = device.link;
    link.negotiate(|offered: Features| offered)?;
    let mut ring = Ring::new(&mut link, QUEUE, QUEUE_SIZE, REQUEST_BYTES, Direction::ToDriver)?;
    // It is polled.
    ring.disable_interrupts();
    link.start();
    let mut device_state = EntropyDevice { _link: link, ring };
    device_state.request();
    *DEVICE.lock() = Some(device_state);
    random::set_device_source(collect);
    log::debug!("{}: entropy", device.place);
    if !random::has_strong_source() {
        wait_for_first_answer();
    }
    Ok(())
}

/// A device may answer in pieces. What it has not given does not count.
fn wait_for_first_answer() {
    let deadline_ns = time::now_ns() + FIRST_WAIT_NS;
    let (mut seed, mut len) = ([0; REQUEST_BYTES], 0);
    while len < seed.len() && time::now_ns() < deadline_ns {
        len += collect(&mut seed[len..]);
        core::hint::spin_loop();
    }
    random::add_device_entropy(&seed[..len]);
    if !random::has_strong_source() {
        log::warn!("the entropy device gives too little; random numbers may be predictable");
    }
}

/// Copies what the device has answered, if it has, and asks again. Answers how many bytes.
fn collect(out: &mut [u8]) -> usize {
    DEVICE.lock().as_mut().map_or(0, |device| device.collect(out))
}

impl EntropyDevice {
    fn request(&mut self) {
        self.ring.post(BUFFER, REQUEST_BYTES);
        self.ring.notify();
    }

    fn collect(&mut self, out: &mut [u8]) -> usize {
        let Some(completion) = self.ring.take() else { return 0 };
        let len = (completion.len as usize).min(out.len());
        out[..len].copy_from_slice(&self.ring.buffer(BUFFER)[..len]);
        self.request();
        len
    }
}
