//! What each thread does at each time, out of the events of all cores.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Part;
use crate::event::{Event, Kind, LOST};
use crate::recording::Recording;

/// What a thread does for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It runs the app's code.
    App,
    /// It runs the kernel's, or an interrupt runs on top of it.
    Kernel,
    /// It could run, and no core runs it.
    Ready,
    /// It sleeps, and this is what for.
    Asleep(Part),
    /// Events are missing.
    Unknown,
}

/// What a call does, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Futex,
    Time,
    /// Waits for descriptors.
    Events,
    /// Takes bytes from the descriptor that is its first argument.
    Read,
    /// Gives it some.
    Write,
    Other,
}

impl Class {
    fn of(name: &str) -> Self {
        match name {
            "futex" | "futex_waitv" | "futex_wait" => Self::Futex,
            "nanosleep" | "clock_nanosleep" => Self::Time,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "ppoll" | "select" | "pselect6"
            | "io_uring_enter" => Self::Events,
            "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" => Self::Read,
            "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" => Self::Write,
            _ => Self::Other,
        }
    }
}

/// Opcodes of io_uring that read and write sockets (`io_uring_sqe`, linux/io_uring.h).
const RING_READS: [u32; 5] = [1, 4, 10, 22, 27];
const RING_WRITES: [u32; 6] = [2, 5, 9, 23, 26, 47];

/// A piece of a thread's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) state: State,
    pub(super) call: Option<(u32, u64)>,
    /// The descriptor that it has read from or written to last, since it asked which of them are ready.
    pub(super) descriptor: Option<i32>,
    /// Who woke it, or who had the core meanwhile.
    pub(super) other: u64,
}

/// Bytes that a thread took from a descriptor, or gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Access {
    pub(super) descriptor: i32,
    pub(super) thread: u64,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) is_write: bool,
}

/// A thread was woken by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WokenBy {
    pub(super) at: u64,
    pub(super) thread: u64,
    pub(super) by: u64,
}

/// All threads' time.
#[derive(Debug, Default)]
pub(super) struct Threads {
    timelines: BTreeMap<u64, Vec<Segment>>,
    /// By the time of their end.
    pub(super) accesses: Vec<Access>,
    wakes: Vec<WokenBy>,
}

/// A thread, as events come.
#[derive(Debug)]
struct Live {
    since: u64,
    place: Place,
    /// It was woken since it last ran, so that it is not asleep when it leaves its core.
    is_woken: bool,
    woken_by: u64,
    call: Option<Call>,
    is_in_fault: bool,
    is_in_lock: bool,
    descriptor: Option<i32>,
    timeline: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    argument: u64,
    begin: u64,
    class: Class,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Running,
    Ready,
    Asleep,
    Unknown,
}

/// A core, as events come.
#[derive(Debug, Default)]
struct Core {
    thread: u64,
    is_interrupted: bool,
    /// Its last event was the end of its idling: who leaves it next has not run since.
    has_just_idled: bool,
    /// Who had it, and until when, in order.
    turns: Vec<(u64, u64)>,
}

impl Core {
    /// Who had the core for the longest time since `begin`.
    fn held_by(&self, begin: u64) -> u64 {
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        // Each ends where the next begins.
        for (index, (end, thread)) in
            self.turns.iter().enumerate().rev().take_while(|(_, turn)| turn.0 > begin)
        {
            let from =
                index.checked_sub(1).and_then(|before| self.turns.get(before)).map_or(0, |turn| turn.0);
            *times.entry(*thread).or_default() += end.saturating_sub(from.max(begin));
        }
        times.into_iter().max_by_key(|(_, time)| *time).map_or(0, |(thread, _)| thread)
    }
}

#[derive(Debug, Default)]
struct Disks {
    in_flight: usize,
    last_end: Option<u64>,
}

