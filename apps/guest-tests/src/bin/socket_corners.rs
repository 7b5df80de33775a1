//! Corners of sockets: which of them have room for out-of-band data as poll(2) names it, what bind(2) answers to names of
//! `AF_UNIX` that cannot be, datagrams that are written in several calls, and where peeking goes on.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use guest_tests::{check, check_eq, errno};

const FAMILY_BYTES: usize = 2;

fn main() {
    names_of_room();
    bad_names();
    second_names();
    written_in_parts();
    peeking_goes_on();
}

fn socket(family: i32, kind: i32) -> i32 {
    // SAFETY: makes a descriptor.
    let descriptor = unsafe { libc::socket(family, kind, 0) };
    check!(descriptor >= 0);
    descriptor
}

fn close(descriptor: i32) {
    // SAFETY: it is the test's own.
    check_eq!(unsafe { libc::close(descriptor) }, 0);
}

fn poll(descriptor: i32, events: i16) -> i16 {
    let mut entry = libc::pollfd { fd: descriptor, events, revents: 0 };
    // SAFETY: one entry.
    check!(unsafe { libc::poll(&raw mut entry, 1, 0) } >= 0);
    entry.revents
}

/// Sockets but for TCP's name it `POLLWRBAND`, too; other files do not.
fn names_of_room() {
    const ALL: i16 = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;
    const USUAL: i16 = libc::POLLOUT | libc::POLLWRNORM;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    check_eq!(poll(stream.as_raw_fd(), ALL), USUAL);
    check_eq!(poll(stream.as_raw_fd(), libc::POLLWRBAND), 0);
    for (family, kind) in [
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_DGRAM),
        (libc::AF_UNIX, libc::SOCK_DGRAM),
        (libc::AF_NETLINK, libc::SOCK_RAW),
    ] {
        let one = socket(family, kind);
        check_eq!((family, poll(one, ALL), poll(one, libc::POLLWRBAND)), (family, ALL, libc::POLLWRBAND));
        close(one);
    }
    for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
        let mut pair = [0; 2];
        // SAFETY: there is room for two.
        check_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) }, 0);
        check_eq!((kind, poll(pair[0], ALL)), (kind, ALL));
        pair.into_iter().for_each(close);
    }
    let (_, writer) = std::io::pipe().unwrap();
    check_eq!(poll(writer.as_raw_fd(), ALL) & ALL, USUAL);
}

/// Binds a socket to a path, or with nothing to a name that the kernel picks.
fn bind(socket: i32, name: &[u8]) -> i32 {
    // SAFETY: zeros are an address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (place, byte) in address.sun_path.iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    let len = (FAMILY_BYTES + name.len()) as u32;
    // SAFETY: the address is as long as said, or longer.
    if unsafe { libc::bind(socket, (&raw const address).cast(), len) } == 0 { 0 } else { errno() }
}

