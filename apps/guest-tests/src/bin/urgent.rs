//! Urgent data of TCP (tcp(7), send(2), `MSG_OOB`): beside the stream and in it, the mark, what poll tells, and `SIGURG`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use guest_tests::{check, check_eq, errno};
use libc::{MSG_DONTWAIT, MSG_OOB, MSG_PEEK, MSG_WAITALL, POLLIN, POLLPRI, c_int};

static SIGNALS: AtomicU32 = AtomicU32::new(0);

fn main() {
    beside_the_stream();
    in_the_stream();
    several();
    long_stream();
    looks();
    signal_to_the_owner();
    after_the_end();
    elsewhere();
    println!("urgent data is told");
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    client.set_nodelay(true).unwrap();
    (client, server)
}

fn answer(result: isize) -> i32 {
    if result < 0 { -errno() } else { result as i32 }
}

fn send(socket: &impl AsRawFd, bytes: &[u8], flags: c_int) -> i32 {
    // SAFETY: the bytes are whole.
    answer(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// What was received, or an error number.
fn receive(socket: &impl AsRawFd, len: usize, flags: c_int) -> Result<Vec<u8>, i32> {
    let mut bytes = vec![0; len];
    // SAFETY: the buffer is whole.
    let count = answer(unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), len, flags) });
    if count < 0 {
        return Err(-count);
    }
    bytes.truncate(count as usize);
    Ok(bytes)
}

fn poll(socket: &impl AsRawFd, milliseconds: c_int) -> i16 {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: POLLIN | POLLPRI, revents: 0 };
    // SAFETY: there is one entry.
    check!(unsafe { libc::poll(&raw mut poll, 1, milliseconds) } >= 0);
    poll.revents
}

/// Waits for all of these events.
fn wait_for(socket: &impl AsRawFd, events: i16) {
    for _ in 0..500 {
        if poll(socket, 10) & events == events {
            return;
        }
    }
    check!(false);
}

fn is_at_mark(socket: &impl AsRawFd) -> bool {
    let mut answer: c_int = -1;
    // SAFETY: the place is our own.
    check_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), 0x8905, &raw mut answer) }, 0);
    answer == 1
}

fn queued(socket: &impl AsRawFd) -> c_int {
    let mut answer: c_int = -1;
    // SAFETY: the place is our own.
    check_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut answer) }, 0);
    answer
}

fn set_inline(socket: &impl AsRawFd, value: c_int) {
    let (name, len) = (libc::SO_OOBINLINE, size_of::<c_int>() as u32);
    // SAFETY: the value is whole.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw const value).cast(), len)
    };
    check_eq!(set, 0);
}

fn bytes(text: &str) -> Result<Vec<u8>, i32> {
    Ok(text.as_bytes().to_vec())
}

/// The last byte of what is sent so is urgent; reading stops before it and passes it.
fn beside_the_stream() {
    let (client, server) = pair();
    check_eq!(receive(&server, 1, MSG_OOB), Err(libc::EINVAL));
    check!(!is_at_mark(&server));
    check_eq!(send(&client, b"abc", 0), 3);
    check_eq!(send(&client, b"de!", MSG_OOB), 3);
    check_eq!(send(&client, b"fgh", 0), 3);
    wait_for(&server, POLLIN | POLLPRI);
    while receive(&server, 20, MSG_PEEK) != bytes("abcde") {}
    check_eq!(queued(&server), 5);
    check_eq!(receive(&server, 5, MSG_OOB | MSG_PEEK), bytes("!"));
    check_eq!(receive(&server, 5, MSG_OOB), bytes("!"));
    check_eq!(receive(&server, 5, MSG_OOB), Err(libc::EINVAL));
    check_eq!(poll(&server, 0), POLLIN);
    check_eq!(receive(&server, 3, 0), bytes("abc"));
    check!(!is_at_mark(&server));
    check_eq!(receive(&server, 20, 0), bytes("de"));
    check!(is_at_mark(&server));
    check_eq!(receive(&server, 3, MSG_WAITALL), bytes("fgh"));
    check!(!is_at_mark(&server));
    check_eq!(receive(&server, 1, MSG_DONTWAIT), Err(libc::EAGAIN));
    // Who does not take it loses it when reading goes on.
    check_eq!(send(&client, b"x", MSG_OOB), 1);
    wait_for(&server, POLLPRI);
    check_eq!(poll(&server, 0), POLLPRI);
    check!(is_at_mark(&server));
    check_eq!(send(&client, b"y", 0), 1);
    wait_for(&server, POLLIN);
    check_eq!(receive(&server, 20, 0), bytes("y"));
    check_eq!(receive(&server, 1, MSG_OOB), Err(libc::EINVAL));
    check_eq!(poll(&server, 0), 0);
}

