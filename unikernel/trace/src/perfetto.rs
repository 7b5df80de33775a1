//! A recording as a timeline: TrackEvent packets of Perfetto's protobuf (perfetto.dev/docs/reference/synthetic-track-event), which
//! ui.perfetto.dev and its trace processor open.
//!
//! There is a track for each core (who runs), its interrupts, each thread (system calls, page faults, what it waits for), each
//! connection, and as many for disks and io_uring as there are requests at once. An arrow leads from who woke a thread to
//! where that runs next.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::event::{Event, Kind, LOST, Peer};
use crate::recording::Recording;

/// Numbers of fields, from perfetto's `trace_packet.proto`, `track_descriptor.proto`, `track_event.proto`.
mod field {
    pub(super) const PACKET: u32 = 1;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SEQUENCE: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;

    pub(super) const UUID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PROCESS: u32 = 3;
    pub(super) const THREAD: u32 = 4;
    pub(super) const PARENT: u32 = 5;
    pub(super) const PID: u32 = 1;
    pub(super) const PROCESS_NAME: u32 = 6;
    pub(super) const TID: u32 = 2;
    pub(super) const THREAD_NAME: u32 = 5;

    pub(super) const ANNOTATION: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const TRACK: u32 = 11;
    pub(super) const CATEGORY: u32 = 22;
    pub(super) const EVENT_NAME: u32 = 23;
    pub(super) const FLOW: u32 = 47;
    pub(super) const FLOW_END: u32 = 48;
    pub(super) const ANNOTATION_STRING: u32 = 6;
    pub(super) const ANNOTATION_NAME: u32 = 10;
}

/// A message of protobuf (protobuf.dev/programming-guides/encoding).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    fn fixed(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Which track. The order is that of the list in the UI, as far as that keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Track {
    Machine,
    Cores,
    Core(u32),
    Interrupts(u32),
    Thread(u64),
    Network,
    Connection(u64, u64),
    Disk,
    DiskRequest(usize),
    Rings,
    RingOperation(usize),
}

/// How an event lies on its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Begin = 1,
    End = 2,
    Instant = 3,
}

/// The process that all threads belong to.
const PID: u64 = 1;
/// All packets are of one writer.
const SEQUENCE: u64 = 1;

/// Requests that overlap, each on the first track that is free.
#[derive(Default)]
struct Lanes(Vec<Option<(u64, u64)>>);

impl Lanes {
    fn begin(&mut self, request: (u64, u64)) -> usize {
        let lane = self.0.iter().position(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[lane] = Some(request);
        lane
    }

    fn end(&mut self, request: (u64, u64)) -> Option<usize> {
        let lane = self.0.iter().position(|slot| *slot == Some(request))?;
        self.0[lane] = None;
        Some(lane)
    }
}

/// What is open on a thread's track.
#[derive(Default)]
struct Open {
    has_call: bool,
    has_fault: bool,
    has_lock: bool,
}

/// What lies within what on a thread's track.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Call,
    Fault,
    Lock,
}

struct Encoder<'a> {
    recording: &'a Recording<'a>,
    call_name: &'a dyn Fn(u32) -> Option<&'static str>,
    out: &'a mut dyn FnMut(&[u8]),
    uuids: BTreeMap<Track, u64>,
    names: BTreeMap<u64, &'a str>,
    /// Who runs on each core, if that is known: its thread, and whether its slice was begun.
    running: BTreeMap<u32, (u64, bool)>,
    open: BTreeMap<u64, Open>,
    /// Cores with an interrupt begun.
    interrupted: BTreeSet<u32>,
    /// Arrows to threads that were woken and have not run since.
    woken: BTreeMap<u64, u64>,
    arrows: u64,
    disk: Lanes,
    rings: Lanes,
}

/// Writes the timeline in pieces, each of which is whole packets. `call_name` knows the names of system calls.
pub fn encode(
    recording: &Recording<'_>,
    call_name: &dyn Fn(u32) -> Option<&'static str>,
    out: &mut dyn FnMut(&[u8]),
) {
    let mut encoder = Encoder {
        recording,
        call_name,
        out,
        uuids: BTreeMap::new(),
        names: recording.names().collect(),
        running: recording.running().map(|(core, id)| (core, (id, false))).collect(),
        open: BTreeMap::new(),
        interrupted: BTreeSet::new(),
        woken: BTreeMap::new(),
        arrows: 0,
        disk: Lanes::default(),
        rings: Lanes::default(),
    };
    let events = recording.by_time();
    // Who ran at the beginning did so before anything was recorded.
    let begin = events.first().map_or(0, |(_, event)| event.at);
    for core in encoder.running.keys().copied().collect::<Vec<_>>() {
        encoder.begin_running(core, begin);
    }
    for (core, event) in &events {
        encoder.event(*core, event);
    }
}