fn bad_names() {
    let folder = std::env::temp_dir().join(format!("corners-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("file"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
    std::os::unix::fs::symlink("round", path("round")).unwrap();
    for (name, expected) in [
        ("file", libc::EADDRINUSE),
        ("file/", libc::EADDRINUSE),
        ("file/in", libc::ENOTDIR),
        ("dangling", libc::EADDRINUSE),
        ("round/in", libc::ELOOP),
        ("nowhere/in", libc::ENOENT),
        ("new/", libc::ENOENT),
        (".", libc::EADDRINUSE),
        ("..", libc::EADDRINUSE),
        ("", libc::EADDRINUSE),
        ("new", 0),
        ("new", libc::EADDRINUSE),
    ] {
        let one = socket(libc::AF_UNIX, libc::SOCK_STREAM);
        check_eq!((name, bind(one, path(name).as_os_str().as_bytes())), (name, expected));
        close(one);
    }
    let one = socket(libc::AF_UNIX, libc::SOCK_STREAM);
    check_eq!(bind(one, b"/"), libc::EADDRINUSE);
    check_eq!(bind(one, &[b'x'; 109]), libc::EINVAL);
    close(one);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Who has a name gets no other: but of a path Linux first says what is wrong with it, and who lets the kernel pick one has one.
fn second_names() {
    let folder = std::env::temp_dir();
    let own = folder.join(format!("corner-{}", std::process::id()));
    let other = folder.join(format!("corner-{}-other", std::process::id()));
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let one = socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    check_eq!(bind(one, &bytes(&own)), 0);
    check_eq!(bind(one, &bytes(&own)), libc::EADDRINUSE);
    check_eq!(bind(one, &bytes(&other)), libc::EINVAL);
    check!(!other.exists());
    check_eq!(bind(one, b"/nowhere/in"), libc::ENOENT);
    check_eq!(bind(one, b"\0corner"), libc::EINVAL);
    check_eq!(bind(one, b""), 0);
    close(one);
    std::fs::remove_file(&own).unwrap();
    let one = socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    check_eq!((bind(one, b""), bind(one, b""), bind(one, b"\0other")), (0, 0, libc::EINVAL));
    close(one);
}

fn option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> i32 {
    let (place, len) = ((&raw const value).cast(), size_of::<i32>() as u32);
    // SAFETY: the value is alive.
    if unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, place, len) } == 0 { 0 } else { -errno() }
}

fn show(socket: &impl AsRawFd, level: i32, name: i32) -> i32 {
    let (mut value, mut len) = (0_i32, size_of::<i32>() as u32);
    let place = (&raw mut value).cast();
    // SAFETY: the value is alive.
    match unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place, &raw mut len) } {
        0 => value,
        _ => -errno(),
    }
}

fn send(socket: &impl AsRawFd, bytes: &[u8], flags: i32) -> Result<usize, i32> {
    // SAFETY: the bytes are alive.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| errno())
}

/// Receives up to `room` bytes without waiting; `None` if there is nothing.
fn receive(socket: &impl AsRawFd, room: usize, flags: i32) -> Option<Vec<u8>> {
    let mut bytes = vec![0; room];
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: there is room for so many.
    let count = unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), room, flags) };
    bytes.truncate(usize::try_from(count).ok()?);
    Some(bytes)
}

/// `MSG_MORE` and `UDP_CORK`: one datagram of what several calls write, to where the first said.
fn written_in_parts() {
    const UDP_CORK: i32 = 1;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let bound = || UdpSocket::bind(address).unwrap();
        let (receiver, other, sender) = (bound(), bound(), bound());
        let peek_all = || receive(&receiver, 70_000, 0);
        check_eq!(send(&sender, b"nowhere", libc::MSG_MORE), Err(libc::EDESTADDRREQ));
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        check_eq!(send(&sender, b"one ", libc::MSG_MORE), Ok(4));
        check_eq!(send(&sender, b"two ", libc::MSG_MORE), Ok(4));
        check_eq!(peek_all(), None);
        // Where the later ones would go does not count.
        check_eq!(sender.send_to(b"three", other.local_addr().unwrap()).unwrap(), 5);
        check_eq!(peek_all(), Some(b"one two three".to_vec()));
        check_eq!(receive(&other, 9, 0), None);
        check_eq!(send(&sender, b"alone", 0), Ok(5));
        check_eq!(peek_all(), Some(b"alone".to_vec()));
        // The option does it for all, until it is turned off; a last call may have nothing to add.
        check_eq!(
            (option(&sender, libc::IPPROTO_UDP, UDP_CORK, 1), show(&sender, libc::IPPROTO_UDP, UDP_CORK)),
            (0, 1)
        );
        check_eq!((send(&sender, b"a", 0), send(&sender, b"b", 0)), (Ok(1), Ok(1)));
        check_eq!(peek_all(), None);
        check_eq!(option(&sender, libc::IPPROTO_UDP, UDP_CORK, 0), 0);
        check_eq!(peek_all(), Some(b"ab".to_vec()));
        check_eq!((send(&sender, b"x", libc::MSG_MORE), send(&sender, b"", 0)), (Ok(1), Ok(0)));
        check_eq!(peek_all(), Some(b"x".to_vec()));
        // What becomes too long is lost, and the socket can be used again.
        check_eq!(send(&sender, &[1; 40_000], libc::MSG_MORE), Ok(40_000));
        check_eq!(send(&sender, &[1; 40_000], libc::MSG_MORE), Err(libc::EMSGSIZE));
        check_eq!((send(&sender, b"again", 0), peek_all()), (Ok(5), Some(b"again".to_vec())));
        // So is what nobody finished.
        check_eq!(send(&sender, b"never", libc::MSG_MORE), Ok(5));
        drop(sender);
        check_eq!(peek_all(), None);
    }
}

