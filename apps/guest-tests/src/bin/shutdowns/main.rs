//! shutdown(2) of every kind of socket, seen from both sides: what poll tells, what edge-triggered watches are told, what
//! calls answer, and that those that wait end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{mem, ptr, thread};

use guest_tests::{check, check_eq, errno};
use libc::{AF_INET, AF_UNIX, SHUT_RD, SHUT_RDWR, SHUT_WR, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};

mod gone;

/// `POLLIN`, `POLLOUT` and `POLLRDHUP`, as epoll has them.
const EVENTS: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP;
const IN: i32 = libc::EPOLLIN;
const OUT: i32 = libc::EPOLLOUT;
const HUP: i32 = libc::EPOLLHUP;
/// The end of reading.
const END: i32 = libc::EPOLLIN | libc::EPOLLRDHUP;

static BROKEN_PIPES: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(_: i32) {
    BROKEN_PIPES.fetch_add(1, Ordering::SeqCst);
}

fn main() {
    // SAFETY: the handler touches an atomic only.
    unsafe { libc::signal(libc::SIGPIPE, note as *const () as libc::sighandler_t) };
    connected();
    unconnected();
    unconnected_udp();
    listener();
    gone::peer();
    gone::tcp_peer();
    gone::sender_to_nobody();
    waiting_calls_end();
    edge_tells_of_room();
    poll_waits_for_room();
}

fn new(family: i32, kind: i32) -> i32 {
    // SAFETY: makes a descriptor.
    let descriptor = unsafe { libc::socket(family, kind, 0) };
    check!(descriptor >= 0);
    descriptor
}

fn close(descriptors: &[i32]) {
    // SAFETY: they are the test's own.
    descriptors.iter().for_each(|&descriptor| unsafe { check_eq!(libc::close(descriptor), 0) });
}

/// Two sockets that are connected with each other.
fn pair(family: i32, kind: i32) -> [i32; 2] {
    if family == AF_UNIX {
        let mut pair = [0; 2];
        // SAFETY: there is room for two.
        check_eq!(unsafe { libc::socketpair(family, kind, 0, pair.as_mut_ptr()) }, 0);
        return pair;
    }
    let (one, other) = (new(family, kind), new(family, kind));
    bind_to_loopback(one);
    if kind == SOCK_DGRAM {
        bind_to_loopback(other);
        connect(one, other);
        connect(other, one);
        return [one, other];
    }
    // SAFETY: no pointers.
    check_eq!(unsafe { libc::listen(one, 4) }, 0);
    connect(other, one);
    // SAFETY: null for an address that nobody asks for.
    let accepted = unsafe { libc::accept(one, ptr::null_mut(), ptr::null_mut()) };
    check!(accepted >= 0);
    close(&[one]);
    [other, accepted]
}

const ADDRESS_BYTES: u32 = size_of::<libc::sockaddr_in>() as u32;

fn bind_to_loopback(socket: i32) {
    // SAFETY: the address is whole.
    unsafe {
        let mut address: libc::sockaddr_in = mem::zeroed();
        address.sin_family = AF_INET as u16;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        check_eq!(libc::bind(socket, (&raw const address).cast(), ADDRESS_BYTES), 0);
    }
}

fn connect(socket: i32, to: i32) {
    // SAFETY: the address is whole.
    unsafe {
        let (mut address, mut len) = (mem::zeroed::<libc::sockaddr_in>(), ADDRESS_BYTES);
        check_eq!(libc::getsockname(to, (&raw mut address).cast(), &mut len), 0);
        check_eq!(libc::connect(socket, (&raw const address).cast(), len), 0);
    }
}

fn answer(result: isize) -> i32 {
    if result < 0 { -errno() } else { result as i32 }
}

fn receive(socket: i32, flags: i32) -> i32 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is whole.
    answer(unsafe { libc::recv(socket, bytes.as_mut_ptr().cast(), 8, flags) })
}

