//! Pseudo-terminals (pty(7), termios(3), ioctl_tty(2)): names, locks, the line discipline from end to end, signals to
//! the foreground, sizes, packet mode, and what is left when one end is closed.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::thread;
use std::time::Duration;

use calls::*;
use guest_tests::{check, check_eq};

mod calls;
mod discipline;

fn main() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGHUP, libc::SIGCONT, libc::SIGWINCH] {
        // SAFETY: a handler that only counts.
        unsafe { libc::signal(signal, note as *const () as usize) };
    }
    names_and_locks();
    discipline::lines();
    discipline::output();
    discipline::bytes_as_they_come();
    discipline::waiting();
    discipline::flow();
    discipline::packets();
    full_queues();
    blocked_writers();
    ends();
    exclusive();
    session();
    library();
}

fn names_and_locks() {
    let (master, path) = master();
    let node = fs::metadata(&path).expect("it has a name");
    check!(node.file_type().is_char_device());
    // A group may be let in to write, as devpts is mounted.
    check_eq!((node.permissions().mode() & !0o20 & 0o7777, node.rdev() >> 8), (0o600, 136));
    check_eq!(fs::metadata("/dev/ptmx").expect("it is there").rdev(), 0x502);
    check_eq!((ask(&master, TIOCGPTLCK), open(&path, NEW).err()), (1, Some(libc::EIO)));
    check_eq!(control(&master, libc::TIOCSPTLCK, &mut 0), 0);
    check_eq!(ask(&master, TIOCGPTLCK), 0);
    // What is typed before the slave is opened waits for it.
    put(&master, b"early\n");
    let slave = open(&path, NEW).expect("it is unlocked");
    expect(&slave, b"early\n");
    expect(&master, b"early\r\n");
    let number = path.rsplit('/').next().expect("there is a slash");
    let listed = fs::read_dir("/dev/pts").expect("a directory").flatten();
    check!(listed.into_iter().any(|entry| entry.file_name() == number));
    // The name is the kernel's: it goes with the master.
    let is_kept = |outcome: std::io::Result<()>| {
        matches!(outcome.map_err(|error| error.raw_os_error()), Err(Some(libc::EPERM | libc::EACCES)))
    };
    check!(is_kept(fs::remove_file(&path)));
    check!(is_kept(fs::rename(&path, "/dev/pts/other")));
    check!(is_kept(fs::rename(&path, "/dev/pts/ptmx")));
    check!(fs::metadata(&path).is_ok());
    for request in [libc::TIOCGPTN, TIOCPKT, TIOCGPTLCK] {
        check_eq!(control(&slave, request, &mut 0), -libc::ENOTTY);
    }
    let peer = control_by(&master, TIOCGPTPEER, libc::c_long::from(NEW));
    check!(peer >= 0);
    // SAFETY: it is new.
    let peer = unsafe { OwnedFd::from_raw_fd(peer) };
    check_eq!(fs::read_link(format!("/proc/self/fd/{}", peer.as_raw_fd())).ok(), Some(path.clone().into()));
    // SAFETY: a descriptor of ours.
    check_eq!(unsafe { libc::isatty(peer.as_raw_fd()) }, 1);
    let (second, other) = self::master();
    check!(other != path);
    drop((master, second));
    check_eq!(open(&path, NEW).err(), Some(libc::ENOENT));
}

/// Writers are held back while nobody reads, and go on when somebody does.
fn full_queues() {
    let Pair { master, slave, .. } = pair();
    make_raw(&slave, 1, 0);
    for (writer, reader) in [(&master, &slave), (&slave, &master)] {
        let mut written = 0;
        let end = loop {
            match write(writer, &[b'x'; 1000]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
            check!(written < 1_000_000);
        };
        check_eq!((end, poll(writer) & libc::POLLOUT), (libc::EAGAIN, 0));
        let mut read = 0;
        while read < written {
            await_event(reader, libc::POLLIN);
            read += read_some(reader, 65_536).expect("there is something").len();
        }
        check_eq!(read, written);
        await_event(writer, libc::POLLOUT);
    }
}

/// Writers that may wait write all, however slow the reader is, and whatever else is not read.
fn blocked_writers() {
    const LEN: usize = 50_000;
    let Pair { master, slave, .. } = pair();
    make_raw(&slave, 1, 0);
    // The master reads it later.
    put(&slave, b"unread");
    for (writer, reader) in [(&master, &slave), (&slave, &master)] {
        // SAFETY: no pointer is taken.
        check_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_RDWR) }, 0);
        thread::scope(|scope| {
            let written = scope.spawn(|| write(writer, &vec![b'y'; LEN]));
            thread::sleep(Duration::from_millis(20));
            check!(!written.is_finished());
            let mut read = 0;
            while read < LEN {
                await_event(reader, libc::POLLIN);
                read += read_some(reader, 5000).unwrap_or_default().len();
            }
            check_eq!((written.join().ok(), read), (Some(Ok(LEN)), LEN));
        });
        // SAFETY: as above.
        check_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, NEW) }, 0);
        drain(&master);
    }
}

