//! Names for sockets: small ids with a generation, so that a stale one is refused instead of
//! reaching somebody else's connection; and the readiness bits of a socket.

use slotmap::{Key, KeyData, new_key_type};

new_key_type! {
    /// One TCP connection.
    pub struct TcpId;
    /// A bound TCP address, listening or not.
    pub struct ListenerId;
    /// One UDP socket.
    pub struct UdpId;
}

macro_rules! slots {
    ($($id:ident)*) => {
        $(impl $id {
            /// The id as a number that is never zero, to keep in an atomic.
            pub fn to_bits(self) -> u64 {
                self.data().as_ffi()
            }

            /// The id that [`to_bits`](Self::to_bits) gave; any other number names no socket.
            pub fn from_bits(bits: u64) -> Self {
                KeyData::from_ffi(bits).into()
            }

            /// A small number, unique among the live ids of this type: an index for side tables.
            pub fn slot(self) -> usize {
                // The low half of slotmap's external form is the slot's index.
                (self.data().as_ffi() & 0xffff_ffff) as usize
            }
        })*
    };
}
slots!(TcpId ListenerId UdpId);

/// Any socket, as events name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SocketId {
    /// A TCP connection.
    Tcp(TcpId),
    /// A TCP listener.
    Listener(ListenerId),
    /// A UDP socket.
    Udp(UdpId),
}

bitflags::bitflags! {
    /// What a socket is ready for; the meaning of each bit is that of poll(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Readiness: u8 {
        /// Reading, or accepting, would not block.
        const IN = 1;
        /// Writing would not block.
        const OUT = 2;
        /// The peer has finished sending.
        const RDHUP = 4;
        /// Both directions are finished.
        const HUP = 8;
        /// An error waits to be taken.
        const ERR = 16;
        /// Urgent data waits beside the stream.
        const PRI = 32;
    }
}