/// What a send answers, and whether it raised a signal.
fn send(socket: i32) -> (i32, usize) {
    BROKEN_PIPES.store(0, Ordering::SeqCst);
    // SAFETY: the buffer is whole.
    let sent = answer(unsafe { libc::send(socket, b"abc".as_ptr().cast(), 3, libc::MSG_DONTWAIT) });
    (sent, BROKEN_PIPES.load(Ordering::SeqCst))
}

fn shutdown(socket: i32, how: i32) -> i32 {
    // SAFETY: no pointers.
    answer(unsafe { libc::shutdown(socket, how) } as isize)
}

fn poll(socket: i32) -> i32 {
    let mut polled = libc::pollfd { fd: socket, events: EVENTS as i16, revents: 0 };
    // SAFETY: one whole entry.
    check!(unsafe { libc::poll(&mut polled, 1, 0) } >= 0);
    polled.revents.into()
}

/// An edge-triggered watch on a socket, which has told what there is.
fn watch(socket: i32, events: i32) -> i32 {
    // SAFETY: whole structures.
    let epoll = unsafe {
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: (events | libc::EPOLLET) as u32, u64: 0 };
        check_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &mut event), 0);
        epoll
    };
    told(epoll);
    epoll
}

/// What the watch has been told since.
fn told(epoll: i32) -> i32 {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event.
    check!(unsafe { libc::epoll_wait(epoll, &mut event, 1, 0) } >= 0);
    event.events as i32
}

/// Time for a packet over loopback.
fn settle() {
    thread::sleep(Duration::from_millis(10));
}

const KINDS: [(i32, i32); 5] = [
    (AF_UNIX, SOCK_STREAM),
    (AF_UNIX, SOCK_SEQPACKET),
    (AF_UNIX, SOCK_DGRAM),
    (AF_INET, SOCK_STREAM),
    (AF_INET, SOCK_DGRAM),
];

fn connected() {
    for (family, kind) in KINDS {
        for how in [SHUT_RD, SHUT_WR, SHUT_RDWR] {
            let [one, other] = pair(family, kind);
            check_eq!(send(other), (3, 0));
            settle();
            let watches = [watch(one, EVENTS), watch(other, EVENTS)];
            check_eq!(shutdown(one, how), 0);
            settle();
            let (is_unix, has_connection) = (family == AF_UNIX, kind != SOCK_DGRAM);
            let (ends_in, ends_out) = (how != SHUT_WR, how != SHUT_RD);
            let ready = OUT | if ends_in { END } else { 0 } | if how == SHUT_RDWR { HUP } else { 0 };
            check_eq!((family, kind, how, told(watches[0])), (family, kind, how, ready | IN));
            let peer_ends_in = ends_out && has_connection;
            let peer_ends_out = ends_in && has_connection && is_unix;
            let peer_ready = OUT | if peer_ends_in { END } else { 0 };
            let peer_ready = peer_ready | if peer_ends_in && peer_ends_out { HUP } else { 0 };
            let peer_told = if peer_ends_in || peer_ends_out { peer_ready } else { 0 };
            // Acknowledgements may have TCP tell of room once more.
            let again = if is_unix || !has_connection { 0 } else { OUT };
            check_eq!(
                (family, kind, how, told(watches[1]) & !again),
                (family, kind, how, peer_told & !again)
            );
            check_eq!((poll(one), poll(other)), (ready | IN, peer_ready));
            // What was there is still read; a datagram socket tells the end only to who would wait.
            check_eq!(receive(one, libc::MSG_DONTWAIT), 3);
            let tells_at_once = kind != SOCK_DGRAM && ends_in;
            check_eq!(receive(one, libc::MSG_DONTWAIT), if tells_at_once { 0 } else { -libc::EAGAIN });
            check_eq!(poll(one), ready);
            if ends_in {
                check_eq!(receive(one, 0), 0);
            }
            // Streams alone raise a signal.
            let broken = (-libc::EPIPE, usize::from(kind == SOCK_STREAM));
            check_eq!((family, kind, send(one)), (family, kind, if ends_out { broken } else { (3, 0) }));
            settle();
            let end = if peer_ends_in { 0 } else { -libc::EAGAIN };
            check_eq!(receive(other, libc::MSG_DONTWAIT), if ends_out { end } else { 3 });
            let is_refused = ends_in && is_unix;
            check_eq!((family, kind, send(other)), (family, kind, if is_refused { broken } else { (3, 0) }));
            close(&[one, other]);
            close(&watches);
        }
    }
}

