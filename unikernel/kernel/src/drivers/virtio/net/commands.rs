//! Commands for the network device (specification, section 5.1.6.5), of which one is used: how many pairs of
//! queues are in use. Until it is given, the device fills the first.

use virtio_drivers::queue::VirtQueue;

use super::super::hal::KernelHal;
use super::{Link, StartError};

/// `VIRTIO_NET_CTRL_MQ`, `VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`.
const SET_PAIRS: [u8; 2] = [4, 0];
/// `VIRTIO_NET_OK`.
const OK: u8 = 0;
/// A command takes two descriptors.
const QUEUE_SIZE: usize = 4;

/// The queue for commands.
pub(super) struct CommandQueue(VirtQueue<KernelHal, QUEUE_SIZE>);

impl CommandQueue {
    /// Sets the queue up: it comes behind all pairs that the device has.
    pub(super) fn new(link: &mut Link, offered_pairs: usize) -> Result<Self, StartError> {
        let number = u16::try_from(2 * offered_pairs).map_err(|_| StartError::BadConfiguration)?;
        let queue = VirtQueue::new(link, number, false, false)
            .map_err(|error| StartError::of_queue(number, error))?;
        Ok(Self(queue))
    }

    /// Has the device use so many pairs of queues; false if it does not.
    pub(super) fn use_pairs(&mut self, link: &mut Link, count: u16) -> bool {
        let [low, high] = count.to_le_bytes();
        let command = [SET_PAIRS[0], SET_PAIRS[1], low, high];
        let mut answer = [!OK];
        let done = self.0.add_notify_wait_pop(&[&command], &mut [&mut answer], link);
        done.is_ok() && answer[0] == OK
    }
}
