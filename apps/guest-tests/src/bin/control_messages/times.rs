//! `SO_TIMESTAMPING` (socket(7)): when datagrams were sent, in the queue of errors, and when they came.

use std::os::fd::AsRawFd;

use guest_tests::{check, check_eq};

use crate::message::{Message, get, pair, receive, set};

const SOL: i32 = libc::SOL_SOCKET;
const NAME: i32 = libc::SO_TIMESTAMPING;
/// `linux/net_tstamp.h`
const TX_SOFTWARE: i32 = 1 << 1;
const RX_SOFTWARE: i32 = 1 << 3;
const SOFTWARE: i32 = 1 << 4;
const OPT_ID: i32 = 1 << 7;
const OPT_TSONLY: i32 = 1 << 11;
/// `SO_EE_ORIGIN_TIMESTAMPING`
const ORIGIN: u8 = 4;

/// The first of three times, in seconds; those of the card are not known.
fn seconds(message: &Message) -> u64 {
    let times = message.find(SOL, NAME).unwrap();
    check_eq!(times.len(), 48);
    check!(times[16..].iter().all(|byte| *byte == 0));
    u64::from_ne_bytes(times[..8].try_into().unwrap())
}

/// What kind of time it is, and of which datagram.
fn kind_and_key(message: &Message) -> (u32, u32) {
    let error = message.find(libc::SOL_IP, libc::IP_RECVERR).unwrap();
    let word = |at: usize| u32::from_ne_bytes(error[at..at + 4].try_into().unwrap());
    check_eq!((word(0), error[4]), (libc::ENOMSG as u32, ORIGIN));
    check_eq!(message.flags & libc::MSG_ERRQUEUE, libc::MSG_ERRQUEUE);
    (word(8), word(12))
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn are_told() {
    let (receiver, sender, to) = pair("127.0.0.1:0");
    let next = || receive(&sender, 200, 256, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT);
    check_eq!(set(&sender, SOL, NAME, 1 << 30), libc::EINVAL);
    check_eq!(set(&sender, SOL, NAME, TX_SOFTWARE | SOFTWARE | OPT_ID), 0);
    check_eq!(get(&sender, SOL, NAME), TX_SOFTWARE | SOFTWARE | OPT_ID);
    sender.send_to(b"first", to).unwrap();
    sender.send_to(b"second", to).unwrap();
    let mut poll = libc::pollfd { fd: sender.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: there is one entry.
    check_eq!(unsafe { libc::poll(&raw mut poll, 1, 5000) }, 1);
    check_eq!(poll.revents, libc::POLLERR);
    for (key, data) in [(0, b"first".as_slice()), (1, b"second")] {
        let message = next().unwrap();
        // Linux shows the headers in front, too.
        check!(message.data.ends_with(data));
        check_eq!(kind_and_key(&message), (0, key));
        check!(seconds(&message).abs_diff(now()) <= 2);
    }
    check_eq!(next().err(), Some(libc::EAGAIN));
    check!(sender.take_error().unwrap().is_none());

    check_eq!(set(&sender, SOL, NAME, TX_SOFTWARE | SOFTWARE | OPT_TSONLY), 0);
    sender.send_to(b"third", to).unwrap();
    let message = next().unwrap();
    check_eq!((message.data.len(), kind_and_key(&message)), (0, (0, 0)));
    check_eq!(set(&sender, SOL, NAME, 0), 0);
    sender.send_to(b"last", to).unwrap();
    check_eq!(next().err(), Some(libc::EAGAIN));

    for expected in [b"first".as_slice(), b"second", b"third", b"last"] {
        check_eq!(receive(&receiver, 64, 256, 0).unwrap().data, expected);
    }
    check_eq!(set(&receiver, SOL, NAME, RX_SOFTWARE | SOFTWARE), 0);
    sender.send_to(b"when", to).unwrap();
    let message = receive(&receiver, 64, 256, 0).unwrap();
    check!(seconds(&message).abs_diff(now()) <= 2);
    // That they are known does not say that they are to be told.
    check_eq!(set(&receiver, SOL, NAME, RX_SOFTWARE), 0);
    sender.send_to(b"when", to).unwrap();
    check_eq!(receive(&receiver, 64, 256, 0).unwrap().control.len(), 0);
}
