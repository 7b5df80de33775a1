//! Options of TCP sockets over loopback: what they answer, and what they change (tcp(7), socket(7)).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq, errno};
use libc::{c_int, socklen_t};
use rustix::net::{AddressFamily, SocketType};

fn set<T>(socket: &impl AsRawFd, level: c_int, name: c_int, value: &T) -> c_int {
    let len = size_of::<T>() as socklen_t;
    // SAFETY: the value and its length are those of a live reference.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) };
    if result == 0 { 0 } else { errno() }
}

fn get(socket: &impl AsRawFd, level: c_int, name: c_int) -> c_int {
    let (mut value, mut len) = (-1 as c_int, size_of::<c_int>() as socklen_t);
    // SAFETY: both places are live for the call, and the length is the value's.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    check_eq!(result, 0);
    value
}

/// The first bytes of `struct tcp_info`.
fn info(socket: &impl AsRawFd) -> [u8; 104] {
    let mut bytes = [0xff; 104];
    let mut len = bytes.len() as socklen_t;
    // SAFETY: both places are live for the call, and the length is the array's.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check_eq!(result, 0);
    check_eq!(len, 104);
    bytes
}

fn pair() -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

fn answers() {
    let (listener, client, server) = pair();
    let tcp = libc::IPPROTO_TCP;
    for (name, value) in [
        (libc::TCP_NODELAY, 1),
        (libc::TCP_CORK, 1),
        (libc::TCP_KEEPIDLE, 77),
        (libc::TCP_KEEPINTVL, 11),
        (libc::TCP_KEEPCNT, 3),
        (libc::TCP_SYNCNT, 4),
        (libc::TCP_USER_TIMEOUT, 12_345),
    ] {
        check_eq!(set(&client, tcp, name, &value), 0);
        check_eq!(get(&client, tcp, name), value);
    }
    check_eq!(set(&client, tcp, libc::TCP_SYNCNT, &0), libc::EINVAL);
    check_eq!(set(&client, tcp, libc::TCP_SYNCNT, &128), libc::EINVAL);
    check_eq!(set(&client, tcp, libc::TCP_MAXSEG, &87), libc::EINVAL);
    check_eq!(set(&client, tcp, libc::TCP_MAXSEG, &40_000), libc::EINVAL);
    check_eq!(set(&client, tcp, libc::TCP_KEEPCNT, &128), libc::EINVAL);
    // Linux rounds up to when it would repeat its answer to the SYN: after 1, 3, 7, 15 seconds.
    for (wished, kept) in [(0, 0), (1, 1), (2, 3), (5, 7), (10, 15)] {
        check_eq!(set(&listener, tcp, libc::TCP_DEFER_ACCEPT, &wished), 0);
        check_eq!(get(&listener, tcp, libc::TCP_DEFER_ACCEPT), kept);
    }
    check_eq!(set(&server, libc::SOL_SOCKET, libc::SO_RCVBUF, &20_000), 0);
    check_eq!(get(&server, libc::SOL_SOCKET, libc::SO_RCVBUF), 40_000);
    check_eq!(set(&server, libc::SOL_SOCKET, libc::SO_SNDBUF, &30_000), 0);
    check_eq!(get(&server, libc::SOL_SOCKET, libc::SO_SNDBUF), 60_000);
    check!(get(&server, tcp, libc::TCP_MAXSEG) >= 536);
    check_eq!(set(&client, tcp, libc::TCP_CONGESTION, b"cubic"), 0);
    check_eq!(set(&client, tcp, libc::TCP_CONGESTION, b"cubic\0and more"), 0);
    check_eq!(set(&client, tcp, libc::TCP_CONGESTION, b"no-such-one"), libc::ENOENT);
    check_eq!(set(&client, tcp, libc::TCP_CONGESTION, b""), libc::EINVAL);
    check_eq!(get(&client, tcp, libc::TCP_CONGESTION), i32::from_ne_bytes(*b"cubi"));
    check_eq!(set(&client, tcp, libc::TCP_CONGESTION, b"reno"), 0);
    check_eq!(get(&client, tcp, libc::TCP_CONGESTION), i32::from_ne_bytes(*b"reno"));
    check_eq!(get(&client, tcp, libc::TCP_THIN_LINEAR_TIMEOUTS), 0);
    check_eq!(set(&client, tcp, libc::TCP_THIN_LINEAR_TIMEOUTS, &1i32.to_ne_bytes()), 0);
    check_eq!(get(&client, tcp, libc::TCP_THIN_LINEAR_TIMEOUTS), 1);
}

