//! Messages of netlink(7): a header, a fixed part for the type, and attributes, each filled up to a word.

use alloc::vec::Vec;

use linux_raw_sys::netlink::{NLMSG_DONE, NLMSG_ERROR, nlmsghdr, rtattr};

/// Bytes of the headers.
pub(super) const HEADER_BYTES: usize = size_of::<nlmsghdr>();
const ATTRIBUTE_BYTES: usize = size_of::<rtattr>();

/// A request of the app's.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) kind: u32,
    pub(super) flags: u32,
    sequence: u32,
    /// The port of whoever asks.
    port: u32,
    /// The header as it came, for an error to show.
    header: &'a [u8],
    /// What is behind the header.
    pub(super) body: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

fn half(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |half| u16::from_ne_bytes([half[0], half[1]]).into())
}

impl<'a> Request<'a> {
    /// Takes the next request off the bytes that `port` has sent; none at their end, or at nonsense.
    pub(super) fn take(bytes: &mut &'a [u8], port: u32) -> Option<Self> {
        let len = word(bytes.get(..HEADER_BYTES)?, 0) as usize;
        let message = bytes.get(..len).filter(|message| message.len() >= HEADER_BYTES)?;
        *bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        let (header, body) = message.split_at(HEADER_BYTES);
        let (kind, flags) = (half(header, 4) as u32, half(header, 6) as u32);
        Some(Self { kind, flags, sequence: word(header, 8), port, header, body })
    }

    /// The value of an attribute behind a fixed part of `fixed_bytes`.
    pub(super) fn attribute(&self, fixed_bytes: usize, kind: u32) -> Option<&'a [u8]> {
        let mut rest = self.body.get(fixed_bytes.next_multiple_of(4)..)?;
        loop {
            let len = half(rest.get(..ATTRIBUTE_BYTES)?, 0);
            let value = rest.get(ATTRIBUTE_BYTES..len)?;
            if half(rest, 2) as u32 == kind {
                return Some(value);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
    }

    /// A number in the fixed part.
    pub(super) fn word(&self, at: usize) -> u32 {
        word(self.body, at)
    }

    /// Begins an answer of a type.
    pub(super) fn answer(&self, kind: u32, flags: u32) -> Message {
        let mut bytes = Vec::new();
        bytes.extend([0; 4]);
        bytes.extend((kind as u16).to_ne_bytes());
        bytes.extend((flags as u16).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend(self.port.to_ne_bytes());
        Message(bytes)
    }

    /// An error, or with 0 an acknowledgement.
    pub(super) fn error(&self, errno: i32) -> Vec<u8> {
        let mut message = self.answer(NLMSG_ERROR, 0);
        message.put(&(-errno).to_ne_bytes());
        message.put(self.header);
        if errno != 0 {
            message.put(self.body);
        }
        message.finish()
    }

    /// The end of many.
    pub(super) fn done(&self, flags: u32) -> Vec<u8> {
        let mut message = self.answer(NLMSG_DONE, flags);
        message.put(&[0; 4]);
        message.finish()
    }
}

/// A message that is being written.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Adds a part, filled up to a word.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u32, value: &[u8]) {
        let len = (ATTRIBUTE_BYTES + value.len()) as u16;
        self.0.extend(len.to_ne_bytes());
        self.0.extend((kind as u16).to_ne_bytes());
        self.put(value);
    }

    /// Adds one that is a number.
    pub(super) fn number(&mut self, kind: u32, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// The whole message, its length written into it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}
