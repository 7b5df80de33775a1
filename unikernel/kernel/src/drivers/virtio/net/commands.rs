//! Commands for the network device (specification, section 5.1.6.5), of which one is used: how many pairs of
//! queues are in use. Until it is given, the device fills the first.

use super::super::ring::{Direction, Ring, Segment};
use super::{StartError, VirtioTransport};
use crate::platform::time;

/// `VIRTIO_NET_CTRL_MQ`, `VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`.
const SET_PAIRS: [u8; 2] = [4, 0];
/// `VIRTIO_NET_OK`.
const OK: u8 = 0;
/// A command takes two descriptors.
const QUEUE_SIZE: u16 = 2;
/// The buffer of the command, and the answer's.
const COMMAND: u16 = 0;
const ANSWER: u16 = 1;
const BUFFER_BYTES: usize = 16;
/// A device that has not answered after this time will not.
const PATIENCE_NS: u64 = 1_000_000_000;

/// The queue for commands.
pub(super) struct CommandQueue(Ring);

impl CommandQueue {
    /// Sets the queue up: it comes behind all pairs that the device has.
    pub(super) fn new(link: &mut VirtioTransport, offered_pairs: usize) -> Result<Self, StartError> {
        let number = u16::try_from(2 * offered_pairs).map_err(|_| StartError::BadConfiguration)?;
        let mut ring = Ring::new(link, number, QUEUE_SIZE, BUFFER_BYTES, Direction::Chained)?;
        ring.disable_interrupts();
        Ok(Self(ring))
    }

    /// Has the device use so many pairs of queues; false if it does not.
    pub(super) fn use_pairs(&mut self, count: u16) -> bool {
        let [low, high] = count.to_le_bytes();
        let command = [SET_PAIRS[0], SET_PAIRS[1], low, high];
        let ring = &mut self.0;
        ring.buffer(COMMAND)[..command.len()].copy_from_slice(&command);
        ring.buffer(ANSWER)[0] = !OK;
        let part =
            |buffer, len, is_written| Segment { address: ring.buffer_address(buffer), len, is_written };
        let parts = [part(COMMAND, command.len() as u32, false), part(ANSWER, 1, true)];
        ring.post_chain(COMMAND, parts.into_iter());
        ring.notify();
        let deadline_ns = time::now_ns() + PATIENCE_NS;
        while ring.take_request().is_none() {
            if time::now_ns() >= deadline_ns {
                return false;
            }
            core::hint::spin_loop();
        }
        ring.buffer(ANSWER)[0] == OK
    }
}
