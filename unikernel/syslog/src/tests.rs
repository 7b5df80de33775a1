//! Lines, the queue's bound, and messages as a server reads them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::*;

const WALL_NS: u64 = 1_796_083_199_000_003_000;

fn record(text: &[u8]) -> Record<'_> {
    Record { at_ns: 7, origin: Origin::App, severity: Severity::Informational, topic: "", text }
}

fn written(record: Record<'_>, host: &str, app: &str, wall_ns: Option<u64>) -> Vec<u8> {
    let mut into = Vec::new();
    Message { record, wall_ns, host, app, sequence: 0 }.write(&mut into);
    into
}

fn lines_of(pieces: &[&[u8]]) -> Vec<(u8, String)> {
    let mut lines = Lines::new().unwrap();
    let mut found = Vec::new();
    let mut tell = |severity: Severity, text: &[u8]| {
        found.push((severity as u8, String::from_utf8_lossy(text).into_owned()));
    };
    pieces.iter().for_each(|piece| lines.write(piece, &mut tell));
    lines.end(&mut tell);
    found
}

#[test]
fn messages_are_those_of_the_standard() {
    let app = written(record(b"GET / 200"), "web-1", "server", Some(WALL_NS));
    let expected = "<30>1 2026-11-30T23:59:59.000003Z web-1 server 1 - [meta sequenceId=\"1\"] GET / 200";
    assert_eq!(String::from_utf8(app).unwrap(), expected);
    let kernel = Record {
        origin: Origin::Kernel,
        severity: Severity::Warning,
        topic: "service::ntp",
        ..record("ü\n\x1b\t".as_bytes())
    };
    let expected = "<4>1 - unikernel kernel - service::ntp [meta sequenceId=\"1\"] ü#012#033\t";
    assert_eq!(String::from_utf8(written(kernel, "unikernel", "x", None)).unwrap(), expected);
}

#[test]
fn numbers_of_messages_begin_again_at_one() {
    for (sequence, expected) in [(0, "1"), (0x7fff_fffe, "2147483647"), (0x7fff_ffff, "1"), (u32::MAX, "2")] {
        let mut into = Vec::new();
        Message { record: record(b""), wall_ns: None, host: "", app: "", sequence }.write(&mut into);
        let expected = format!("<30>1 - - - 1 - [meta sequenceId=\"{expected}\"] ");
        assert_eq!(String::from_utf8(into).unwrap(), expected);
    }
}

#[test]
fn dates_have_leap_days() {
    let shown = |seconds: u64| date::Timestamp(seconds * 1_000_000_000).to_string();
    assert_eq!(shown(0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(shown(951_782_399), "2000-02-28T23:59:59.000000Z");
    assert_eq!(shown(1_709_208_000), "2024-02-29T12:00:00.000000Z");
    assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00.000000Z");
}

#[test]
fn lines_lose_colours_and_tell_their_severity() {
    let found = lines_of(&[b"<3>no ro", b"om\r\n\n\x1b[2", b"mdim\x1b[0m\n<9>x\n", b"tail"]);
    let expected = [(3, "no room"), (6, "dim"), (6, "<9>x"), (6, "tail")];
    assert_eq!(found, expected.map(|(severity, text)| (severity, text.to_string())));
}

#[test]
fn long_lines_are_cut_between_characters() {
    let text = "ü".repeat(MAX_TEXT_BYTES) + "x";
    let found = lines_of(&[b"y", text.as_bytes()]);
    assert_eq!(found.len(), 3);
    assert_eq!(found.iter().map(|(_, text)| text.as_str()).collect::<String>(), format!("y{text}"));
}

#[test]
fn what_finds_no_room_is_counted_where_it_is_missing() {
    let mut queue = Queue::new(150).unwrap();
    for number in 0..10_u8 {
        queue.push(&record(&[number; 30]));
    }
    let mut buffer = Vec::new();
    let text = |queue: &mut Queue, buffer: &mut Vec<u8>| {
        queue.pop(buffer).map(|record| String::from_utf8_lossy(record.text).into_owned())
    };
    for number in 0..2_u8 {
        assert_eq!(queue.pop(&mut buffer), Some(record(&[number; 30])));
    }
    queue.push(&record(b"next"));
    queue.push(&record(b"last"));
    assert_eq!(queue.pop(&mut buffer), Some(record(&[2; 30])));
    let gap = queue.pop(&mut buffer).unwrap();
    assert_eq!((gap.severity, gap.origin), (Severity::Warning, Origin::Kernel));
    assert_eq!(gap.text, b"7 lines were lost: the queue is full");
    assert_eq!(text(&mut queue, &mut buffer).unwrap(), "next");
    assert_eq!(text(&mut queue, &mut buffer).unwrap(), "last");
    assert_eq!((text(&mut queue, &mut buffer), queue.is_empty()), (None, true));
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_how_they_are_written(text in "[a-z<>0-9\r\n\u{1b}\\[;mü]{0,60}", cut in 0_usize..60) {
        let (head, tail) = text.as_bytes().split_at(cut.min(text.len()));
        prop_assert_eq!(lines_of(&[head, tail]), lines_of(&[text.as_bytes()]));
    }

    #[test]
    fn messages_are_bounded_and_without_control_characters(
        text in proptest::collection::vec(any::<u8>(), 0..3000),
        host in ".{0,300}", app in ".{0,80}", topic in ".{0,60}", wall_ns in any::<Option<u64>>(),
    ) {
        let message = written(Record { topic: &topic, ..record(&text) }, &host, &app, wall_ns);
        prop_assert!(message.len() <= MAX_MESSAGE_BYTES);
        prop_assert!(message.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f));
        let fields: Vec<&[u8]> = message.splitn(7, |&byte| byte == b' ').collect();
        prop_assert!(fields[..6].iter().all(|field| !field.is_empty() && field.is_ascii()));
        prop_assert!(fields[2].len() <= 255 && fields[3].len() <= 48 && fields[5].len() <= 32);
    }

    #[test]
    fn a_queue_gives_what_it_took_and_counts_the_rest(
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..40),
        pops in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let (mut queue, mut buffer) = (Queue::new(200).unwrap(), Vec::new());
        let mut counted = 0;
        let mut count = |record: Record<'_>| match core::str::from_utf8(record.text).ok() {
            Some(text) if record.topic == "syslog" => {
                counted += text.split(' ').next().unwrap().parse::<usize>().unwrap();
            }
            _ => counted += 1,
        };
        for (text, pops) in texts.iter().zip(pops) {
            queue.push(&record(text));
            if pops {
                queue.pop(&mut buffer).into_iter().for_each(&mut count);
            }
        }
        while let Some(record) = queue.pop(&mut buffer) {
            count(record);
        }
        // What was lost behind the last record.
        queue.push(&record(b"end"));
        while let Some(record) = queue.pop(&mut buffer) {
            count(record);
        }
        prop_assert_eq!(counted, texts.len() + 1);
    }
}
