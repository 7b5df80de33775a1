//! Terminals as ioctl_tty(2) sets them: packet mode, exclusive use, queues, sessions, the console's own calls.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::*;
use unikernel_hal::sim::app;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run;
use super::super::app::wait::poll;
use super::open;
use super::terminal_tests::{Pair, change, pair, put, take};

const STOP: u8 = 19;
const START: u8 = 17;

/// What a call leaves in an `int`.
fn get(file: u64, request: u32) -> Result<u32, u32> {
    let room = Room::new(4);
    sys!(ioctl, file, request, &room).map(|_| room.word(0))
}

fn set(file: u64, request: u32, value: i32) -> Result<u64, u32> {
    sys!(ioctl, file, request, &Room::of(&value.to_le_bytes()))
}

#[test]
fn packet_mode_tells_what_happens_at_the_slave() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        assert_eq!((get(master, TIOCGPKT), set(master, TIOCPKT, 1)), (Ok(0), Ok(0)));
        assert_eq!(get(master, TIOCGPKT), Ok(1));
        put(slave, b"data");
        assert_eq!(take(master), Ok(b"\0data".to_vec()));
        sys!(ioctl, slave, TCFLSH, TCIOFLUSH).unwrap();
        assert_ne!(poll(master, POLLPRI, 0) & POLLPRI, 0);
        assert_eq!(take(master), Ok(Vec::from([(TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE) as u8])));
        sys!(ioctl, slave, TCXONC, TCOOFF).unwrap();
        assert_eq!(take(master), Ok(Vec::from([TIOCPKT_STOP as u8])));
        sys!(ioctl, slave, TCXONC, TCOON).unwrap();
        assert_eq!(take(master), Ok(Vec::from([TIOCPKT_START as u8])));
        // Without ^S and ^Q as they usually are, and with them again.
        change(slave, |settings| settings.put(17 + 9, &[0]));
        assert_eq!(take(master), Ok(Vec::from([TIOCPKT_NOSTOP as u8])));
        change(slave, |settings| settings.put(17 + 9, &[STOP]));
        assert_eq!(take(master), Ok(Vec::from([TIOCPKT_DOSTOP as u8])));
        assert_eq!(set(master, TIOCPKT, 0), Ok(0));
        put(slave, b"plain");
        assert_eq!(take(master), Ok(b"plain".to_vec()));
        assert_eq!(sys!(ioctl, slave, TIOCPKT, &Room::new(4)), Err(ENOTTY));
    });
}

#[test]
fn queues_are_dropped() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        put(master, b"typed\n");
        assert_eq!(get(slave, FIONREAD), Ok(6));
        sys!(ioctl, slave, TCFLSH, TCOFLUSH).unwrap();
        assert_eq!((get(slave, FIONREAD), get(master, FIONREAD)), (Ok(6), Ok(0)), "the echo is gone");
        sys!(ioctl, slave, TCFLSH, TCIFLUSH).unwrap();
        assert_eq!((get(slave, FIONREAD), take(slave)), (Ok(0), Err(EAGAIN)));
        assert_eq!(sys!(ioctl, slave, TCFLSH, 3), Err(EINVAL));
        // From the other end they have each other's names.
        put(master, b"typed\n");
        put(slave, b"shown");
        sys!(ioctl, master, TCFLSH, TCIFLUSH).unwrap();
        assert_eq!((get(master, FIONREAD), get(slave, FIONREAD)), (Ok(0), Ok(6)));
        sys!(ioctl, master, TCFLSH, TCOFLUSH).unwrap();
        assert_eq!(get(slave, FIONREAD), Ok(0));
        // Settings that flush drop what was typed before.
        put(master, b"typed\n");
        let settings = Room::new(64);
        sys!(ioctl, slave, TCGETS, &settings).unwrap();
        sys!(ioctl, slave, TCSETSF, &settings).unwrap();
        assert_eq!(take(slave), Err(EAGAIN));
        assert_eq!(get(slave, TIOCOUTQ), Ok(0));
        assert_eq!((sys!(ioctl, slave, TCSBRK, 1), sys!(ioctl, slave, TCSBRKP, 0)), (Ok(0), Ok(0)));
    });
}

#[test]
fn flow_is_controlled_from_both_sides() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        sys!(ioctl, slave, TCXONC, TCIOFF).unwrap();
        assert_eq!(take(master), Ok(Vec::from([STOP])));
        sys!(ioctl, slave, TCXONC, TCION).unwrap();
        assert_eq!(take(master), Ok(Vec::from([START])));
        sys!(ioctl, slave, TCXONC, TCOOFF).unwrap();
        assert_eq!(sys!(write, slave, &Room::of(b"x"), 1), Err(EAGAIN));
        assert_eq!(poll(slave, POLLOUT, 0), 0);
        sys!(ioctl, slave, TCXONC, TCOON).unwrap();
        assert_eq!(poll(slave, POLLOUT, 0), POLLOUT);
        assert_eq!(sys!(ioctl, slave, TCXONC, 4), Err(EINVAL));
    });
}

