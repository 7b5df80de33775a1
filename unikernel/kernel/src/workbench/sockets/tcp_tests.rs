//! TCP (tcp(7)): connections, what goes over them, and how they end.

use alloc::vec::Vec;

use linux_raw_sys::io_uring::io_uring_op;
use linux_raw_sys::{errno, general as linux, net};

use crate::workbench::app::files::{
    Buffer, close, read, read_to_end, set_nonblocking, sleep_ms, words, write, write_all,
};
use crate::workbench::app::net::{
    LOCALHOST, NONBLOCK, STREAM, accept, bind, bound, connect, listen, listener, name, option_int, peer,
    port_of, recv, send, shutdown, socket, tcp_pair, unix, v4, v6_localhost,
};
use crate::workbench::app::ring::{Ring, Sqe};
use crate::workbench::app::run::{run, run_seeds, sys};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{join, spawn};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn bytes_go_both_ways() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(write(client, b"question"), Ok(8));
        assert_eq!(read(server, 100), Ok(b"question".to_vec()));
        assert_eq!(write(server, b"answer"), Ok(6));
        assert_eq!(read(client, 100), Ok(b"answer".to_vec()));
    });
}

#[test]
fn addresses_of_both_ends_agree() {
    run(|| {
        let (client, server) = tcp_pair();
        assert_eq!(peer(client), Ok(name(server)));
        assert_eq!(peer(server), Ok(name(client)));
        assert_eq!(name(client)[4..8], LOCALHOST);
    });
}

#[test]
fn accept_leaves_the_address_of_the_peer() {
    run(|| {
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        let (from, len) = (Buffer::zeroed(16), Buffer::new(&16_u32.to_ne_bytes()));
        sys(linux::__NR_accept4, &[listener, from.address, len.address, 0]).unwrap();
        assert_eq!((from.bytes(16), len.bytes(4)), (name(client), 16_u32.to_ne_bytes().to_vec()));
    });
}

/// Who has no descriptor left for a connection finds it waiting when there is one.
#[test]
fn connection_waits_for_a_descriptor() {
    run(|| {
        let (listener, address) = listener();
        let unix_listener = socket(net::AF_UNIX, STREAM);
        bind(unix_listener, &unix(b"\0name")).unwrap();
        listen(unix_listener, 4).unwrap();
        let client = socket(net::AF_INET, STREAM);
        let unix_client = socket(net::AF_UNIX, STREAM);
        let ring = Ring::new(4);
        let by_ring = |fd: u64| ring.one(Sqe::on(io_uring_op::IORING_OP_ACCEPT, fd, 0, 0));
        connect(client, &address).unwrap();
        connect(unix_client, &unix(b"\0name")).unwrap();
        let limit = |most: u64| {
            let limit = Buffer::new(&words(&[most, 4096]));
            sys(linux::__NR_setrlimit, &[linux::RLIMIT_NOFILE.into(), limit.address]).unwrap();
        };
        limit(ring.fd + 1);
        for _ in 0..2 {
            for fd in [listener, unix_listener] {
                assert_eq!(accept(fd), Err(errno::EMFILE));
                assert_eq!(by_ring(fd), -(errno::EMFILE as i32));
            }
        }
        limit(100);
        let server = accept(listener).unwrap();
        assert_eq!((write(client, b"x"), read(server, 9)), (Ok(1), Ok(b"x".to_vec())));
        let server = by_ring(unix_listener) as u64;
        assert_eq!((write(unix_client, b"y"), read(server, 9)), (Ok(1), Ok(b"y".to_vec())));
    });
}

/// A descriptor that an accept(2) waits with is nobody else's, and free again when the wait ends.
#[test]
fn descriptor_of_who_waits_is_taken() {
    run(|| {
        let (listener, address) = listener();
        let waiter = spawn(move || {
            let server = accept(listener).unwrap();
            assert_eq!(server, listener + 1);
        })
        .unwrap();
        sleep_ms(1);
        assert_eq!(sys(linux::__NR_dup, &[listener]), Ok(listener + 2));
        assert_eq!(sys(linux::__NR_dup2, &[listener, listener + 1]), Err(errno::EBUSY));
        assert_eq!(sys(linux::__NR_close, &[listener + 1]), Err(errno::EBADF));
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        join(waiter);
        close(listener + 1);
        set_nonblocking(listener, true);
        assert_eq!(accept(listener), Err(errno::EAGAIN));
        assert_eq!(sys(linux::__NR_dup, &[listener]), Ok(listener + 1));
    });
}

