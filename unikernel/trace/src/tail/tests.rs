//! Recordings as a kernel would write them, a step of the counter being a microsecond.

use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::event::{Event, Kind};
use crate::recording::{Tag, Writer};

/// Numbers of system calls, and what [`name`] says of them.
const READ: u64 = 0;
const WRITE: u64 = 1;
const EPOLL: u64 = 2;
const FUTEX: u64 = 3;
const FSYNC: u64 = 4;
const NANOSLEEP: u64 = 5;

fn name(number: u32) -> Option<&'static str> {
    ["read", "write", "epoll_wait", "futex", "fsync", "nanosleep"].get(number as usize).copied()
}

/// The clients' ports.
const FIRST: u64 = 8080 << 16 | 4000;
const SECOND: u64 = 8080 << 16 | 4001;
const PEER: u64 = 0x0a00_0202;
const STOPPED: u32 = 0;
const PREEMPTED: u32 = 1;

/// Events of core 0, and of core 1.
#[derive(Default)]
struct Script([Vec<Event>; 2]);

impl Script {
    fn on(mut self, core: usize, at: u64, kind: Kind, small: u64, first: u64, second: u64) -> Self {
        self.0[core].push(Event { at, kind: kind as u8, small: small as u32, wide: [first, second] });
        self
    }

    fn at(self, at: u64, kind: Kind, small: u64, first: u64, second: u64) -> Self {
        self.on(0, at, kind, small, first, second)
    }

    fn call(self, begin: u64, end: u64, number: u64, argument: u64, result: u64) -> Self {
        self.at(begin, Kind::CallBegin, number, argument, 0).at(end, Kind::CallEnd, number, result, 0)
    }

    /// Thread 1 sleeps in epoll_wait(2) on core 0 until a frame comes at `at`, and is back in the app 10 µs later.
    fn wakes_for(self, at: u64, ports: u64) -> Self {
        self.at(at - 50, Kind::CallBegin, EPOLL, 3, 0)
            .at(at - 40, Kind::IdleBegin, 0, 0, 0)
            .at(at, Kind::FrameIn, 100, ports, PEER)
            .at(at + 2, Kind::Wake, 0, 1, 0)
            .at(at + 3, Kind::IdleEnd, 0, 0, 0)
            .at(at + 10, Kind::CallEnd, EPOLL, 1, 0)
    }

    /// Thread 1 answers: the frame leaves 4 µs after the call began, and is acknowledged 100 µs later.
    fn answers(self, at: u64, descriptor: u64, ports: u64) -> Self {
        self.at(at, Kind::CallBegin, WRITE, descriptor, 0).at(at + 4, Kind::FrameOut, 200, ports, PEER).at(
            at + 6,
            Kind::CallEnd,
            WRITE,
            200,
            0,
        )
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(1 << 20).unwrap();
        writer.head(&Clock { hz: 1_000_000, start: 0, start_unix_ns: 0 }).unwrap();
        writer.kinds().unwrap();
        writer.text(Tag::Threads, |out| out.write_str("1\t0\tserver\n2\t-\tholder\n3\t-\tburner\n")).unwrap();
        let sockets = std::format!("7\t{FIRST}\t{PEER}\n8\t{SECOND}\t{PEER}\n");
        writer.text(Tag::Sockets, |out| out.write_str(&sockets)).unwrap();
        for (core, events) in self.0.iter().enumerate() {
            let written = writer.events(core, |see| {
                assert!(events.iter().copied().all(see));
                0
            });
            written.unwrap();
        }
        writer.finish()
    }

    fn tail(&self) -> Tail {
        let bytes = self.bytes();
        Tail::of(&Recording::read(&bytes).unwrap(), &name)
    }

    fn report(&self) -> String {
        let mut text = String::new();
        write(&self.tail(), 3, &name, &mut text).unwrap();
        text
    }
}

/// The parts that are not nothing.
fn parts(request: &Request) -> Vec<(Part, u64)> {
    let all = Part::ALL.map(|part| (part, request.parts[part as usize]));
    assert_eq!(request.parts.iter().sum::<u64>(), request.length(), "they are all of it");
    all.into_iter().filter(|(_, steps)| *steps > 0).collect()
}

fn only(script: &Script) -> Request {
    let tail = script.tail();
    assert_eq!((tail.requests.len(), tail.unanswered.len()), (1, 0));
    tail.requests[0].clone()
}

#[test]
fn a_request_is_divided_between_its_first_byte_and_its_last() {
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .answers(1050, 7, FIRST)
        .at(1200, Kind::FrameIn, 0, FIRST, PEER);
    let request = only(&script);
    assert_eq!((request.begin, request.end, request.acknowledged), (1000, 1054, Some(1200)));
    assert_eq!((request.bytes, request.connection.ports), ([100, 200], FIRST));
    assert_eq!(
        parts(&request),
        [(Part::Wake, 2), (Part::Core, 1), (Part::App, 2 + 35), (Part::Kernel, 7 + 3), (Part::Sending, 4)]
    );
}

