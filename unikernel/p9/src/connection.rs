//! A connection: one request and its reply at a time, and the fids in use.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use unikernel_vfs::Error;

use crate::Transport;
use crate::errno::error;
use crate::messages::{Clunk, ERROR_TYPE, Fid, Lopen, Remove, Request, Version, Walk};
use crate::wire::{Malformed, Qid, Reader, Take};

/// `size[4] type[1] tag[2]`
const HEADER_BYTES: usize = 7;

/// What a message of content has beside it, at most (`P9_IOHDRSZ`).
pub(crate) const CONTENT_HEADER_BYTES: u32 = 24;

/// The tag of `Tversion`.
const NO_TAG: u16 = 0xffff;

/// Stands for no fid.
pub(crate) const NO_FID: Fid = Fid(u32::MAX);

/// Why a request has no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallError {
    /// The server refuses, with an error number of Linux.
    Refused(u32),
    /// The reply is none; what the server did is not known.
    Malformed(&'static str),
    /// Nothing came back; what the server did is not known.
    Silent,
    /// The request would be longer than a message may be, and was not sent.
    TooLong,
}

impl From<CallError> for Error {
    fn from(failure: CallError) -> Self {
        match failure {
            CallError::Refused(number) => error(number),
            CallError::Malformed(text) => Self::Corrupt(text),
            CallError::Silent => Self::Device,
            CallError::TooLong => Self::TooLarge,
        }
    }
}

impl From<Malformed> for CallError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// A fid that is open for content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handle {
    pub(crate) fid: Fid,
    /// The most bytes of content in one message.
    pub(crate) piece_bytes: u32,
}

pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    request: Vec<u8>,
    /// As long as the longest message.
    reply: Vec<u8>,
    tag: u16,
    next_fid: u32,
    free_fids: Vec<u32>,
}

impl Connection {
    /// A connection over which nothing was said yet, with messages of at most `message_bytes`.
    pub(crate) fn new(transport: Box<dyn Transport>, message_bytes: u32) -> Self {
        let reply = vec![0; message_bytes as usize];
        Self { transport, request: Vec::new(), reply, tag: 0, next_fid: 0, free_fids: Vec::new() }
    }

    /// The longest message.
    pub(crate) fn message_bytes(&self) -> u32 {
        self.reply.len() as u32
    }

    /// Makes messages shorter, as the server wishes.
    pub(crate) fn limit_messages(&mut self, message_bytes: u32) {
        self.reply.truncate(message_bytes as usize);
    }

    /// Sends a request and reads its reply.
    pub(crate) fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply<'_>, CallError> {
        let tag = self.next_tag(R::TYPE);
        self.request.clear();
        self.request.extend_from_slice(&[0; HEADER_BYTES]);
        request.put(&mut self.request);
        if self.request.len() > self.reply.len() {
            return Err(CallError::TooLong);
        }
        let len = self.request.len() as u32;
        self.request[..4].copy_from_slice(&len.to_le_bytes());
        self.request[4] = R::TYPE;
        self.request[5..HEADER_BYTES].copy_from_slice(&tag.to_le_bytes());

