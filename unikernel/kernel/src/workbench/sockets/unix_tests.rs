//! Unix sockets (unix(7)): streams, datagrams, packets, names, open files and credentials that travel.

use alloc::vec::Vec;

use linux_raw_sys::{errno, general as linux, net};

use crate::workbench::app::files::{close, int, pipe, read, read_to_end, set_nonblocking, write, write_all};
use crate::workbench::app::net::{
    Control, DGRAM, NONBLOCK, SEQPACKET, STREAM, accept, bind, connect, listen, name, option, option_int,
    peer, recv, recv_from, recv_message, send, send_message, send_to, set_int, shutdown, socket, unix,
    unix_pair,
};
use crate::workbench::app::run::{run, run_seeds, sys};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{join, spawn, text};

const SOCKET: u32 = net::SOL_SOCKET;

fn rights(files: &[u64]) -> Control {
    (SOCKET, net::SCM_RIGHTS, files.iter().flat_map(|fd| (*fd as i32).to_ne_bytes()).collect())
}

#[test]
fn stream_by_a_path() {
    run(|| {
        let listener = socket(net::AF_UNIX, STREAM);
        let address = unix(b"/tmp/socket\0");
        assert_eq!(bind(listener, &address), Ok(0));
        assert_eq!(listen(listener, 4), Ok(0));
        let client = socket(net::AF_UNIX, STREAM);
        assert_eq!(connect(client, &address), Ok(0));
        let server = accept(listener).unwrap();
        assert_eq!((peer(client), name(server)), (Ok(address.clone()), address));
        assert_eq!(peer(server).unwrap().len(), 2);
        write(client, b"ping").unwrap();
        assert_eq!(read(server, 9), Ok(b"ping".to_vec()));
    });
}

#[test]
fn path_is_taken_until_it_is_unlinked() {
    run(|| {
        let address = unix(b"/tmp/socket\0");
        let first = socket(net::AF_UNIX, STREAM);
        bind(first, &address).unwrap();
        listen(first, 4).unwrap();
        assert_eq!(bind(socket(net::AF_UNIX, STREAM), &address), Err(errno::EADDRINUSE));
        close(first);
        let client = socket(net::AF_UNIX, STREAM);
        assert_eq!(connect(client, &address), Err(errno::ECONNREFUSED));
        assert_eq!(sys(linux::__NR_open, &[text("/tmp/socket"), 0, 0]), Err(errno::ENXIO));
        assert_eq!(sys(linux::__NR_unlink, &[text("/tmp/socket")]), Ok(0));
        assert_eq!(connect(client, &address), Err(errno::ENOENT));
        assert_eq!(bind(socket(net::AF_UNIX, STREAM), &address), Ok(0));
    });
}

#[test]
fn abstract_names_go_with_their_socket() {
    run(|| {
        let address = unix(b"\0name\0with zero");
        let receiver = socket(net::AF_UNIX, DGRAM);
        assert_eq!(bind(receiver, &address), Ok(0));
        assert_eq!(name(receiver), address);
        assert_eq!(bind(socket(net::AF_UNIX, DGRAM), &address), Err(errno::EADDRINUSE));
        let sender = socket(net::AF_UNIX, DGRAM);
        assert_eq!(send_to(sender, b"hello", 0, &address), Ok(5));
        assert_eq!(read(receiver, 9), Ok(b"hello".to_vec()));
        assert_eq!(connect(socket(net::AF_UNIX, STREAM), &address), Err(errno::ECONNREFUSED));
        close(receiver);
        assert_eq!(send_to(sender, b"x", 0, &address), Err(errno::ECONNREFUSED));
        assert_eq!(bind(sender, &address), Ok(0));
    });
}

#[test]
fn kernel_gives_a_name_on_demand() {
    run(|| {
        let fd = socket(net::AF_UNIX, DGRAM);
        assert_eq!(bind(fd, &unix(b"")), Ok(0));
        let own = name(fd);
        assert_eq!((own.len(), own[2]), (8, 0));
    });
}