#[test]
fn time_in_a_futex_is_the_requests_that_was_read() {
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .at(1020, Kind::CallBegin, FUTEX, 0x7000, 0)
        .at(1022, Kind::Switch, STOPPED.into(), 1, 2)
        .at(41_000, Kind::Wake, 0, 1, 2)
        .at(41_010, Kind::Switch, STOPPED.into(), 2, 1)
        .at(41_012, Kind::CallEnd, FUTEX, 0, 0)
        .answers(41_050, 7, FIRST);
    let request = only(&script);
    assert_eq!(request.parts[Part::Futex as usize], 41_000 - 1022);
    assert_eq!(request.parts[Part::Core as usize], 1 + 10);
    let longest = request.longest.unwrap();
    assert_eq!((longest.part, longest.other, longest.call), (Part::Futex, 2, Some((FUTEX as u32, 0x7000))));
    let report = script.report();
    assert!(report.contains("39.978 ms in thread 1 \"server\": futex (lock, condition), in futex(0x7000, ...), woken by thread 2 \"holder\""), "{report}");
}

/// The thread that the request is for is stuck with another's.
#[test]
fn who_waits_behind_another_request_waits_for_what_that_waits_for() {
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .at(1020, Kind::CallBegin, FSYNC, 5, 0)
        .at(1021, Kind::DiskBegin, 4096, 8, 1)
        .at(1022, Kind::IdleBegin, 0, 0, 0)
        .at(2000, Kind::FrameIn, 100, SECOND, PEER)
        .at(9000, Kind::DiskEnd, 0, 8, 1)
        .at(9001, Kind::Wake, 0, 1, 0)
        .at(9002, Kind::IdleEnd, 0, 0, 0)
        .at(9010, Kind::CallEnd, FSYNC, 0, 0)
        .answers(9050, 7, FIRST)
        .call(9060, 9062, READ, 8, 100)
        .answers(9070, 8, SECOND);
    let tail = script.tail();
    let [first, second] = [FIRST, SECOND]
        .map(|ports| tail.requests.iter().find(|request| request.connection.ports == ports).unwrap());
    assert_eq!(first.parts[Part::Disk as usize], 9001 - 1022);
    assert_eq!(second.parts[Part::Disk as usize], 9001 - 2000);
    assert_eq!(second.parts[Part::Others as usize], 9060 - 9002, "the first one's answer");
    assert_eq!(second.parts.iter().sum::<u64>(), second.length());
}

#[test]
fn a_core_that_others_have_is_waited_for() {
    let script = Script::default()
        .at(900, Kind::CallBegin, EPOLL, 3, 0)
        .at(910, Kind::Switch, STOPPED.into(), 1, 3)
        .at(1000, Kind::FrameIn, 100, FIRST, PEER)
        .at(1001, Kind::Wake, 0, 1, 3)
        .at(5000, Kind::Switch, PREEMPTED.into(), 3, 1)
        .at(5010, Kind::CallEnd, EPOLL, 1, 0)
        .call(5012, 5015, READ, 7, 100)
        .answers(5020, 7, FIRST);
    let request = only(&script);
    assert_eq!(request.parts[Part::Core as usize], 3999);
    let report = script.report();
    assert!(
        report.contains("waits for a core, in epoll_wait(0x3, ...), which this had: thread 3 \"burner\""),
        "{report}"
    );
}

/// One reads, another works and answers: what happens between is known from who woke whom.
#[test]
fn a_request_is_followed_from_thread_to_thread() {
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .at(1020, Kind::CallBegin, FUTEX, 0x9000, 1)
        .at(1022, Kind::Wake, 0, 2, 1)
        .at(1024, Kind::CallEnd, FUTEX, 1, 0)
        .at(1030, Kind::CallBegin, EPOLL, 3, 0)
        .at(1032, Kind::Switch, STOPPED.into(), 1, 2)
        .at(1040, Kind::CallBegin, NANOSLEEP, 0, 0)
        .at(1042, Kind::IdleBegin, 0, 0, 0)
        .at(3000, Kind::Wake, 1, 2, 0)
        .at(3001, Kind::IdleEnd, 0, 0, 0)
        .at(3005, Kind::CallEnd, NANOSLEEP, 0, 0)
        .answers(3010, 7, FIRST);
    let request = only(&script);
    assert_eq!(request.parts[Part::Sleep as usize], 3000 - 1042);
    assert_eq!(
        request.parts[Part::Core as usize],
        1 + 10 + 1,
        "from its wake on the second thread was ready"
    );
    assert_eq!(
        request.parts[Part::Events as usize],
        0,
        "what the first does afterwards is not the request's"
    );
}