#[test]
fn accept4_sets_flags() {
    run(|| {
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        let flags = linux::O_NONBLOCK | linux::O_CLOEXEC;
        let server = sys(linux::__NR_accept4, &[listener, 0, 0, flags.into()]).unwrap();
        assert_eq!(recv(server, 1, 0), Err(errno::EAGAIN));
        assert_eq!(sys(linux::__NR_fcntl, &[server, linux::F_GETFD.into()]), Ok(linux::FD_CLOEXEC.into()));
        assert_eq!(sys(linux::__NR_accept4, &[listener, 0, 0, 1]), Err(errno::EINVAL));
    });
}

#[test]
fn bulk_arrives_unchanged() {
    run_seeds(3, || {
        const LEN: usize = 1 << 20;
        let (client, server) = tcp_pair();
        let sender = spawn(move || {
            write_all(client, &pattern(LEN)).unwrap();
            close(client);
        });
        assert!(read_to_end(server).unwrap() == pattern(LEN));
        join(sender.unwrap());
    });
}

#[test]
fn echo_of_two_threads_comes_back() {
    run_seeds(10, || {
        let (client, server) = tcp_pair();
        let echo = spawn(move || {
            loop {
                let bytes = read(server, 64).unwrap();
                if bytes.is_empty() {
                    break;
                }
                write_all(server, &bytes).unwrap();
            }
        });
        for round in 0..30_u8 {
            write(client, &[round; 3]).unwrap();
            assert_eq!(recv(client, 3, net::MSG_WAITALL), Ok([round; 3].to_vec()));
        }
        close(client);
        join(echo.unwrap());
    });
}

#[test]
fn connect_sleeps_until_there_is_an_answer() {
    run_seeds(10, || {
        let (listener, address) = listener();
        let server = spawn(move || {
            let server = accept(listener).unwrap();
            assert_eq!(write(server, b"hello"), Ok(5));
        });
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &address), Ok(0));
        assert_eq!(recv(client, 5, net::MSG_WAITALL), Ok(b"hello".to_vec()));
        join(server.unwrap());
    });
}

#[test]
fn half_close_ends_one_direction() {
    run(|| {
        let (client, server) = tcp_pair();
        write(client, b"last").unwrap();
        assert_eq!(shutdown(client, net::SHUT_WR), Ok(0));
        assert_eq!(read_to_end(server), Ok(b"last".to_vec()));
        assert_eq!(write(server, b"still"), Ok(5));
        assert_eq!(read(client, 9), Ok(b"still".to_vec()));
        assert_eq!(send(client, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
    });
}

#[test]
fn reading_after_shutdown_for_reading_is_the_end() {
    run(|| {
        let (client, _server) = tcp_pair();
        assert_eq!(shutdown(client, net::SHUT_RD), Ok(0));
        assert_eq!(read(client, 1), Ok(Vec::new()));
    });
}

#[test]
fn shutdown_has_three_ways_and_needs_a_peer() {
    run(|| {
        let (client, _server) = tcp_pair();
        assert_eq!(shutdown(client, 3), Err(errno::EINVAL));
        assert_eq!(shutdown(socket(net::AF_INET, STREAM), net::SHUT_RDWR), Err(errno::ENOTCONN));
        assert_eq!(shutdown(99, net::SHUT_RDWR), Err(errno::EBADF));
    });
}

#[test]
fn writing_to_a_closed_peer_ends_in_an_error() {
    run(|| {
        let (client, server) = tcp_pair();
        close(server);
        let error = (0..100).find_map(|_| {
            sleep_ms(1);
            send(client, &[1; 1000], net::MSG_NOSIGNAL).err()
        });
        assert!(matches!(error, Some(errno::EPIPE | errno::ECONNRESET)), "{error:?}");
        assert_eq!(send(client, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
    });
}

#[test]
fn close_with_unread_bytes_resets() {
    run(|| {
        let (client, server) = tcp_pair();
        write(client, b"never read").unwrap();
        sleep_ms(10);
        close(server);
        assert_eq!(read(client, 1), Err(errno::ECONNRESET));
        assert_eq!(read(client, 1), Ok(Vec::new()));
    });
}

#[test]
fn nobody_at_a_port_refuses() {
    run(|| {
        let (fd, address) = bound(STREAM);
        close(fd);
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &address), Err(errno::ECONNREFUSED));
    });
}

#[test]
fn nonblocking_connect_tells_later() {
    run(|| {
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM | NONBLOCK);
        let first = connect(client, &address);
        assert!(matches!(first, Ok(0) | Err(errno::EINPROGRESS)), "{first:?}");
        assert_eq!(poll(client, linux::POLLOUT, 1000), linux::POLLOUT);
        assert_eq!(option_int(client, net::SOL_SOCKET, net::SO_ERROR), Ok(0));
        accept(listener).unwrap();
        assert_eq!(connect(client, &address), Err(errno::EISCONN));
    });
}

#[test]
fn nonblocking_connect_to_nobody_leaves_an_error() {
    run(|| {
        let (fd, address) = bound(STREAM);
        close(fd);
        let client = socket(net::AF_INET, STREAM | NONBLOCK);
        if connect(client, &address) == Err(errno::EINPROGRESS) {
            let events = poll(client, linux::POLLOUT, 1000);
            assert_eq!(events & linux::POLLERR, linux::POLLERR);
            let error = option_int(client, net::SOL_SOCKET, net::SO_ERROR);
            assert_eq!(error, Ok(errno::ECONNREFUSED as i32));
            assert_eq!(option_int(client, net::SOL_SOCKET, net::SO_ERROR), Ok(0));
        }
    });
}

#[test]
fn connect_minds_the_address() {
    run(|| {
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &v4(LOCALHOST, 80)[..15]), Err(errno::EINVAL));
        assert_eq!(connect(client, &v6_localhost(80)), Err(errno::EAFNOSUPPORT));
        assert_eq!(sys(linux::__NR_connect, &[client, 8, 16]), Err(errno::EFAULT));
        assert_eq!(connect(0, &v4(LOCALHOST, 80)), Err(errno::ENOTSOCK));
        let v6 = socket(net::AF_INET6, STREAM);
        assert_eq!(connect(v6, &[v4(LOCALHOST, 80), v4(LOCALHOST, 80)].concat()), Err(errno::EAFNOSUPPORT));
    });
}