fn ends() {
    let Pair { master, slave, path } = pair();
    put(&slave, b"last");
    drop(slave);
    await_event(&master, libc::POLLHUP);
    expect(&master, b"last");
    check_eq!(read_some(&master, 9), Err(libc::EIO));
    // It can be opened again.
    let slave = open(&path, NEW).expect("it is still there");
    check_eq!(poll(&master), libc::POLLOUT);
    check_eq!(read_some(&master, 9), Err(libc::EAGAIN));
    let patient = open(&path, libc::O_RDWR | libc::O_NOCTTY).expect("it is still there");
    let patient = &patient;
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_some(patient, 9));
        thread::sleep(Duration::from_millis(20));
        drop(master);
        // Whoever waits hears of it; later reads find the end.
        check_eq!(reader.join().ok(), Some(Err(libc::EIO)));
    });
    check_eq!(poll(&slave), libc::POLLIN | libc::POLLOUT | libc::POLLERR | libc::POLLHUP);
    check_eq!((read_some(&slave, 9), write(&slave, b"x")), (Ok(Vec::new()), Err(libc::EIO)));
    check_eq!(control_by(&slave, libc::TCXONC, 0), -libc::EIO);
    check_eq!(open(&path, NEW).err(), Some(libc::ENOENT));
    check_eq!(seen(libc::SIGHUP), 0);
}

/// Nobody but root opens a terminal that is somebody's alone.
fn exclusive() {
    const TIOCGEXCL: libc::Ioctl = 0x8004_5440_u32 as libc::Ioctl;
    let Pair { master, slave, path } = pair();
    check_eq!((ask(&slave, TIOCGEXCL), ask(&master, TIOCGEXCL)), (0, 0));
    check_eq!(control_by(&slave, libc::TIOCEXCL, 0), 0);
    check_eq!((ask(&slave, TIOCGEXCL), ask(&master, TIOCGEXCL)), (1, 0));
    // SAFETY: no pointers.
    let was_root = unsafe { libc::geteuid() } == 0;
    let ways = [path.clone(), format!("/proc/self/fd/{}", slave.as_raw_fd())];
    if was_root {
        check!(ways.iter().all(|way| open(way, NEW).is_ok()));
        // SAFETY: no pointers.
        check_eq!(unsafe { (libc::fchown(slave.as_raw_fd(), 1, 1), libc::seteuid(1)) }, (0, 0));
    }
    check!(ways.iter().all(|way| open(way, NEW).err() == Some(libc::EBUSY)));
    check_eq!(control_by(&master, TIOCGPTPEER, libc::c_long::from(NEW)), -libc::EBUSY);
    check_eq!(control_by(&slave, libc::TIOCNXCL, 0), 0);
    let again = open(&path, NEW).expect("it is everybody's again");
    // It is the terminal that is, not who opened it; what the master is set to is its own.
    check_eq!((control_by(&again, libc::TIOCEXCL, 0), control_by(&master, libc::TIOCEXCL, 0)), (0, 0));
    check_eq!(control_by(&master, libc::TIOCNXCL, 0), 0);
    check_eq!((ask(&slave, TIOCGEXCL), ask(&master, TIOCGEXCL)), (1, 0));
    drop((slave, again));
    check_eq!(open(&path, NEW).err(), Some(libc::EBUSY));
    if was_root {
        // SAFETY: no pointers.
        check_eq!(unsafe { libc::seteuid(0) }, 0);
        check_eq!(ask(&open(&path, NEW).expect("root may"), TIOCGEXCL), 1);
    }
}

