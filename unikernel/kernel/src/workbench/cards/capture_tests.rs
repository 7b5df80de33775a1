//! `pcap=`: every frame that passes a card is in the file.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use std::boxed::Box;

use linux_raw_sys::net;
use unikernel_hal::sim::card::Card;
use unikernel_hal::sim::virtio::{self, Chain, Model};

use super::lan::{ECHO, HOST, Lan};
use super::{STATIC, machine, metric, run, run_with};
use crate::workbench::app::files::sleep_ms;
use crate::workbench::app::net::{DGRAM, recv, send_to, socket, v4};

/// `VIRTIO_CONSOLE_F_MULTIPORT`, and the queue to the host of the second port.
const MULTIPORT: u64 = 2;
const SECOND_PORT: u16 = 5;
/// Queues of messages about ports, to the driver and from it (section 5.3.2).
const MESSAGES_IN: u16 = 2;
const MESSAGES_OUT: u16 = 3;

/// A virtio console that keeps what is written.
struct Recorder {
    has_ports: bool,
    file: Rc<RefCell<Vec<u8>>>,
    /// The driver is to be told that there is a second port.
    tells: bool,
}

impl Model for Recorder {
    fn device_type(&self) -> u16 {
        3
    }

    fn features(&self) -> u64 {
        if self.has_ports { MULTIPORT } else { 0 }
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn queues(&self) -> u16 {
        6
    }

    fn accept(&mut self, queue: u16, _: &Chain) -> Option<u64> {
        (queue % 2 == 1).then_some(2000)
    }

    fn finish(&mut self, queue: u16, chain: &Chain) -> Option<u32> {
        match queue {
            MESSAGES_OUT => self.tells |= chain.read()[4..6] == [0, 0],
            _ => {
                assert_eq!(queue, if self.has_ports { SECOND_PORT } else { 1 });
                self.file.borrow_mut().extend(chain.read());
            }
        }
        Some(0)
    }

    fn ready(&mut self) -> Option<(u16, Vec<u8>)> {
        let message = [1, 0, 0, 0, 1, 0, 1, 0];
        core::mem::take(&mut self.tells).then(|| (MESSAGES_IN, message.to_vec()))
    }
}

/// The blocks of a pcapng file: type and body.
fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    while !file.is_empty() {
        let len = word(file, 4) as usize;
        assert_eq!(word(file, len - 4) as usize, len, "the length stands at both ends");
        all.push((word(file, 0), file[8..len - 4].to_vec()));
        file = &file[len..];
    }
    all
}

/// Runs a few echoes with a capture; checks that the file has what has passed, up to `snap_len` bytes of each frame.
fn capture(words: &'static str, has_ports: bool, snap_len: usize) {
    let file = Rc::new(RefCell::new(Vec::new()));
    let same = file.clone();
    let plug_in = move |lan: &Lan| {
        lan.plug_in(Card::default());
        virtio::add(Box::new(Recorder { has_ports, file, tells: false }));
    };
    run_with(machine(&std::format!("{STATIC} {words}")), plug_in, move |lan| {
        let socket = socket(net::AF_INET, DGRAM);
        for len in [10, 500, 1400] {
            send_to(socket, &alloc::vec![7; len], 0, &v4(HOST, ECHO)).unwrap();
            recv(socket, 2000, 0).unwrap();
        }
        sleep_ms(10);
        let frames: Vec<Vec<u8>> = blocks(&same.borrow())
            .into_iter()
            .filter(|(kind, _)| *kind == 6)
            .map(|(_, body)| {
                let kept = u32::from_le_bytes(body[12..16].try_into().unwrap()) as usize;
                assert!(kept <= snap_len);
                body[20..20 + kept].to_vec()
            })
            .collect();
        // What was sent, an answer by ARP, and three echoes.
        assert_eq!(frames.len(), lan.host().frames.len() + 4);
        assert_eq!(metric("pcap_frames_total"), frames.len() as u64);
        assert_eq!(metric("pcap_lost_total"), 0);
        for seen in &lan.host().frames {
            let kept = &seen.bytes[..seen.bytes.len().min(snap_len)];
            assert!(frames.iter().any(|frame| frame == kept), "a frame that was sent is not in the capture");
        }
        assert_eq!(blocks(&same.borrow())[0].0, 0x0a0d_0d0a, "a section begins");
    });
}

#[test]
fn every_frame_is_in_the_capture() {
    capture("pcap=on", false, 65_535);
}

#[test]
fn second_port_of_several_takes_the_capture() {
    capture("pcap=on", true, 65_535);
}

#[test]
fn capture_keeps_so_many_bytes() {
    capture("pcap=96", false, 96);
}

#[test]
fn capture_without_a_console_does_not_boot() {
    let outcome =
        crate::workbench::app::Machine { command_line: "pcap=on".into(), ..Default::default() }.run(|| 0);
    assert_eq!(outcome.code, Some(125), "{}", outcome.console);
    assert!(outcome.console.contains("no virtio console"), "{}", outcome.console);
    run(machine("pcap=off"), Card::default(), |_| {});
}
