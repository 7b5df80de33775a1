//! Streams: connections in both directions, their names, their ends.

use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general as linux;
use linux_raw_sys::net::{
    AF_VSOCK, MSG_PEEK, MSG_WAITALL, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SOL_SOCKET,
};

use super::{
    ANY, DATA, GUEST, HOST, HUP, IN, NO_RECEIVE, NO_SEND, OUT, Packet, RDHUP, REQUEST, RESET, RESPONSE,
    SHUTDOWN, address, connected, expect, heard, listener, run_with_host, stream, tell, wait_for,
};
use crate::workbench::app::files::{close, now_ms, read, set_nonblocking, sleep_ms, write};
use crate::workbench::app::net::{
    NONBLOCK, STREAM, accept, address_by, bind, connect, ioctl_int, listen, name, option_int, peer, recv,
    send, send_to, shutdown, socket, try_socket,
};
use crate::workbench::app::wait::{add, epoll, poll, wait};
use crate::workbench::app::{join, spawn};

#[test]
fn guest_connects_and_both_sides_talk() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(poll(client, OUT | IN, 0), OUT | HUP);
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINPROGRESS));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EALREADY));
        assert_eq!((poll(client, OUT, 0), peer(client)), (0, Err(ENOTCONN)));
        let request = expect(REQUEST);
        assert_eq!((request.from.0, request.to, request.kind), (GUEST, (HOST, 80), 1));
        assert!(request.from.1 >= 1024 && request.room > 0);
        tell(&request.back(RESPONSE));
        assert_eq!((poll(client, OUT, 0), option_int(client, SOL_SOCKET, SO_ERROR)), (OUT, Ok(0)));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EISCONN));
        assert_eq!(peer(client), Ok(address(HOST as u32, 80)));
        assert_eq!(name(client), address(GUEST as u32, request.from.1));

        assert_eq!(write(client, b"question"), Ok(8));
        assert_eq!(expect(DATA).data, b"question");
        assert_eq!(read(client, 16), Err(EAGAIN));
        tell(&Packet { data: b"answer".to_vec(), ..request.back(DATA) });
        assert_eq!((poll(client, IN, 0), ioctl_int(client, linux_raw_sys::ioctl::FIONREAD)), (IN, Ok(6)));
        assert_eq!(recv(client, 3, MSG_PEEK), Ok(b"ans".to_vec()));
        assert_eq!((read(client, 3), read(client, 16)), (Ok(b"ans".to_vec()), Ok(b"wer".to_vec())));
        assert_eq!(send_to(client, b"x", 0, &address(HOST as u32, 80)), Err(EISCONN));
    });
}

#[test]
fn host_connects_to_who_listens() {
    run_with_host(|| {
        let server = listener(5000, 2);
        assert_eq!(option_int(server, SOL_SOCKET, linux_raw_sys::net::SO_ACCEPTCONN), Ok(1));
        assert_eq!(name(server), address(ANY, 5000));
        assert_eq!(poll(server, IN, 0), 0);
        for port in 100..103 {
            tell(&Packet::new(REQUEST, port, 5000));
        }
        // The queue has room for two; nobody listens elsewhere.
        tell(&Packet::new(REQUEST, 100, 5001));
        assert_eq!(poll(server, IN, 0), IN);
        let answers: Vec<(u16, u32, u32)> =
            core::iter::from_fn(heard).map(|packet| (packet.operation, packet.from.1, packet.to.1)).collect();
        assert!(
            answers.contains(&(RESET, 5000, 102)) && answers.contains(&(RESET, 5001, 100)),
            "{answers:?}"
        );
        assert!(answers.contains(&(RESPONSE, 5000, 100)) && answers.contains(&(RESPONSE, 5000, 101)));
        let first = accept(server).unwrap();
        assert_eq!(peer(first), Ok(address(HOST as u32, 100)));
        assert_eq!(name(first), address(GUEST as u32, 5000));
        tell(&Packet::data(100, 5000, b"hello"));
        assert_eq!(read(first, 16), Ok(b"hello".to_vec()));
        let (second, from) = {
            let second = accept(server).unwrap();
            (second, address_by(linux::__NR_getpeername, second))
        };
        assert_eq!(from, Ok(address(HOST as u32, 101)));
        set_nonblocking(server, true);
        assert_eq!(accept(server), Err(EAGAIN));
        // Who waits in the queue of a listener that goes is turned away.
        tell(&Packet::new(REQUEST, 104, 5000));
        expect(RESPONSE);
        close(server);
        assert_eq!(expect(RESET).to, (HOST, 104));
        assert_eq!(write(second, b"still"), Ok(5));
        assert_eq!((expect(DATA).data, first > 0), (b"still".to_vec(), true));
    });
}

