//! Answers of DHCP servers, to the questions that are asked: whatever they offer, questions are not asked without end, and an
//! address is one that a station can have.

use std::net::Ipv4Addr;

use unikernel_net::Addressing;
use unikernel_net::smoltcp::time::Duration;

use super::frame::{ETHERNET, IPV4, UDP, ipv4};
use super::host::{Host, PEER, config};
use crate::input::Input;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// The message behind UDP's header, and the options in it.
const MESSAGE: usize = IPV4 + 8;
const OPTIONS: usize = MESSAGE + 240;
/// What the options of a good answer are about.
const KINDS: [u8; 12] = [1, 3, 6, 12, 15, 28, 42, 51, 54, 58, 59, 121];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut host = Host::new(config(Addressing::Dhcp));
    let mut question: Option<Vec<u8>> = None;
    let (mut sent, mut seconds) = (0, 0);
    for _ in 0..200 {
        let wait = u64::from(input.byte()) << (input.byte() % 12);
        let by = Duration::from_secs(if input.flag() { wait } else { 0 });
        seconds += by.secs() + 1;
        for frame in host.run(by + Duration::from_secs(1)) {
            sent += 1;
            if frame.len() >= OPTIONS && frame[12..14] == [8, 0] && frame[ETHERNET + 9] == UDP {
                question = Some(frame);
            }
        }
        let config = host.stack.config();
        if let Some(lease) = &config.ipv4 {
            let address = lease.address.address();
            assert!(
                !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast(),
                "{address}"
            );
            assert!(lease.routes.len() <= 64 && lease.time_servers.len() <= 8);
        }
        assert!(config.routes.len() <= 200);
        // A question in two seconds, and a few at first and with each new address.
        assert!(sent <= 50 + 8 * seconds, "{sent} frames in {seconds} seconds");
        if input.is_over() {
            break;
        }
        if let Some(question) = &question {
            host.receive(answer(question, &mut input));
        }
    }
}

fn answer(question: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut message = question[MESSAGE..OPTIONS].to_vec();
    message[0] = 2;
    let address =
        if input.flag() { Ipv4Addr::new(10, 0, 2, 40) } else { Ipv4Addr::from_octets(input.array()) };
    message[16..20].copy_from_slice(&address.octets());
    // An offer to who looks for a server, and else what the input says.
    let is_discovery = question[OPTIONS..].windows(3).any(|option| option == [53, 1, 1]);
    let kind = if input.flag() { input.byte() } else { if is_discovery { 2 } else { 5 } };
    message.extend([53, 1, kind]);
    if !input.flag() {
        message.extend([54, 4, 10, 0, 2, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 100]);
    }
    for _ in 0..input.below(8) {
        let kind = KINDS[input.below(KINDS.len())];
        let value = input.take(usize::from(input.clone().byte() % 24) + 1);
        message.extend([kind, value.len() as u8]);
        message.extend_from_slice(value);
    }
    if input.flag() {
        message.extend_from_slice(input.chunk());
    }
    message.push(255);
    if input.byte() == 1 {
        let at = input.below(240);
        message[at] = input.byte();
    }
    let mut datagram = [SERVER_PORT.to_be_bytes(), CLIENT_PORT.to_be_bytes()].concat();
    datagram.extend((8 + message.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(message);
    ipv4(PEER, Ipv4Addr::BROADCAST, UDP, 0, &datagram)
}
