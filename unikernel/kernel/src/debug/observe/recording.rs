//! What happens in the next seconds, event by event ([`unikernel_trace::recording`]).
//!
//! It is gathered in memory and sent when it is whole, so that what is recorded is the app's traffic and not the recording's. Who asks for
//! more than there is room for gets what there was until then, and is told.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use unikernel_trace::recording::{Clock, Full, Tag, Writer};
use unikernel_trace::request::Request;

use crate::arch::cpu;
use crate::debug::events::Recorder;
use crate::kmem::room::{self, OutOfMemory};
use crate::net;
use crate::platform::{events, time};
use crate::task::process::process;
use crate::task::{WaitQueue, scheduler};

const MOST_SECONDS: u64 = 60;
/// A piece of the recording, in one run of memory.
const PIECE_BYTES: usize = 256 << 10;
/// What the app keeps.
pub(super) const SPARED_BYTES: usize = 8 << 20;
/// All of it: eight million events.
const MOST_PIECES: usize = 1024;
/// How long events gather before they are taken out of the rings.
pub(super) const PAUSE_NS: u64 = 10_000_000;

/// Records for so many seconds; with 0 takes what the rings hold (`trace=events`).
#[cold]
pub(super) fn record(request: &Request<'_>) -> Result<Vec<Vec<u8>>, OutOfMemory> {
    let seconds = seconds(request);
    let recorder = if seconds > 0 { Some(Recorder::start()?) } else { None };
    let mut recording = Recording::new(seconds == 0)?;
    let end_ns = time::now_ns() + seconds * time::NS_PER_SECOND;
    let nobody = WaitQueue::new();
    let outcome = loop {
        if let Err(full) = recording.drain() {
            break Err(full);
        }
        let now_ns = time::now_ns();
        if now_ns >= end_ns {
            break Ok(());
        }
        let until_ns = end_ns.min(now_ns + PAUSE_NS);
        let _ = nobody.wait_uninterrupted(Some(until_ns), || None::<()>);
    };
    drop(recorder);
    recording.finish(outcome)
}

/// For how long a client wants to look; a second, if it does not say.
pub(super) fn seconds(request: &Request<'_>) -> u64 {
    let seconds = request.parameter("seconds").and_then(|text| text.parse().ok());
    seconds.unwrap_or(1).min(MOST_SECONDS)
}

struct Recording {
    whole: Vec<Vec<u8>>,
    piece: Writer,
    /// Where each core's ring is read on.
    next: Vec<u64>,
}

impl Recording {
    /// Begins with what the rings hold, or with what comes.
    #[cold]
    fn new(takes_all: bool) -> Result<Self, OutOfMemory> {
        let mut next = room::with_capacity(cpu::online())?;
        let written = |core| events::ring(core).map_or(0, events::Ring::written);
        next.extend((0..cpu::online()).map(|core| if takes_all { 0 } else { written(core) }));
        let mut recording = Self { whole: room::with_capacity(MOST_PIECES)?, piece: new_piece()?, next };
        let head = recording.piece.head(&clock()).and_then(|()| recording.piece.kinds());
        head.map_err(|Full| OutOfMemory)?;
        let listed = recording.list_threads().and_then(|()| recording.list_sockets());
        listed.map_err(|Full| OutOfMemory)?;
        Ok(recording)
    }

    /// Runs `step` on a piece that has room for what it writes, or begins another for it.
    fn with_room(&mut self, mut step: impl FnMut(&mut Writer) -> Result<(), Full>) -> Result<(), Full> {
        if step(&mut self.piece).is_ok() {
            return Ok(());
        }
        self.begin_piece()?;
        step(&mut self.piece)
    }

    #[cold]
    fn begin_piece(&mut self) -> Result<(), Full> {
        if self.whole.len() + 1 >= self.whole.capacity() {
            return Err(Full);
        }
        let piece = new_piece().map_err(|OutOfMemory| Full)?;
        self.whole.push(core::mem::replace(&mut self.piece, piece).finish());
        Ok(())
    }

    /// Takes out of the rings what has come.
    #[cold]
    fn drain(&mut self) -> Result<(), Full> {
        for core in 0..self.next.len() {
            let Some(ring) = events::ring(core) else { continue };
            // What comes meanwhile is for the next time: this one ends.
            let end = ring.written();
            while self.next[core] < end {
                let next = &mut self.next[core];
                let outcome = self.piece.events(core, |take| {
                    let progress = ring.read(*next, take);
                    *next = progress.next;
                    progress.lost
                });
                if outcome.is_err() {
                    self.begin_piece()?;
                }
                scheduler::breathe();
            }
        }
        Ok(())
    }

    /// Writes which threads there are, and on which core each runs.
    #[cold]
    fn list_threads(&mut self) -> Result<(), Full> {
        self.with_room(|piece| {
            piece.text(Tag::Threads, |out| {
                process().threads().try_for_each(|thread| {
                    write!(out, "{}\t", thread.id)?;
                    match thread.left_at() {
                        Some(_) => out.write_char('-')?,
                        None => write!(out, "{}", thread.core_index())?,
                    }
                    thread.with_name(|name| writeln!(out, "\t{}", name.escape_ascii()))
                })
            })
        })
    }

    /// Writes which descriptor each client's connection has.
    #[cold]
    fn list_sockets(&mut self) -> Result<(), Full> {
        const AT_ONCE: usize = 64;
        let mut sockets = net::events::open_connections();
        loop {
            let mut some = [(0, [0; 2]); AT_ONCE];
            let count = some.iter_mut().zip(&mut sockets).map(|(place, socket)| *place = socket).count();
            if count == 0 {
                return Ok(());
            }
            self.with_room(|piece| {
                piece.text(Tag::Sockets, |out| {
                    let mut lines = some[..count].iter();
                    lines.try_for_each(|(descriptor, [ports, peer])| {
                        writeln!(out, "{descriptor}\t{ports}\t{peer}")
                    })
                })
            })?;
            scheduler::breathe();
        }
    }

    #[cold]
    fn finish(mut self, outcome: Result<(), Full>) -> Result<Vec<Vec<u8>>, OutOfMemory> {
        // Threads that came meanwhile have names, too. Without room for these it is a recording all the same.
        let _ = self.list_threads();
        if outcome.is_err() {
            let say =
                |out: &mut dyn Write| -> fmt::Result { out.write_str("there was no memory for more events") };
            let _ = self.with_room(|piece| piece.text(Tag::Note, say));
        }
        self.whole.push(self.piece.finish());
        Ok(self.whole)
    }
}

fn new_piece() -> Result<Writer, OutOfMemory> {
    if !room::is_left_for(PIECE_BYTES + SPARED_BYTES) {
        return Err(OutOfMemory);
    }
    Writer::new(PIECE_BYTES).map_err(|_| OutOfMemory)
}

fn clock() -> Clock {
    let (hz, now_ns) = (time::tsc_hz(), time::now_ns());
    let steps = u128::from(now_ns) * u128::from(hz) / u128::from(time::NS_PER_SECOND);
    Clock {
        hz,
        start: time::tsc().saturating_sub(steps as u64),
        start_unix_ns: time::wall_ns().saturating_sub(now_ns),
    }
}