impl Encoder<'_> {
    fn packet(&mut self, packet: Message) {
        let packet = packet.number(field::SEQUENCE, SEQUENCE);
        (self.out)(&Message::default().bytes(field::PACKET, &packet.0).0);
    }

    /// The number of a track, which is described when it is first used.
    fn uuid(&mut self, track: Track) -> u64 {
        if let Some(uuid) = self.uuids.get(&track) {
            return *uuid;
        }
        let parent = match track {
            Track::Machine => None,
            Track::Core(_) | Track::Interrupts(_) => Some(Track::Cores),
            Track::Connection(..) => Some(Track::Network),
            Track::DiskRequest(_) => Some(Track::Disk),
            Track::RingOperation(_) => Some(Track::Rings),
            Track::Cores | Track::Thread(_) | Track::Network | Track::Disk | Track::Rings => {
                Some(Track::Machine)
            }
        };
        let parent = parent.map(|parent| self.uuid(parent));
        let uuid = self.uuids.len() as u64 + 1;
        self.uuids.insert(track, uuid);
        let mut descriptor = Message::default().number(field::UUID, uuid);
        if let Some(parent) = parent {
            descriptor = descriptor.number(field::PARENT, parent);
        }
        let name = match track {
            Track::Machine => {
                let process =
                    Message::default().number(field::PID, PID).bytes(field::PROCESS_NAME, b"unikernel");
                descriptor = descriptor.bytes(field::PROCESS, &process.0);
                None
            }
            Track::Thread(id) => {
                let name = self.thread_name(id);
                let thread = Message::default()
                    .number(field::PID, PID)
                    .number(field::TID, id)
                    .bytes(field::THREAD_NAME, name.as_bytes());
                descriptor = descriptor.bytes(field::THREAD, &thread.0);
                None
            }
            Track::Cores => Some("cores".into()),
            Track::Core(core) => Some(format!("core {core}")),
            Track::Interrupts(core) => Some(format!("core {core}, interrupts")),
            Track::Network => Some("network".into()),
            Track::Connection(0, 0) => Some("neither TCP nor UDP".into()),
            Track::Connection(ports, peer) => {
                Some(format!(":{} {}:{}", ports >> 16 & 0xffff, Peer(peer), ports & 0xffff))
            }
            Track::Disk => Some("disk".into()),
            Track::DiskRequest(lane) => Some(format!("request {lane}")),
            Track::Rings => Some("io_uring".into()),
            Track::RingOperation(lane) => Some(format!("operation {lane}")),
        };
        if let Some(name) = name {
            descriptor = descriptor.bytes(field::NAME, name.as_bytes());
        }
        self.packet(Message::default().bytes(field::TRACK_DESCRIPTOR, &descriptor.0));
        uuid
    }

    fn thread_name(&self, id: u64) -> String {
        match self.names.get(&id) {
            Some(name) if !name.is_empty() => (*name).into(),
            _ if id == 0 => "kernel".into(),
            _ => format!("thread {id}"),
        }
    }

    /// Writes an event on a track, with more fields of the packet's `TrackEvent`.
    fn put(&mut self, track: Track, shape: Shape, event: &Event, name: &str, more: Message) {
        let mut body =
            Message::default().number(field::TYPE, shape as u64).number(field::TRACK, self.uuid(track));
        body.0.extend_from_slice(&more.0);
        if shape != Shape::End {
            body = body.bytes(field::EVENT_NAME, name.as_bytes());
            if let Some(about) = event.known().map(Kind::about) {
                body = body.bytes(field::CATEGORY, about.part.as_bytes());
                for field in about.fields.iter().filter(|field| !field.is_empty()) {
                    body = annotate(body, field, event);
                }
            }
        }
        let at = self.recording.clock.ns(event.at);
        self.packet(Message::default().number(field::TIMESTAMP, at).bytes(field::TRACK_EVENT, &body.0));
    }

    fn begin_running(&mut self, core: u32, at: u64) {
        let Some((thread, has_begun @ false)) = self.running.get_mut(&core) else { return };
        *has_begun = true;
        let thread = *thread;
        let mut more = Message::default();
        if let Some(arrow) = self.woken.remove(&thread) {
            more = more.fixed(field::FLOW_END, arrow);
        }
        let name = self.thread_name(thread);
        let event = Event { at, ..Event::default() };
        self.put(Track::Core(core), Shape::Begin, &event, &name, more);
    }

    fn end_running(&mut self, core: u32, event: &Event) {
        if let Some((_, true)) = self.running.remove(&core) {
            self.put(Track::Core(core), Shape::End, event, "", Message::default());
        }
    }

    /// Ends what is open on a thread's track, down to a level: the lock lies within the fault, and that within the call.
    fn close(&mut self, thread: u64, event: &Event, level: Level) {
        let open = self.open.entry(thread).or_default();
        let count = u8::from(core::mem::take(&mut open.has_lock))
            + u8::from(level <= Level::Fault && core::mem::take(&mut open.has_fault))
            + u8::from(level <= Level::Call && core::mem::take(&mut open.has_call));
        for _ in 0..count {
            self.put(Track::Thread(thread), Shape::End, event, "", Message::default());
        }
    }

    fn event(&mut self, core: u32, event: &Event) {
        let [first, second] = event.wide;
        if event.kind == LOST {
            // Nothing is known of the core until its next switch.
            let thread = self.running.get(&core).map(|(thread, _)| *thread);
            self.end_running(core, event);
            thread.into_iter().for_each(|thread| self.close(thread, event, Level::Call));
            return;
        }
        let Some(kind) = event.known() else { return };
        let name = kind.about().name;
        let thread = self.running.get(&core).map(|(thread, _)| *thread);
        let on_thread = thread.map(Track::Thread);
        match kind {
            Kind::Switch => {
                self.end_running(core, event);
                self.running.insert(core, (second, false));
                self.begin_running(core, event.at);
            }
            Kind::IdleBegin => {
                // The core may pass its time on the stack of the thread that sleeps, which goes on afterwards.
                if let Some((_, has_begun @ true)) = self.running.get_mut(&core) {
                    *has_begun = false;
                    self.put(Track::Core(core), Shape::End, event, "", Message::default());
                }
            }
            Kind::IdleEnd => self.begin_running(core, event.at),
            Kind::Wake => {
                self.arrows += 1;
                self.woken.insert(first, self.arrows);
                let more = Message::default().fixed(field::FLOW, self.arrows);
                let name = format!("wakes {}", self.thread_name(first));
                self.put(Track::Core(core), Shape::Instant, event, &name, more);
            }
            Kind::CallBegin => {
                let Some(thread) = thread else { return };
                self.close(thread, event, Level::Call);
                self.open.entry(thread).or_default().has_call = true;
                let name =
                    (self.call_name)(event.small).map_or_else(|| format!("call {}", event.small), Into::into);
                self.put(Track::Thread(thread), Shape::Begin, event, &name, Message::default());
            }
            Kind::CallEnd => thread.into_iter().for_each(|thread| self.close(thread, event, Level::Call)),
            Kind::FaultBegin => {
                let Some(thread) = thread else { return };
                self.close(thread, event, Level::Fault);
                self.open.entry(thread).or_default().has_fault = true;
                self.put(Track::Thread(thread), Shape::Begin, event, name, Message::default());
            }
            Kind::FaultEnd => thread.into_iter().for_each(|thread| self.close(thread, event, Level::Fault)),
            Kind::InterruptBegin => {
                if self.interrupted.insert(core) {
                    let name = format!("vector {}", event.small);
                    self.put(Track::Interrupts(core), Shape::Begin, event, &name, Message::default());
                }
            }
            Kind::InterruptEnd => {
                if self.interrupted.remove(&core) {
                    self.put(Track::Interrupts(core), Shape::End, event, "", Message::default());
                }
            }
            Kind::FrameIn | Kind::FrameOut | Kind::TcpResend | Kind::TcpState | Kind::SocketOpen => {
                self.put(Track::Connection(first, second), Shape::Instant, event, name, Message::default());
            }
            Kind::DiskBegin => {
                let lane = self.disk.begin((first, second));
                let name = ["read", "write", "flush", "discard", "write zeroes"].get(second as usize);
                let name = name.copied().unwrap_or("disk");
                self.put(Track::DiskRequest(lane), Shape::Begin, event, name, Message::default());
            }
            Kind::DiskEnd => {
                if let Some(lane) = self.disk.end((first, second)) {
                    self.put(Track::DiskRequest(lane), Shape::End, event, "", Message::default());
                }
            }
            Kind::RingSubmit => {
                let lane = self.rings.begin((first, 0));
                let name = format!("opcode {}", event.small);
                self.put(Track::RingOperation(lane), Shape::Begin, event, &name, Message::default());
            }
            Kind::RingComplete => {
                if let Some(lane) = self.rings.end((first, 0)) {
                    self.put(Track::RingOperation(lane), Shape::End, event, "", Message::default());
                }
            }
            Kind::LockBegin => {
                let Some(thread) = thread else { return };
                self.close(thread, event, Level::Lock);
                self.open.entry(thread).or_default().has_lock = true;
                self.put(Track::Thread(thread), Shape::Begin, event, name, Message::default());
            }
            Kind::LockEnd => thread.into_iter().for_each(|thread| self.close(thread, event, Level::Lock)),
            Kind::EpollReady | Kind::FutexWait | Kind::FutexWake => {
                let track = on_thread.unwrap_or(Track::Core(core));
                self.put(track, Shape::Instant, event, name, Message::default());
            }
            Kind::Boot => {
                let name = format!("boot, phase {}", event.small);
                self.put(Track::Core(core), Shape::Instant, event, &name, Message::default());
            }
        }
    }
}