#[test]
fn settings_have_speeds_and_keep_what_is_fixed() {
    run(|| {
        let Pair { slave, .. } = pair();
        let settings = Room::new(64);
        sys!(ioctl, slave, TCGETS2, &settings).unwrap();
        // Seven bits with parity are asked for, at speeds of its own.
        let control = settings.word(8);
        settings.put_word(8, control & !CSIZE | CS7 | PARENB);
        settings.put_word(36, 1234);
        settings.put_word(40, 5678);
        sys!(ioctl, slave, TCSETS2, &settings).unwrap();
        let now = Room::new(64);
        sys!(ioctl, slave, TCGETS2, &now).unwrap();
        assert_eq!((now.word(8) & (CSIZE | PARENB), now.word(36), now.word(40)), (CS8, 1234, 5678));
        // The older form says nothing of speeds.
        sys!(ioctl, slave, TCGETS, &settings).unwrap();
        sys!(ioctl, slave, TCSETSW, &settings).unwrap();
        sys!(ioctl, slave, TCGETS2, &now).unwrap();
        assert_eq!((now.word(36), now.word(40)), (1234, 5678));
        assert_eq!(sys!(ioctl, slave, TCSETS2, 1), Err(EFAULT));
        assert_eq!((get(slave, TIOCGETD), set(slave, TIOCSETD, 0)), (Ok(0), Ok(0)));
        assert_eq!(set(slave, TIOCSETD, 3), Err(EINVAL));
        // Major 136: the slaves of pseudo-terminals.
        assert_eq!(get(slave, TIOCGDEV).map(|device| device >> 8), Ok(136));
    });
}

#[test]
fn exclusive_terminal_is_for_root() {
    run(|| {
        let Pair { slave, path, .. } = pair();
        assert_eq!((get(slave, TIOCGEXCL), sys!(ioctl, slave, TIOCEXCL, 0)), (Ok(0), Ok(0)));
        assert_eq!(get(slave, TIOCGEXCL), Ok(1));
        assert!(sys!(open, &*path, O_RDWR | O_NOCTTY, 0).is_ok());
        sys!(chmod, &*path, 0o666).unwrap();
        sys!(setresuid, 1000, 1000, 1000).unwrap();
        assert_eq!(sys!(open, &*path, O_RDWR | O_NOCTTY, 0), Err(EBUSY));
        assert_eq!(sys!(ioctl, slave, TIOCNXCL, 0), Ok(0));
        assert!(sys!(open, &*path, O_RDWR | O_NOCTTY, 0).is_ok());
    });
}

#[test]
fn peer_is_opened_without_its_name() {
    run(|| {
        let Pair { master, slave, .. } = pair();
        let peer = sys!(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC).unwrap();
        assert_eq!(sys!(fcntl, peer, F_GETFD, 0), Ok(FD_CLOEXEC.into()));
        put(peer, b"same");
        assert_eq!(take(master), Ok(b"same".to_vec()));
        sys!(close, slave).unwrap();
        put(peer, b"still open");
        assert_eq!(take(master), Ok(b"still open".to_vec()));
        sys!(close, peer).unwrap();
        assert_eq!(take(master), Err(EIO));
        assert_ne!(poll(master, POLLIN, 0) & POLLHUP, 0);
        assert_eq!((set(master, TIOCSPTLCK, 1), get(master, TIOCGPTLCK)), (Ok(0), Ok(1)));
        assert_eq!(sys!(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY), Err(EIO));
    });
}

static HANG_UPS: AtomicU32 = AtomicU32::new(0);
static CHANGES: AtomicU32 = AtomicU32::new(0);

fn count(signal: u32, handler: fn(i32)) {
    let action = Room::of_longs(&[app::handler(handler), SA_RESTORER.into(), app::RESTORER, 0]);
    sys!(rt_sigaction, signal, &action, 0, 8).unwrap();
}

fn let_signals_come() {
    for _ in 0..20 {
        sys!(sched_yield).unwrap();
    }
}