#[test]
fn lost_bytes_are_told_apart_from_slow_ones() {
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .answers(1050, 7, FIRST)
        .at(201_000, Kind::TcpResend, 1, FIRST, PEER)
        .at(201_001, Kind::FrameOut, 200, FIRST, PEER)
        .at(201_500, Kind::FrameIn, 0, FIRST, PEER);
    let request = only(&script);
    assert_eq!(request.parts[Part::Resending as usize], 201_001 - 1054);
    assert_eq!(request.acknowledged, Some(201_500));
    assert!(script.report().contains("lost, and sent again"));
}

/// The answer is lost; the client says its request again before we say the answer again.
#[test]
fn a_request_that_is_said_again_is_no_other() {
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .answers(1050, 7, FIRST)
        .at(1060, Kind::CallBegin, READ, 7, 0)
        .at(1062, Kind::IdleBegin, 0, 0, 0)
        .at(200_000, Kind::FrameIn, 100, FIRST, PEER)
        .at(200_001, Kind::FrameOut, 0, FIRST, PEER)
        .at(200_002, Kind::FrameOut, 200, FIRST, PEER)
        .at(200_900, Kind::FrameIn, 100, FIRST, PEER)
        .at(200_901, Kind::Wake, 0, 1, 0)
        .at(200_902, Kind::IdleEnd, 0, 0, 0)
        .at(200_910, Kind::CallEnd, READ, 100, 0)
        .answers(200_920, 7, FIRST);
    let tail = script.tail();
    let [second, first] = &tail.requests[..] else { panic!("{:?}", tail.requests) };
    assert_eq!((first.begin, first.end, first.acknowledged), (1000, 200_002, Some(200_900)));
    assert_eq!(first.parts[Part::Resending as usize], 200_002 - 1054);
    assert_eq!((second.begin, second.end), (200_900, 200_924));
}

#[test]
fn requests_without_an_answer_are_told() {
    let script = Script::default().wakes_for(1000, FIRST).call(1012, 1015, READ, 7, 100).at(
        500_000,
        Kind::FrameIn,
        0,
        SECOND,
        PEER,
    );
    let report = script.report();
    assert_eq!(
        report.trim_end(),
        "0 requests on 1 connections in 499.050 ms; 1 without an answer, the oldest for 499.000 ms: :8080 10.0.2.2:4000"
    );
}

/// What an app asks of others, and the channel of the recording itself, are no requests.
#[test]
fn connections_that_no_client_has_made_are_left_out() {
    let ports = 40_000 << 16 | 5432;
    let script =
        Script::default().wakes_for(1000, ports).call(1012, 1015, READ, 9, 100).answers(1050, 9, ports);
    assert!(script.tail().requests.is_empty());
}

/// Descriptors are used again: accept(2) tells of which connection they are from then on.
#[test]
fn a_descriptor_is_the_connection_that_it_is_then() {
    let third = 8080 << 16 | 4002;
    let script = Script::default()
        .wakes_for(1000, FIRST)
        .call(1012, 1015, READ, 7, 100)
        .answers(1050, 7, FIRST)
        .at(1500, Kind::SocketOpen, 7, third, PEER)
        .wakes_for(2000, third)
        .call(2012, 2015, READ, 7, 100)
        .answers(2050, 7, third);
    let tail = script.tail();
    let known = tail.requests.iter().filter(|request| request.parts[Part::Unknown as usize] == 0);
    assert_eq!((known.count(), tail.connections), (2, 2));
}

proptest! {
    /// Whatever a recording says, what is made of it is finite, and the parts of a request are all of it.
    #[test]
    fn any_events_are_judged(
        events in proptest::collection::vec((0_usize..2, 0_u64..400, 0_u8..27, 0_u64..9, prop_oneof![0_u64..10, Just(FIRST), Just(SECOND)], prop_oneof![0_u64..4, Just(PEER)]), 0..200),
    ) {
        let mut script = Script::default();
        for (core, at, kind, small, first, second) in events {
            script.0[core].push(Event { at, kind, small: small as u32, wide: [first, second] });
        }
        script.0.iter_mut().for_each(|events| events.sort_by_key(|event| event.at));
        let tail = script.tail();
        for request in &tail.requests {
            prop_assert_eq!(request.parts.iter().sum::<u64>(), request.length());
        }
        script.report();
    }

    #[test]
    fn any_times_are_judged(events in proptest::collection::vec((any::<u64>(), 0_u8..27, any::<u32>(), any::<u64>(), any::<u64>()), 0..100)) {
        let mut script = Script::default();
        let make = |(at, kind, small, first, second)| Event { at, kind, small, wide: [first, second] };
        script.0[0].extend(events.into_iter().map(make));
        script.0[0].sort_by_key(|event| event.at);
        script.report();
    }
}

#[test]
fn a_connection_is_named_as_people_write_it() {
    assert_eq!(Connection { ports: FIRST, peer: PEER }.to_string(), ":8080 10.0.2.2:4000");
}