/// With `SO_OOBINLINE` it is where it was written; the mark is before it.
fn in_the_stream() {
    let (client, server) = pair();
    set_inline(&server, 1);
    check_eq!(send(&client, b"abc", 0), 3);
    check_eq!(send(&client, b"!", MSG_OOB), 1);
    check_eq!(send(&client, b"def", 0), 3);
    wait_for(&server, POLLIN | POLLPRI);
    while queued(&server) != 7 {
        poll(&server, 10);
    }
    check_eq!(receive(&server, 1, MSG_OOB), Err(libc::EINVAL));
    check_eq!(receive(&server, 20, 0), bytes("abc"));
    check!(is_at_mark(&server));
    check_eq!(poll(&server, 0), POLLIN | POLLPRI);
    check_eq!(receive(&server, 20, 0), bytes("!def"));
    check!(!is_at_mark(&server));
    check_eq!(poll(&server, 0), 0);
}

/// There is one mark: a further urgent byte moves it, and makes an ordinary one of that before.
fn several() {
    let (client, server) = pair();
    check_eq!(send(&client, b"a1", MSG_OOB), 2);
    wait_for(&server, POLLPRI);
    check_eq!(send(&client, b"b2", MSG_OOB), 2);
    while receive(&server, 1, MSG_OOB | MSG_PEEK) != bytes("2") {}
    check_eq!(receive(&server, 20, 0), bytes("a1b"));
    check!(is_at_mark(&server));
    check_eq!(receive(&server, 20, MSG_OOB), bytes("2"));
    check_eq!(receive(&server, 20, MSG_DONTWAIT), Err(libc::EAGAIN));
}

/// Between much data, with both sides busy, it is where it was put, or left out there.
fn long_stream() {
    const MANY: usize = 300_000;
    for is_inline in [0, 1] {
        let (mut client, mut server) = pair();
        set_inline(&server, is_inline);
        let writer = std::thread::spawn(move || {
            client.write_all(&vec![1; MANY]).unwrap();
            check_eq!(send(&client, &[2], MSG_OOB), 1);
            client.write_all(&vec![3; MANY]).unwrap();
        });
        let (mut all, mut buffer) = (Vec::new(), vec![0; 10_000]);
        loop {
            let count = server.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..count]);
        }
        writer.join().unwrap();
        let (before, rest) = all.split_at(MANY);
        let (urgent, after) = rest.split_at(rest.len() - MANY);
        check!(before.iter().all(|byte| *byte == 1) && after.iter().all(|byte| *byte == 3));
        check_eq!(urgent, vec![2; is_inline as usize]);
    }
}

fn looks() {
    let (client, server) = pair();
    check_eq!(send(&client, b"!", MSG_OOB), 1);
    check_eq!(send(&client, b"abc", 0), 3);
    wait_for(&server, POLLIN | POLLPRI);
    check_eq!(receive(&server, 20, MSG_PEEK), bytes("abc"));
    check_eq!(receive(&server, 1, MSG_OOB), bytes("!"));
    // recvmsg(2) says what it is.
    check_eq!(send(&client, b"?", MSG_OOB), 1);
    while receive(&server, 1, MSG_OOB | MSG_PEEK) != bytes("?") {}
    let mut byte = [0_u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: the message names one byte only.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        check_eq!(libc::recvmsg(server.as_raw_fd(), &raw mut message, MSG_OOB), 1);
        check_eq!((message.msg_flags & MSG_OOB, byte), (MSG_OOB, [b'?']));
    }
}

/// `F_SETOWN`: who owns the socket is told.
fn signal_to_the_owner() {
    extern "C" fn count(_: c_int) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }
    let (client, server) = pair();
    let handler: extern "C" fn(c_int) = count;
    // SAFETY: the handler only counts.
    unsafe {
        libc::signal(libc::SIGURG, handler as libc::sighandler_t);
        check_eq!(libc::fcntl(server.as_raw_fd(), libc::F_GETOWN), 0);
        check_eq!(libc::fcntl(server.as_raw_fd(), libc::F_SETOWN, libc::getpid()), 0);
        check_eq!(libc::fcntl(server.as_raw_fd(), libc::F_GETOWN), libc::getpid());
    }
    check_eq!(send(&client, b"!", MSG_OOB), 1);
    for _ in 0..500 {
        if SIGNALS.load(Ordering::SeqCst) > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    check_eq!(SIGNALS.load(Ordering::SeqCst), 1);
    check_eq!(receive(&server, 1, MSG_OOB), bytes("!"));
}

fn after_the_end() {
    let (client, server) = pair();
    check_eq!(send(&client, b"z!", MSG_OOB), 2);
    drop(client);
    wait_for(&server, POLLIN | POLLPRI);
    check_eq!(receive(&server, 20, 0), bytes("z"));
    check_eq!(receive(&server, 1, MSG_OOB), bytes("!"));
    check_eq!(receive(&server, 1, 0), bytes(""));
}

/// Datagrams know nothing of it.
fn elsewhere() {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(udp.local_addr().unwrap()).unwrap();
    check_eq!(send(&udp, b"x", MSG_OOB), -libc::EOPNOTSUPP);
    let (unix, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    check_eq!(send(&unix, b"x", MSG_OOB), -libc::EOPNOTSUPP);
    check_eq!(receive(&unix, 1, MSG_OOB), Err(libc::EOPNOTSUPP));
}