/// The directions of `AF_UNIX` sockets can be shut before there is a peer.
fn unconnected() {
    for (kind, hup, receives, sends) in [
        (SOCK_STREAM, HUP, [-libc::EINVAL; 2], -libc::ENOTCONN),
        (SOCK_SEQPACKET, HUP, [-libc::ENOTCONN; 2], -libc::ENOTCONN),
        (SOCK_DGRAM, 0, [-libc::EAGAIN, 0], -libc::EPIPE),
    ] {
        for how in [SHUT_RD, SHUT_WR, SHUT_RDWR] {
            let socket = new(AF_UNIX, kind);
            let epoll = watch(socket, EVENTS);
            check_eq!(shutdown(socket, how), 0);
            let ready = OUT | hup | if how == SHUT_WR { 0 } else { END };
            let ready = ready | if how == SHUT_RDWR { HUP } else { 0 };
            check_eq!((told(epoll), poll(socket)), (ready, ready));
            check_eq!(receive(socket, libc::MSG_DONTWAIT), receives[0]);
            if how != SHUT_WR {
                check_eq!(receive(socket, 0), receives[1]);
            }
            check_eq!(send(socket), (if how == SHUT_RD { -libc::ENOTCONN } else { sends }, 0));
            close(&[socket, epoll]);
        }
    }
}

/// The call fails, and does it all the same.
fn unconnected_udp() {
    for is_bound in [false, true] {
        let socket = new(AF_INET, SOCK_DGRAM);
        if is_bound {
            bind_to_loopback(socket);
        }
        check_eq!(shutdown(socket, SHUT_RD), -libc::ENOTCONN);
        check_eq!(poll(socket), END | OUT);
        check_eq!(receive(socket, 0), 0);
        check_eq!(shutdown(socket, SHUT_WR), -libc::ENOTCONN);
        check_eq!(poll(socket), END | OUT | HUP);
        close(&[socket]);
    }
}

fn unix_listener(name: u8) -> (i32, libc::sockaddr_un, u32) {
    let socket = new(AF_UNIX, SOCK_STREAM);
    // SAFETY: an abstract name of one byte.
    unsafe {
        let mut address: libc::sockaddr_un = mem::zeroed();
        address.sun_family = AF_UNIX as u16;
        address.sun_path[1] = name as _;
        check_eq!(libc::bind(socket, (&raw const address).cast(), 4), 0);
        check_eq!(libc::listen(socket, 4), 0);
        (socket, address, 4)
    }
}

fn listener() {
    let (socket, address, len) = unix_listener(b's');
    let epoll = watch(socket, EVENTS);
    // SAFETY: the address is whole, null for one that nobody asks for.
    unsafe {
        let client = new(AF_UNIX, SOCK_STREAM);
        check_eq!(libc::connect(client, (&raw const address).cast(), len), 0);
        told(epoll);
        check_eq!(shutdown(socket, SHUT_RD), 0);
        check_eq!((told(epoll), poll(socket)), (END, END));
        // Who has come is still let in.
        let accepted = libc::accept(socket, ptr::null_mut(), ptr::null_mut());
        check!(accepted >= 0);
        check_eq!(answer(libc::accept(socket, ptr::null_mut(), ptr::null_mut()) as isize), -libc::EINVAL);
        libc::fcntl(socket, libc::F_SETFL, libc::O_NONBLOCK);
        check_eq!(answer(libc::accept(socket, ptr::null_mut(), ptr::null_mut()) as isize), -libc::EAGAIN);
        let late = new(AF_UNIX, SOCK_STREAM);
        check_eq!(
            answer(libc::connect(late, (&raw const address).cast(), len) as isize),
            -libc::ECONNREFUSED
        );
        check_eq!(shutdown(socket, SHUT_WR), 0);
        check_eq!((told(epoll), poll(socket)), (END | HUP, END | HUP));
        close(&[client, accepted, late, socket, epoll]);
    }
}

