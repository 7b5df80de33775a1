//! Bulk sends: what a card makes of the frames that it is to cut is what the sender's buffer held, and what would have
//! been sent one by one.

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use smoltcp::wire::{IPV4_HEADER_LEN, Ipv4Packet, TcpPacket};

use super::rules::Scene;
use super::transfer::transfer;
use super::*;

const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;
const MSS: usize = 1460;

impl Segmenter for Nic {
    fn largest_frame(&mut self, is_ipv4: bool) -> usize {
        let has_room = self.tx.len() < self.tx_room;
        if is_ipv4 && has_room { self.largest } else { 0 }
    }

    fn send_to_be_cut(&mut self, cut: TsoParams, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        assert!(len <= self.largest && len > usize::from(cut.header_bytes) + usize::from(cut.segment_bytes));
        let mut frame = vec![0xa5; len];
        fill(&mut frame);
        self.tx.extend(segments(&cut, &frame));
        self.cut.push((cut, frame));
        true
    }
}

/// What a card does with a frame that it is to cut (Virtual I/O Device specification 1.2, section 5.1.6.2.1).
fn segments(cut: &TsoParams, frame: &[u8]) -> Vec<Vec<u8>> {
    let (headers, payload) = frame.split_at(cut.header_bytes.into());
    let count = payload.len().div_ceil(cut.segment_bytes.into());
    let segment = |(index, part): (usize, &[u8])| {
        let mut segment = [headers, part].concat();
        let mut ip = Ipv4Packet::new_unchecked(&mut segment[14..]);
        ip.set_total_len((IPV4_HEADER_LEN + 20 + part.len()) as u16);
        ip.fill_checksum();
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_seq_number(tcp.seq_number() + index * usize::from(cut.segment_bytes));
        tcp.set_psh(tcp.psh() && index + 1 == count);
        tcp.fill_checksum(&from, &to);
        segment
    };
    payload.chunks(cut.segment_bytes.into()).enumerate().map(segment).collect()
}

/// A host with windows for bulk.
fn wide(last: u8) -> Host {
    Host::with(Config {
        tcp_rx_window: 128 * 1024,
        tcp_rx_limit: 128 * 1024,
        tcp_tx_limit: 128 * 1024,
        ..config(last)
    })
}

/// A connection without an engine, over a card that cuts.
fn settled(largest: usize) -> Scene {
    let mut scene = Scene::settled();
    let acknowledged = scene.hear(ACK, scene.next, scene.expected, &[]);
    assert!(acknowledged.is_empty());
    scene.host.nic.largest = largest;
    // The peer's window is that of somebody who waits for bulk.
    let server = scene.server;
    scene.host.stack.flows.get_mut(server).unwrap().track.window = 65_535;
    scene
}

fn lens(scene: &mut Scene) -> Vec<usize> {
    scene.said().iter().map(|said| said.len).collect()
}

#[test]
fn full_segments_go_as_one_frame_and_nagle_keeps_the_rest() {
    let mut scene = settled(65_000);
    scene.host.send(scene.server, &[5; 3 * MSS + 100]);
    scene.host.flush(scene.now);
    let [(cut, frame)] = &scene.host.nic.cut[..] else { panic!("one frame is to be cut") };
    assert_eq!(*cut, TsoParams { segment_bytes: MSS as u16, header_bytes: 54, is_ipv4: true });
    assert_eq!(frame.len(), 54 + 3 * MSS);
    let ip = Ipv4Packet::new_checked(&frame[14..]).expect("its length is that of all");
    assert!(ip.verify_checksum());
    assert_eq!(lens(&mut scene), [MSS; 3]);
    scene.expected += 3 * MSS as i32;
    let said = scene.hear(ACK, scene.next, scene.expected, &[]);
    assert_eq!(said.iter().map(|said| (said.flags, said.len)).collect::<Vec<_>>(), [(PSH_ACK, 100)]);
}

#[test]
fn without_nagle_the_rest_goes_along_and_is_pushed() {
    let mut scene = settled(65_000);
    scene.host.stack.tcp_set_nodelay(scene.server, true);
    scene.host.send(scene.server, &[5; 3 * MSS + 100]);
    scene.host.flush(scene.now);
    assert_eq!(scene.host.nic.cut.len(), 1);
    let said = scene.said();
    assert_eq!(said.iter().map(|said| said.len).collect::<Vec<_>>(), [MSS, MSS, MSS, 100]);
    assert_eq!(said.iter().map(|said| said.flags).collect::<Vec<_>>(), [ACK, ACK, ACK, PSH_ACK]);
}

