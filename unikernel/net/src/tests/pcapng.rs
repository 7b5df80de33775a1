//! Captures as a parser that others wrote reads them.

use alloc::vec;
use alloc::vec::Vec;

use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, OptionCode, PcapBlockOwned, PcapError, PcapNGReader};

use crate::pcapng::{self, Direction, PACKET_OVERHEAD, Packet};

const TIME_NS: u64 = 1_790_000_000_123_456_789;

/// A capture of one card and what `add` puts behind it.
fn capture(add: impl FnOnce(&mut dyn FnMut(&dyn Fn(&mut [u8]) -> Option<usize>))) -> Vec<u8> {
    let mut file = Vec::new();
    let mut append = |write: &dyn Fn(&mut [u8]) -> Option<usize>| {
        let mut room = vec![0xee; 4096];
        let len = write(&mut room).expect("there is room");
        file.extend_from_slice(&room[..len]);
    };
    append(&|room| pcapng::section(room, "test"));
    append(&|room| pcapng::interface(room, "eth0", [2, 0, 0, 0, 0, 1], 100));
    add(&mut append);
    file
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|index| index as u8).collect()
}

fn packet(frame: &[u8], direction: Direction, lost: u64) -> Packet<'_> {
    Packet { interface: 0, direction, time_ns: TIME_NS, frame, snap_len: 100, lost }
}

/// Calls `look` with each block.
fn read(file: &[u8], mut look: impl FnMut(&Block<'_>)) {
    let mut reader = PcapNGReader::new(65_536, file).expect("it begins as a capture does");
    loop {
        match reader.next() {
            Ok((len, PcapBlockOwned::NG(block))) => {
                look(&block);
                reader.consume(len);
            }
            Ok(_) => panic!("a block of the older format"),
            Err(PcapError::Eof) => return,
            Err(PcapError::Incomplete(_)) => reader.refill().expect("memory can be read"),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn packets_come_back_with_time_direction_and_length() {
    let long = frame(250);
    for len in [60, 61, 62, 63, 100] {
        let short = frame(len);
        let file = capture(|append| {
            append(&|room| pcapng::packet(room, &packet(&short, Direction::In, 0)));
            append(&|room| pcapng::packet(room, &packet(&long, Direction::Out, 7)));
        });
        let mut packets = Vec::new();
        read(&file, |block| match block {
            Block::InterfaceDescription(card) => {
                assert_eq!((card.snaplen, card.ts_resolution()), (100, Some(1_000_000_000)));
            }
            Block::EnhancedPacket(packet) => {
                let time_ns = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                assert_eq!(time_ns, TIME_NS);
                let option = |code| {
                    let option = packet.options.iter().find(|option| option.code == OptionCode(code));
                    option.map(|option| option.value.to_vec())
                };
                let kept = packet.data[..packet.caplen as usize].to_vec();
                packets.push((kept, packet.origlen, option(2), option(4)));
            }
            _ => {}
        });
        let flags = |direction: u32| Some(direction.to_le_bytes().to_vec());
        assert_eq!(packets.len(), 2);
        assert_eq!(packets[0], (short, len as u32, flags(1), None));
        let lost = Some(7u64.to_le_bytes().to_vec());
        assert_eq!(packets[1], (long[..100].to_vec(), 250, flags(2), lost));
    }
}

#[test]
fn statistics_end_a_capture() {
    let file = capture(|append| append(&|room| pcapng::statistics(room, 0, TIME_NS, 9, 2)));
    let mut totals = None;
    read(&file, |block| {
        if let Block::InterfaceStatistics(statistics) = block {
            let values: Vec<&[u8]> = statistics.options.iter().map(|option| &*option.value).collect();
            totals = Some((values[0].to_vec(), values[1].to_vec()));
        }
    });
    assert_eq!(totals, Some((9u64.to_le_bytes().to_vec(), 2u64.to_le_bytes().to_vec())));
}

#[test]
fn packet_that_does_not_fit_is_refused() {
    let short = frame(60);
    let packet = packet(&short, Direction::In, 1);
    let mut room = [0; 60 + PACKET_OVERHEAD];
    let len = pcapng::packet(&mut room, &packet).expect("the overhead is enough");
    for less in 0..len {
        assert_eq!(pcapng::packet(&mut room[..less], &packet), None);
    }
}