        let len = self.transport.exchange(&self.request, &mut self.reply).map_err(|_| CallError::Silent)?;
        let reply = self.reply.get(..len).ok_or(Malformed("9p: a reply longer than agreed"))?;
        let mut reader = Reader::new(reply);
        let (size, (kind, reply_tag)): (u32, (u8, u16)) = reader.take()?;
        if size as usize != len {
            return Err(CallError::Malformed("9p: the size of a reply"));
        }
        if reply_tag != tag {
            return Err(CallError::Malformed("9p: the tag of a reply"));
        }
        let answer = match kind {
            ERROR_TYPE => Err(CallError::Refused(reader.take()?)),
            kind if kind == R::TYPE + 1 => Ok(<R::Reply<'_> as Take<'_>>::take(&mut reader)?),
            _ => return Err(CallError::Malformed("9p: the type of a reply")),
        };
        if !reader.is_empty() {
            return Err(CallError::Malformed("9p: a reply with more than belongs there"));
        }
        answer
    }

    /// Tags differ from one message to the next, so that a late reply is not taken for another.
    fn next_tag(&mut self, kind: u8) -> u16 {
        if kind == Version::TYPE {
            return NO_TAG;
        }
        self.tag = (self.tag + 1) % NO_TAG;
        self.tag
    }

    /// A number for a fid that the next request makes.
    pub(crate) fn new_fid(&mut self) -> Result<Fid, Error> {
        if let Some(number) = self.free_fids.pop() {
            return Ok(Fid(number));
        }
        let number = self.next_fid;
        if number == NO_FID.0 {
            return Err(Error::NoMemory);
        }
        self.next_fid += 1;
        Ok(Fid(number))
    }

    /// Makes a fid: runs the request that does, and takes the number back if it has not.
    pub(crate) fn make_fid<R: Request, V>(
        &mut self,
        fid: Fid,
        request: &R,
        use_reply: impl FnOnce(R::Reply<'_>) -> Result<V, CallError>,
    ) -> Result<V, Error> {
        match self.call(request).and_then(use_reply) {
            Ok(value) => Ok(value),
            Err(failure) => {
                match failure {
                    CallError::Refused(_) | CallError::TooLong => self.free_fids.push(fid.0),
                    CallError::Malformed(_) => self.discard(fid),
                    // Whether it exists is not known, and another attempt would only take as long: the number is not used again.
                    CallError::Silent => {}
                }
                Err(failure.into())
            }
        }
    }

    /// Another fid for what a name in a directory leads to.
    pub(crate) fn walk(&mut self, directory: Fid, name: &[u8]) -> Result<(Fid, Qid), Error> {
        let fid = self.new_fid()?;
        let walk = Walk { fid: directory, new_fid: fid, name: Some(name) };
        let qid = self.make_fid(fid, &walk, |qids| match (qids.count, qids.last) {
            // The name is not there. The protocol has an error for that, but also allows a walk that ends early; no fid was made.
            (0, _) => Err(CallError::Refused(crate::errno::ENOENT)),
            (1, Some(qid)) => Ok(qid),
            _ => Err(CallError::Malformed("9p: a walk of more names than asked for")),
        })?;
        Ok((fid, qid))
    }

    /// Another fid for the same file.
    pub(crate) fn duplicate(&mut self, of: Fid) -> Result<Fid, Error> {
        let fid = self.new_fid()?;
        self.make_fid(fid, &Walk { fid: of, new_fid: fid, name: None }, |qids| match qids.count {
            0 => Ok(()),
            _ => Err(CallError::Malformed("9p: a walk of more names than asked for")),
        })?;
        Ok(fid)
    }

    /// Another fid for the same file, open for content; `flags` are of [`open`](crate::messages::open).
    pub(crate) fn open(&mut self, of: Fid, flags: u32) -> Result<(Handle, Qid), Error> {
        let fid = self.duplicate(of)?;
        match self.call(&Lopen { fid, flags }) {
            Ok((qid, unit_bytes)) => Ok((self.handle(fid, unit_bytes), qid)),
            Err(failure) => {
                self.discard_unless_silent(fid, failure);
                Err(failure.into())
            }
        }
    }

    /// A fid that was opened, by the limit that the server gave with it.
    pub(crate) fn handle(&self, fid: Fid, unit_bytes: u32) -> Handle {
        let room = self.message_bytes() - CONTENT_HEADER_BYTES;
        Handle { fid, piece_bytes: if unit_bytes == 0 { room } else { room.min(unit_bytes) } }
    }

    /// Ends a fid. It ends even if the server reports an error of what it did meanwhile.
    pub(crate) fn clunk(&mut self, fid: Fid) -> Result<(), Error> {
        let result = self.call(&Clunk { fid });
        if matches!(result, Ok(()) | Err(CallError::Refused(_))) {
            self.free_fids.push(fid.0);
        }
        result.map_err(Error::from)
    }

    /// Ends a fid and removes the name that it stands for.
    pub(crate) fn remove(&mut self, fid: Fid) -> Result<(), Error> {
        let result = self.call(&Remove { fid });
        if matches!(result, Ok(()) | Err(CallError::Refused(_))) {
            self.free_fids.push(fid.0);
        }
        result.map_err(Error::from)
    }

    /// Ends a fid with which nothing was changed, so that nothing can be lost.
    pub(crate) fn discard(&mut self, fid: Fid) {
        let _ = self.clunk(fid);
    }

    /// Ends a fid after a failure, if there is somebody to tell.
    pub(crate) fn discard_unless_silent(&mut self, fid: Fid, failure: CallError) {
        if failure != CallError::Silent {
            self.discard(fid);
        }
    }
}