#[test]
fn bind_minds_the_address() {
    run(|| {
        let fd = socket(net::AF_INET, STREAM);
        assert_eq!(bind(fd, &v4([203, 0, 113, 77], 80)), Err(errno::EADDRNOTAVAIL));
        assert_eq!(bind(fd, &v4(LOCALHOST, 80)[..8]), Err(errno::EINVAL));
        assert_eq!(bind(fd, &v4(LOCALHOST, 80)), Ok(0));
        assert_eq!(bind(fd, &v4(LOCALHOST, 81)), Err(errno::EINVAL));
        assert_eq!(port_of(&name(fd)), 80);
    });
}

#[test]
fn taken_port_is_refused() {
    run(|| {
        let (_listener, address) = listener();
        let other = socket(net::AF_INET, STREAM);
        assert_eq!(bind(other, &address), Err(errno::EADDRINUSE));
    });
}

#[test]
fn ports_of_the_kernels_choice_differ() {
    run(|| {
        let mut ports: Vec<u16> = (0..20).map(|_| port_of(&bound(STREAM).1)).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|port| *port >= 1024));
    });
}

#[test]
fn listen_binds_what_is_not_bound() {
    run(|| {
        let fd = socket(net::AF_INET, STREAM);
        assert_eq!(listen(fd, 4), Ok(0));
        let port = port_of(&name(fd));
        assert_ne!(port, 0);
        let client = socket(net::AF_INET, STREAM);
        assert_eq!(connect(client, &v4(LOCALHOST, port)), Ok(0));
        assert_eq!(option_int(fd, net::SOL_SOCKET, net::SO_ACCEPTCONN), Ok(1));
        assert_eq!(option_int(client, net::SOL_SOCKET, net::SO_ACCEPTCONN), Ok(0));
    });
}

#[test]
fn listener_neither_reads_nor_connects() {
    run(|| {
        let (listener, address) = listener();
        assert_eq!(recv(listener, 1, 0), Err(errno::ENOTCONN));
        assert_eq!(connect(listener, &address), Err(errno::EISCONN));
        assert_eq!(accept(socket(net::AF_INET, STREAM)), Err(errno::EINVAL));
        assert_eq!(send(listener, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
    });
}

#[test]
fn full_backlog_makes_peers_wait() {
    run(|| {
        let (fd, address) = bound(STREAM);
        assert_eq!(listen(fd, 1), Ok(0));
        let clients: Vec<u64> = (0..8).map(|_| socket(net::AF_INET, STREAM | NONBLOCK)).collect();
        for client in &clients {
            let _ = connect(*client, &address);
        }
        sleep_ms(100);
        let connected = |clients: &[u64]| {
            clients.iter().filter(|client| poll(**client, linux::POLLOUT, 0) == linux::POLLOUT).count()
        };
        assert!((1..8).contains(&connected(&clients)));
        // Who was not heard asks again, and finds room at last.
        for _ in 0..8 {
            assert_eq!(poll(fd, linux::POLLIN, 20_000), linux::POLLIN);
            accept(fd).unwrap();
        }
        assert_eq!(connected(&clients), 8);
    });
}

#[test]
fn closed_listener_resets_who_waits() {
    run(|| {
        let (listener, address) = listener();
        let client = socket(net::AF_INET, STREAM);
        connect(client, &address).unwrap();
        close(listener);
        assert_eq!(read(client, 1), Err(errno::ECONNRESET));
    });
}
