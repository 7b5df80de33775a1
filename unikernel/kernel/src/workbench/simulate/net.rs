//! Connections over the loopback interface.

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::{general as linux, net};
use unikernel_hal::sim::app;
use unikernel_hal::sim::engine::Random;

use super::{judge, machine};
use crate::workbench::app::{call, get, join, map, put, spawn, word};

/// `struct sockaddr_in` for a port of 127.0.0.1.
pub(super) fn address(port: u16) -> u64 {
    let mut bytes = [0u8; 16];
    bytes[..2].copy_from_slice(&(net::AF_INET as u16).to_le_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    put(&bytes)
}

const STREAM: u64 = 1;

/// A server with epoll gives back what clients send, in pieces of any size.
pub(super) fn echo(seed: u64) -> Result<(), String> {
    const CLIENTS: u64 = 3;
    const BYTES: u64 = 6_000;
    judge(&machine(seed).run(move || {
        let listener = call(linux::__NR_socket, &[net::AF_INET.into(), STREAM, 0]).expect("a socket");
        call(linux::__NR_bind, &[listener, address(7), 16]).expect("a port");
        call(linux::__NR_listen, &[listener, 16]).expect("a listener");
        let clients: Vec<_> =
            (0..CLIENTS).map(|own| spawn(move || client(seed, own)).expect("a thread")).collect();
        serve(listener);
        clients.into_iter().for_each(join);
        return 0;

        fn client(seed: u64, own: u64) {
            let mut random = Random::new(seed ^ own << 16);
            let socket = call(linux::__NR_socket, &[net::AF_INET.into(), STREAM, 0]).expect("a socket");
            call(linux::__NR_connect, &[socket, address(7), 16]).expect("a connection");
            let byte = |at: u64| (at * 31 + own) as u8;
            let out = put(&(0..BYTES).map(byte).collect::<Vec<_>>());
            let into = map(4096);
            let (mut sent, mut got) = (0, 0);
            while got < BYTES {
                if sent < BYTES {
                    let len = (1 + random.below(1500)).min(BYTES - sent);
                    sent += call(linux::__NR_sendto, &[socket, out + sent, len, 0, 0, 0]).expect("a send");
                }
                app::compute_ns(random.below(10_000));
                let len = call(linux::__NR_recvfrom, &[socket, into, 4096, 0, 0, 0]).expect("a receive");
                assert!(len > 0, "the server closes");
                for (at, found) in (got..).zip(get(into, len as usize)) {
                    assert_eq!(found, byte(at));
                }
                got += len;
            }
            call(linux::__NR_close, &[socket]).expect("a close");
        }

        fn serve(listener: u64) {
            let epoll = call(linux::__NR_epoll_create1, &[0]).expect("an epoll instance");
            let watch = |file: u64| {
                let event = put(&[&1u32.to_le_bytes()[..], &file.to_le_bytes()].concat());
                call(linux::__NR_epoll_ctl, &[epoll, linux::EPOLL_CTL_ADD.into(), file, event])
                    .expect("a watch");
            };
            watch(listener);
            let (events, buffer) = (map(12 * 8), map(2048));
            let mut ended = 0;
            while ended < CLIENTS {
                let count = call(linux::__NR_epoll_wait, &[epoll, events, 8, u64::MAX]).expect("events");
                for index in 0..count {
                    let file = u64::from(word(events + index * 12 + 4));
                    if file == listener {
                        watch(call(linux::__NR_accept4, &[listener, 0, 0, 0]).expect("a connection"));
                        continue;
                    }
                    let len = call(linux::__NR_read, &[file, buffer, 2048]).expect("a read");
                    if len == 0 {
                        call(linux::__NR_close, &[file]).expect("a close");
                        ended += 1;
                    }
                    let mut done = 0;
                    while done < len {
                        done += call(linux::__NR_write, &[file, buffer + done, len - done]).expect("a write");
                    }
                }
            }
        }
    }))
}
