//! TCP and UDP over loopback, blocking and not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread;
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq, errno};

fn main() {
    echo_comes_back();
    bulk_arrives_unchanged();
    half_close_ends_one_direction();
    half_closed_reads_a_long_answer();
    writing_to_a_closed_peer_ends();
    refused_connection_is_an_error();
    nonblocking_calls_do_not_wait();
    time_outs_are_kept();
    reading_nothing_does_not_wait();
    bytes_are_thrown_away();
    many_connections_one_after_another();
    many_connections_at_once();
    addresses_are_told();
    taken_address_is_refused();
    datagrams_keep_their_borders();
    datagrams_are_filtered_by_connect();
    datagrams_on_loopback_are_there_at_once();
    errors_reach_a_socket_that_asks();
    ipv6_datagrams_take_addresses_of_ipv4();
    port_zero_is_refused();
    interfaces_have_numbers();
}

fn datagrams_on_loopback_are_there_at_once() {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut buffer = [0; 8];
    for _ in 0..100 {
        sender.send_to(b"here", receiver.local_addr().unwrap()).unwrap();
        check_eq!(receiver.recv(&mut buffer).unwrap(), 4);
    }
}

/// ip(7), `IP_RECVERR`: without a peer, too, nobody at the other end is an error.
fn errors_reach_a_socket_that_asks() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    socket.send_to(b"hello?", nobody).unwrap();
    check!(socket.take_error().unwrap().is_none());
    let on = 1_i32;
    // SAFETY: the option's value is an `int`, whose size is given.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_IP, libc::IP_RECVERR, (&raw const on).cast(), 4)
    };
    check_eq!(set, 0);
    socket.send_to(b"hello?", nobody).unwrap();
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    check_eq!(unsafe { libc::poll(&raw mut entry, 1, 5000) }, 1);
    check_eq!(entry.revents, libc::POLLERR);
    check_eq!(socket.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
}

/// A `sockaddr_in` of the loopback address.
fn v4_address(port: u16) -> libc::sockaddr_in {
    let sin_addr = libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
    libc::sockaddr_in { sin_family: libc::AF_INET as u16, sin_port: port.to_be(), sin_addr, sin_zero: [0; 8] }
}

/// connect(2) as it is: 0 or the error.
fn connect<T>(socket: &impl AsRawFd, address: &T, len: usize) -> i32 {
    let address = std::ptr::from_ref(address).cast();
    // SAFETY: the address lives through the call, and `len` is not more than its size.
    let outcome = unsafe { libc::connect(socket.as_raw_fd(), address, len as u32) };
    if outcome == 0 { 0 } else { errno() }
}

/// What glibc's `getaddrinfo` does to sort addresses: one socket of IPv6 is connected to all of them, one after the other.
fn ipv6_datagrams_take_addresses_of_ipv4() {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let (address, nowhere) = (v4_address(port), [0_u16; 8]);
    let mapped = |ip: Ipv4Addr| std::net::IpAddr::V6(ip.to_ipv6_mapped());
    let socket = UdpSocket::bind("[::]:0").unwrap();
    for _ in 0..2 {
        check_eq!(connect(&socket, &address, size_of_val(&address)), 0);
        check_eq!(socket.peer_addr().unwrap(), SocketAddr::new(mapped(Ipv4Addr::LOCALHOST), port));
        check_eq!(socket.local_addr().unwrap().ip(), mapped(Ipv4Addr::LOCALHOST));
        socket.send(b"hello").unwrap();
        check_eq!(receiver.recv(&mut [0; 8]).unwrap(), 5);
        check_eq!(connect(&socket, &nowhere, 16), 0);
        check_eq!(socket.local_addr().unwrap().ip(), "::".parse::<std::net::IpAddr>().unwrap());
        check_eq!(connect(&socket, &address, 15), libc::EINVAL);
    }
    socket.connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)).unwrap();
    let (on, level) = (1_i32, libc::IPPROTO_IPV6);
    // SAFETY: plain numbers in, a descriptor or -1 out.
    let only = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0) };
    check!(only >= 0);
    // SAFETY: nobody else has the descriptor.
    let only = unsafe { UdpSocket::from_raw_fd(only) };
    let option = (&raw const on).cast();
    // SAFETY: the option's value is an `int`, whose size is given.
    let set = unsafe { libc::setsockopt(only.as_raw_fd(), level, libc::IPV6_V6ONLY, option, 4) };
    check_eq!(set, 0);
    check_eq!(connect(&only, &address, size_of_val(&address)), libc::EAFNOSUPPORT);
    let error = only.connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)).unwrap_err();
    check_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
    let error = only.send_to(b"x", (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)).unwrap_err();
    check_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
    // A stream takes its own family's alone.
    // SAFETY: plain numbers in, a descriptor or -1 out.
    let stream = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_STREAM, 0) };
    check!(stream >= 0);
    // SAFETY: nobody else has the descriptor.
    let stream = unsafe { TcpStream::from_raw_fd(stream) };
    check_eq!(connect(&stream, &[address, address], 28), libc::EAFNOSUPPORT);
}

