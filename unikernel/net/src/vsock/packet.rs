//! Packets as they stand in the device's buffers: a header, then the bytes of the stream (Virtual I/O Device specification 1.2, section
//! 5.10.6). All numbers are little-endian.

/// Bytes of a header.
pub const HEADER_BYTES: usize = 44;
/// `VIRTIO_VSOCK_TYPE_STREAM`.
const STREAM: u16 = 1;

/// What a packet is for (section 5.10.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum Operation {
    /// Anything else: it tells of credit, and no more (vhost-device-vsock 0.3 sends such).
    Unknown = 0,
    /// A connection is wanted.
    Request = 1,
    /// It is accepted.
    Response = 2,
    /// There is none, or no more.
    Reset = 3,
    /// One or both directions end.
    Shutdown = 4,
    /// Bytes.
    Data = 5,
    /// The sender's room has changed.
    CreditUpdate = 6,
    /// The sender would like to know ours.
    CreditRequest = 7,
}

/// Flags of a shutdown: the sender will receive no more, will send no more.
pub(super) const NO_RECEIVE: u32 = 1;
pub(super) const NO_SEND: u32 = 2;

/// A place that connections lead to: a machine and a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VsockAddress {
    /// The context id: 2 is the host.
    pub cid: u64,
    /// The port.
    pub port: u32,
}

/// A header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) from: VsockAddress,
    pub(super) to: VsockAddress,
    pub(super) len: u32,
    pub(super) operation: Operation,
    pub(super) flags: u32,
    /// The sender's room for bytes, and how many its app has taken so far.
    pub(super) room: u32,
    pub(super) taken: u32,
}

/// What a packet's bytes say.
pub(super) enum Parsed<'p> {
    /// A packet and its bytes.
    Packet(Header, &'p [u8]),
    /// One of a type that nobody here knows: it is refused.
    UnknownType(Header),
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Header {
    /// Reads a packet; none if it is cut short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
        let wide = |at| number(bytes, at).map(u64::from_le_bytes);
        let word = |at| number(bytes, at).map(u32::from_le_bytes);
        let half = |at| number(bytes, at).map(u16::from_le_bytes);
        let operation = match half(30)? {
            1 => Operation::Request,
            2 => Operation::Response,
            3 => Operation::Reset,
            4 => Operation::Shutdown,
            5 => Operation::Data,
            6 => Operation::CreditUpdate,
            7 => Operation::CreditRequest,
            _ => Operation::Unknown,
        };
        let header = Self {
            from: VsockAddress { cid: wide(0)?, port: word(16)? },
            to: VsockAddress { cid: wide(8)?, port: word(20)? },
            len: word(24)?,
            operation,
            flags: word(32)?,
            room: word(36)?,
            taken: word(40)?,
        };
        let data = bytes.get(HEADER_BYTES..HEADER_BYTES + header.len as usize)?;
        let is_known = half(28)? == STREAM;
        Some(if is_known { Parsed::Packet(header, data) } else { Parsed::UnknownType(header) })
    }

    /// The header's bytes.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.from.cid.to_le_bytes());
        put(8, &self.to.cid.to_le_bytes());
        put(16, &self.from.port.to_le_bytes());
        put(20, &self.to.port.to_le_bytes());
        put(24, &self.len.to_le_bytes());
        put(28, &STREAM.to_le_bytes());
        put(30, &(self.operation as u16).to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.room.to_le_bytes());
        put(40, &self.taken.to_le_bytes());
        bytes
    }
}
