//! The owner's channel, asked by the host at the other end of the cable.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use linux_raw_sys::net::{self, AF_INET};
use smoltcp::iface::SocketHandle;
use smoltcp::wire::IpEndpoint;
use unikernel_hal::sim::card::Card;
use unikernel_trace::event::{Event, Kind};
use unikernel_trace::recording::Recording;
use unikernel_trace::text;

use super::lan::{HOST, Lan};
use super::{OWN, STATIC, machine, metric, run};
use crate::platform::events;
use crate::workbench::app::files::{close, read_to_end, sleep_ms, write_all};
use crate::workbench::app::net::{
    DGRAM, LOCALHOST, STREAM, accept, bind, connect, listen, send_to, socket, v4,
};
use crate::workbench::app::spawn;

const WORDS: &str = "observe=tcp:9100:10.0.2.0/30";

fn channel() -> IpEndpoint {
    IpEndpoint::new(Ipv4Addr::from(OWN).into(), 9100)
}

/// The host sends bytes, and reads until the machine has nothing more for it.
fn ask(lan: &Lan, from_port: u16, bytes: &[u8]) -> String {
    String::from_utf8(ask_for_bytes(lan, from_port, bytes)).expect("a text")
}

fn ask_for_bytes(lan: &Lan, from_port: u16, bytes: &[u8]) -> Vec<u8> {
    let handle = lan.connect(channel(), from_port);
    lan.wait("a connection", |host| host.tcp(handle).may_send());
    assert_eq!(lan.with(|host| host.tcp(handle).send_slice(bytes)), Ok(bytes.len()));
    rest(lan, handle)
}

fn rest(lan: &Lan, handle: SocketHandle) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        lan.wait("an answer", |host| host.tcp(handle).can_recv() || !host.tcp(handle).may_recv());
        let got =
            lan.with(|host| host.tcp(handle).recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap_or_default());
        if got.is_empty() {
            lan.with(|host| host.tcp(handle).close());
            return all;
        }
        all.extend(got);
    }
}

fn page(lan: &Lan, from_port: u16, path: &str) -> String {
    let answer =
        ask(lan, from_port, std::format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    assert!(head.contains(&std::format!("Content-Length: {}\r\n", body.len())), "{head}");
    body.into()
}

#[test]
fn each_page_tells_what_it_says() {
    for (seed, cores) in [(1, 1), (2, 2)] {
        let machine = super::Machine { seed, cores, ..machine(&std::format!("{STATIC} {WORDS}")) };
        run(machine, Card::default(), |lan| {
            // One thread sleeps meanwhile, and one server listens.
            let listening = socket(AF_INET, STREAM);
            bind(listening, &v4(OWN, 80)).unwrap();
            listen(listening, 16).unwrap();
            spawn(move || {
                let _ = accept(listening);
            })
            .unwrap();
            let index = page(&lan, 4000, "/");
            assert_eq!(index.lines().count(), 6);
            for (port, line) in (4001..).zip(index.lines()) {
                let path = line.split(' ').next().unwrap();
                if path == "/trace" || path == "/pcap" {
                    continue;
                }
                assert!(!page(&lan, port, path).is_empty(), "{path}");
            }
            let threads = page(&lan, 4010, "/threads?stacks=off");
            assert!(threads.starts_with("2 threads"), "{threads}");
            assert!(threads.contains("thread 2 \"app\": sleeps, core"), "{threads}");
            let sockets = page(&lan, 4011, "/sockets");
            assert!(sockets.contains("LISTEN      0      0      10.0.2.15:80 *:*"), "{sockets}");
            assert!(sockets.contains("10.0.2.15:9100 10.0.2.2:4011"), "{sockets}");
            assert!(page(&lan, 4012, "/metrics").contains("unikernel_uptime_milliseconds "));
        });
    }
}

/// What the app, the network and the cores do is in the recording, and nothing is recorded before and after.
#[test]
fn a_recording_has_what_happens_while_it_lasts() {
    for (seed, cores) in [(3, 1), (4, 2)] {
        let machine = super::Machine { seed, cores, ..machine(&std::format!("{STATIC} {WORDS}")) };
        run(machine, Card::default(), |lan| {
            assert!(!events::is_on() && events::ring(0).is_none());
            let request = b"GET /trace?seconds=1 HTTP/1.1\r\nConnection: close\r\n\r\n";
            let answer = ask_for_bytes(&lan, 4000, request);
            let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            let recording = Recording::read(&answer[head..]).expect("a recording");
            assert_eq!((recording.lost(), recording.notes.len(), recording.threads.len()), (0, 0, 2));
            assert!(recording.threads[0].contains("\tapp\n"), "{:?}", recording.threads);
            let events = recording.by_time();
            let count = |kind: Kind| events.iter().filter(|(_, event)| event.known() == Some(kind)).count();
            for kind in [Kind::CallBegin, Kind::CallEnd, Kind::Wake, Kind::IdleBegin, Kind::InterruptBegin] {
                assert!(count(kind) > 0, "{kind:?}");
            }
            let sleeps = |(_, event): &&(u32, Event)| event.small == linux_raw_sys::general::__NR_nanosleep;
            assert!(events.iter().filter(sleeps).count() > 10, "the app waits for the answer");
            let span_ns =
                recording.clock.ns(events.last().unwrap().1.at) - recording.clock.ns(events[0].1.at);
            assert!((900_000_000..1_100_000_000).contains(&span_ns), "{span_ns} ns");
            assert!(!events::is_on());
            let written = events::ring(0).unwrap().written();
            sleep_ms(5);
            assert_eq!(events::ring(0).unwrap().written(), written);
            // The frames of a second request, while nobody asks for more than what the rings hold.
            let kept =
                ask_for_bytes(&lan, 4001, b"GET /trace?seconds=0 HTTP/1.1\r\nConnection: close\r\n\r\n");
            assert!(kept.len() > answer.len() / 2, "{} of {}", kept.len(), answer.len());
        });
    }
}

/// Types and contents of the blocks of a pcapng file, which must be whole.
fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    while !file.is_empty() {
        let word = |at: usize| u32::from_le_bytes(*file[at..].first_chunk().unwrap());
        let (kind, length) = (word(0), word(4) as usize);
        assert_eq!(word(length - 4) as usize, length);
        all.push((kind, file[8..length - 4].to_vec()));
        file = &file[length..];
    }
    all
}

