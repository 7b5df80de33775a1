//! The device of an engine that talks to nobody.

use alloc::vec::Vec;

use smoltcp::phy::{Device, DeviceCapabilities, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{TcpPacket, TcpSeqNumber};

use crate::phy::{Borrowed, loopback_capabilities};
use crate::wire;

/// A device that only listens.
#[derive(Default)]
pub(super) struct Sink {
    scratch: Vec<u8>,
    /// The payloads of what was sent, one after the other, if anybody wants them.
    pub(super) captured: Option<Vec<u8>>,
    /// The last acknowledgement, and the window with it.
    pub(super) last: Option<(TcpSeqNumber, u16)>,
}

impl Sink {
    /// One that keeps the payloads, of so many bytes.
    pub(super) fn capturing(bytes: usize) -> Self {
        Self { captured: Some(Vec::with_capacity(bytes)), ..Self::default() }
    }
}

pub(super) struct SinkToken<'s>(pub(super) &'s mut Sink);

impl TxToken for SinkToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Sink { scratch, captured, last } = self.0;
        scratch.clear();
        scratch.resize(len, 0);
        let result = f(scratch);
        if let Some(tcp) = wire::tcp_of(scratch).map(TcpPacket::new_unchecked) {
            *last = Some((tcp.ack_number(), tcp.window_len()));
            if let Some(captured) = captured {
                captured.extend_from_slice(tcp.payload());
            }
        }
        result
    }
}

impl Device for Sink {
    type RxToken<'a> = Borrowed<'a>;
    type TxToken<'a> = SinkToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        Some(SinkToken(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        loopback_capabilities()
    }
}