fn info_tells_the_state() {
    let (listener, client, server) = pair();
    check_eq!(info(&listener)[0], 10);
    check_eq!(info(&client)[0], 1);
    client.shutdown(Shutdown::Write).unwrap();
    let start = Instant::now();
    while (info(&server)[0], info(&client)[0]) != (8, 5) {
        check!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    let word = |bytes: [u8; 104], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    check!(word(info(&server), 16) >= 536);
    check!(word(info(&server), 80) >= 2);
}

fn deferred_accept_waits_for_data() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    check_eq!(set(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &5), 0);
    listener.set_nonblocking(true).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    check_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    client.write_all(b"here").unwrap();
    let start = Instant::now();
    let (mut server, _) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(_) => check!(start.elapsed() < Duration::from_secs(5)),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    server.set_nonblocking(false).unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    check_eq!(&bytes, b"here");
}

fn cork_gathers() {
    let (_listener, mut client, mut server) = pair();
    check_eq!(set(&client, libc::IPPROTO_TCP, libc::TCP_CORK, &1), 0);
    client.write_all(b"one").unwrap();
    server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = [0; 16];
    check!(server.read(&mut bytes).is_err());
    client.write_all(b"two").unwrap();
    check_eq!(set(&client, libc::IPPROTO_TCP, libc::TCP_CORK, &0), 0);
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut got = Vec::new();
    while got.len() < 6 {
        let count = server.read(&mut bytes).unwrap();
        got.extend_from_slice(&bytes[..count]);
    }
    check_eq!(got, b"onetwo");
}

fn linger_waits_for_delivery() {
    let (_listener, mut client, mut server) = pair();
    let linger = libc::linger { l_onoff: 1, l_linger: 5 };
    check_eq!(set(&client, libc::SOL_SOCKET, libc::SO_LINGER, &linger), 0);
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        all.len()
    });
    client.write_all(&[7; 50_000]).unwrap();
    let start = Instant::now();
    drop(client);
    check!(start.elapsed() < Duration::from_secs(4));
    check_eq!(reader.join().unwrap(), 50_000);
}

fn linger_of_zero_resets() {
    let (_listener, client, mut server) = pair();
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    check_eq!(set(&client, libc::SOL_SOCKET, libc::SO_LINGER, &linger), 0);
    drop(client);
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    check_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// What a small send buffer does not take has to wait.
fn buffers_are_bounded() {
    let (_listener, client, server) = pair();
    check_eq!(set(&server, libc::SOL_SOCKET, libc::SO_RCVBUF, &8192), 0);
    check_eq!(set(&client, libc::SOL_SOCKET, libc::SO_SNDBUF, &8192), 0);
    client.set_nonblocking(true).unwrap();
    let mut taken = 0;
    for _ in 0..100 {
        taken += (&client).write(&[1; 65_536]).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(1));
    }
    check!(taken < 2_000_000);
}