fn port_zero_is_refused() {
    for bound in ["127.0.0.1:0", "[::]:0"] {
        let socket = UdpSocket::bind(bound).unwrap();
        let to = if socket.local_addr().unwrap().is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        check_eq!(socket.send_to(b"x", to).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}

fn interfaces_have_numbers() {
    // SAFETY: names that end in a NUL, and room for one that is found.
    let index = |name: &std::ffi::CStr| unsafe { libc::if_nametoindex(name.as_ptr()) };
    check_eq!(index(c"lo"), 1);
    check_eq!(index(c"nothing"), 0);
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: as above.
    check!(!unsafe { libc::if_indextoname(1, name.as_mut_ptr()) }.is_null());
    check_eq!(name[..3].iter().map(|&letter| letter as u8).collect::<Vec<_>>(), b"lo\0");
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn echo_comes_back() {
    let (listener, address) = listener();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                count => stream.write_all(&buffer[..count]).unwrap(),
            }
        }
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    for round in 0..200u32 {
        let message = format!("message {round}");
        client.write_all(message.as_bytes()).unwrap();
        let mut answer = vec![0; message.len()];
        client.read_exact(&mut answer).unwrap();
        check_eq!(answer, message.as_bytes());
    }
    drop(client);
    server.join().unwrap();
}

fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn bulk_arrives_unchanged() {
    const LEN: usize = 4 << 20;
    let (listener, address) = listener();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let data: Vec<u8> = (0..LEN).map(pattern).collect();
        stream.write_all(&data).unwrap();
    });
    let mut received = Vec::new();
    TcpStream::connect(address).unwrap().read_to_end(&mut received).unwrap();
    server.join().unwrap();
    check_eq!(received.len(), LEN);
    check!(received.iter().enumerate().all(|(index, &byte)| byte == pattern(index)));
}

fn half_close_ends_one_direction() {
    let (listener, address) = listener();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"half closed").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    check_eq!(answer, "HALF CLOSED");
    server.join().unwrap();
}

