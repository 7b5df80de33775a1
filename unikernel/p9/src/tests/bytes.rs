//! Requests as the model server reads them, and its replies: code of its own, so that a wrong encoding is found.

use std::vec::Vec;

/// Reads a request. What is not there, or too much, is a fault of the client's.
pub(super) struct Parser<'a>(pub(super) &'a [u8]);

impl<'a> Parser<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes(2).try_into().expect("two bytes"))
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().expect("four bytes"))
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().expect("eight bytes"))
    }

    pub(super) fn text(&mut self) -> Vec<u8> {
        let len = self.u16();
        self.bytes(len.into()).to_vec()
    }

    /// A name in a directory.
    pub(super) fn name(&mut self) -> Vec<u8> {
        let name = self.text();
        assert!((1..=255).contains(&name.len()), "a name of {} bytes", name.len());
        assert!(!name.contains(&0) && !name.contains(&b'/'), "a name: {name:?}");
        name
    }
}

/// Makes a reply.
#[derive(Default)]
pub(super) struct Builder(pub(super) Vec<u8>);

impl Builder {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn text(self, text: &[u8]) -> Self {
        let mut builder = self.u16(text.len() as u16);
        builder.0.extend(text);
        builder
    }

    pub(super) fn data(self, data: &[u8]) -> Self {
        let mut builder = self.u32(data.len() as u32);
        builder.0.extend(data);
        builder
    }
}