/// `MSG_ZEROCOPY` may be had or not: who is refused has sent nothing, and can send without.
fn zero_copy_is_done_or_refused() {
    let (_listener, mut client, mut server) = pair();
    let wanted = set(&client, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &1);
    check!(wanted == 0 || wanted == libc::ENOPROTOOPT);
    let message = b"as it is";
    // SAFETY: the buffer is live and as long as it is said to be; it is not changed before the end.
    let sent =
        unsafe { libc::send(client.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_ZEROCOPY) };
    if wanted == 0 {
        check_eq!(sent, message.len() as isize);
    } else {
        check_eq!((sent, errno()), (-1, libc::EOPNOTSUPP));
        client.write_all(message).unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    check_eq!(received, message);
}

/// socket(7), `SO_RCVLOWAT`: neither poll(2) nor a call that waits is content with less.
fn low_water_mark_is_reached() {
    let (_listener, mut client, server) = pair();
    client.set_nodelay(true).unwrap();
    check_eq!(get(&server, libc::SOL_SOCKET, libc::SO_RCVLOWAT), 1);
    check_eq!(set(&server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &100), 0);
    check_eq!(get(&server, libc::SOL_SOCKET, libc::SO_RCVLOWAT), 100);
    client.write_all(&[1; 60]).unwrap();
    check_eq!(ready(&server, libc::POLLIN, 50), 0);
    client.write_all(&[1; 39]).unwrap();
    check_eq!(ready(&server, libc::POLLIN, 50), 0);
    client.write_all(&[1; 1]).unwrap();
    check_eq!(ready(&server, libc::POLLIN, 5000), libc::POLLIN);
    let mut buffer = [0; 500];
    check_eq!((&server).read(&mut buffer).unwrap(), 100);
    let writer = std::thread::spawn(move || {
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(5));
            client.write_all(&[2; 25]).unwrap();
        }
        client
    });
    check!((&server).read(&mut buffer).unwrap() >= 100);
    let client = writer.join().unwrap();
    // What there is can be had without waiting, and the end is not waited for.
    server.set_nonblocking(true).unwrap();
    let _ = (&server).read(&mut buffer);
    check_eq!((&server).read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    (&client).write_all(&[3; 7]).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    check_eq!((&server).read(&mut buffer).unwrap(), 7);
    drop(client);
    check_eq!(ready(&server, libc::POLLIN, 5000), libc::POLLIN);
    // Back to the usual.
    check_eq!(set(&server, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &0), 0);
    check_eq!(get(&server, libc::SOL_SOCKET, libc::SO_RCVLOWAT), 1);
}

/// What poll(2) says within so many milliseconds.
fn ready(socket: &impl AsRawFd, events: i16, milliseconds: c_int) -> i16 {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: there is one entry, and it lives longer than the call.
    check!(unsafe { libc::poll(&raw mut poll, 1, milliseconds) } >= 0);
    poll.revents
}

/// tcp(7), `TCP_NOTSENT_LOWAT`: who has enough to send is not asked for more, and is told when it is gone.
fn unsent_bytes_are_bounded() {
    const LOW: c_int = 16 * 1024;
    let (_listener, client, server) = pair();
    check_eq!(set(&client, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &LOW), 0);
    check_eq!(get(&client, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), LOW);
    client.set_nonblocking(true).unwrap();
    let fill = || {
        let mut total = 0;
        while let Ok(count) = (&client).write(&[0; 4096]) {
            total += count;
        }
        total
    };
    let mut sent = fill();
    check!(sent > 0);
    while ready(&client, libc::POLLOUT, 50) == libc::POLLOUT {
        sent += fill();
    }
    // Of what is written all but little was sent.
    check!((LOW as u32..8 * LOW as u32).contains(&unsent(&client)));
    // What is read makes room with the peer; then more is wanted, again and again.
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut got, mut buffer) = (0, vec![0; 65_536]);
    while got < 4_000_000 {
        got += (&server).read(&mut buffer).unwrap();
        if ready(&client, libc::POLLOUT, 0) == libc::POLLOUT {
            sent += fill();
        } else if got == sent {
            check_eq!(ready(&client, libc::POLLOUT, 5000), libc::POLLOUT);
        }
    }
}

/// What was written and not sent yet (`tcpi_notsent_bytes`).
fn unsent(socket: &impl AsRawFd) -> u32 {
    const OFFSET: usize = 144;
    let (mut info, mut len) = ([0_u8; 256], 256);
    let (tcp, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: there is room for so many bytes.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), tcp, name, info.as_mut_ptr().cast(), &mut len) };
    check_eq!(got, 0);
    u32::from_ne_bytes(info[OFFSET..][..4].try_into().unwrap())
}