/// `SO_PEEK_OFF` of streams and messages; a datagram socket's own is in `control_messages`.
fn peeking_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nodelay(true).unwrap();
    peek_at_a_stream(&far, |bytes| near.write_all(bytes).unwrap());
    let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    peek_at_a_stream(&far, |bytes| near.write_all(bytes).unwrap());
    for kind in [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let mut pair = [0; 2];
        // SAFETY: there is room for two.
        check_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) }, 0);
        peek_at_messages(pair);
        pair.into_iter().for_each(close);
    }
    let (_, writer) = std::io::pipe().unwrap();
    check_eq!(option(&writer, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0), -libc::ENOTSOCK);
}

fn peek_at_a_stream(far: &impl AsRawFd, mut write: impl FnMut(&[u8])) {
    let offset = || show(far, libc::SOL_SOCKET, libc::SO_PEEK_OFF);
    let set = |offset| check_eq!(option(far, libc::SOL_SOCKET, libc::SO_PEEK_OFF, offset), 0);
    let peek = |room| receive(far, room, libc::MSG_PEEK);
    let arrived = |bytes: i32| {
        let mut there = 0_i32;
        while there < bytes {
            // SAFETY: the place is alive.
            check_eq!(unsafe { libc::ioctl(far.as_raw_fd(), libc::FIONREAD, &raw mut there) }, 0);
        }
    };
    check_eq!(offset(), -1);
    write(b"abcdef");
    write(b"ghi");
    arrived(9);
    check_eq!((peek(2), peek(2)), (Some(b"ab".to_vec()), Some(b"ab".to_vec())));
    set(0);
    check_eq!((peek(2), peek(3), offset()), (Some(b"ab".to_vec()), Some(b"cde".to_vec()), 5));
    // Reading takes from the front, and peeking stays at its byte.
    check_eq!((receive(far, 4, 0), offset()), (Some(b"abcd".to_vec()), 1));
    check_eq!((peek(1), offset()), (Some(b"f".to_vec()), 2));
    check_eq!((receive(far, 3, 0), offset()), (Some(b"efg".to_vec()), 0));
    check_eq!((peek(9), peek(9), offset()), (Some(b"hi".to_vec()), None, 2));
    write(b"jk");
    arrived(4);
    check_eq!((peek(9), offset()), (Some(b"jk".to_vec()), 4));
    set(3);
    check_eq!(peek(9), Some(b"k".to_vec()));
    set(1000);
    check_eq!(peek(9), None);
    set(-1);
    check_eq!((peek(9), offset()), (Some(b"hijk".to_vec()), -1));
    check_eq!(receive(far, 9, 0), Some(b"hijk".to_vec()));
}

fn peek_at_messages([near, far]: [i32; 2]) {
    let (near, far) = (&near, &far);
    check_eq!(option(far, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0), 0);
    for message in [b"abcdef".as_slice(), b"ghi"] {
        check_eq!(send(near, message, 0), Ok(message.len()));
    }
    let peek = |room| receive(far, room, libc::MSG_PEEK);
    check_eq!(
        (peek(2), peek(2), peek(9)),
        (Some(b"ab".to_vec()), Some(b"cd".to_vec()), Some(b"ef".to_vec()))
    );
    check_eq!((peek(9), peek(9)), (Some(b"ghi".to_vec()), None));
    check_eq!(receive(far, 64, 0), Some(b"abcdef".to_vec()));
    check_eq!(show(far, libc::SOL_SOCKET, libc::SO_PEEK_OFF), 3);
    check_eq!(option(far, libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1), 0);
    check_eq!((peek(9), receive(far, 9, 0)), (Some(b"ghi".to_vec()), Some(b"ghi".to_vec())));
}