#[test]
fn blocking_calls_wait_for_the_host() {
    run_with_host(|| {
        let host = spawn(|| {
            let request = wait_for(REQUEST);
            tell(&request.back(RESPONSE));
            let data = wait_for(DATA);
            tell(&Packet { data: data.data.clone(), ..data.back(DATA) });
            tell(&Packet { flags: NO_SEND, ..data.back(SHUTDOWN) });
            sleep_ms(5);
            tell(&Packet::new(REQUEST, 7, 5000));
        });
        let host = host.unwrap();
        let server = listener(5000, 1);
        let client = stream();
        assert_eq!(connect(client, &address(HOST as u32, 80)), Ok(0));
        assert_eq!(write(client, b"echo"), Ok(4));
        assert_eq!(recv(client, 4, MSG_WAITALL), Ok(b"echo".to_vec()));
        assert_eq!(read(client, 4), Ok(Vec::new()));
        let accepted = accept(server).unwrap();
        assert_eq!(peer(accepted), Ok(address(HOST as u32, 7)));
        join(host);
    });
}

#[test]
fn refused_attempt_can_be_repeated() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(client, &address(HOST as u32, 81)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&request.back(RESET));
        assert_ne!(poll(client, OUT, 0) & HUP, 0);
        assert_eq!(option_int(client, SOL_SOCKET, SO_ERROR), Ok(ECONNRESET as i32));
        assert_eq!(option_int(client, SOL_SOCKET, SO_ERROR), Ok(0));
        assert_eq!(connect(client, &address(HOST as u32, 82)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&request.back(RESPONSE));
        assert_eq!(connect(client, &address(HOST as u32, 82)), Err(EISCONN));
        // Something else than an answer to the request is a refusal.
        let other = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(other, &address(HOST as u32, 83)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&Packet { data: b"early".to_vec(), ..request.back(DATA) });
        assert_eq!(connect(other, &address(HOST as u32, 83)), Err(ECONNRESET));
    });
}

#[test]
fn silent_host_is_waited_for_no_longer_than_linux_does() {
    run_with_host(|| {
        let (client, start_ms) = (stream(), now_ms());
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(ETIMEDOUT));
        assert!((2000..2100).contains(&(now_ms() - start_ms)), "{} ms", now_ms() - start_ms);
        let request = expect(REQUEST);
        // It is told, and a late answer finds nobody.
        expect(RESET);
        tell(&request.back(RESPONSE));
        expect(RESET);
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(ETIMEDOUT));
    });
}

#[test]
fn names_are_checked() {
    run_with_host(|| {
        let client = stream();
        assert_eq!(connect(client, &address(HOST as u32, 80)[..8]), Err(EINVAL));
        assert_eq!(connect(client, &address(GUEST as u32, 80)), Err(ENODEV));
        assert_eq!(connect(client, &address(1, 80)), Err(ENODEV));
        assert_eq!(bind(client, &address(9, 80)), Err(EADDRNOTAVAIL));
        assert_eq!(listen(client, 1), Err(EINVAL));
        assert_eq!(accept(client), Err(EINVAL));
        assert_eq!((read(client, 1), write(client, b"x")), (Err(ENOTCONN), Err(ENOTCONN)));
        assert_eq!((shutdown(client, SHUT_RD), peer(client)), (Err(ENOTCONN), Err(ENOTCONN)));
        assert_eq!(name(client), address(ANY, ANY));
        assert_eq!(bind(client, &address(GUEST as u32, 80)), Ok(0));
        assert_eq!(name(client), address(ANY, 80));
        assert_eq!(bind(client, &address(ANY, 81)), Err(EINVAL));
        let second = stream();
        assert_eq!(bind(second, &address(ANY, 80)), Err(EADDRINUSE));
        assert_eq!(bind(second, &address(ANY, ANY)), Ok(0));
        assert_eq!(try_socket(AF_VSOCK, STREAM, 77).map(|_| ()), Err(EPROTONOSUPPORT));
        assert_eq!(try_socket(AF_VSOCK, 3, 0).map(|_| ()), Err(ESOCKTNOSUPPORT));
        assert_eq!(heard(), None);
    });
}