#[test]
fn unaccepted_connection_ends_with_its_listener() {
    run(|| {
        let address = unix(b"\0listener");
        let listener = socket(net::AF_UNIX, STREAM);
        bind(listener, &address).unwrap();
        listen(listener, 4).unwrap();
        let client = socket(net::AF_UNIX, STREAM);
        connect(client, &address).unwrap();
        close(listener);
        assert_eq!(option_int(client, SOCKET, net::SO_ERROR), Ok(errno::ECONNRESET as i32));
        assert_eq!(read(client, 1), Ok(Vec::new()));
    });
}

#[test]
fn full_backlog_is_told_to_who_does_not_wait() {
    run(|| {
        let address = unix(b"\0listener");
        let listener = socket(net::AF_UNIX, STREAM);
        bind(listener, &address).unwrap();
        listen(listener, 1).unwrap();
        let outcomes: Vec<_> =
            (0..6).map(|_| connect(socket(net::AF_UNIX, STREAM | NONBLOCK), &address)).collect();
        assert_eq!(outcomes[0], Ok(0));
        assert_eq!(outcomes[5], Err(errno::EAGAIN));
        accept(listener).unwrap();
        assert_eq!(connect(socket(net::AF_UNIX, STREAM | NONBLOCK), &address), Ok(0));
    });
}

#[test]
fn waiting_for_room_in_the_backlog() {
    run_seeds(8, || {
        let address = unix(b"\0listener");
        let listener = socket(net::AF_UNIX, STREAM);
        bind(listener, &address).unwrap();
        listen(listener, 0).unwrap();
        let own = address.clone();
        let client = spawn(move || {
            for _ in 0..4 {
                assert_eq!(connect(socket(net::AF_UNIX, STREAM), &own), Ok(0));
            }
        });
        for _ in 0..4 {
            accept(listener).unwrap();
        }
        join(client.unwrap());
    });
}

