//! What options of TCP sockets change (tcp(7), socket(7)).

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, ioctl, net};

use crate::workbench::app::files::{close, now_ms, read, read_to_end, sleep_ms, write, write_all};
use crate::workbench::app::net::{
    NONBLOCK, STREAM, accept, bind, bound, connect, ioctl_int, listen, listener, option, option_int, recv,
    send, set, set_int, shutdown, socket, tcp_pair,
};
use crate::workbench::app::run::{run, run_seeds};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{join, spawn};

const SOCKET: u32 = net::SOL_SOCKET;
const TCP: u32 = net::SOL_TCP;

fn linger(seconds: i32) -> Vec<u8> {
    [1_i32.to_ne_bytes(), seconds.to_ne_bytes()].concat()
}

#[test]
fn deferred_accept_waits_for_data() {
    run(|| {
        let (listener, address) = listener();
        set_int(listener, TCP, net::TCP_DEFER_ACCEPT, 5).unwrap();
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        assert_eq!(poll(listener, linux::POLLIN, 100), 0);
        write(client, b"here").unwrap();
        assert_eq!(poll(listener, linux::POLLIN, 1000), linux::POLLIN);
        assert_eq!(read(accept(listener).unwrap(), 9), Ok(b"here".to_vec()));
    });
}

#[test]
fn fin_wait_time_is_bounded() {
    run(|| {
        let (client, _server) = tcp_pair();
        assert_eq!(option_int(client, TCP, net::TCP_LINGER2), Ok(60));
        for (wished, told) in [(5, 5), (1000, 120), (-7, -1), (0, 60)] {
            assert_eq!(set_int(client, TCP, net::TCP_LINGER2, wished), Ok(0));
            assert_eq!(option_int(client, TCP, net::TCP_LINGER2), Ok(told));
        }
    });
}

#[test]
fn cork_gathers() {
    run(|| {
        let (client, server) = tcp_pair();
        set_int(client, TCP, net::TCP_CORK, 1).unwrap();
        write(client, b"one").unwrap();
        assert_eq!(poll(server, linux::POLLIN, 50), 0);
        write(client, b"two").unwrap();
        set_int(client, TCP, net::TCP_CORK, 0).unwrap();
        assert_eq!(recv(server, 6, net::MSG_WAITALL), Ok(b"onetwo".to_vec()));
    });
}

#[test]
fn corked_bytes_go_after_a_while() {
    run(|| {
        let (client, server) = tcp_pair();
        set_int(client, TCP, net::TCP_CORK, 1).unwrap();
        write(client, b"one").unwrap();
        // tcp(7): two hundred milliseconds at most.
        assert_eq!(poll(server, linux::POLLIN, 300), linux::POLLIN);
    });
}

#[test]
fn linger_of_zero_resets() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(set(client, SOCKET, net::SO_LINGER, &linger(0)), Ok(0));
        assert_eq!(option(client, SOCKET, net::SO_LINGER, 8), Ok(linger(0)));
        close(client);
        assert_eq!(read(server, 1), Err(errno::ECONNRESET));
    });
}

#[test]
fn linger_waits_for_delivery() {
    run_seeds(4, || {
        let (client, server) = tcp_pair();
        set_int(client, SOCKET, net::SO_SNDBUF, 200_000).unwrap();
        set(client, SOCKET, net::SO_LINGER, &linger(30)).unwrap();
        let reader = spawn(move || {
            sleep_ms(500);
            assert_eq!(read_to_end(server).unwrap().len(), 100_000);
        });
        write_all(client, &[7; 100_000]).unwrap();
        let begin = now_ms();
        close(client);
        assert!(now_ms() - begin < 20_000);
        join(reader.unwrap());
    });
}

#[test]
fn low_water_mark_is_waited_for() {
    run(|| {
        let (client, server) = tcp_pair();
        set_int(client, TCP, net::TCP_NODELAY, 1).unwrap();
        set_int(server, SOCKET, net::SO_RCVLOWAT, 100).unwrap();
        write(client, &[1; 99]).unwrap();
        assert_eq!(poll(server, linux::POLLIN, 100), 0);
        write(client, &[1; 1]).unwrap();
        assert_eq!(poll(server, linux::POLLIN, 1000), linux::POLLIN);
        assert_eq!(read(server, 500).unwrap().len(), 100);
        write(client, &[3; 7]).unwrap();
        sleep_ms(20);
        assert_eq!(recv(server, 500, net::MSG_DONTWAIT).unwrap().len(), 7);
        set_int(server, SOCKET, net::SO_RCVLOWAT, 0).unwrap();
        assert_eq!(option_int(server, SOCKET, net::SO_RCVLOWAT), Ok(1));
    });
}

#[test]
fn peek_offset_goes_on() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(option_int(server, SOCKET, net::SO_PEEK_OFF), Ok(-1));
        write(client, b"abcdef").unwrap();
        assert_eq!(poll(server, linux::POLLIN, 1000), linux::POLLIN);
        set_int(server, SOCKET, net::SO_PEEK_OFF, 0).unwrap();
        assert_eq!(recv(server, 2, net::MSG_PEEK), Ok(b"ab".to_vec()));
        assert_eq!(recv(server, 3, net::MSG_PEEK), Ok(b"cde".to_vec()));
        assert_eq!(option_int(server, SOCKET, net::SO_PEEK_OFF), Ok(5));
        assert_eq!(read(server, 4), Ok(b"abcd".to_vec()));
        assert_eq!(option_int(server, SOCKET, net::SO_PEEK_OFF), Ok(1));
        assert_eq!(recv(server, 9, net::MSG_PEEK), Ok(b"f".to_vec()));
    });
}

