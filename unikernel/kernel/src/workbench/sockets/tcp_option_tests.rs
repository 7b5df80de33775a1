//! Options of TCP sockets (tcp(7), socket(7)): what they answer, and what they change.

use linux_raw_sys::{errno, net};

use crate::workbench::app::files::sleep_ms;
use crate::workbench::app::net::{
    STREAM, listener, option, option_int, send, set, set_int, socket, tcp_pair,
};
use crate::workbench::app::run::run;

const SOCKET: u32 = net::SOL_SOCKET;
const TCP: u32 = net::SOL_TCP;

#[test]
fn tcp_options_read_back() {
    run(|| {
        let (client, _server) = tcp_pair();
        for (name, value) in [
            (net::TCP_NODELAY, 1),
            (net::TCP_CORK, 1),
            (net::TCP_KEEPIDLE, 77),
            (net::TCP_KEEPINTVL, 11),
            (net::TCP_KEEPCNT, 3),
            (net::TCP_SYNCNT, 4),
            (net::TCP_USER_TIMEOUT, 12_345),
            (net::TCP_QUICKACK, 0),
            (net::TCP_NOTSENT_LOWAT, 16_384),
        ] {
            assert_eq!(set_int(client, TCP, name, value), Ok(0), "{name}");
            assert_eq!(option_int(client, TCP, name), Ok(value), "{name}");
        }
    });
}

#[test]
fn tcp_options_have_bounds() {
    run(|| {
        let (client, _server) = tcp_pair();
        for (name, value) in [
            (net::TCP_SYNCNT, 0),
            (net::TCP_SYNCNT, 128),
            (net::TCP_MAXSEG, 87),
            (net::TCP_MAXSEG, 40_000),
            (net::TCP_KEEPCNT, 128),
            (net::TCP_KEEPIDLE, 0),
            (net::TCP_KEEPINTVL, 32_768),
            (net::TCP_USER_TIMEOUT, -1),
            (net::TCP_WINDOW_CLAMP, 0),
        ] {
            assert_eq!(set_int(client, TCP, name, value), Err(errno::EINVAL), "{name} {value}");
        }
    });
}

#[test]
fn socket_options_read_back() {
    run(|| {
        let (client, _server) = tcp_pair();
        for (name, value) in [
            (net::SO_KEEPALIVE, 1),
            (net::SO_PRIORITY, 5),
            (net::SO_OOBINLINE, 1),
            (net::SO_DONTROUTE, 1),
            (net::SO_DONTROUTE, 0),
            (net::SO_REUSEADDR, 1),
            (net::SO_BROADCAST, 1),
            (net::SO_RCVLOWAT, 7),
        ] {
            assert_eq!(set_int(client, SOCKET, name, value), Ok(0), "{name}");
            assert_eq!(option_int(client, SOCKET, name), Ok(value), "{name}");
        }
    });
}

#[test]
fn sockets_tell_what_they_are() {
    run(|| {
        let fd = socket(net::AF_INET6, STREAM);
        assert_eq!(option_int(fd, SOCKET, net::SO_TYPE), Ok(STREAM as i32));
        assert_eq!(option_int(fd, SOCKET, net::SO_DOMAIN), Ok(net::AF_INET6 as i32));
        assert_eq!(option_int(fd, SOCKET, net::SO_PROTOCOL), Ok(6));
    });
}

#[test]
fn what_is_told_cannot_be_set() {
    run(|| {
        let fd = socket(net::AF_INET, STREAM);
        for name in [net::SO_TYPE, net::SO_DOMAIN, net::SO_PROTOCOL, net::SO_ERROR, net::SO_ACCEPTCONN] {
            assert_eq!(set_int(fd, SOCKET, name, 1), Err(errno::ENOPROTOOPT), "{name}");
        }
    });
}

#[test]
fn unknown_options_are_refused() {
    run(|| {
        let fd = socket(net::AF_INET, STREAM);
        for level in [SOCKET, TCP] {
            assert_eq!(set_int(fd, level, 999, 1), Err(errno::ENOPROTOOPT));
            assert_eq!(option_int(fd, level, 999), Err(errno::ENOPROTOOPT));
        }
        assert_eq!(set(fd, SOCKET, net::SO_KEEPALIVE, &[1]), Err(errno::EINVAL));
        assert_eq!(set_int(0, SOCKET, net::SO_KEEPALIVE, 1), Err(errno::ENOTSOCK));
    });
}

#[test]
fn values_are_cut_to_the_room() {
    run(|| {
        let fd = socket(net::AF_INET, STREAM);
        assert_eq!(option(fd, SOCKET, net::SO_TYPE, 2), Ok([1, 0].to_vec()));
        assert_eq!(option(fd, SOCKET, net::SO_TYPE, 16), Ok([1, 0, 0, 0].to_vec()));
    });
}

#[test]
fn buffer_sizes_are_doubled() {
    run(|| {
        let (client, _server) = tcp_pair();
        for name in [net::SO_RCVBUF, net::SO_SNDBUF] {
            assert_eq!(set_int(client, SOCKET, name, 20_000), Ok(0));
            assert_eq!(option_int(client, SOCKET, name), Ok(40_000));
        }
    });
}

#[test]
fn small_buffers_bound_what_is_taken() {
    run(|| {
        let (client, server) = tcp_pair();
        set_int(server, SOCKET, net::SO_RCVBUF, 8192).unwrap();
        set_int(client, SOCKET, net::SO_SNDBUF, 8192).unwrap();
        let mut taken = 0;
        for _ in 0..50 {
            taken += send(client, &[1; 65_536], net::MSG_DONTWAIT).unwrap_or(0);
            sleep_ms(1);
        }
        assert!((1..1_000_000).contains(&taken), "{taken}");
    });
}

#[test]
fn congestion_control_has_a_name() {
    run(|| {
        let (client, _server) = tcp_pair();
        let told = || option(client, TCP, net::TCP_CONGESTION, 16).unwrap();
        assert!(told().starts_with(b"cubic\0"));
        assert_eq!(set(client, TCP, net::TCP_CONGESTION, b"reno"), Ok(0));
        assert!(told().starts_with(b"reno\0"));
        assert_eq!(set(client, TCP, net::TCP_CONGESTION, b"no-such"), Err(errno::ENOENT));
        assert_eq!(set(client, TCP, net::TCP_CONGESTION, b""), Err(errno::EINVAL));
    });
}

#[test]
fn defer_accept_is_rounded_up() {
    run(|| {
        let (listener, _) = listener();
        for (wished, kept) in [(0, 0), (1, 1), (2, 3), (5, 7), (10, 15)] {
            assert_eq!(set_int(listener, TCP, net::TCP_DEFER_ACCEPT, wished), Ok(0));
            assert_eq!(option_int(listener, TCP, net::TCP_DEFER_ACCEPT), Ok(kept));
        }
    });
}