/// Adds the value of a field as an annotation, as it is printed.
fn annotate(body: Message, field: &str, event: &Event) -> Message {
    let mut text = String::new();
    // A string takes what is written to it.
    let _ = event.write_field(&mut text, field);
    let annotation = Message::default()
        .bytes(field::ANNOTATION_NAME, field.as_bytes())
        .bytes(field::ANNOTATION_STRING, text.as_bytes());
    body.bytes(field::ANNOTATION, &annotation.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::{Clock, Tag, Writer};

    fn recorded(events: &[Event]) -> Vec<u8> {
        let mut writer = Writer::new(1 << 16).unwrap();
        writer.head(&Clock { hz: 1_000_000_000, start: 0, start_unix_ns: 0 }).unwrap();
        writer.kinds().unwrap();
        writer.text(Tag::Threads, |out| out.write_str("1\t0\tmain\n2\t-\tworker\n")).unwrap();
        let written = writer.events(0, |see| {
            assert!(events.iter().copied().all(see));
            0
        });
        assert_eq!(written, Ok(()));
        writer.finish()
    }

    /// Number, wire type and content of each field.
    fn fields(mut bytes: &[u8]) -> Vec<(u32, u64, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (byte, rest) = bytes.split_first().expect("it is whole");
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let (value, length) = match key & 7 {
                0 => (varint(&mut bytes), 0),
                1 => (u64::from_le_bytes(*bytes.first_chunk().unwrap()), 8),
                2 => (0, varint(&mut bytes) as usize),
                other => panic!("wire type {other}"),
            };
            let (content, rest) = bytes.split_at(length);
            found.push(((key >> 3) as u32, value, content));
            bytes = rest;
        }
        found
    }

    /// Begins less ends on each track: never below 0.
    fn depths(trace: &[u8]) -> BTreeMap<u64, i64> {
        let mut depths = BTreeMap::new();
        for (number, _, packet) in fields(trace) {
            assert_eq!(number, field::PACKET);
            for (_, _, event) in
                fields(packet).into_iter().filter(|(number, ..)| *number == field::TRACK_EVENT)
            {
                let parts = fields(event);
                let value =
                    |wanted| parts.iter().find(|(number, ..)| *number == wanted).map(|(_, value, _)| *value);
                let depth: &mut i64 = depths.entry(value(field::TRACK).unwrap()).or_default();
                *depth += match value(field::TYPE).unwrap() {
                    1 => 1,
                    2 => -1,
                    _ => 0,
                };
                assert!(*depth >= 0, "an end without a beginning");
            }
        }
        depths
    }

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        let mut trace = Vec::new();
        let name = |number| (number == 0).then_some("read");
        encode(&Recording::read(bytes).unwrap(), &name, &mut |piece| trace.extend_from_slice(piece));
        trace
    }

    fn contains(trace: &[u8], text: &str) -> bool {
        trace.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn a_call_a_wait_and_a_switch_become_slices() {
        let event = |at, kind: Kind, small, first, second| Event {
            at,
            kind: kind as u8,
            small,
            wide: [first, second],
        };
        let trace = encoded(&recorded(&[
            event(10, Kind::CallBegin, 0, 5, 0),
            event(20, Kind::Wake, 0, 2, 1),
            event(30, Kind::Switch, 0, 1, 2),
            event(40, Kind::CallBegin, 77, 0, 0),
            event(50, Kind::FaultBegin, 4, 0x1000, 0x2000),
            event(60, Kind::FaultEnd, 0, 0x1000, 0),
            event(70, Kind::CallEnd, 77, 0, 0),
            event(80, Kind::DiskBegin, 512, 8, 1),
            event(90, Kind::DiskEnd, 0, 8, 1),
        ]));
        for text in
            ["core 0", "main", "worker", "read", "call 77", "wakes worker", "page fault", "write", "0x2000"]
        {
            assert!(contains(&trace, text), "{text}");
        }
        // Thread 1 has not come back from its call, and thread 2 runs.
        assert_eq!(depths(&trace).values().sum::<i64>(), 2);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        (0_u64..1000, 0_u8..30, 0_u32..3, 0_u64..4, 0_u64..4)
            .prop_map(|(at, kind, small, first, second)| Event { at, kind, small, wide: [first, second] })
    }

    proptest! {
        /// Whatever was recorded, it is a trace in which nothing ends that has not begun.
        #[test]
        fn any_events_are_a_timeline(events in proptest::collection::vec(any_event(), 0..200)) {
            depths(&encoded(&recorded(&events)));
        }
    }
}
