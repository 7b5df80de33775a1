//! `offload=`: what a network card may do for the kernel, if it offers to. Everything is on unless it is named.

/// The key on the command line.
pub(crate) const KEY: &str = "offload";
/// What would have fitted.
pub(crate) const EXPECTED: &str =
    "`no-csum`, `no-guest-csum`, `no-mq`, `none`, or several separated by commas";

/// What a network card may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads {
    /// Completing the checksums of what is sent.
    pub checksums_sent: bool,
    /// Verifying the checksums of what is received.
    pub checksums_received: bool,
    /// Several pairs of queues.
    pub queue_pairs: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self { checksums_sent: true, checksums_received: true, queue_pairs: true }
    }
}

impl Offloads {
    /// Switches off what `value` names. False if it names anything else.
    pub(crate) fn restrict(&mut self, value: &str) -> bool {
        value.split(',').all(|word| {
            match word {
                "no-csum" => self.checksums_sent = false,
                "no-guest-csum" => self.checksums_received = false,
                "no-mq" => self.queue_pairs = false,
                "none" => {
                    *self = Self { checksums_sent: false, checksums_received: false, queue_pairs: false };
                }
                _ => return false,
            }
            true
        })
    }
}
