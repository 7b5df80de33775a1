//! What else asks for a capability: ports, priorities, socket options, queues, claims, signals.

use crate::somebody::{EVERYBODY, NET_ADMIN, NET_BIND_SERVICE, NET_RAW, OTHER, SYS_NICE, Somebody, other};
use crate::{Line, call};

const MORE: [Somebody; 4] = [
    other("binds", NET_BIND_SERVICE),
    other("administers-network", NET_ADMIN),
    other("sees-packets", NET_RAW),
    other("hurries", SYS_NICE),
];

pub(crate) fn ask() {
    for somebody in EVERYBODY.into_iter().chain(MORE) {
        let mut line = Line::new(&format!("{} otherwise", somebody.name));
        for port in [0, 1, 79, 1023, 1024, 40_077] {
            line.answer(&format!("tcp{port}"), somebody.act(|| bind(libc::SOCK_STREAM, port)));
            line.answer(&format!("udp{port}"), somebody.act(|| bind(libc::SOCK_DGRAM, port)));
        }
        for (name, option, value) in [
            ("mark", libc::SO_MARK, 5),
            ("priority", libc::SO_PRIORITY, 6),
            ("high-priority", libc::SO_PRIORITY, 7),
            ("buffer", libc::SO_RCVBUF, 9000),
            ("force-buffer", libc::SO_RCVBUFFORCE, 9000),
            ("force-send", libc::SO_SNDBUFFORCE, 9000),
        ] {
            line.answer(name, somebody.act(|| set_option(libc::SOL_SOCKET, option, value)));
        }
        line.answer("transparent", somebody.act(|| set_option(libc::SOL_IP, libc::IP_TRANSPARENT, 1)));
        line.answer("nice", somebody.act(|| call(libc::SYS_setpriority, &[0, 0, 0])));
        line.answer("hurry", somebody.act(|| call(libc::SYS_setpriority, &[0, 0, -5_i64 as u64])));
        call(libc::SYS_setpriority, &[0, 0, 0]);
        // SAFETY: no arguments.
        let process = unsafe { libc::getpid() } as u32;
        for claim in [[process, 0, 0], [process, OTHER, 2004], [process, 1001, 2001], [1_000_000, 0, 0]] {
            line.answer("claim", somebody.act(|| claims(claim)));
        }
        line.answer("self", somebody.act(|| call(libc::SYS_kill, &[process.into(), 0])));
        line.answer("zero", somebody.act(|| call(libc::SYS_kill, &[process.into(), 99])));
        queues(&mut line, &somebody);
        line.print();
    }
}

fn socket(kind: i32) -> u64 {
    let socket = call(libc::SYS_socket, &[libc::AF_INET as u64, kind as u64, 0]);
    assert!(socket >= 0);
    socket as u64
}

/// Binds to a port of this machine; one that another program has counts as one that could be had.
fn bind(kind: i32, port: u16) -> i64 {
    let socket = socket(kind);
    let address = [&2_u16.to_ne_bytes()[..], &port.to_be_bytes(), &[127, 0, 0, 1], &[0; 8]].concat();
    let outcome = call(libc::SYS_bind, &[socket, address.as_ptr() as u64, address.len() as u64]);
    call(libc::SYS_close, &[socket]);
    if outcome == -i64::from(libc::EADDRINUSE) { 0 } else { outcome }
}

fn set_option(level: i32, option: i32, value: i32) -> i64 {
    let socket = socket(libc::SOCK_DGRAM);
    let place = &raw const value as u64;
    let outcome = call(libc::SYS_setsockopt, &[socket, level as u64, option as u64, place, 4]);
    call(libc::SYS_close, &[socket]);
    outcome
}

/// Sends a message that says who has sent it (unix(7)).
fn claims(claim: [u32; 3]) -> i64 {
    let mut pair = [0_i32; 2];
    let (family, kind) = (libc::AF_UNIX as u64, libc::SOCK_DGRAM as u64);
    assert_eq!(call(libc::SYS_socketpair, &[family, kind, 0, pair.as_mut_ptr() as u64]), 0);
    let mut control = [0_u64; 4];
    control[0] = 28;
    control[1] = libc::SOL_SOCKET as u64 | (libc::SCM_CREDENTIALS as u64) << 32;
    control[2] = u64::from(claim[0]) | u64::from(claim[1]) << 32;
    control[3] = claim[2].into();
    let byte = *b"x";
    let vector = [byte.as_ptr() as u64, 1];
    let message = [0, 0, vector.as_ptr() as u64, 1, control.as_ptr() as u64, 32, 0];
    let outcome = call(libc::SYS_sendmsg, &[pair[0] as u64, message.as_ptr() as u64, 0]);
    for fd in pair {
        call(libc::SYS_close, &[fd as u64]);
    }
    outcome
}

/// Message queues have owners and modes, too (mq_overview(7)).
fn queues(line: &mut Line, somebody: &Somebody) {
    let name = format!("permissions-{}\0", std::process::id());
    let name = name.as_ptr() as u64;
    let open = |flags: i32, mode: u64| {
        let fd = call(libc::SYS_mq_open, &[name, flags as u64, mode, 0]);
        if fd >= 0 {
            call(libc::SYS_close, &[fd as u64]);
        }
        fd
    };
    for mode in [0o600, 0o640, 0o644, 0o622] {
        call(libc::SYS_mq_unlink, &[name]);
        // SAFETY: a value only.
        let mask = unsafe { libc::umask(0) };
        let owner = EVERYBODY[1];
        assert!(owner.act(|| open(libc::O_CREAT | libc::O_RDWR, mode)) >= 0);
        // SAFETY: a value only.
        unsafe { libc::umask(mask) };
        for (call, flags) in [("mq-r", libc::O_RDONLY), ("mq-w", libc::O_WRONLY), ("mq-rw", libc::O_RDWR)] {
            line.answer(call, somebody.act(|| open(flags, 0)));
        }
        line.answer("mq-unlink", somebody.act(|| call(libc::SYS_mq_unlink, &[name])));
    }
    call(libc::SYS_mq_unlink, &[name]);
}