/// A client that has finished sending reads on, whether it finished before the answer began or in the midst of it.
fn half_closed_reads_a_long_answer() {
    const TOTAL: usize = 1_000_000;
    for (chunk, is_early) in [(1000, true), (5000, true), (5000, false), (65_536, true), (65_536, false)] {
        let (listener, address) = listener();
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        if is_early {
            client.write_all(b"GET").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        let writer = thread::spawn(move || {
            if is_early {
                // Or closing with something unread would reset the connection.
                check_eq!(server.read_to_end(&mut Vec::new()).unwrap(), 3);
            }
            for start in (0..TOTAL).step_by(chunk) {
                server.write_all(&vec![5; chunk.min(TOTAL - start)]).unwrap();
            }
        });
        if !is_early {
            client.read_exact(&mut [0; 100]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        check_eq!(answer.len(), if is_early { TOTAL } else { TOTAL - 100 });
        writer.join().unwrap();
    }
}

fn writing_to_a_closed_peer_ends() {
    for chunk in [1000, 5000, 65_536] {
        let (listener, address) = listener();
        let mut client = TcpStream::connect(address).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(8))).unwrap();
        drop(listener.accept().unwrap());
        let data = vec![1; chunk];
        let error = (0..500).find_map(|_| {
            // The peer's reset takes its time.
            thread::sleep(Duration::from_millis(1));
            client.write_all(&data).err()
        });
        let error = error.unwrap();
        check!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
    }
}

fn refused_connection_is_an_error() {
    let (listener, address) = listener();
    drop(listener);
    check_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn nonblocking_calls_do_not_wait() {
    let (listener, address) = listener();
    listener.set_nonblocking(true).unwrap();
    check_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nonblocking(true).unwrap();
    check_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let chunk = [0; 65_536];
    let full = (0..1000).find_map(|_| client.write(&chunk).err()).unwrap();
    check_eq!(full.kind(), ErrorKind::WouldBlock);
}

fn time_outs_are_kept() {
    let (_listener, address) = listener();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
    let started = Instant::now();
    check_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    check!(started.elapsed() >= Duration::from_millis(40));
}

/// Of no bytes, and with a time-out that is over already.
fn reading_nothing_does_not_wait() {
    let (_listener, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (unix, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let sockets = [client.as_raw_fd(), datagrams.as_raw_fd(), unix.as_raw_fd()];
    for socket in sockets {
        // SAFETY: a read of no bytes.
        check_eq!(unsafe { libc::read(socket, [0u8; 0].as_mut_ptr().cast(), 0) }, 0);
    }
    let negative = libc::timeval { tv_sec: -1, tv_usec: 0 };
    for socket in sockets {
        let (place, size) = ((&raw const negative).cast(), size_of_val(&negative) as u32);
        // SAFETY: the value is whole, and the buffer has a byte.
        unsafe {
            check_eq!(libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, place, size), 0);
            check_eq!(libc::recv(socket, [0u8].as_mut_ptr().cast(), 1, 0), -1);
        }
        check_eq!(errno(), libc::EAGAIN);
    }
}

/// A stream's bytes go without being copied anywhere (tcp(7), `MSG_TRUNC`).
fn bytes_are_thrown_away() {
    let (listener, address) = listener();
    let mut client = TcpStream::connect(address).unwrap();
    let mut server = listener.accept().unwrap().0;
    client.write_all(b"gone and kept").unwrap();
    let mut first = [0];
    server.peek(&mut first).unwrap();
    // SAFETY: nothing is written to the buffer, so there is none.
    check_eq!(unsafe { libc::recv(server.as_raw_fd(), std::ptr::null_mut(), 9, libc::MSG_TRUNC) }, 9);
    let mut kept = [0; 4];
    server.read_exact(&mut kept).unwrap();
    check_eq!(kept, *b"kept");
}

fn many_connections_one_after_another() {
    let (listener, address) = listener();
    let server = thread::spawn(move || {
        for _ in 0..1000 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"x").unwrap();
        }
    });
    for _ in 0..1000 {
        let mut byte = [0];
        TcpStream::connect(address).unwrap().read_exact(&mut byte).unwrap();
        check_eq!(byte, *b"x");
    }
    server.join().unwrap();
}

fn many_connections_at_once() {
    let (listener, address) = listener();
    let clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let servers: Vec<TcpStream> = (0..100).map(|_| listener.accept().unwrap().0).collect();
    for (mut server, mut client) in servers.iter().zip(&clients) {
        check_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

fn addresses_are_told() {
    let (listener, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    let (server, peer) = listener.accept().unwrap();
    check_eq!(client.peer_addr().unwrap(), address);
    check_eq!(server.local_addr().unwrap(), address);
    check_eq!(peer, client.local_addr().unwrap());
    check!(client.take_error().unwrap().is_none());
}

fn taken_address_is_refused() {
    let (_listener, address) = listener();
    check_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
    check_eq!(TcpListener::bind(elsewhere).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

fn datagrams_keep_their_borders() {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (a, b) = (bind(), bind());
    for len in [0, 1, 100, 1400] {
        let sent = vec![len as u8; len];
        a.send_to(&sent, b.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 2000];
        let (count, from) = b.recv_from(&mut buffer).unwrap();
        check_eq!(from, a.local_addr().unwrap());
        check_eq!(&buffer[..count], &sent[..]);
    }
    b.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    check_eq!(b.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn datagrams_are_filtered_by_connect() {
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (a, b, stranger) = (bind(), bind(), bind());
    b.connect(a.local_addr().unwrap()).unwrap();
    stranger.send_to(b"stranger", b.local_addr().unwrap()).unwrap();
    a.send_to(b"friend", b.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 32];
    let count = b.recv(&mut buffer).unwrap();
    check_eq!(&buffer[..count], b"friend");
    b.send(b"answer").unwrap();
    let (count, _) = a.recv_from(&mut buffer).unwrap();
    check_eq!(&buffer[..count], b"answer");
}
