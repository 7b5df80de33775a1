//! Sockets whose peer has closed.

use guest_tests::{check, check_eq};
use libc::{AF_INET, AF_UNIX, SHUT_RD, SHUT_RDWR, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};

use crate::{END, HUP, OUT, close, pair, poll, receive, send, shutdown};

pub(crate) fn peer() {
    for (kind, ready, first, second) in [
        (SOCK_STREAM, END | OUT | HUP, (-libc::EPIPE, 1), (-libc::EPIPE, 1)),
        (SOCK_SEQPACKET, END | OUT | HUP, (-libc::EPIPE, 0), (-libc::EPIPE, 0)),
        // It forgets the peer.
        (SOCK_DGRAM, OUT, (-libc::ECONNREFUSED, 0), (-libc::ENOTCONN, 0)),
    ] {
        let [one, other] = pair(AF_UNIX, kind);
        close(&[other]);
        check_eq!((poll(one), send(one), send(one), poll(one)), (ready, first, second, ready));
        close(&[one]);
    }
}

/// On loopback the first write to a peer that has closed is refused before the second is made.
pub(crate) fn tcp_peer() {
    const ERROR: i32 = libc::EPOLLERR;
    let [one, other] = pair(AF_INET, SOCK_STREAM);
    close(&[other]);
    check_eq!(poll(one), END | OUT);
    check_eq!(send(one), (3, 0));
    check_eq!(poll(one), END | OUT | HUP | ERROR);
    check_eq!(receive(one, 0), 0);
    check_eq!(send(one), (-libc::EPIPE, 1));
    check_eq!((poll(one), receive(one, 0)), (END | OUT | HUP, 0));
    close(&[one]);
    // However much it is; and who asks for the error takes it.
    let [one, other] = pair(AF_INET, SOCK_STREAM);
    close(&[other]);
    check_eq!(poll(one), END | OUT);
    let much = [0u8; 60_000];
    // SAFETY: the buffer is whole.
    check!(unsafe { libc::send(one, much.as_ptr().cast(), much.len(), 0) } > 0);
    let (mut error, mut len) = (0, 4);
    // SAFETY: there is room for one number.
    unsafe {
        let place = (&raw mut error).cast();
        check_eq!(libc::getsockopt(one, libc::SOL_SOCKET, libc::SO_ERROR, place, &mut len), 0);
    }
    check_eq!(error, libc::EPIPE);
    check_eq!(send(one), (-libc::EPIPE, 1));
    close(&[one]);
}

/// Who sends to a peer that has shut both directions is reset; what that peer had received before can still be read, and
/// then it hears of the reset itself.
pub(crate) fn sender_to_nobody() {
    let [one, other] = pair(AF_INET, SOCK_STREAM);
    check_eq!(send(one), (3, 0));
    check_eq!(shutdown(other, SHUT_RDWR), 0);
    check_eq!(poll(one), END | OUT);
    check_eq!(send(one), (3, 0));
    check_eq!(poll(one), END | OUT | HUP | libc::EPOLLERR);
    check_eq!(send(one), (-libc::EPIPE, 1));
    check_eq!(poll(other), END | OUT | HUP | libc::EPOLLERR);
    check_eq!((receive(other, 0), receive(other, 0), receive(other, 0)), (3, -libc::ECONNRESET, 0));
    close(&[one, other]);
    // Who is only not listened to may send.
    let [one, other] = pair(AF_INET, SOCK_STREAM);
    check_eq!(shutdown(other, SHUT_RD), 0);
    check_eq!(send(one), (3, 0));
    check_eq!((poll(one), receive(other, 0), receive(other, 0)), (OUT, 3, 0));
    close(&[one, other]);
}