/// Options that are read as they were set.
fn options_read_back() {
    let (listener, client, _server) = pair();
    for (name, value) in [
        (libc::SO_PRIORITY, 5),
        (libc::SO_OOBINLINE, 1),
        (libc::SO_DONTROUTE, 1),
        (libc::SO_DONTROUTE, 0),
        (libc::SO_BUSY_POLL, 0),
    ] {
        check_eq!(set(&client, libc::SOL_SOCKET, name, &value), 0);
        check_eq!(get(&client, libc::SOL_SOCKET, name), value);
    }
    let tcp = libc::IPPROTO_TCP;
    check_eq!(get(&client, tcp, libc::TCP_LINGER2), 60);
    for (wished, told) in [(5, 5), (1000, 120), (-7, -1), (0, 60)] {
        check_eq!(set(&client, tcp, libc::TCP_LINGER2, &wished), 0);
        check_eq!(get(&client, tcp, libc::TCP_LINGER2), told);
    }
    check_eq!(set(&client, tcp, libc::TCP_WINDOW_CLAMP, &0), libc::EINVAL);
    for (wished, told) in [(20_000, 20_000), (1, 1152)] {
        check_eq!(set(&client, tcp, libc::TCP_WINDOW_CLAMP, &wished), 0);
        check_eq!(get(&client, tcp, libc::TCP_WINDOW_CLAMP), told);
    }
    // Taken, or refused; but what is taken can be read back.
    if set(&listener, tcp, libc::TCP_FASTOPEN, &5) == 0 {
        check_eq!(get(&listener, tcp, libc::TCP_FASTOPEN), 5);
    }
}

/// A listener's bound holds for its peers, a connection's for both of its ends, and each says so (`TCP_MAXSEG`).
fn segments_are_bounded() {
    let (tcp, name) = (libc::IPPROTO_TCP, libc::TCP_MAXSEG);
    for at_listener in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let bounded = if at_listener { listener.as_raw_fd() } else { client.as_raw_fd() };
        check_eq!((get(&bounded, tcp, name), set(&bounded, tcp, name, &873)), (536, 0));
        check_eq!(get(&bounded, tcp, name), 873);
        rustix::net::connect(&client, &listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        check!((800..=873).contains(&get(&client, tcp, name)) && get(&server, tcp, name) <= 873);
    }
}

/// Without a peer's cookie a connection begins as usual, whatever is wished (`TCP_FASTOPEN_CONNECT`).
fn fast_open_needs_a_cookie() {
    let (tcp, name) = (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    for (value, kept) in [(2, 0), (-1, 0), (0, 0), (1, 1)] {
        check_eq!(set(&client, tcp, name, &value), if value == kept { 0 } else { libc::EINVAL });
        check_eq!(get(&client, tcp, name), kept);
    }
    check_eq!(set(&listener, tcp, name, &1), libc::EINVAL);
    rustix::net::connect(&client, &listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    check_eq!((set(&client, tcp, name, &0), get(&client, tcp, name)), (libc::EINVAL, 1));
    TcpStream::from(client).write_all(b"fast").unwrap();
    check_eq!(server.read(&mut [0; 8]).unwrap(), 4);
}

/// A call that waits looks at the network meanwhile (socket(7), `SO_BUSY_POLL`); who may not ask for that is told.
fn busy_polling_waits() {
    let (_listener, client, server) = pair();
    match set(&server, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &100) {
        0 => check_eq!(get(&server, libc::SOL_SOCKET, libc::SO_BUSY_POLL), 100),
        error => check_eq!(error, libc::EPERM),
    }
    check_eq!(set(&server, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &-1), libc::EINVAL);
    server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    check_eq!((&server).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let writer = std::thread::spawn(move || {
        (&client).write_all(b"x").unwrap();
        client
    });
    check_eq!((&server).read(&mut [0; 4]).unwrap(), 1);
    drop(writer.join().unwrap());
}

fn main() {
    answers();
    zero_copy_is_done_or_refused();
    info_tells_the_state();
    deferred_accept_waits_for_data();
    cork_gathers();
    linger_waits_for_delivery();
    linger_of_zero_resets();
    buffers_are_bounded();
    println!("tcp options hold");
    low_water_mark_is_reached();
    unsent_bytes_are_bounded();
    options_read_back();
    segments_are_bounded();
    fast_open_needs_a_cookie();
    busy_polling_waits();
}
