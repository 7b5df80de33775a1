//! What the kernel asks of a network card, whatever drives it.

use alloc::vec::Vec;

use unikernel_net::{Segmenter, pcapng};

use super::virtio;

/// A card, started.
pub(crate) trait NetDevice: Send {
    /// Its Ethernet address.
    fn mac(&self) -> [u8; 6];

    /// The largest IP packet, in bytes.
    fn mtu(&self) -> usize;

    /// True if the cable is in, as far as the device knows.
    fn is_link_up(&self) -> bool;

    /// Sends the interrupts of each pair of queues to a core of its own, where the device can.
    fn spread_interrupts(&self);

    /// Shows every frame from now on to `tap`. For who has not taken the queues yet.
    fn set_tap(&mut self, tap: Tap);

    /// Its pairs of queues, at least one, for the stacks that serve it; none the second time.
    fn take_queues(&mut self) -> Vec<QueuePair>;
}

/// A pair of a card's queues: one to receive and one to send, for a stack that has the flows of this pair. Frames go in and out as
/// those of a `smoltcp` device, or in large pieces that the card cuts ([`Segmenter`]).
pub(crate) trait NetQueues: Segmenter {
    /// Shows every frame from now on to `tap`, or to nobody.
    fn set_tap(&mut self, tap: Option<Tap>);

    /// True if a frame has come in.
    fn has_rx(&self) -> bool;

    /// True if a sender found no buffer, and there is one now.
    fn can_send_again(&self) -> bool;

    /// Asks the device for no interrupts, for as long as the stack is at work.
    fn disable_interrupts(&mut self);

    /// Asks for interrupts again. True if there is work already, which may not raise one: then do it before sleeping.
    fn enable_interrupts(&mut self) -> bool;

    /// Announces the frames put into the ring since the last time, and the receive buffers that were given back.
    fn kick(&mut self);

    /// True if the device has taken all frames that it was given.
    fn has_sent_all(&mut self) -> bool;

    /// What happened so far.
    fn counters(&self) -> Counters;
}

/// The pairs of queues that there are. One type, as the stack is compiled for it: a call through a table of functions for each
/// frame would cost more than all of [`NetQueues`] does. With a second driver this is a sum of two.
pub(crate) type QueuePair = virtio::net::Nic;

/// Who is shown each frame of a card.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    /// Which card it is.
    pub interface: u32,
    /// Called with each frame as the device brings or gets it.
    pub see: fn(interface: u32, direction: pcapng::Direction, frame: &[u8]),
}

/// What happened so far.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames dropped because they were too short or their checksum was wrong.
    pub rx_dropped: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Those that the device cuts into segments.
    pub tx_large: u64,
    /// Times that no buffer was free to send with.
    pub tx_full: u64,
    /// Notifications of the device.
    pub kicks: u64,
    /// Nonsense in the rings.
    pub bad_completions: u64,
}

impl core::ops::Add for Counters {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            rx_frames: self.rx_frames + other.rx_frames,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            rx_dropped: self.rx_dropped + other.rx_dropped,
            tx_frames: self.tx_frames + other.tx_frames,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            tx_large: self.tx_large + other.tx_large,
            tx_full: self.tx_full + other.tx_full,
            kicks: self.kicks + other.kicks,
            bad_completions: self.bad_completions + other.bad_completions,
        }
    }
}