/// What a call answers that waits while another thread shuts the socket.
fn ended(socket: i32, how: i32, call: impl FnOnce() -> i32 + Send) -> i32 {
    thread::scope(|scope| {
        let waiting = scope.spawn(call);
        thread::sleep(Duration::from_millis(30));
        check!(!waiting.is_finished());
        shutdown(socket, how);
        waiting.join().unwrap()
    })
}

fn waiting_calls_end() {
    for (family, kind) in KINDS {
        let [one, other] = pair(family, kind);
        let what = (family, kind);
        check_eq!((what, ended(one, SHUT_RD, || receive(one, 0))), (what, 0));
        close(&[one, other]);
        let [one, other] = pair(family, kind);
        let wait = || {
            let mut polled = libc::pollfd { fd: one, events: libc::POLLRDHUP, revents: 0 };
            // SAFETY: one whole entry.
            check_eq!(unsafe { libc::poll(&mut polled, 1, 10_000) }, 1);
            polled.revents.into()
        };
        check_eq!((what, ended(one, SHUT_RD, wait)), (what, libc::EPOLLRDHUP));
        close(&[one, other]);
        if what == (AF_INET, SOCK_DGRAM) {
            continue;
        }
        let [one, other] = pair(family, kind);
        let bytes = [0u8; 1 << 16];
        let fill = || loop {
            // SAFETY: the buffer is whole.
            let sent = answer(unsafe { libc::send(one, bytes.as_ptr().cast(), bytes.len(), 0) });
            if sent < 0 {
                return sent;
            }
        };
        check_eq!((what, ended(one, SHUT_WR, fill)), (what, -libc::EPIPE));
        close(&[one, other]);
    }
    let accept = |socket| {
        // SAFETY: null for an address that nobody asks for.
        move || answer(unsafe { libc::accept(socket, ptr::null_mut(), ptr::null_mut()) } as isize)
    };
    let (unix, ..) = unix_listener(b'w');
    check_eq!(ended(unix, SHUT_RD, accept(unix)), -libc::EINVAL);
    let tcp = new(AF_INET, SOCK_STREAM);
    // SAFETY: no pointers.
    check_eq!(unsafe { libc::listen(tcp, 4) }, 0);
    check_eq!(ended(tcp, SHUT_RD, accept(tcp)), -libc::EINVAL);
    let udp = new(AF_INET, SOCK_DGRAM);
    check_eq!(ended(udp, SHUT_RD, || receive(udp, 0)), 0);
    close(&[unix, tcp, udp]);
}

/// Sends until there is no room; answers how often.
fn fill(socket: i32) -> usize {
    let bytes = [0u8; 1000];
    // SAFETY: the buffer is whole.
    let is_sent = || unsafe { libc::send(socket, bytes.as_ptr().cast(), 1000, libc::MSG_DONTWAIT) } > 0;
    let count = (0..10_000).take_while(|_| is_sent()).count();
    check_eq!(errno(), libc::EAGAIN);
    count
}

fn edge_tells_of_room() {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM] {
        let [one, other] = pair(AF_UNIX, kind);
        let epoll = watch(one, libc::EPOLLOUT);
        fill(one);
        check_eq!((kind, told(epoll)), (kind, 0));
        while receive(other, libc::MSG_DONTWAIT) > 0 {}
        check_eq!((kind, told(epoll), poll(one)), (kind, OUT, OUT));
        close(&[one, other, epoll]);
    }
}

/// The socket's own thread waits for room that it has never been refused.
fn poll_waits_for_room() {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM] {
        let [one, other] = pair(AF_UNIX, kind);
        // SAFETY: makes a descriptor.
        let alike = unsafe { libc::dup(one) };
        fill(alike);
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            while receive(other, libc::MSG_DONTWAIT) > 0 {}
        });
        let mut polled = libc::pollfd { fd: one, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one whole entry.
        check_eq!((kind, unsafe { libc::poll(&mut polled, 1, 10_000) }), (kind, 1));
        reader.join().unwrap();
        close(&[one, other, alike]);
    }
}