/// The frames of a while are those that a filter takes, without the channel's own, and nobody sees frames afterwards.
#[test]
fn frames_are_gathered_for_who_asks() {
    const PACKET: u32 = 6;
    for (seed, cores) in [(5, 1), (6, 2)] {
        let machine = super::Machine { seed, cores, ..machine(&std::format!("{STATIC} {WORDS}")) };
        run(machine, Card::default(), |lan| {
            spawn(|| {
                let sender = socket(AF_INET, DGRAM);
                for _ in 0..60 {
                    let _ = send_to(sender, b"hello", 0, &v4(HOST, 7));
                    sleep_ms(50);
                }
            })
            .unwrap();
            let gathered = |from_port: u16, query: &str| {
                let request = std::format!("GET /pcap?{query} HTTP/1.1\r\nConnection: close\r\n\r\n");
                let answer = ask_for_bytes(&lan, from_port, request.as_bytes());
                let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
                (String::from_utf8_lossy(&answer[..head]).into_owned(), answer[head..].to_vec())
            };
            let (head, file) = gathered(4000, "seconds=1&filter=udp+and+port+7");
            assert!(head.starts_with("HTTP/1.1 200") && head.contains("pcapng"), "{head}");
            let all = blocks(&file);
            assert_eq!((all[0].0, all[1].0, all.last().unwrap().0), (0x0a0d_0d0a, 1, 5));
            let packets: Vec<_> = all.iter().filter(|(kind, _)| *kind == PACKET).collect();
            // Every 50 ms, there and back.
            assert!((30..=50).contains(&packets.len()), "{} datagrams", packets.len());
            assert!(packets.iter().all(|(_, packet)| packet.windows(5).any(|bytes| bytes == b"hello")));
            let (_, file) = gathered(4001, "seconds=1&snap=40");
            let all = blocks(&file);
            let packets = all.iter().filter(|(kind, _)| *kind == PACKET);
            for (_, packet) in packets {
                let kept = u32::from_le_bytes(*packet[12..].first_chunk().unwrap());
                assert!(kept <= 40);
                // Neither end of the channel: both ports lie behind an IPv4 header.
                let ports = packet.get(20 + 34..20 + 38).unwrap_or_default();
                assert!(!ports.chunks(2).any(|port| port == 9100_u16.to_be_bytes()), "{ports:?}");
            }
            let (head, told) = gathered(4002, "filter=tcp+or+udp");
            assert!(head.starts_with("HTTP/1.1 400"), "{head}");
            assert!(String::from_utf8_lossy(&told).contains("port NUMBER"));
        });
    }
}