#[test]
fn corked_rest_stays() {
    let mut scene = settled(65_000);
    scene.host.stack.tcp_set_nodelay(scene.server, true);
    scene.host.stack.tcp_set_cork(scene.server, true);
    scene.host.send(scene.server, &[5; 2 * MSS + 100]);
    scene.host.flush(scene.now);
    assert_eq!(lens(&mut scene), [MSS; 2]);
}

#[test]
fn single_segments_and_cards_without_room_are_not_troubled() {
    for (largest, bytes) in [(65_000, MSS), (54 + 2 * MSS - 1, 4 * MSS), (0, 4 * MSS)] {
        let mut scene = settled(largest);
        scene.host.send(scene.server, &vec![5; bytes]);
        scene.host.flush(scene.now);
        assert!(scene.host.nic.cut.is_empty());
        assert_eq!(lens(&mut scene), vec![MSS; bytes / MSS]);
    }
}

#[test]
fn frame_is_as_long_as_the_card_takes_and_the_windows_let() {
    let mut scene = settled(54 + 2 * MSS + 700);
    scene.host.send(scene.server, &[5; 5 * MSS]);
    scene.host.flush(scene.now);
    assert_eq!(
        scene.host.nic.cut.iter().map(|(_, frame)| frame.len()).collect::<Vec<_>>(),
        [54 + 2 * MSS; 2]
    );
    assert_eq!(lens(&mut scene), [MSS; 5]);
}

#[test]
fn lost_segment_goes_again_alone() {
    let mut scene = settled(65_000);
    scene.host.send(scene.server, &[5; 5 * MSS]);
    scene.host.flush(scene.now);
    assert_eq!(lens(&mut scene), [MSS; 5]);
    let lost = scene.expected + MSS as i32;
    let mut said = scene.hear(ACK, scene.next, lost, &[]);
    for _ in 0..3 {
        said.extend(scene.hear(ACK, scene.next, lost, &[]));
    }
    assert_eq!(said.iter().map(|said| (said.sequence, said.len)).collect::<Vec<_>>(), [(lost, MSS)]);
    assert_eq!(scene.host.stack.counters().retransmits, 1);
}

#[test]
fn clean_wire_carries_large_frames() {
    let mut net = Net::with(wide(15), wide(1));
    net.a.nic.largest = 65_000;
    let took = transfer(&mut net, 1 << 20, 1 << 16);
    assert!(took < Duration::from_secs(1), "{took}");
    let most = net.a.nic.cut.iter().map(|(_, frame)| frame.len()).max().unwrap();
    assert!(most > 40 * MSS && most <= 65_000, "{most}");
    assert_eq!(net.a.stack.counters().retransmits, 0);
}

/// What the windows are and what is under way is the same whether a card cuts or not.
#[test]
fn window_of_congestion_grows_as_without() {
    let rounds = [0, 65_000].map(|largest| {
        let mut net = Net::with(wide(15), wide(1));
        net.a.nic.largest = largest;
        transfer(&mut net, 1 << 20, 1 << 16).total_millis()
    });
    assert_eq!(rounds[0], rounds[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every byte arrives once and in order, through loss, repetition and reordering.
    #[test]
    fn cut_streams_arrive_whole(
        seed: u64,
        total in 1usize..120_000,
        chunk in 1usize..50_000,
        largest in 0usize..65_536,
        loss in 0u64..40,
    ) {
        let mut net = Net::with(wide(15), wide(1));
        net.introduce();
        net.rng = Rng(seed);
        net.trouble = [loss, 10, 30];
        (net.a.nic.largest, net.b.nic.largest) = (largest, largest);
        transfer(&mut net, total, chunk.max(total / 500));
    }

    /// Segments carry what the frame held: the same bytes, numbers without a gap, whole checksums.
    #[test]
    fn segments_are_the_frame_in_pieces(bytes in 2usize..5, rest in 0usize..MSS, is_nodelay: bool) {
        let mut scene = settled(65_000);
        scene.host.stack.tcp_set_nodelay(scene.server, is_nodelay);
        let data: Vec<u8> = (0..bytes * MSS + rest).map(|at| (at % 251) as u8).collect();
        scene.host.send(scene.server, &data);
        scene.host.flush(scene.now);
        let mut at = 0;
        for frame in core::mem::take(&mut scene.host.nic.tx) {
            let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
            prop_assert!(ip.verify_checksum() && tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
            prop_assert_eq!(tcp.seq_number().0, scene.expected.wrapping_add(at as i32));
            prop_assert_eq!(tcp.payload(), &data[at..at + tcp.payload().len()]);
            at += tcp.payload().len();
        }
        let sent = if is_nodelay { data.len() } else { bytes * MSS };
        prop_assert_eq!(at, sent);
        prop_assert_eq!(scene.host.nic.cut.len(), 1);
    }
}
