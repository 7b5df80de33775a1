//! A recording as bytes: what `/trace` answers, and what decoders read.
//!
//! It is a row of blocks, each a tag and a length (32-bit numbers, little-endian) and so many bytes. The first is [`Tag::Head`]. A
//! reader passes over tags that it does not know. Names of the kinds come along, so that a reader prints events of a newer kernel.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;

use crate::event::{About, EVENT_BYTES, Event, Kind, LOST};

/// What a recording begins with, as the content of its first block.
pub const MAGIC: &[u8; 8] = b"uktrace\x01";
const BLOCK_HEAD: usize = 8;
const HEAD_BYTES: usize = 8 + 3 * 8;
const EVENTS_HEAD: usize = 16;

/// What a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Tag {
    /// [`MAGIC`], steps of the time-stamp counter in a second, the counter when time was 0, and that time in nanoseconds since 1970.
    Head = 1,
    /// A line for each kind of event: number, part, name, and names of the fields, between tabs.
    Kinds = 2,
    /// A line for each thread: id, the core that it runs on or `-`, name, between tabs.
    Threads = 3,
    /// The core, 32 bits of nothing, how many events are lost before these (64 bits), and events of 32 bytes.
    Events = 4,
    /// A sentence about what is missing.
    Note = 5,
    /// A line for each client's connection that has a descriptor when the recording begins: descriptor, and the words of
    /// [`Kind::SocketOpen`], between tabs.
    Sockets = 6,
}

/// How steps of the time-stamp counter become time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Steps in a second; not 0.
    pub hz: u64,
    /// The counter when the machine's time was 0.
    pub start: u64,
    /// Nanoseconds from 1970 until then.
    pub start_unix_ns: u64,
}

impl Clock {
    /// Nanoseconds since the machine's start.
    pub fn ns(&self, at: u64) -> u64 {
        let steps = u128::from(at.saturating_sub(self.start));
        (steps * 1_000_000_000 / u128::from(self.hz.max(1))) as u64
    }
}

/// Makes a piece of a recording: whole blocks, in memory that is taken once. Pieces one after the other are a recording; the first
/// begins with [`Self::head`].
#[derive(Debug)]
pub struct Writer(Vec<u8>);

/// A piece has no room for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Writer {
    /// Begins a piece of `bytes` at most.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn new(bytes: usize) -> Result<Self, TryReserveError> {
        let mut content = Vec::new();
        content.try_reserve_exact(bytes)?;
        Ok(Self(content))
    }

    fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }

    fn begin(&mut self, tag: Tag, length: usize) {
        self.0.extend_from_slice(&(tag as u32).to_le_bytes());
        self.0.extend_from_slice(&(length as u32).to_le_bytes());
    }

    /// Writes what a recording begins with.
    ///
    /// # Errors
    ///
    /// If there is no room for it.
    pub fn head(&mut self, clock: &Clock) -> Result<(), Full> {
        if self.room() < BLOCK_HEAD + HEAD_BYTES {
            return Err(Full);
        }
        self.begin(Tag::Head, HEAD_BYTES);
        self.0.extend_from_slice(MAGIC);
        let words = [clock.hz, clock.start, clock.start_unix_ns];
        words.iter().for_each(|word| self.0.extend_from_slice(&word.to_le_bytes()));
        Ok(())
    }

    /// Writes a text.
    ///
    /// # Errors
    ///
    /// If there is no room for all of it.
    pub fn text(
        &mut self,
        tag: Tag,
        write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result,
    ) -> Result<(), Full> {
        let begin = self.0.len();
        if self.room() < BLOCK_HEAD {
            return Err(Full);
        }
        self.begin(tag, 0);
        let outcome = write(&mut Text(&mut self.0));
        if outcome.is_err() {
            self.0.truncate(begin);
            return Err(Full);
        }
        self.set_length(begin);
        Ok(())
    }

    fn set_length(&mut self, begin: usize) {
        let length = (self.0.len() - begin - BLOCK_HEAD) as u32;
        self.0[begin + 4..begin + BLOCK_HEAD].copy_from_slice(&length.to_le_bytes());
    }

    /// Writes the names of all kinds.
    ///
    /// # Errors
    ///
    /// If there is no room for them.
    pub fn kinds(&mut self) -> Result<(), Full> {
        self.text(Tag::Kinds, |out| {
            Kind::ALL.iter().try_for_each(|kind| {
                let About { part, name, fields: [small, first, second], .. } = kind.about();
                writeln!(out, "{}\t{part}\t{name}\t{small}\t{first}\t{second}", *kind as u8)
            })
        })
    }

    /// Writes a block of a core's events, as far as there is room: `fill` gets a function that takes one, or answers false if it cannot, and
    /// answers how many are lost before them. A block without events is left out.
    ///
    /// # Errors
    ///
    /// If an event was not taken.
    pub fn events(
        &mut self,
        core: usize,
        fill: impl FnOnce(&mut dyn FnMut(Event) -> bool) -> u64,
    ) -> Result<(), Full> {
        let begin = self.0.len();
        if self.room() < BLOCK_HEAD + EVENTS_HEAD {
            return Err(Full);
        }
        self.begin(Tag::Events, 0);
        self.0.extend_from_slice(&(core as u64).to_le_bytes());
        self.0.extend_from_slice(&0_u64.to_le_bytes());
        let mut outcome = Ok(());
        let bytes = &mut self.0;
        let lost = fill(&mut |event| {
            if bytes.capacity() - bytes.len() < EVENT_BYTES {
                outcome = Err(Full);
                return false;
            }
            event.to_words().iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            true
        });
        if self.0.len() == begin + BLOCK_HEAD + EVENTS_HEAD && lost == 0 {
            self.0.truncate(begin);
        } else {
            self.set_length(begin);
            self.0[begin + BLOCK_HEAD + 8..begin + BLOCK_HEAD + EVENTS_HEAD]
                .copy_from_slice(&lost.to_le_bytes());
        }
        outcome
    }

    /// The piece.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A text that fits into what was reserved.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.capacity() - self.0.len() < text.len() {
            return Err(fmt::Error);
        }
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Why bytes are no recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRecording;

