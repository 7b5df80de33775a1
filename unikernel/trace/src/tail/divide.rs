//! A request's time, divided by what its threads do.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::connections::Found;
use super::threads::{Access, Segment, State, Threads};
use super::{Part, Request, Stretch};

/// When each thread has read a request that it has not answered yet: what it sleeps for then, it sleeps for that one.
pub(super) struct Busy(BTreeMap<u64, Vec<Span>>);

struct Span {
    begin: u64,
    /// The latest end of this one and those before.
    latest_end: u64,
}

impl Busy {
    pub(super) fn of(all: &[Found]) -> Self {
        let mut spans: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (read, write) in all.iter().filter_map(|found| Some((found.read?, found.write?))) {
            spans.entry(read.thread).or_default().push((read.end, write.begin));
        }
        let with_latest = |mut spans: Vec<(u64, u64)>| {
            spans.sort_unstable();
            let mut latest_end = 0;
            let with = spans.into_iter().map(|(begin, end)| {
                latest_end = end.max(latest_end);
                Span { begin, latest_end }
            });
            with.collect()
        };
        Self(spans.into_iter().map(|(thread, spans)| (thread, with_latest(spans))).collect())
    }

    fn is(&self, thread: u64, at: u64) -> bool {
        let spans = self.0.get(&thread).map_or(&[][..], Vec::as_slice);
        let next = spans.partition_point(|span| span.begin <= at);
        next.checked_sub(1).and_then(|last| spans.get(last)).is_some_and(|span| span.latest_end > at)
    }
}

/// Which stage a request is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has read it.
    Unread,
    /// It was read by a thread on a connection of this descriptor.
    Read(i32),
}

struct Division<'a> {
    parts: [u64; Part::COUNT],
    longest: Option<Stretch>,
    threads: &'a Threads,
    busy: &'a Busy,
}

pub(super) fn divide(found: &Found, busy: &Busy, threads: &Threads) -> Request {
    let mut division = Division { parts: [0; Part::COUNT], longest: None, threads, busy };
    let end = found.end;
    match found.read {
        None => division.add(Part::Unknown, found.begin, end),
        Some(read) => {
            // A call that was there before the request sleeps until that comes.
            let taken = if read.begin >= found.begin { read.begin } else { read.end };
            let taken = taken.clamp(found.begin, end);
            let arrived = found.arrived.clamp(found.begin, taken);
            division.add(Part::Arrival, found.begin, arrived);
            division.walk(read.thread, arrived, taken, Stage::Unread);
            // Whoever has read it and did not write may have had the kernel write, by a ring or a file.
            let written = found.write.map_or(found.sent, |write| write.begin).clamp(taken, end);
            division.follow(read, found.write, taken, written);
            let sent = found.sent.clamp(written, end);
            division.add(Part::Sending, written, sent);
            let rest = if found.is_resent { Part::Resending } else { Part::Sending };
            division.note(Stretch { part: rest, begin: sent, end, thread: 0, call: None, other: 0 });
            division.add(rest, sent, end);
        }
    }
    Request {
        connection: found.connection,
        begin: found.begin,
        end,
        acknowledged: found.acknowledged,
        bytes: found.bytes,
        parts: division.parts,
        longest: division.longest,
    }
}

impl Division<'_> {
    fn add(&mut self, part: Part, begin: u64, end: u64) {
        let sum = &mut self.parts[part as usize];
        *sum = sum.saturating_add(end.saturating_sub(begin));
    }

    /// Remembers the longest stretch.
    fn note(&mut self, stretch: Stretch) {
        if stretch.length() > self.longest.map_or(0, |longest| longest.length()) {
            self.longest = Some(stretch);
        }
    }

    /// From the thread that read to the one that writes, over those that woke each other between them.
    fn follow(&mut self, read: Access, write: Option<Access>, begin: u64, end: u64) {
        let writer = write.map_or(read.thread, |write| write.thread);
        let stage = Stage::Read(read.descriptor);
        if writer == read.thread {
            return self.walk(writer, begin, end, stage);
        }
        // When each thread was first reached by a row of wakings that the reader began, and by whom.
        let mut reached: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for wake in self.threads.wakes(begin, end) {
            let is_known = wake.by == read.thread || reached.contains_key(&wake.by);
            if is_known && wake.by != wake.thread && wake.thread != read.thread {
                reached.entry(wake.thread).or_insert((wake.at, wake.by));
            }
        }
        let mut until = end;
        let mut thread = writer;
        // Each was reached later than who woke it, so this comes to the reader. Where it does not, the reader gave its word another way.
        while thread != read.thread {
            let Some(&(at, by)) = reached.get(&thread) else { break };
            self.walk(thread, at.min(until), until, stage);
            until = at.min(until);
            thread = by;
        }
        self.walk(thread, begin, until, stage);
    }

    /// What a thread does in a span is what the request is about.
    fn walk(&mut self, thread: u64, begin: u64, end: u64, stage: Stage) {
        let mut covered = begin;
        let threads = self.threads;
        for segment in threads.during(thread, begin, end) {
            self.add(Part::Unknown, covered, segment.begin);
            covered = segment.end;
            let part = self.part(thread, &segment, stage);
            self.add(part, segment.begin, segment.end);
            if !matches!(part, Part::App | Part::Kernel | Part::Unknown) {
                self.note(Stretch {
                    part,
                    begin: segment.begin,
                    end: segment.end,
                    thread,
                    call: segment.call,
                    other: segment.other,
                });
            }
        }
        self.add(Part::Unknown, covered, end);
    }

    fn part(&self, thread: u64, segment: &Segment, stage: Stage) -> Part {
        let is_with_others = match stage {
            Stage::Unread => segment.descriptor.is_some(),
            Stage::Read(own) => segment.descriptor.is_some_and(|descriptor| descriptor != own),
        };
        match segment.state {
            State::Unknown => Part::Unknown,
            State::Ready => Part::Core,
            State::App | State::Kernel if is_with_others => Part::Others,
            State::App => Part::App,
            State::Kernel => Part::Kernel,
            // Who has nothing to do waits for just this request.
            State::Asleep(_) if stage == Stage::Unread && !self.busy.is(thread, segment.begin) => Part::Wake,
            // With something to do, it waits for its own events all the same.
            State::Asleep(Part::Events) if stage == Stage::Unread => Part::Wake,
            State::Asleep(part) => part,
        }
    }
}