/// The terminal controls the session: keys send signals, a new size is told, the end is a hang-up.
fn session() {
    let Pair { master, slave, .. } = pair();
    for request in [libc::TIOCGPGRP, libc::TIOCGSID] {
        check_eq!(control(&slave, request, &mut 0), -libc::ENOTTY);
    }
    // SAFETY: no arguments.
    let (group, session) = unsafe {
        // The runner may have begun a session for it.
        let begun = libc::setsid();
        check!(begun > 0 || libc::getsid(0) == libc::getpid());
        check_eq!(libc::setsid(), -1);
        (libc::getpgrp(), libc::getsid(0))
    };
    check_eq!(control_by(&slave, libc::TIOCSCTTY, 0), 0);
    check_eq!(control_by(&slave, libc::TIOCSCTTY, 0), 0);
    for fd in [&master, &slave] {
        check_eq!(ask(fd, libc::TIOCGPGRP), group);
        check_eq!(ask(fd, libc::TIOCGSID), session);
    }
    check_eq!(control(&slave, libc::TIOCSPGRP, &mut { group }), 0);
    check_eq!(control(&slave, libc::TIOCSPGRP, &mut -1), -libc::EINVAL);
    put(&master, b"q\x03z\x1c\x1a");
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP] {
        await_signal(signal, 1);
    }
    set(&slave, |new| new.c_lflag &= !libc::ISIG);
    drain(&master);
    put(&master, b"\x03\n");
    expect(&slave, b"\x03\n");
    let mut size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 1, ws_ypixel: 2 };
    check_eq!(control(&master, libc::TIOCSWINSZ, &mut size), 0);
    await_signal(libc::SIGWINCH, 1);
    check_eq!(control(&slave, libc::TIOCSWINSZ, &mut size), 0);
    size.ws_row = 0;
    check_eq!(control(&slave, libc::TIOCGWINSZ, &mut size), 0);
    check_eq!((size.ws_row, size.ws_col, seen(libc::SIGWINCH)), (24, 80, 1));
    drain(&master);
    let own = open("/dev/tty", libc::O_RDWR).expect("there is one now");
    put(&own, b"T");
    expect(&master, b"T");
    let other = pair();
    check_eq!(control_by(&other.slave, libc::TIOCSCTTY, 0), -libc::EPERM);
    check_eq!(seen(libc::SIGHUP), 0);
    drop(master);
    await_signal(libc::SIGHUP, 1);
    await_signal(libc::SIGCONT, 1);
    // Opened without O_NOCTTY, the next one takes its place.
    let slave = open(&other.path, libc::O_RDWR | libc::O_NONBLOCK).expect("it is unlocked");
    check_eq!(ask(&slave, libc::TIOCGSID), session);
    put(&other.master, b"\x03");
    await_signal(libc::SIGINT, 2);
    check_eq!(control_by(&slave, libc::TIOCNOTTY, 0), 0);
    await_signal(libc::SIGHUP, 2);
    check_eq!(control(&slave, libc::TIOCGSID, &mut 0), -libc::ENOTTY);
}

/// As programs do it, by the C library.
fn library() {
    // SAFETY: strings of the library's, used at once; descriptors that are new.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        check!(master >= 0);
        check_eq!((libc::grantpt(master), libc::unlockpt(master)), (0, 0));
        let slave = libc::open(libc::ptsname(master), libc::O_RDWR | libc::O_NOCTTY);
        check!(slave >= 0);
        check_eq!((libc::isatty(master), libc::isatty(slave)), (1, 1));
        let name = std::ffi::CStr::from_ptr(libc::ttyname(slave)).to_owned();
        check_eq!(name.as_bytes(), std::ffi::CStr::from_ptr(libc::ptsname(master)).to_bytes());
        check_eq!(
            (libc::tcdrain(slave), libc::tcflush(slave, libc::TCIOFLUSH), libc::tcsendbreak(slave, 0)),
            (0, 0, 0)
        );
        check_eq!((libc::close(master), libc::close(slave)), (0, 0));
    }
}
