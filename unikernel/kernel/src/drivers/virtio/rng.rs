//! The entropy device (specification, section 5.4). A request is always under way; what comes back
//! is mixed into the kernel's generator the next time that it looks for fresh entropy.

use alloc::boxed::Box;

use bitflags::bitflags;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceType, Transport};

use super::hal::KernelHal;
use super::transport::Link;
use super::{StartError, VirtioDevice};
use crate::drivers::registry::Driver;
use crate::platform::{random, time};
use crate::sync::SpinLock;

const QUEUE: u16 = 0;
/// One request at a time needs no more.
const QUEUE_SIZE: usize = 2;
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
pub const DRIVER: Driver =
    Driver { device_type: DeviceType::EntropySource, probe: |device, _, _| start(device) };

struct EntropyDevice {
    link: Link,
    queue: VirtQueue<KernelHal, QUEUE_SIZE>,
    buffer: &'static mut [u8; REQUEST_BYTES],
    token: u16,
}

static DEVICE: SpinLock<Option<EntropyDevice>> = SpinLock::new(None);

/// Starts the device and asks it for entropy.
fn start(device: VirtioDevice) -> Result<(), StartError> {
    let mut link = device.link;
    link.negotiate(|offered: Features| offered)?;
    let mut queue =
        VirtQueue::new(&mut link, QUEUE, false, false).map_err(|error| StartError::of_queue(QUEUE, error))?;
    // It is polled.
    queue.set_dev_notify(false);
    link.start();
    let mut device_state =
        EntropyDevice { link, queue, buffer: Box::leak(Box::new([0; REQUEST_BYTES])), token: 0 };
    device_state.request();
    *DEVICE.lock() = Some(device_state);
    random::set_device_source(collect);
    log::debug!("{}: entropy", device.place);
    if !random::has_strong_source() {
        wait_for_first_answer();
    }
    Ok(())
}

fn wait_for_first_answer() {
    let deadline_ns = time::now_ns() + FIRST_WAIT_NS;
    while time::now_ns() < deadline_ns {
        let mut seed = [0; REQUEST_BYTES];
        if collect(&mut seed) > 0 {
            random::add_device_entropy(&seed);
            return;
        }
        core::hint::spin_loop();
    }
    log::warn!("the entropy device does not answer; random numbers may be predictable");
}

/// Copies what the device has answered, if it has, and asks again. Answers how many bytes.
fn collect(out: &mut [u8]) -> usize {
    DEVICE.lock().as_mut().map_or(0, |device| device.collect(out))
}

impl EntropyDevice {
    fn request(&mut self) {
        // SAFETY: the buffer lives for ever and is not touched until the same token was popped.
        match unsafe { self.queue.add(&[], &mut [&mut self.buffer[..]]) } {
            Ok(token) => self.token = token,
            Err(error) => log::warn!("entropy device: {error}"),
        }
        if self.queue.should_notify() {
            self.link.notify(QUEUE);
        }
    }

    fn collect(&mut self, out: &mut [u8]) -> usize {
        if self.queue.peek_used() != Some(self.token) {
            return 0;
        }
        // SAFETY: this is the buffer that was added when the token was made.
        let answer = unsafe { self.queue.pop_used(self.token, &[], &mut [&mut self.buffer[..]]) };
        let len = (answer.unwrap_or(0) as usize).min(REQUEST_BYTES).min(out.len());
        out[..len].copy_from_slice(&self.buffer[..len]);
        self.request();
        len
    }
}