/// A recording that was read.
#[derive(Debug)]
pub struct Recording<'a> {
    /// What its times mean.
    pub clock: Clock,
    /// Lines of [`Tag::Kinds`].
    pub kinds: &'a str,
    /// Lines of [`Tag::Threads`] at the beginning, and at the end.
    pub threads: Vec<&'a str>,
    /// Lines of [`Tag::Sockets`].
    pub socket_lists: Vec<&'a str>,
    /// Sentences.
    pub notes: Vec<&'a str>,
    blocks: Vec<Events<'a>>,
}

/// Events of one core, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// Where they happened.
    pub core: u32,
    /// How many are missing before them.
    pub lost: u64,
    bytes: &'a [u8],
}

impl Events<'_> {
    /// The events.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.bytes.chunks_exact(EVENT_BYTES).map(|bytes| {
            let word = |index: usize| u64_at(bytes, index * 8).unwrap_or(0);
            Event::from_words([word(0), word(1), word(2), word(3)])
        })
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

impl<'a> Recording<'a> {
    /// Reads a recording. One that was cut off ends with its last whole block.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NoRecording> {
        let mut blocks = Blocks(bytes);
        let (tag, head) = blocks.next().ok_or(NoRecording)?;
        let clock = Clock {
            hz: u64_at(head, 8).ok_or(NoRecording)?,
            start: u64_at(head, 16).ok_or(NoRecording)?,
            start_unix_ns: u64_at(head, 24).ok_or(NoRecording)?,
        };
        if tag != Tag::Head as u32 || !head.starts_with(MAGIC) || clock.hz == 0 {
            return Err(NoRecording);
        }
        let mut recording = Self {
            clock,
            kinds: "",
            threads: Vec::new(),
            socket_lists: Vec::new(),
            notes: Vec::new(),
            blocks: Vec::new(),
        };
        for (tag, content) in blocks {
            let text = || core::str::from_utf8(content).map_err(|_| NoRecording);
            match tag {
                _ if tag == Tag::Kinds as u32 => recording.kinds = text()?,
                _ if tag == Tag::Threads as u32 => recording.threads.push(text()?),
                _ if tag == Tag::Sockets as u32 => recording.socket_lists.push(text()?),
                _ if tag == Tag::Note as u32 => recording.notes.push(text()?),
                _ if tag == Tag::Events as u32 => recording.blocks.push(Events {
                    core: u32_at(content, 0).ok_or(NoRecording)?,
                    lost: u64_at(content, 8).ok_or(NoRecording)?,
                    bytes: content.get(EVENTS_HEAD..).ok_or(NoRecording)?,
                }),
                _ => {}
            }
        }
        Ok(recording)
    }

    /// Its events, in pieces, those of one core in their order.
    pub fn blocks(&self) -> &[Events<'a>] {
        &self.blocks
    }

    /// Events of all cores by time, with the core. Where some are lost, one of the kind [`LOST`] stands for them.
    pub fn by_time(&self) -> Vec<(u32, Event)> {
        let mut events: Vec<(u32, Event)> = Vec::new();
        for block in &self.blocks {
            let at = block.iter().next().map_or(0, |event| event.at);
            let lost = (block.lost > 0).then_some(Event { at, kind: LOST, small: 0, wide: [block.lost, 0] });
            events.extend(lost.into_iter().chain(block.iter()).map(|event| (block.core, event)));
        }
        // Stable: what one core did at one time stays in order.
        events.sort_by_key(|(_, event)| event.at);
        events
    }

    /// The threads that ran when the recording began, by core.
    pub fn running(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let first = self.threads.first().into_iter().flat_map(|list| listed(list));
        first.filter_map(|(id, core, _)| Some((core?, id)))
    }

    /// Ids and names of threads; a later one of the same id counts.
    pub fn names(&self) -> impl Iterator<Item = (u64, &'a str)> + '_ {
        self.threads.iter().flat_map(|list| listed(list)).map(|(id, _, name)| (id, name))
    }

    /// Clients' connections when the recording began: descriptor, ports and peer, as [`Kind::SocketOpen`] has them.
    pub fn sockets(&self) -> impl Iterator<Item = (i32, [u64; 2])> + '_ {
        self.socket_lists.iter().flat_map(|list| list.lines()).filter_map(|line| {
            let mut columns = line.split('\t');
            let descriptor = columns.next()?.parse().ok()?;
            let mut word = || columns.next()?.parse().ok();
            Some((descriptor, [word()?, word()?]))
        })
    }

    /// How many events are missing.
    pub fn lost(&self) -> u64 {
        self.blocks.iter().fold(0, |lost, block| lost.saturating_add(block.lost))
    }

    /// Name and field names of a kind by number, as the recording tells them.
    pub fn kind(&self, number: u8) -> Option<(&'a str, [&'a str; 3])> {
        self.kinds.lines().find_map(|line| {
            let mut columns = line.split('\t');
            let is_it = columns.next()?.parse() == Ok(number);
            let name = columns.nth(1)?;
            is_it.then(|| (name, core::array::from_fn(|_| columns.next().unwrap_or(""))))
        })
    }
}

