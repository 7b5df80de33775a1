//! What goes over a TCP connection, and who waits for it.

use linux_raw_sys::{errno, general as linux, ioctl, net};

use crate::workbench::app::files::{close, now_ms, read, set_nonblocking, sleep_ms, write};
use crate::workbench::app::net::{
    LOCALHOST, STREAM, accept, bind, connect, ioctl_int, listen, listener, name, peer, port_of, recv, send,
    send_message, set, set_int, shutdown, socket, tcp_pair, v4, v6_localhost,
};
use crate::workbench::app::run::{run, run_seeds, sys};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{join, spawn};

#[test]
fn peeked_bytes_stay() {
    run(|| {
        let (client, server) = tcp_pair();
        write(client, b"peek").unwrap();
        assert_eq!(recv(server, 2, net::MSG_PEEK), Ok(b"pe".to_vec()));
        assert_eq!(recv(server, 9, net::MSG_PEEK), Ok(b"peek".to_vec()));
        assert_eq!(read(server, 9), Ok(b"peek".to_vec()));
    });
}

#[test]
fn dontwait_holds_for_one_call() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(recv(server, 1, net::MSG_DONTWAIT), Err(errno::EAGAIN));
        let chunk = [0; 65_536];
        let full = (0..1000).find_map(|_| send(client, &chunk, net::MSG_DONTWAIT).err());
        assert_eq!(full, Some(errno::EAGAIN));
        assert_eq!(poll(client, linux::POLLOUT, 0), 0);
    });
}

#[test]
fn waitall_gathers_and_ends_with_the_stream() {
    run_seeds(5, || {
        let (client, server) = tcp_pair();
        let sender = spawn(move || {
            for part in [&b"one"[..], b"two", b"end"] {
                write(client, part).unwrap();
                sleep_ms(20);
            }
            close(client);
        });
        assert_eq!(recv(server, 6, net::MSG_WAITALL), Ok(b"onetwo".to_vec()));
        assert_eq!(recv(server, 6, net::MSG_WAITALL), Ok(b"end".to_vec()));
        join(sender.unwrap());
    });
}

#[test]
fn truncated_stream_bytes_are_thrown_away() {
    run(|| {
        let (client, server) = tcp_pair();
        write(client, b"gone and kept").unwrap();
        let flags = net::MSG_TRUNC;
        assert_eq!(sys(linux::__NR_recvfrom, &[server, 0, 9, flags.into(), 0, 0]), Ok(9));
        assert_eq!(read(server, 9), Ok(b"kept".to_vec()));
    });
}

#[test]
fn send_with_more_is_in_order_with_what_follows() {
    run(|| {
        let (client, server) = tcp_pair();
        send(client, b"head", net::MSG_MORE).unwrap();
        send(client, b"tail", 0).unwrap();
        assert_eq!(recv(server, 8, net::MSG_WAITALL), Ok(b"headtail".to_vec()));
    });
}

#[test]
fn parts_are_gathered_by_sendmsg() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(send_message(client, &[b"ab", b"", b"cde"], &[], &[]), Ok(5));
        assert_eq!(recv(server, 5, net::MSG_WAITALL), Ok(b"abcde".to_vec()));
    });
}

#[test]
fn queue_lengths_are_told() {
    run(|| {
        let (client, server) = tcp_pair();
        write(client, b"12345").unwrap();
        assert_eq!(poll(server, linux::POLLIN, 1000), linux::POLLIN);
        assert_eq!(ioctl_int(server, ioctl::FIONREAD), Ok(5));
        sleep_ms(500);
        assert_eq!(ioctl_int(client, ioctl::TIOCOUTQ), Ok(0));
        assert_eq!(ioctl_int(socket(net::AF_INET, STREAM), 0x5400), Err(errno::ENOTTY));
    });
}

#[test]
fn receive_times_out() {
    run(|| {
        let (client, _server) = tcp_pair();
        let half_second = [&0_i64.to_ne_bytes()[..], &500_000_i64.to_ne_bytes()].concat();
        assert_eq!(set(client, net::SOL_SOCKET, net::SO_RCVTIMEO, &half_second), Ok(0));
        let begin = now_ms();
        assert_eq!(read(client, 1), Err(errno::EAGAIN));
        assert!((500..600).contains(&(now_ms() - begin)));
    });
}

#[test]
fn accept_times_out() {
    run(|| {
        let (listener, _) = listener();
        let second = [&1_i64.to_ne_bytes()[..], &0_i64.to_ne_bytes()].concat();
        assert_eq!(set(listener, net::SOL_SOCKET, net::SO_RCVTIMEO, &second), Ok(0));
        let begin = now_ms();
        assert_eq!(accept(listener), Err(errno::EAGAIN));
        assert!((1000..1100).contains(&(now_ms() - begin)));
    });
}

#[test]
fn poll_tells_of_half_and_whole_ends() {
    run(|| {
        let (client, server) = tcp_pair();
        let all = linux::POLLIN | linux::POLLOUT | linux::POLLRDHUP;
        assert_eq!(poll(client, all, 0), linux::POLLOUT);
        shutdown(server, net::SHUT_WR).unwrap();
        assert_eq!(poll(client, linux::POLLRDHUP, 1000), linux::POLLRDHUP);
        assert_eq!(poll(client, all, 0), all);
        shutdown(client, net::SHUT_WR).unwrap();
        sleep_ms(50);
        assert_eq!(poll(client, linux::POLLHUP, 0), linux::POLLHUP);
    });
}

#[test]
fn connections_over_ipv6() {
    run(|| {
        let listener = socket(net::AF_INET6, STREAM);
        bind(listener, &v6_localhost(0)).unwrap();
        listen(listener, 4).unwrap();
        let client = socket(net::AF_INET6, STREAM);
        assert_eq!(connect(client, &name(listener)), Ok(0));
        let server = accept(listener).unwrap();
        assert_eq!(peer(server), Ok(name(client)));
        write(client, b"six").unwrap();
        assert_eq!(read(server, 9), Ok(b"six".to_vec()));
    });
}

#[test]
fn listener_of_both_families_takes_ipv4() {
    run(|| {
        let listener = socket(net::AF_INET6, STREAM);
        bind(listener, &crate::workbench::app::net::v6([0; 16], 0)).unwrap();
        listen(listener, 4).unwrap();
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &v4(LOCALHOST, port_of(&name(listener)))), Ok(0));
        let server = accept(listener).unwrap();
        let mapped = [&[0; 10][..], &[0xff; 2], &LOCALHOST].concat();
        assert_eq!(peer(server).unwrap()[8..24], mapped);
    });
}

#[test]
fn v6_only_listener_refuses_ipv4() {
    run(|| {
        let listener = socket(net::AF_INET6, STREAM);
        set_int(listener, net::SOL_IPV6, net::IPV6_V6ONLY, 1).unwrap();
        bind(listener, &crate::workbench::app::net::v6([0; 16], 0)).unwrap();
        listen(listener, 4).unwrap();
        let client = socket(net::AF_INET, STREAM);
        let address = v4(LOCALHOST, port_of(&name(listener)));
        assert_eq!(connect(client, &address), Err(errno::ECONNREFUSED));
    });
}

#[test]
fn nonblocking_accept_does_not_wait() {
    run(|| {
        let (listener, _) = listener();
        set_nonblocking(listener, true);
        assert_eq!(accept(listener), Err(errno::EAGAIN));
    });
}