#[test]
fn shutdown_ends_one_direction() {
    run(|| {
        let (one, other) = unix_pair(STREAM);
        write(one, b"last words").unwrap();
        assert_eq!(shutdown(one, net::SHUT_WR), Ok(0));
        assert_eq!(send(one, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
        assert_eq!(read_to_end(other), Ok(b"last words".to_vec()));
        assert_eq!(write(other, b"back"), Ok(4));
        assert_eq!(poll(other, linux::POLLRDHUP, 0), linux::POLLRDHUP);
    });
}

#[test]
fn close_with_unread_bytes_resets() {
    run(|| {
        let (one, other) = unix_pair(STREAM);
        write(one, b"never read").unwrap();
        close(other);
        assert_eq!(read(one, 1), Err(errno::ECONNRESET));
        assert_eq!(read(one, 1), Ok(Vec::new()));
        assert_eq!(send(one, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
    });
}

#[test]
fn datagrams_keep_their_borders_and_senders() {
    run(|| {
        let (receiver, sender) = (socket(net::AF_UNIX, DGRAM), socket(net::AF_UNIX, DGRAM));
        let (to, from) = (unix(b"\0receiver"), unix(b"\0sender"));
        bind(receiver, &to).unwrap();
        bind(sender, &from).unwrap();
        connect(sender, &to).unwrap();
        for message in [&b"first"[..], b"", b"second"] {
            assert_eq!(write(sender, message), Ok(message.len()));
        }
        assert_eq!(recv_from(receiver, 3, 0), Ok((b"fir".to_vec(), from)));
        assert_eq!(read(receiver, 9), Ok(Vec::new()));
        assert_eq!(read(receiver, 9), Ok(b"second".to_vec()));
    });
}

#[test]
fn kinds_of_sockets_do_not_mix() {
    run(|| {
        let address = unix(b"/tmp/datagrams\0");
        bind(socket(net::AF_UNIX, DGRAM), &address).unwrap();
        assert_eq!(connect(socket(net::AF_UNIX, STREAM), &address), Err(errno::EPROTOTYPE));
        assert_eq!(write(socket(net::AF_UNIX, DGRAM), b"x"), Err(errno::ENOTCONN));
    });
}

#[test]
fn full_queue_of_datagrams_waits_for_its_reader() {
    run(|| {
        let (one, other) = unix_pair(DGRAM);
        set_nonblocking(one, true);
        let full = (0..10_000).find_map(|_| write(one, &[0; 1000]).err());
        assert_eq!(full, Some(errno::EAGAIN));
        assert_eq!(poll(one, linux::POLLOUT, 0), 0);
        while recv(other, 1000, net::MSG_DONTWAIT).is_ok() {}
        assert_eq!(poll(one, linux::POLLOUT, 0), linux::POLLOUT);
        assert_eq!(write(one, &alloc::vec![0; 1_000_000]), Err(errno::EMSGSIZE));
    });
}

#[test]
fn packets_have_borders_and_an_end() {
    run(|| {
        let (one, other) = unix_pair(SEQPACKET);
        write(one, b"one").unwrap();
        write(one, b"longer").unwrap();
        close(one);
        assert_eq!(read(other, 9), Ok(b"one".to_vec()));
        let message = recv_message(other, 4, 0, 0).unwrap();
        assert_eq!((&message.data[..], message.flags & net::MSG_TRUNC), (&b"long"[..], net::MSG_TRUNC));
        assert_eq!(read(other, 9), Ok(Vec::new()));
        let ended = linux::POLLIN | linux::POLLHUP;
        assert_eq!(poll(other, linux::POLLIN, 0), ended);
    });
}

#[test]
fn big_writes_wait_for_the_reader() {
    run_seeds(4, || {
        let (one, other) = unix_pair(STREAM);
        let bytes: Vec<u8> = (0..600_000_u32).map(|index| (index % 253) as u8).collect();
        let sent = bytes.clone();
        let writer = spawn(move || {
            write_all(one, &sent).unwrap();
            close(one);
        });
        assert!(read_to_end(other).unwrap() == bytes);
        join(writer.unwrap());
    });
}

#[test]
fn files_travel_and_end_the_bytes_before_them() {
    run(|| {
        let ((one, other), (reader, writer)) = (unix_pair(STREAM), pipe(0));
        write(one, b"before").unwrap();
        assert_eq!(send_message(one, &[b"with"], &[rights(&[writer])], &[]), Ok(4));
        write(one, b"after").unwrap();
        close(writer);
        let message = recv_message(other, 100, 64, 0).unwrap();
        assert_eq!(message.data, b"beforewith");
        let travelled = int(message.find(SOCKET, net::SCM_RIGHTS).unwrap()) as u64;
        assert_eq!(read(other, 9), Ok(b"after".to_vec()));
        write(travelled, b"through").unwrap();
        close(travelled);
        assert_eq!(read_to_end(reader), Ok(b"through".to_vec()));
    });
}

#[test]
fn travelled_files_close_on_exec_if_asked() {
    run(|| {
        let ((one, other), (reader, _)) = (unix_pair(STREAM), pipe(0));
        for (flags, expected) in [(0, 0), (net::MSG_CMSG_CLOEXEC, linux::FD_CLOEXEC)] {
            send_message(one, &[b"x"], &[rights(&[reader])], &[]).unwrap();
            let message = recv_message(other, 9, 64, flags).unwrap();
            let fd = int(message.find(SOCKET, net::SCM_RIGHTS).unwrap()) as u64;
            assert_eq!(sys(linux::__NR_fcntl, &[fd, linux::F_GETFD.into()]), Ok(expected.into()));
        }
    });
}

#[test]
fn files_that_nobody_receives_are_closed() {
    run(|| {
        let ((one, other), (reader, writer)) = (unix_pair(STREAM), pipe(0));
        send_message(one, &[b"lost"], &[rights(&[writer])], &[]).unwrap();
        close(writer);
        assert_eq!(poll(reader, linux::POLLIN, 0), 0);
        close(one);
        close(other);
        assert_eq!(read(reader, 1), Ok(Vec::new()));
    });
}

#[test]
fn socket_that_travels_in_itself_is_collected() {
    run(|| {
        let ((one, other), (reader, writer)) = (unix_pair(STREAM), pipe(0));
        send_message(one, &[b"cycle"], &[rights(&[one, other, writer])], &[]).unwrap();
        close(writer);
        close(one);
        close(other);
        // Another use of Unix sockets collects at the latest.
        let (third, _fourth) = unix_pair(STREAM);
        close(third);
        assert_eq!(poll(reader, linux::POLLIN, 1000), linux::POLLHUP);
    });
}

#[test]
fn files_without_room_are_closed() {
    run(|| {
        let ((one, other), (reader, writer)) = (unix_pair(STREAM), pipe(0));
        send_message(one, &[b"x"], &[rights(&[writer])], &[]).unwrap();
        close(writer);
        let message = recv_message(other, 9, 0, 0).unwrap();
        assert_eq!(message.flags & net::MSG_CTRUNC, net::MSG_CTRUNC);
        assert_eq!(read(reader, 1), Ok(Vec::new()));
    });
}

#[test]
fn bad_files_are_refused() {
    run(|| {
        let (one, other) = unix_pair(STREAM);
        assert_eq!(send_message(one, &[b"x"], &[rights(&[999])], &[]), Err(errno::EBADF));
        let many = alloc::vec![one; 254];
        assert_eq!(send_message(one, &[b"x"], &[rights(&many)], &[]), Err(errno::EINVAL));
        assert_eq!(recv(other, 1, net::MSG_DONTWAIT), Err(errno::EAGAIN));
    });
}

#[test]
fn credentials_are_passed_to_who_asks() {
    run(|| {
        let (one, other) = unix_pair(STREAM);
        assert_eq!(set_int(other, SOCKET, net::SO_PASSCRED, 1), Ok(0));
        assert_eq!(option_int(other, SOCKET, net::SO_PASSCRED), Ok(1));
        write(one, b"who").unwrap();
        let message = recv_message(other, 9, 64, 0).unwrap();
        let process = sys(linux::__NR_getpid, &[]).unwrap() as i32;
        assert_eq!(message.find(SOCKET, net::SCM_CREDENTIALS).map(int), Some(process));
    });
}

#[test]
fn unknown_control_messages_are_refused() {
    run(|| {
        let (one, _other) = unix_pair(STREAM);
        let unknown = (SOCKET, 77, alloc::vec![0; 4]);
        assert_eq!(send_message(one, &[b"x"], &[unknown], &[]), Err(errno::EINVAL));
    });
}

#[test]
fn credentials_have_one_length() {
    run(|| {
        let (one, _other) = unix_pair(STREAM);
        let claim = |len| (SOCKET, net::SCM_CREDENTIALS, alloc::vec![0; len]);
        assert_eq!(send_message(one, &[b"x"], &[claim(8)], &[]), Err(errno::EINVAL));
        // There is no process 0.
        assert_eq!(send_message(one, &[b"x"], &[claim(12)], &[]), Err(errno::ESRCH));
        let own = (SOCKET, net::SCM_CREDENTIALS, [1_u32, 0, 0].map(u32::to_ne_bytes).concat());
        assert_eq!(send_message(one, &[b"x"], &[own], &[]), Ok(1));
    });
}

#[test]
fn peer_credentials_are_told() {
    run(|| {
        let (one, _other) = unix_pair(STREAM);
        let told = option(one, SOCKET, net::SO_PEERCRED, 12).unwrap();
        assert_eq!(int(&told), sys(linux::__NR_getpid, &[]).unwrap() as i32);
        assert_eq!(told.len(), 12);
    });
}

#[test]
fn peek_offset_counts_in_messages() {
    run(|| {
        let (one, other) = unix_pair(DGRAM);
        set_int(other, SOCKET, net::SO_PEEK_OFF, 0).unwrap();
        write(one, b"abcdef").unwrap();
        write(one, b"ghi").unwrap();
        for expected in [&b"abcd"[..], b"ef", b"ghi"] {
            assert_eq!(recv(other, 4, net::MSG_PEEK), Ok(expected.to_vec()));
        }
        assert_eq!(recv(other, 4, net::MSG_PEEK | net::MSG_DONTWAIT), Err(errno::EAGAIN));
    });
}

#[test]
fn two_threads_play_ping_pong() {
    run_seeds(20, || {
        let (one, other) = unix_pair(STREAM);
        let answers = spawn(move || {
            for round in 0..20_u8 {
                assert_eq!(read(other, 9), Ok(alloc::vec![round]));
                write(other, &[round]).unwrap();
            }
        });
        for round in 0..20_u8 {
            write(one, &[round]).unwrap();
            assert_eq!(read(one, 9), Ok(alloc::vec![round]));
        }
        join(answers.unwrap());
    });
}
