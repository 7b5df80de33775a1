//! `offload=`: what a network card may do for the kernel, if it offers to. Everything is on unless it is named.

/// The key on the command line.
pub(crate) const KEY: &str = "offload";
/// What would have fitted.
pub(crate) const EXPECTED: &str = "`no-csum`, `no-guest-csum`, `no-tso`, `no-guest-tso`, `no-mrg-rxbuf`, `no-event-idx`, \
                                   `no-mq`, `none`, or several separated by commas";

/// What a network card may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads {
    /// Completing the checksums of what is sent.
    pub checksums_sent: bool,
    /// Verifying the checksums of what is received.
    pub checksums_received: bool,
    /// Cutting what is sent into segments, which needs [`Self::checksums_sent`].
    pub segments_sent: bool,
    /// Receiving several segments as one, which needs [`Self::checksums_received`] and [`Self::merged_buffers`].
    pub segments_received: bool,
    /// Spreading a received packet over several buffers.
    pub merged_buffers: bool,
    /// Saying at which packet to call the other side, rather than whether.
    pub event_index: bool,
    /// Several pairs of queues.
    pub queue_pairs: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self::all(true)
    }
}

impl Offloads {
    fn all(value: bool) -> Self {
        Self {
            checksums_sent: value,
            checksums_received: value,
            segments_sent: value,
            segments_received: value,
            merged_buffers: value,
            event_index: value,
            queue_pairs: value,
        }
    }

    /// Switches off what `value` names. False if it names anything else.
    pub(crate) fn restrict(&mut self, value: &str) -> bool {
        value.split(',').all(|word| {
            match word {
                "no-csum" => self.checksums_sent = false,
                "no-guest-csum" => self.checksums_received = false,
                "no-tso" => self.segments_sent = false,
                "no-guest-tso" => self.segments_received = false,
                "no-mrg-rxbuf" => self.merged_buffers = false,
                "no-event-idx" => self.event_index = false,
                "no-mq" => self.queue_pairs = false,
                "none" => *self = Self::all(false),
                _ => return false,
            }
            true
        })
    }
}
