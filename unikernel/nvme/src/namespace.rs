//! A namespace: blocks that are read and written, by a pair of queues of its own (NVM command set specification, section 3.2).

use crate::command::{Command, LIST_BYTES, Pages, Part, operation};
use crate::identify::Geometry;
use crate::queue::Queue;
use crate::{Machine, Memory, PAGE_BYTES, Refused, Status};

/// Bytes of a sector, in which requests count.
const SECTOR_POWER: u8 = 9;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Blocks to memory.
    Read,
    /// Memory to blocks.
    Write,
    /// What was written, and answered, survives a power cut.
    Flush,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<P> {
    /// By which its answer is known; below [`Namespace::requests`].
    pub tag: u16,
    /// What is to be done.
    pub kind: Kind,
    /// The first sector of 512 bytes.
    pub sector: u64,
    /// The memory: whole blocks, without gaps inside pages.
    pub parts: P,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its tag.
    pub tag: u16,
    /// What the controller says.
    pub status: Status,
}

/// A namespace, ready for use.
pub struct Namespace<M: Machine> {
    id: u32,
    geometry: Geometry,
    max_bytes: u32,
    has_cache: bool,
    queue: Queue<M>,
    /// For each tag the addresses of its pages.
    lists: M::Memory,
    has_news: bool,
}

impl<M: Machine> Namespace<M> {
    pub(crate) fn new(
        id: u32,
        geometry: Geometry,
        (max_bytes, has_cache): (u32, bool),
        queue: Queue<M>,
        lists: M::Memory,
    ) -> Self {
        Self { id, geometry, max_bytes, has_cache, queue, lists, has_news: false }
    }

    /// Its number, from 1 on.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of a block: a power of two, 512 to 4,096.
    pub fn block_bytes(&self) -> u32 {
        1 << self.geometry.block_power
    }

    /// Its size, in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.geometry.blocks << (self.geometry.block_power - SECTOR_POWER)
    }

    /// True if it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.geometry.is_read_only
    }

    /// True if what was written survives a power cut only after a flush.
    pub fn has_cache(&self) -> bool {
        self.has_cache
    }

    /// Bytes of a request at most.
    pub fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    /// How many requests can be in flight.
    pub fn requests(&self) -> u16 {
        self.queue.numbers()
    }

    /// How many answers came to what nobody has asked.
    pub fn phantoms(&self) -> u64 {
        self.queue.phantoms()
    }

    /// Puts a request into the queue; [`Self::ring`] tells the controller.
    ///
    /// # Errors
    ///
    /// If it is none that can be; then nothing was begun.
    pub fn submit(&mut self, request: Request<impl Iterator<Item = Part>>) -> Result<(), Refused> {
        let Request { tag, kind, sector, parts } = request;
        if !self.queue.is_free(tag) {
            return Err(Refused::BadTag);
        }
        let command = match kind {
            Kind::Flush => {
                Command { operation: operation::FLUSH, namespace: self.id, memory: [0; 2], words: [0; 3] }
            }
            Kind::Read => self.transfer(operation::READ, tag, sector, parts)?,
            Kind::Write if self.is_read_only() => return Err(Refused::BadRequest),
            Kind::Write => self.transfer(operation::WRITE, tag, sector, parts)?,
        };
        self.queue.submit(tag, &command)
    }

    /// A read or a write; the addresses of its pages go where the controller looks for them.
    fn transfer(
        &self,
        operation: u8,
        tag: u16,
        sector: u64,
        parts: impl Iterator<Item = Part>,
    ) -> Result<Command, Refused> {
        let pages = Pages::of(parts)?;
        let block_bytes = u64::from(self.block_bytes());
        let sectors_of_block = block_bytes >> SECTOR_POWER;
        let is_whole = pages.bytes.is_multiple_of(block_bytes) && sector.is_multiple_of(sectors_of_block);
        if pages.bytes == 0 || pages.bytes > self.max_bytes.into() || !is_whole {
            return Err(Refused::BadRequest);
        }
        let (block, count) = (sector / sectors_of_block, pages.bytes / block_bytes);
        if block.checked_add(count).is_none_or(|end| end > self.geometry.blocks) {
            return Err(Refused::BadRequest);
        }
        // `NLB`, from 0, has 16 bits; a request has 64 pages of blocks of 512 bytes at most.
        let last = u16::try_from(count - 1).map_err(|_| Refused::BadRequest)?;
        let second = match pages.rest[..pages.rest_count] {
            [] => 0,
            [only] => only,
            ref rest => {
                let at = usize::from(tag) * LIST_BYTES;
                for (index, address) in rest.iter().enumerate() {
                    let place = at + index * size_of::<u64>();
                    self.lists.store(place, *address as u32);
                    self.lists.store(place + 4, (*address >> 32) as u32);
                }
                self.lists.address() + at as u64
            }
        };
        Ok(Command {
            operation,
            namespace: self.id,
            memory: [pages.first, second],
            words: [block as u32, (block >> 32) as u32, last.into()],
        })
    }

    /// Tells the controller of what was submitted.
    pub fn ring(&mut self) {
        self.queue.ring();
    }

    /// The next answer, if there is one. When there is none, the controller is told of those that were taken.
    pub fn poll(&mut self) -> Option<Answer> {
        match self.queue.take() {
            Some(completion) => {
                self.has_news = true;
                Some(Answer { tag: completion.number, status: completion.status })
            }
            None => {
                if core::mem::take(&mut self.has_news) {
                    self.queue.release();
                }
                None
            }
        }
    }
}

/// Bytes of the lists of so many requests. None of them crosses a page.
pub(crate) fn lists_bytes(requests: u16) -> usize {
    const { assert!(PAGE_BYTES.is_multiple_of(LIST_BYTES)) };
    usize::from(requests).max(1) * LIST_BYTES
}
