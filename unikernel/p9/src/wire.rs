//! Values on the wire: little-endian integers, strings with a length, qids. Every read is checked.

use alloc::vec::Vec;

/// What the server said is not a message of the protocol; the text says where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads values one after the other, never past the end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take<V: Take<'a>>(&mut self) -> Result<V, Malformed> {
        V::take(self)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) =
            self.rest.split_at_checked(len).ok_or(Malformed("9p: a message that is cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) =
            self.rest.split_first_chunk().ok_or(Malformed("9p: a message that is cut off"))?;
        self.rest = rest;
        Ok(*array)
    }
}

/// A value that a reply may hold.
pub(crate) trait Take<'a>: Sized {
    fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed>;
}

/// A value that a request may hold.
pub(crate) trait Put {
    fn put(&self, message: &mut Vec<u8>);
}

macro_rules! integers {
    ($($integer:ty),*) => { $(
        impl Take<'_> for $integer {
            fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.array().map(<$integer>::from_le_bytes)
            }
        }

        impl Put for $integer {
            fn put(&self, message: &mut Vec<u8>) {
                message.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}

integers!(u8, u16, u32, u64);

/// A string: `length[2] bytes[length]`.
pub(crate) type Text<'a> = &'a [u8];

impl<'a> Take<'a> for Text<'a> {
    fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len: u16 = reader.take()?;
        reader.bytes(len.into())
    }
}

impl Put for Text<'_> {
    /// Names, targets of links and the like are checked where they come in, and are far shorter than 64 KiB.
    fn put(&self, message: &mut Vec<u8>) {
        let len = u16::try_from(self.len()).unwrap_or(u16::MAX);
        len.put(message);
        message.extend_from_slice(&self[..len.into()]);
    }
}

/// Content: `count[4] bytes[count]`.
#[derive(Clone, Copy)]
pub(crate) struct Data<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> for Data<'a> {
    fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count: u32 = reader.take()?;
        reader.bytes(count as usize).map(Self)
    }
}

impl Put for Data<'_> {
    /// The connection refuses messages longer than its limit, which is far below 4 GiB.
    fn put(&self, message: &mut Vec<u8>) {
        (self.0.len() as u32).put(message);
        message.extend_from_slice(self.0);
    }
}

/// The names of a walk: `nwname[2] nwname*(wname[s])`. One or none is all that is ever needed here.
impl Put for Option<Text<'_>> {
    fn put(&self, message: &mut Vec<u8>) {
        u16::from(self.is_some()).put(message);
        if let Some(name) = self {
            name.put(message);
        }
    }
}

/// What the server calls a file: `type[1] version[4] path[8]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Qid {
    /// [`DIRECTORY`](Self::DIRECTORY), [`SYMLINK`](Self::SYMLINK) and other bits.
    pub(crate) kind: u8,
    /// The number of the file, which no other has while it exists.
    pub(crate) path: u64,
}

impl Qid {
    /// `P9_QTDIR`
    pub(crate) const DIRECTORY: u8 = 0x80;
    /// `P9_QTSYMLINK`
    pub(crate) const SYMLINK: u8 = 0x02;

    /// The bits of the type that tell kinds of files apart.
    pub(crate) fn sort(&self) -> u8 {
        self.kind & (Self::DIRECTORY | Self::SYMLINK)
    }
}

impl Take<'_> for Qid {
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = reader.take()?;
        let _version: u32 = reader.take()?;
        Ok(Self { kind, path: reader.take()? })
    }
}

/// The qids of a walk: `nwqid[2] nwqid*(wqid[13])`, at most 16.
#[derive(Clone, Copy)]
pub(crate) struct Qids {
    pub(crate) count: u16,
    pub(crate) last: Option<Qid>,
}

impl Take<'_> for Qids {
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count: u16 = reader.take()?;
        if count > 16 {
            return Err(Malformed("9p: a walk of more than 16 names"));
        }
        let mut last = None;
        for _ in 0..count {
            last = Some(reader.take()?);
        }
        Ok(Self { count, last })
    }
}

impl Take<'_> for () {
    fn take(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

impl<'a, A: Take<'a>, B: Take<'a>> Take<'a> for (A, B) {
    fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok((reader.take()?, reader.take()?))
    }
}