/// The lines of a list of threads: id, core if it runs, name.
fn listed(list: &str) -> impl Iterator<Item = (u64, Option<u32>, &str)> {
    list.lines().filter_map(|line| {
        let mut columns = line.splitn(3, '\t');
        let id = columns.next()?.parse().ok()?;
        let core = columns.next().and_then(|core| core.parse().ok());
        Some((id, core, columns.next().unwrap_or_default()))
    })
}

/// Tags and contents, up to the last whole one.
struct Blocks<'a>(&'a [u8]);

impl<'a> Iterator for Blocks<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, length) = (u32_at(self.0, 0)?, u32_at(self.0, 4)?);
        let (content, rest) = self.0.get(BLOCK_HEAD..)?.split_at_checked(length as usize)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { hz: 2_000_000_000, start: 100, start_unix_ns: 5 };

    fn event(at: u64) -> Event {
        Event { at, kind: Kind::Wake as u8, small: 1, wide: [2, 3] }
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(4096).unwrap();
        writer.head(&CLOCK).unwrap();
        writer.kinds().unwrap();
        writer.text(Tag::Threads, |out| out.write_str("1\t0\tmain\n")).unwrap();
        let written = writer.events(1, |see| {
            assert!([300, 500].map(event).into_iter().all(see));
            7
        });
        assert_eq!(written, Ok(()));
        let mut second = Writer::new(4096).unwrap();
        let written = second.events(0, |see| {
            assert!(see(event(400)));
            0
        });
        assert_eq!((written, second.events(2, |_| 0)), (Ok(()), Ok(())));
        second.text(Tag::Note, |out| out.write_str("the end")).unwrap();
        [writer.finish(), second.finish()].concat()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = sample();
        let recording = Recording::read(&bytes).unwrap();
        assert_eq!((recording.clock, recording.lost(), recording.blocks().len()), (CLOCK, 7, 2));
        assert_eq!((&recording.threads[..], &recording.notes[..]), (&["1\t0\tmain\n"][..], &["the end"][..]));
        let events: Vec<(u32, u64)> =
            recording.by_time().iter().map(|(core, event)| (*core, event.at)).collect();
        assert_eq!(
            events,
            [(1, 300), (1, 300), (0, 400), (1, 500)],
            "the first stands for those that are lost"
        );
        assert_eq!(recording.clock.ns(2_000_000_100), 1_000_000_000);
        assert_eq!(recording.kind(Kind::Wake as u8), Some(("wake", ["reason", "thread", "by"])));
        assert_eq!(recording.kind(250), None);
    }

    #[test]
    fn what_has_no_room_is_left_out_and_all_else_stays_whole() {
        let mut writer = Writer::new(200).unwrap();
        writer.head(&CLOCK).unwrap();
        assert_eq!(writer.kinds(), Err(Full));
        let mut taken = 0;
        let written = writer.events(0, |see| {
            taken = (0..100).map(event).take_while(|event| see(*event)).count();
            0
        });
        assert_eq!(written, Err(Full));
        let bytes = writer.finish();
        let recording = Recording::read(&bytes).unwrap();
        assert_eq!((recording.by_time().len(), recording.kinds), (taken, ""));
        assert!(taken > 0 && bytes.len() <= 200);
        assert_eq!(Writer::new(0).unwrap().head(&CLOCK), Err(Full));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..400, byte: u8) {
            let _ = Recording::read(&bytes);
            let mut damaged = sample();
            let at = at % damaged.len();
            damaged[at] = byte;
            if let Ok(recording) = Recording::read(&damaged) {
                recording.by_time();
                recording.lost();
            }
        }

        #[test]
        fn what_is_cut_off_is_read_up_to_there(keep in 40_usize..2000) {
            let bytes = sample();
            let recording = Recording::read(&bytes[..keep.min(bytes.len())]).unwrap();
            prop_assert!(recording.by_time().len() <= 4);
        }
    }
}
