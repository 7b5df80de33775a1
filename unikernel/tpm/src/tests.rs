//! Commands as bytes, answers with everything changed in them, and a log that a reader of its own finds whole.

extern crate std;

use alloc::vec;
use alloc::vec::Vec;
use std::string::ToString;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::response::ResponseError;
use super::*;

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<std::string::String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// An answer with a right head.
fn answer(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let len = (10 + body.len()) as u32;
    [&tag.to_be_bytes()[..], &len.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

#[test]
fn commands_are_as_the_standard_has_them() {
    assert_eq!(command::startup()[..], from_hex("8001 0000000c 00000144 0000"));
    assert_eq!(command::get_banks()[..], from_hex("8001 00000016 0000017a 00000005 00000000 00000001"));
    assert_eq!(
        command::read(Bank::Sha256, 9)[..],
        from_hex("8001 00000014 0000017e 00000001 000b 03 000200")
    );
    let ones = Digest::new(Bank::Sha256, &[0x11; 32]);
    let expected = from_hex("8002 00000041 00000182 00000008 00000009 40000009 0000 00 0000 00000001 000b");
    assert_eq!(command::extend(8, &[ones])[..], [&expected[..], &[0x11; 32]].concat());
    // All banks that there are fit.
    let all = digests(&Bank::ALL, b"x").unwrap();
    assert_eq!(
        command::extend(8, &all).len(),
        31 + Bank::ALL.iter().map(|bank| 2 + bank.digest_bytes()).sum::<usize>()
    );
}

#[test]
fn banks_in_use_are_told() {
    // SHA-1 without registers, SHA-256 and SHA-384 with all 24.
    let body = from_hex("00 00000005 00000003 0004 03 000000 000b 03 ffffff 000c 03 ffffff");
    let banks = response::banks(&answer(0x8001, 0, &body)).unwrap();
    assert_eq!(banks[..], [Bank::Sha256, Bank::Sha384]);
    // Another capability, a selection that is too long, a bank in use that nobody knows.
    for (at, byte) in [(4, 6), (11, 0xff), (16, 0xff)] {
        let mut body = body.clone();
        body[at] = byte;
        assert_eq!(response::banks(&answer(0x8001, 0, &body)), Err(ResponseError::Malformed), "{at}");
    }
    assert_eq!(response::banks(&answer(0x8001, 0, &body[..10])), Err(ResponseError::Malformed));
    let unknown = from_hex("00 00000005 00000001 0027 03 ffffff");
    assert_eq!(response::banks(&answer(0x8001, 0, &unknown)), Err(ResponseError::Malformed));
    let twice = from_hex("00 00000005 00000002 000b 03 ffffff 000b 03 ffffff");
    assert_eq!(response::banks(&answer(0x8001, 0, &twice)), Err(ResponseError::Malformed));
    let many = [&from_hex("00 00000005 ffffffff")[..], &[0; 6]].concat();
    assert_eq!(response::banks(&answer(0x8001, 0, &many)), Err(ResponseError::Malformed));
}

#[test]
fn registers_are_read() {
    let body = [&from_hex("00000015 00000001 000b 03 000100 00000001 0020")[..], &[7; 32]].concat();
    let good = answer(0x8001, 0, &body);
    assert_eq!(response::register(&good, Bank::Sha256), Ok(Digest::new(Bank::Sha256, &[7; 32])));
    assert_eq!(response::register(&good, Bank::Sha384), Err(ResponseError::Malformed));
    let none = answer(0x8001, 0, &from_hex("00000015 00000001 000b 03 000000 00000000"));
    assert_eq!(response::register(&none, Bank::Sha256), Err(ResponseError::Malformed));
}

#[test]
fn refusals_and_nonsense_are_told() {
    assert_eq!(response::started(&answer(0x8001, 0x100, &[])), Ok(()));
    assert_eq!(response::started(&answer(0x8001, 0, &[])), Ok(()));
    assert_eq!(response::started(&answer(0x8001, 0x101, &[])), Err(ResponseError::Refused(0x101)));
    assert_eq!(response::done(&answer(0x8002, 0, &[0; 9])), Ok(()));
    assert_eq!(response::done(&answer(0x8003, 0, &[])), Err(ResponseError::Malformed));
    assert_eq!(response::done(&answer(0x8001, 0, &[])[..9]), Err(ResponseError::Malformed));
    assert_eq!(response::done(&[answer(0x8001, 0, &[]), vec![0]].concat()), Err(ResponseError::Malformed));
    assert!(ResponseError::Refused(0x921).to_string().contains("0x921"));
    let head = |len: u32| {
        let mut head = [0; response::HEAD_BYTES];
        head[2..6].copy_from_slice(&len.to_be_bytes());
        response::len(&head)
    };
    assert_eq!((head(9), head(10), head(1024), head(1025)), (None, Some(10), Some(1024), None));
}

/// A reader by itself: the events behind the first, and the value of a register of SHA-256 that comes of them.
fn replay(log: &[u8], wanted: u32) -> ([u8; 32], Vec<Vec<u8>>) {
    let word = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_le_bytes(log[at..at + 2].try_into().unwrap());
    assert_eq!((word(0), word(4)), (0, 3));
    assert_eq!(&log[32..48], b"Spec ID Event03\0");
    let mut at = 32 + word(28) as usize;
    let (mut register, mut events) = ([0; 32], Vec::new());
    while at < log.len() {
        let (number, kind, count) = (word(at), word(at + 4), word(at + 8));
        assert_eq!(kind, 0xd);
        at += 12;
        for _ in 0..count {
            let bank = Bank::of(half(at)).unwrap();
            let digest = &log[at + 2..at + 2 + bank.digest_bytes()];
            if bank == Bank::Sha256 && number == wanted {
                register = Sha256::new().chain_update(register).chain_update(digest).finalize().into();
            }
            at += 2 + bank.digest_bytes();
        }
        let len = word(at) as usize;
        events.push(log[at + 4..at + 4 + len].to_vec());
        at += 4 + len;
    }
    assert_eq!(at, log.len());
    (register, events)
}

#[test]
fn log_tells_what_the_registers_have() {
    let banks = [Bank::Sha1, Bank::Sha256, Bank::Sha512];
    let mut log = EventLog::new(&banks).unwrap();
    let mut register = [0; 32];
    for (number, data) in [(8, &b"words"[..]), (9, b"initrd"), (8, b"")] {
        let measured = digests(&banks, data).unwrap();
        log.add(number, EventType::Ipl, &measured, data).unwrap();
        if number == 8 {
            register =
                Sha256::new().chain_update(register).chain_update(Sha256::digest(data)).finalize().into();
        }
    }
    let (replayed, events) = replay(log.bytes(), 8);
    assert_eq!(replayed, register);
    assert_eq!(events, [&b"words"[..], b"initrd", b""]);
}

#[test]
fn digests_are_those_of_the_banks() {
    let all = digests(&Bank::ALL, b"abc").unwrap();
    let hex =
        |bytes: &[u8]| bytes.iter().map(|byte| std::format!("{byte:02x}")).collect::<std::string::String>();
    assert!(hex(all[1].bytes()).starts_with("ba7816bf8f01cfea"));
    assert!(hex(all[2].bytes()).starts_with("cb00753f45a35e8b"));
    assert!(hex(all[3].bytes()).starts_with("ddaf35a193617aba"));
    // What is not made here is no value that anything has.
    assert_eq!((all[0].bytes(), all[4].bytes()), (&[0xff; 20][..], &[0xff; 32][..]));
    let mut hasher = Hasher::new(&[Bank::Sha256]).unwrap();
    hasher.update(b"a");
    hasher.update(b"bc");
    assert_eq!(hasher.finish()[0], all[1]);
}

proptest! {
    #[test]
    fn any_answer_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), has_head: bool) {
        let bytes = if has_head { answer(0x8001, 0, &bytes) } else { bytes };
        if let Ok(banks) = response::banks(&bytes) {
            prop_assert!(banks.len() <= MOST_BANKS);
        }
        for bank in Bank::ALL {
            if let Ok(digest) = response::register(&bytes, bank) {
                prop_assert_eq!(digest.bytes().len(), bank.digest_bytes());
            }
        }
        let _ = (response::done(&bytes), response::started(&bytes));
    }

    #[test]
    fn logs_of_any_events_are_read_back(
        events in prop::collection::vec((0_u8..24, prop::collection::vec(any::<u8>(), 0..100)), 0..20),
    ) {
        let mut log = EventLog::new(&[Bank::Sha256, Bank::Sha384]).unwrap();
        for (register, data) in &events {
            log.add(*register, EventType::Ipl, &digests(&[Bank::Sha256, Bank::Sha384], data).unwrap(), data).unwrap();
        }
        let (_, read) = replay(log.bytes(), 0);
        let data: Vec<Vec<u8>> = events.into_iter().map(|(_, data)| data).collect();
        prop_assert_eq!(read, data);
    }
}