/// A connection that a client makes has its descriptor in the recording: as an event, or in the list of those that were there before.
#[test]
fn a_recording_tells_which_connection_a_descriptor_is() {
    let machine = machine(&std::format!("{STATIC} {WORDS} trace=events"));
    run(machine, Card::default(), |lan| {
        let listening = socket(AF_INET, STREAM);
        bind(listening, &v4(OWN, 80)).unwrap();
        listen(listening, 16).unwrap();
        let client = lan.connect(IpEndpoint::new(Ipv4Addr::from(OWN).into(), 80), 5000);
        lan.wait("a connection", |host| host.tcp(client).may_send());
        let descriptor = accept(listening).unwrap();
        let answer = ask_for_bytes(&lan, 4000, b"GET /trace?seconds=0 HTTP/1.1\r\nConnection: close\r\n\r\n");
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let recording = Recording::read(&answer[head..]).expect("a recording");
        let words = [80 << 16 | 5000, u64::from(Ipv4Addr::from(HOST).to_bits())];
        assert_eq!(recording.sockets().collect::<Vec<_>>(), [(descriptor as i32, words)]);
        let events = recording.by_time();
        let opened: Vec<_> =
            events.iter().filter(|(_, event)| event.known() == Some(Kind::SocketOpen)).collect();
        assert_eq!(opened.len(), 1);
        assert_eq!((opened[0].1.small, opened[0].1.wide), (descriptor as u32, words));
        close(descriptor);
        close(listening);
    });
}

/// `trace=events` begins with the boot, and sees the frames and states of connections.
#[test]
fn what_is_recorded_from_the_start_has_the_boot_and_connections() {
    let machine = machine(&std::format!("{STATIC} {WORDS} trace=events"));
    run(machine, Card::default(), |lan| {
        assert!(events::is_on());
        assert!(!page(&lan, 4000, "/metrics").is_empty());
        let request = b"GET /trace?seconds=0 HTTP/1.1\r\nConnection: close\r\n\r\n";
        let answer = ask_for_bytes(&lan, 4001, request);
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let recording = Recording::read(&answer[head..]).expect("a recording");
        let mut lines = String::new();
        text::write(&recording, &|_| None, &mut lines).unwrap();
        for expected in [
            "boot phase=1",
            "boot phase=5",
            "ports=9100-4000 peer=10.0.2.2",
            "frame out bytes=",
            "tcp state state=1 ports=9100-4000",
        ] {
            assert!(lines.contains(expected), "{expected} in\n{lines}");
        }
        assert!(events::is_on());
    });
}

#[test]
fn several_requests_go_over_one_connection_and_head_has_no_body() {
    run(machine(&std::format!("{STATIC} {WORDS}")), Card::default(), |lan| {
        let answer = ask(
            &lan,
            4000,
            b"HEAD / HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        );
        let heads: Vec<_> =
            answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
        assert_eq!(heads, ["200", "404", "200"], "the third closes");
        assert!(answer.contains("Connection: keep-alive\r\n\r\nHTTP/1.1 404"), "{answer}");
    });
}

#[test]
fn nonsense_is_refused_and_silence_given_up() {
    run(machine(&std::format!("{STATIC} {WORDS}")), Card::default(), |lan| {
        assert!(ask(&lan, 4000, b"PUT / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(ask(&lan, 4001, b"\x16\x03\x01\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(ask(&lan, 4002, &[b'a'; 5000]).starts_with("HTTP/1.1 4"));
        // Both places are taken by clients who say nothing; the next is served when they are given up.
        for port in [4003, 4004] {
            let handle = lan.connect(channel(), port);
            lan.wait("a connection", |host| host.tcp(handle).may_send());
        }
        sleep_ms(10_100);
        assert!(page(&lan, 4005, "/").contains("/threads"));
    });
}

#[test]
fn neither_the_app_nor_a_stranger_is_told_anything() {
    run(machine(&std::format!("{STATIC} observe=tcp:9100:10.0.2.77")), Card::default(), |lan| {
        for address in [LOCALHOST, OWN] {
            let client = socket(AF_INET, STREAM);
            connect(client, &v4(address, 9100)).unwrap();
            let _ = write_all(client, b"GET /threads HTTP/1.0\r\n\r\n");
            assert!(read_to_end(client).unwrap_or_default().is_empty(), "the app is told");
            close(client);
        }
        let taken = socket(AF_INET, STREAM);
        assert_eq!(bind(taken, &v4(OWN, 9100)), Err(linux_raw_sys::errno::EADDRINUSE));
        let filtered = metric("net_filtered_tcp_total");
        let handle = lan.connect(channel(), 4000);
        sleep_ms(500);
        assert!(!lan.with(|host| host.tcp(handle).may_send()), "a stranger has a connection");
        assert!(metric("net_filtered_tcp_total") > filtered);
    });
}

#[test]
fn without_the_word_nobody_listens() {
    run(machine(STATIC), Card::default(), |_| {
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &v4(LOCALHOST, 9100)), Err(linux_raw_sys::errno::ECONNREFUSED));
    });
}