#[test]
fn info_tells_the_state() {
    run(|| {
        let state = |fd| option(fd, TCP, net::TCP_INFO, 104).unwrap()[0];
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(state(client), 7);
        connect(client, &address).unwrap();
        let server = accept(listener).unwrap();
        assert_eq!((state(listener), state(client), state(server)), (10, 1, 1));
        shutdown(client, net::SHUT_WR).unwrap();
        sleep_ms(300);
        assert_eq!((state(client), state(server)), (5, 8));
    });
}

#[test]
fn keepalive_is_silent_while_the_peer_answers() {
    run(|| {
        let (client, server) = tcp_pair();
        set_int(client, SOCKET, net::SO_KEEPALIVE, 1).unwrap();
        set_int(client, TCP, net::TCP_KEEPIDLE, 1).unwrap();
        set_int(client, TCP, net::TCP_KEEPINTVL, 1).unwrap();
        set_int(client, TCP, net::TCP_KEEPCNT, 2).unwrap();
        sleep_ms(20_000);
        assert_eq!(recv(client, 1, net::MSG_DONTWAIT), Err(errno::EAGAIN));
        assert_eq!(write(server, b"alive"), Ok(5));
        assert_eq!(read(client, 9), Ok(b"alive".to_vec()));
    });
}

#[test]
fn urgent_byte_is_read_apart() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(recv(server, 1, net::MSG_OOB), Err(errno::EINVAL));
        assert_eq!(send(client, b"a!", net::MSG_OOB), Ok(2));
        assert_eq!(poll(server, linux::POLLPRI, 1000), linux::POLLPRI);
        assert_eq!(recv(server, 1, net::MSG_OOB), Ok(b"!".to_vec()));
        assert_eq!(recv(server, 1, net::MSG_OOB), Err(errno::EINVAL));
        assert_eq!(recv(server, 9, 0), Ok(b"a".to_vec()));
    });
}

#[test]
fn reading_stops_at_the_mark() {
    run(|| {
        let (client, server) = tcp_pair();
        write(client, b"ab").unwrap();
        send(client, b"!", net::MSG_OOB).unwrap();
        write(client, b"cd").unwrap();
        sleep_ms(50);
        assert_eq!(ioctl_int(server, ioctl::SIOCATMARK), Ok(0));
        assert_eq!(read(server, 9), Ok(b"ab".to_vec()));
        assert_eq!(ioctl_int(server, ioctl::SIOCATMARK), Ok(1));
        assert_eq!(read(server, 9), Ok(b"cd".to_vec()));
    });
}

#[test]
fn urgent_byte_inline_is_one_of_all() {
    run(|| {
        let (client, server) = tcp_pair();
        set_int(server, SOCKET, net::SO_OOBINLINE, 1).unwrap();
        write(client, b"ab").unwrap();
        send(client, b"!", net::MSG_OOB).unwrap();
        sleep_ms(50);
        assert_eq!(recv(server, 1, net::MSG_OOB), Err(errno::EINVAL));
        assert_eq!(read(server, 9), Ok(b"ab".to_vec()));
        assert_eq!(read(server, 9), Ok(b"!".to_vec()));
    });
}

#[test]
fn reused_port_has_several_listeners() {
    run(|| {
        let (first, address) = bound(STREAM);
        close(first);
        let listeners = [(); 2].map(|()| {
            let fd = socket(net::AF_INET, STREAM | NONBLOCK);
            set_int(fd, SOCKET, net::SO_REUSEPORT, 1).unwrap();
            assert_eq!(bind(fd, &address), Ok(0));
            assert_eq!(listen(fd, 16), Ok(0));
            fd
        });
        let clients: Vec<u64> = (0..8).map(|_| socket(net::AF_INET, STREAM)).collect();
        for client in &clients {
            assert_eq!(connect(*client, &address), Ok(0));
        }
        sleep_ms(10);
        let accepted: Vec<u64> =
            listeners.iter().flat_map(|fd| core::iter::from_fn(|| accept(*fd).ok())).collect();
        assert_eq!(accepted.len(), 8);
        let other = socket(net::AF_INET, STREAM);
        assert_eq!(bind(other, &address), Err(errno::EADDRINUSE));
    });
}

#[test]
fn port_in_time_wait_can_be_reused() {
    run(|| {
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        let server = accept(listener).unwrap();
        // The side that closes first waits.
        close(server);
        assert_eq!(read(client, 1), Ok(Vec::new()));
        close(client);
        close(listener);
        sleep_ms(500);
        let again = socket(net::AF_INET, STREAM);
        set_int(again, SOCKET, net::SO_REUSEADDR, 1).unwrap();
        assert_eq!(bind(again, &address), Ok(0));
        assert_eq!(listen(again, 4), Ok(0));
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &address), Ok(0));
    });
}

#[test]
fn time_wait_ends_after_a_minute() {
    run(|| {
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        let server = accept(listener).unwrap();
        close(server);
        assert_eq!(read(client, 1), Ok(Vec::new()));
        close(client);
        close(listener);
        sleep_ms(130_000);
        assert_eq!(bind(socket(net::AF_INET, STREAM), &address), Ok(0));
    });
}