#[test]
fn session_has_one_terminal_and_hears_of_its_end() {
    run(|| {
        count(SIGHUP, |_| {
            HANG_UPS.fetch_add(1, Ordering::Relaxed);
        });
        count(SIGWINCH, |_| {
            CHANGES.fetch_add(1, Ordering::Relaxed);
        });
        let (one, two) = (pair(), pair());
        assert_eq!((get(one.slave, TIOCGPGRP), get(one.master, TIOCGPGRP)), (Err(ENOTTY), Ok(0)));
        assert_eq!(sys!(ioctl, one.slave, TIOCNOTTY, 0), Err(ENOTTY));
        assert_eq!(sys!(ioctl, one.master, TIOCSCTTY, 0), Err(ENOTTY));
        let _ = sys!(setsid);
        // Who begins a session gets the terminal that it opens.
        let slave = sys!(open, &*one.path, O_RDWR, 0).unwrap();
        assert_eq!((get(slave, TIOCGPGRP), get(slave, TIOCGSID)), (Ok(1), Ok(1)));
        assert_eq!(sys!(ioctl, two.slave, TIOCSCTTY, 0), Err(EPERM));
        assert_eq!(sys!(ioctl, one.slave, TIOCSCTTY, 0), Ok(0));
        assert_eq!((set(slave, TIOCSPGRP, 1), set(slave, TIOCSPGRP, -1)), (Ok(0), Err(EINVAL)));
        assert_eq!(set(slave, TIOCSPGRP, 77), Err(ESRCH));
        let named = sys!(open, "/dev/tty", O_RDWR, 0).unwrap();
        put(named, b"by its other name");
        assert_eq!(take(one.master), Ok(b"by its other name".to_vec()));
        // A window of another size is told, one of the same is not.
        let size = Room::of(&[30, 0, 100, 0, 0, 0, 0, 0]);
        for _ in 0..2 {
            sys!(ioctl, one.master, TIOCSWINSZ, &size).unwrap();
        }
        let_signals_come();
        assert_eq!(CHANGES.load(Ordering::Relaxed), 1);
        assert_eq!(sys!(ioctl, one.master, TIOCSIG, 0), Err(EINVAL));
        assert_eq!(sys!(ioctl, one.master, TIOCSIG, SIGWINCH), Ok(0));
        assert_eq!(sys!(ioctl, two.master, TIOCSIG, SIGWINCH), Ok(0));
        let_signals_come();
        assert_eq!(CHANGES.load(Ordering::Relaxed), 2, "the other is nobody's terminal");
        sys!(close, one.master).unwrap();
        let_signals_come();
        assert_eq!(HANG_UPS.load(Ordering::Relaxed), 1);
        assert_eq!(take(slave), Ok(Vec::new()));
        assert_eq!(sys!(write, slave, &Room::of(b"x"), 1), Err(EIO));
        assert_eq!((get(slave, FIONREAD), set(slave, TIOCSPGRP, 1)), (Err(EIO), Err(ENOTTY)));
        assert_ne!(poll(slave, POLLIN, 0) & (POLLHUP | POLLERR), 0);
        assert_eq!(sys!(ioctl, two.slave, TIOCSCTTY, 0), Ok(0));
        assert_eq!(sys!(ioctl, two.slave, TIOCNOTTY, 0), Ok(0));
        let_signals_come();
        assert_eq!(HANG_UPS.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn console_is_set_as_any_terminal() {
    run(|| {
        let console = open("/dev/console", O_RDWR);
        assert_eq!(sys!(ioctl, console, TCXONC, TCOOFF), Ok(0));
        assert_eq!(poll(console, POLLOUT, 0), 0);
        assert_eq!(sys!(ioctl, console, TCXONC, TCOON), Ok(0));
        assert_eq!(poll(console, POLLOUT, 0), POLLOUT);
        app::type_in(b"dropped");
        assert_eq!(sys!(ioctl, console, TCFLSH, TCIFLUSH), Ok(0));
        app::type_in(b"kept\n");
        assert_eq!((get(0, FIONREAD), take(0)), (Ok(5), Ok(b"kept\n".to_vec())));
        assert_eq!((get(console, TIOCGPGRP), sys!(ioctl, console, TIOCSCTTY, 0)), (Ok(1), Ok(0)));
        assert_eq!(sys!(ioctl, console, TIOCNOTTY, 0), Err(ENOTTY));
        let size = Room::of(&[25, 0, 80, 0, 0, 0, 0, 0]);
        assert_eq!(sys!(ioctl, console, TIOCSWINSZ, &size), Ok(0));
        let now = Room::new(8);
        assert_eq!((sys!(ioctl, 1, TIOCGWINSZ, &now), now.bytes(0, 4)), (Ok(0), [25, 0, 80, 0].to_vec()));
        assert_eq!(get(console, TIOCGDEV).map(|device| device >> 8), Ok(5));
        // ^C, which nothing handles here.
        let set = Room::of_longs(&[1 << (SIGINT - 1)]);
        sys!(rt_sigprocmask, SIG_BLOCK, &set, 0, 8).unwrap();
        app::type_in(b"\x03");
        let pending = Room::new(8);
        sys!(rt_sigpending, &pending, 8).unwrap();
        assert_eq!(pending.long(0), 1 << (SIGINT - 1));
        assert_eq!(sys!(ioctl, console, TCXONC, 9), Err(EINVAL));
    });
}