impl Live {
    fn new(since: u64, place: Place) -> Self {
        Self {
            since,
            place,
            is_woken: false,
            woken_by: 0,
            call: None,
            is_in_fault: false,
            is_in_lock: false,
            descriptor: None,
            timeline: Vec::new(),
        }
    }

    /// What it has done until now is a piece of its time.
    fn close(&mut self, now: u64, is_interrupted: bool, disks: &Disks, other: u64) {
        if now <= self.since {
            return;
        }
        let state = match self.place {
            Place::Unknown => State::Unknown,
            Place::Ready => State::Ready,
            Place::Asleep => State::Asleep(self.cause(disks)),
            Place::Running if is_interrupted || self.call.is_some() || self.is_in_fault => State::Kernel,
            Place::Running => State::App,
        };
        let call = self.call.map(|call| (call.number, call.argument));
        let segment =
            Segment { begin: self.since, end: now, state, call, descriptor: self.descriptor, other };
        self.timeline.push(segment);
        self.since = now;
    }

    fn cause(&self, disks: &Disks) -> Part {
        let has_disk = disks.in_flight > 0 || disks.last_end.is_some_and(|end| end >= self.since);
        match self.call.map(|call| call.class) {
            Some(Class::Futex) if !self.is_in_fault => Part::Futex,
            Some(Class::Time) if !self.is_in_fault => Part::Sleep,
            Some(Class::Events) if !self.is_in_fault => Part::Events,
            _ if has_disk => Part::Disk,
            _ if self.is_in_lock => Part::Lock,
            Some(Class::Read | Class::Write) => Part::Peer,
            _ => Part::Call,
        }
    }

    fn run(&mut self) {
        self.place = Place::Running;
        self.is_woken = false;
    }
}

/// Takes the events, one after the other.
struct Reader<'a> {
    call_name: &'a dyn Fn(u32) -> Option<&'static str>,
    classes: BTreeMap<u32, Class>,
    cores: BTreeMap<u32, Core>,
    threads: BTreeMap<u64, Live>,
    disks: Disks,
    /// Operations of io_uring that were begun: by what the app calls them.
    rings: BTreeMap<u64, Access>,
    accesses: Vec<Access>,
    wakes: Vec<WokenBy>,
}

impl Threads {
    pub(super) fn of(
        recording: &Recording<'_>,
        events: &[(u32, Event)],
        call_name: &dyn Fn(u32) -> Option<&'static str>,
    ) -> Self {
        let mut reader = Reader {
            call_name,
            classes: BTreeMap::new(),
            cores: BTreeMap::new(),
            threads: BTreeMap::new(),
            disks: Disks::default(),
            rings: BTreeMap::new(),
            accesses: Vec::new(),
            wakes: Vec::new(),
        };
        let first = events.first().map_or(0, |(_, event)| event.at);
        for (core, thread) in recording.running() {
            reader.cores.insert(core, Core { thread, ..Core::default() });
            // Whether it runs, or idles on its stack, its next event tells.
            reader.threads.insert(thread, Live::new(first, Place::Unknown));
        }
        for (core, event) in events {
            reader.take(*core, event);
        }
        let last = events.last().map_or(0, |(_, event)| event.at);
        let Reader { mut threads, disks, accesses, wakes, .. } = reader;
        threads.values_mut().for_each(|thread| thread.close(last, false, &disks, 0));
        let timelines = threads.into_iter().map(|(id, thread)| (id, thread.timeline)).collect();
        Self { timelines, accesses, wakes }
    }