#[test]
fn bound_port_is_where_the_connection_comes_from() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(bind(client, &address(ANY, 700)), Ok(0));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        assert_eq!(request.from, (GUEST, 700));
        tell(&request.back(RESET));
        assert_eq!(option_int(client, SOL_SOCKET, SO_ERROR), Ok(ECONNRESET as i32));
        // The port stays the socket's.
        assert_eq!((name(client), listen(client, 1)), (address(ANY, 700), Ok(0)));
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINVAL));
        close(client);
        assert_eq!(bind(stream(), &address(ANY, 700)), Ok(0));
    });
}

#[test]
fn directions_end_one_by_one() {
    run_with_host(|| {
        let (client, port) = connected(80);
        assert_eq!(shutdown(client, SHUT_WR), Ok(0));
        assert_eq!(expect(SHUTDOWN).flags, NO_SEND);
        assert_eq!(send(client, b"x", linux_raw_sys::net::MSG_NOSIGNAL), Err(EPIPE));
        tell(&Packet::data(80, port, b"more"));
        assert_eq!(read(client, 16), Ok(b"more".to_vec()));
        tell(&Packet { flags: NO_SEND, ..Packet::new(SHUTDOWN, 80, port) });
        assert_eq!(read(client, 16), Ok(Vec::new()));
        assert_eq!(poll(client, IN | RDHUP, 0), IN | RDHUP | HUP);

        let (other, port) = connected(81);
        tell(&Packet { flags: NO_RECEIVE, ..Packet::new(SHUTDOWN, 81, port) });
        assert_eq!(send(other, b"x", linux_raw_sys::net::MSG_NOSIGNAL), Err(EPIPE));
        assert_eq!(shutdown(other, SHUT_RDWR), Ok(0));
        assert_eq!(expect(SHUTDOWN).flags, NO_SEND | NO_RECEIVE);
        tell(&Packet { flags: NO_RECEIVE | NO_SEND, ..Packet::new(SHUTDOWN, 81, port) });
        expect(RESET);
        assert_eq!(shutdown(other, 3), Err(EINVAL));
    });
}

#[test]
fn close_sends_what_was_written() {
    run_with_host(|| {
        let (client, port) = connected(80);
        assert_eq!(write(client, b"last words"), Ok(10));
        close(client);
        assert_eq!(expect(DATA).data, b"last words");
        assert_eq!(expect(SHUTDOWN).flags, NO_RECEIVE | NO_SEND);
        tell(&Packet { flags: NO_RECEIVE | NO_SEND, ..Packet::new(SHUTDOWN, 80, port) });
        expect(RESET);
        // The connection is no more.
        tell(&Packet::data(80, port, b"late"));
        expect(RESET);
        let attempt = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(attempt, &address(HOST as u32, 80)), Err(EINPROGRESS));
        expect(REQUEST);
        close(attempt);
        expect(RESET);
    });
}

#[test]
fn reset_ends_a_connection() {
    run_with_host(|| {
        let (client, port) = connected(80);
        let events = epoll();
        add(events, client, linux::EPOLLIN | linux::EPOLLRDHUP, 7).unwrap();
        tell(&Packet::data(80, port, b"unread"));
        tell(&Packet::new(RESET, 80, port));
        let heard_of = wait(events, 4, 0).unwrap();
        assert_eq!(heard_of, [(linux::EPOLLIN | linux::EPOLLRDHUP | linux::EPOLLHUP, 7)]);
        assert_eq!((read(client, 16), read(client, 16)), (Ok(b"unread".to_vec()), Ok(Vec::new())));
        assert_eq!(heard(), None, "no answer to a reset");
    });
}

#[test]
fn host_without_a_device_is_out_of_reach() {
    crate::workbench::app::run::run(|| {
        assert_eq!(try_socket(AF_VSOCK, STREAM, 0).map(|_| ()), Err(EAFNOSUPPORT));
    });
}
