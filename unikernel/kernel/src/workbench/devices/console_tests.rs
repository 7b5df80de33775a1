//! The console device (Virtio 1.2, section 5.3): as a terminal, and as the port that a capture leaves by.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::plain::{Device, Plain, Use};

use super::super::app::Machine;
use super::super::app::files::{now_ms, read, sleep_ms, write};
use super::super::app::wait::poll;
use super::{run, run_with};

const CONSOLE: u16 = 3;
const RX: u16 = 0;
const TX: u16 = 1;
/// Queues for messages about ports, and of the second port.
const MESSAGES_IN: u16 = 2;
const MESSAGES_OUT: u16 = 3;
const SECOND_TX: u16 = 5;
const MULTIPORT: u64 = 1 << 1;
const DEVICE: Device = Device(0);

fn terminal(tx: fn() -> Use) -> Plain {
    Plain { device_type: CONSOLE, features: 0, config: Vec::new(), queues: [Use::Source, tx()].into() }
}

/// All that was written to the device.
fn written(queue: u16) -> Vec<u8> {
    core::iter::from_fn(|| DEVICE.take(queue)).flatten().collect()
}

#[test]
fn what_is_written_goes_to_the_device() {
    run_with_log(|| {
        let boot = String::from_utf8(written(TX)).unwrap();
        assert!(boot.contains("DEBUG") && boot.contains("the console"), "{boot}");
        let text = [&[b'a'; 600][..], b"\n"].concat();
        assert_eq!(write(1, &text), Ok(601));
        let shown = written(TX);
        assert!(shown.ends_with(b"aaa\r\n") && shown.len() == 602, "{} bytes", shown.len());
    });
}

#[track_caller]
fn run_with_log(app: impl FnOnce() + 'static) {
    let machine = Machine { command_line: "log=debug".into(), ..Machine::default() };
    let outcome = run_with(machine, || terminal(|| Use::Sink), app);
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}

#[test]
fn what_is_typed_is_read() {
    run(
        || terminal(|| Use::Sink),
        || {
            assert_eq!(poll(0, linux::POLLIN, 0), 0);
            DEVICE.give(RX, b"one li");
            assert_eq!(poll(0, linux::POLLIN, 0), 0);
            DEVICE.give(RX, b"ne\rnext");
            assert_eq!(poll(0, linux::POLLIN, 0), linux::POLLIN);
            assert_eq!(read(0, 64), Ok(b"one line\n".to_vec()));
            DEVICE.give(RX, b"\x04");
            assert_eq!(read(0, 64), Ok(b"next".to_vec()));
        },
    );
}

#[test]
fn more_is_typed_than_there_are_buffers() {
    run(
        || terminal(|| Use::Sink),
        || {
            let text: Vec<u8> = (0..400).map(|at| b'a' + (at % 26) as u8).collect();
            text.chunks(16).for_each(|part| DEVICE.give(RX, part));
            DEVICE.give(RX, b"\n");
            assert_eq!(read(0, 1000), Ok([&text[..], b"\n"].concat()));
        },
    );
}

#[test]
fn host_that_takes_nothing_is_waited_for_once() {
    let held = || terminal(|| Use::Held);
    run(held, || {
        let start_ms = now_ms();
        let long = [b'x'; 100 * 256];
        assert_eq!(write(1, &long), Ok(long.len()));
        let first_ms = now_ms() - start_ms;
        assert!((90..1000).contains(&first_ms), "{first_ms} ms");
        // It is not waited for again, before it takes something.
        assert_eq!(write(1, &long), Ok(long.len()));
        assert!(now_ms() - start_ms < first_ms + 90);
        (0..64).for_each(|_| DEVICE.release(TX));
        drop(written(TX));
        assert_eq!(write(1, b"after all"), Ok(9));
        assert_eq!(written(TX), b"after all");
        (0..64).for_each(|_| DEVICE.release(TX));
    });
}

/// A message about a port: its number, the event and the value 1.
fn message(port: u32, event: u16) -> Vec<u8> {
    [&port.to_le_bytes()[..], &event.to_le_bytes(), &[1, 0]].concat()
}

fn with_ports() -> Plain {
    let queues = [Use::Source, Use::Sink, Use::Source, Use::Sink, Use::Source, Use::Sink].into();
    Plain { device_type: CONSOLE, features: MULTIPORT, config: alloc::vec![0; 8], queues }
}

fn capturing() -> Machine {
    Machine { command_line: "pcap=on".into(), ..Machine::default() }
}

#[test]
fn capture_opens_the_second_port() {
    let outcome = run_with(capturing(), with_ports, || {
        let told: Vec<Vec<u8>> = core::iter::from_fn(|| DEVICE.take(MESSAGES_OUT)).collect();
        // The device is ready, port 1 is, and it is open.
        assert_eq!(told, [message(u32::MAX, 0), message(1, 3), message(1, 6)]);
        DEVICE.give(MESSAGES_IN, &message(1, 1));
        // A section header of pcapng.
        let file = written(SECOND_TX);
        assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert_eq!(u32::from_le_bytes(file[8..12].try_into().unwrap()), 0x1a2b_3c4d);
        assert_eq!(written(TX), b"", "nothing goes to the port that loses what is not taken at once");
        sleep_ms(1);
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    // The device never said that there is such a port.
    assert!(outcome.console.contains("it has no port 1"), "{}", outcome.console);
}

#[test]
fn capture_goes_to_the_only_port_of_a_device_without_ports() {
    let outcome = run_with(
        capturing(),
        || terminal(|| Use::Sink),
        || {
            assert_eq!(written(TX)[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
            assert_eq!(write(1, b"to the screen\n"), Ok(14));
            assert_eq!(written(TX), b"", "the console is another");
        },
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
    assert!(outcome.console.contains("takes a capture of 0 cards"), "{}", outcome.console);
}

#[test]
fn host_that_takes_no_capture_holds_nobody_up() {
    let start = || terminal(|| Use::Held);
    let outcome = run_with(capturing(), start, || {});
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}