    /// The pieces of a thread's time that lie in a span, each cut to it.
    pub(super) fn during(&self, thread: u64, begin: u64, end: u64) -> impl Iterator<Item = Segment> + '_ {
        let timeline = self.timelines.get(&thread).map_or(&[][..], Vec::as_slice);
        let from = timeline.partition_point(|segment| segment.end <= begin);
        timeline[from..].iter().take_while(move |segment| segment.begin < end).map(move |segment| Segment {
            begin: segment.begin.max(begin),
            end: segment.end.min(end),
            ..*segment
        })
    }

    /// Who woke whom in a span.
    pub(super) fn wakes(&self, begin: u64, end: u64) -> &[WokenBy] {
        let from = self.wakes.partition_point(|wake| wake.at < begin);
        let to = self.wakes.partition_point(|wake| wake.at <= end);
        self.wakes.get(from..to).unwrap_or_default()
    }
}

impl Reader<'_> {
    fn class(&mut self, number: u32) -> Class {
        let name = self.call_name;
        *self.classes.entry(number).or_insert_with(|| Class::of(name(number).unwrap_or_default()))
    }

    /// Ends a piece of the time of the thread on a core, and has `change` begin another.
    fn here(&mut self, core: u32, now: u64, change: impl FnOnce(&mut Live)) {
        let on = self.cores.entry(core).or_default();
        let (id, is_interrupted) = (on.thread, on.is_interrupted);
        // The kernel's own threads have no number: none is another's.
        if id == 0 {
            return;
        }
        let live = self.threads.entry(id).or_insert_with(|| Live::new(now, Place::Running));
        if live.place == Place::Unknown {
            live.place = Place::Running;
            live.since = now;
        }
        live.close(now, is_interrupted, &self.disks, 0);
        change(live);
    }

    fn take(&mut self, core: u32, event: &Event) {
        let (now, [first, second]) = (event.at, event.wide);
        let Some(kind) = event.known() else {
            if event.kind == LOST {
                self.forget(core, now);
            }
            return;
        };
        let has_just_idled = core::mem::take(&mut self.cores.entry(core).or_default().has_just_idled);
        match kind {
            Kind::Switch => self.switch(core, now, event.small, [first, second], has_just_idled),
            Kind::Wake => self.wake(now, first, second),
            Kind::IdleBegin => self.here(core, now, |thread| {
                thread.place = if thread.is_woken { Place::Ready } else { Place::Asleep };
            }),
            Kind::IdleEnd => self.idle_end(core, now),
            Kind::CallBegin => self.call(core, now, event.small, first),
            Kind::CallEnd => self.call_end(core, now, first),
            Kind::InterruptBegin | Kind::InterruptEnd => {
                let idles = self.idles(core);
                if !idles {
                    self.here(core, now, |_| {});
                }
                self.cores.entry(core).or_default().is_interrupted = kind == Kind::InterruptBegin;
                self.cores.entry(core).or_default().has_just_idled = has_just_idled;
            }
            Kind::FaultBegin => self.here(core, now, |thread| thread.is_in_fault = true),
            Kind::FaultEnd => self.here(core, now, |thread| thread.is_in_fault = false),
            Kind::LockBegin => self.here(core, now, |thread| thread.is_in_lock = true),
            Kind::LockEnd => self.here(core, now, |thread| thread.is_in_lock = false),
            Kind::DiskBegin => self.disks.in_flight = self.disks.in_flight.saturating_add(1),
            Kind::DiskEnd => {
                self.disks.in_flight = self.disks.in_flight.saturating_sub(1);
                self.disks.last_end = Some(now);
            }
            Kind::RingSubmit => self.ring_submit(core, now, event.small, first, second),
            Kind::RingComplete => {
                let begun = self.rings.remove(&first).filter(|_| second as i64 > 0);
                self.accesses.extend(begun.map(|access| Access { end: now, ..access }));
            }
            _ => {}
        }
    }

    /// Nothing is known of a core until its next event of who runs.
    fn forget(&mut self, core: u32, now: u64) {
        let on = self.cores.insert(core, Core::default()).unwrap_or_default();
        if let Some(live) = self.threads.get_mut(&on.thread) {
            live.close(now, on.is_interrupted, &self.disks, 0);
            let timeline = core::mem::take(&mut live.timeline);
            *live = Live { timeline, ..Live::new(now, Place::Unknown) };
        }
    }

    /// True if the thread on whose stack the core is does not run.
    fn idles(&self, core: u32) -> bool {
        let thread = self.cores.get(&core).and_then(|core| self.threads.get(&core.thread));
        thread.is_some_and(|thread| matches!(thread.place, Place::Asleep | Place::Ready))
    }

    fn switch(&mut self, core: u32, now: u64, reason: u32, [from, to]: [u64; 2], has_just_idled: bool) {
        const STOPPED: u32 = 0;
        self.cores.entry(core).or_default().thread = from;
        self.here(core, now, |thread| {
            let is_asleep = reason == STOPPED && !thread.is_woken && !has_just_idled;
            thread.place = match thread.place {
                // It was so while the core idled on its stack.
                Place::Asleep | Place::Ready => thread.place,
                _ if is_asleep => Place::Asleep,
                _ => Place::Ready,
            };
        });
        let on = self.cores.entry(core).or_default();
        on.turns.push((now, from));
        (on.thread, on.is_interrupted, on.has_just_idled) = (to, false, false);
        if to != 0 {
            let thread = self.threads.entry(to).or_insert_with(|| Live::new(now, Place::Unknown));
            let other = if thread.place == Place::Ready { on.held_by(thread.since) } else { thread.woken_by };
            thread.close(now, false, &self.disks, other);
            thread.run();
        }
    }

    fn wake(&mut self, now: u64, thread: u64, by: u64) {
        if thread == 0 {
            return;
        }
        self.wakes.push(WokenBy { at: now, thread, by });
        let live = self.threads.entry(thread).or_insert_with(|| Live::new(now, Place::Unknown));
        if live.place == Place::Asleep || live.place == Place::Unknown {
            live.close(now, false, &self.disks, by);
            live.place = Place::Ready;
        }
        live.is_woken = true;
        live.woken_by = by;
    }

    /// The core looks for a thread: the one on whose stack it idled runs on, unless another one does.
    fn idle_end(&mut self, core: u32, now: u64) {
        let on = self.cores.entry(core).or_default();
        on.is_interrupted = false;
        let id = on.thread;
        let Some(live) = self.threads.get_mut(&id).filter(|live| live.place == Place::Ready) else { return };
        live.close(now, false, &self.disks, 0);
        live.run();
        // If it does not run on, it was ready all the time.
        self.cores.entry(core).or_default().has_just_idled = true;
    }

    fn call(&mut self, core: u32, now: u64, number: u32, argument: u64) {
        let class = self.class(number);
        self.here(core, now, |thread| {
            thread.call = Some(Call { number, argument, begin: now, class });
            match class {
                Class::Read | Class::Write => thread.descriptor = Some(argument as i32),
                Class::Events => thread.descriptor = None,
                _ => {}
            }
        });
    }

    fn call_end(&mut self, core: u32, now: u64, result: u64) {
        let id = self.cores.entry(core).or_default().thread;
        let mut access = None;
        self.here(core, now, |thread| {
            let call = thread.call.take().filter(|call| matches!(call.class, Class::Read | Class::Write));
            access = call.filter(|_| result as i64 > 0).map(|call| Access {
                descriptor: call.argument as i32,
                thread: id,
                begin: call.begin,
                end: now,
                is_write: call.class == Class::Write,
            });
            thread.is_woken = false;
        });
        self.accesses.extend(access);
    }

    fn ring_submit(&mut self, core: u32, now: u64, opcode: u32, name: u64, descriptor: u64) {
        let thread = self.cores.get(&core).map_or(0, |core| core.thread);
        let is_write = RING_WRITES.contains(&opcode);
        if is_write || RING_READS.contains(&opcode) {
            let access = Access { descriptor: descriptor as i32, thread, begin: now, end: now, is_write };
            self.rings.insert(name, access);
        }
    }
}
