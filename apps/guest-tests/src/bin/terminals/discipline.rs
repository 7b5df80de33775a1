//! The line discipline, from the keys at the master to the reader at the slave, and back.

use std::thread;
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq};

use crate::calls::*;

pub(crate) fn lines() {
    let Pair { master, slave, .. } = pair();
    let start = settings(&slave);
    check_eq!((start.c_iflag, start.c_oflag, start.c_lflag), (0o2400, 0o5, 0o105_073));
    check_eq!(start.c_cc[..8], [3, 28, 127, 21, 4, 0, 1, 0]);
    check_eq!(settings(&master).c_lflag, start.c_lflag);
    check_eq!(read_some(&slave, 10), Err(libc::EAGAIN));
    // Characters, words and lines are erased; control characters take two columns.
    put(&master, b"abc\x7fd\x17xy\x15hello\tw\x7f\x7f\n");
    expect(
        &master,
        b"abc\x08 \x08d\x08 \x08\x08 \x08\x08 \x08xy\x08 \x08\x08 \x08hello\tw\x08 \x08\x08\x08\x08\r\n",
    );
    check_eq!(ask(&slave, libc::FIONREAD), 6);
    check_eq!(read_some(&slave, 3), Ok(b"hel".to_vec()));
    check_eq!(read_some(&slave, 9), Ok(b"lo\n".to_vec()));
    // The end of input twice, a key taken literally, a line shown again.
    put(&master, b"x\x01\x16\x03\rab\x04\x04re\x12!\n");
    expect(&master, b"x^A^\x08^C\r\nabre^R\r\nre!\r\n");
    check_eq!(read_some(&slave, 99), Ok(b"x\x01\x03\n".to_vec()));
    check_eq!(read_some(&slave, 99), Ok(b"ab".to_vec()));
    check_eq!(read_some(&slave, 99), Ok(Vec::new()));
    check_eq!(read_some(&slave, 99), Ok(b"re!\n".to_vec()));
    // Without a session, keys flush but send nothing.
    put(&master, b"lost\x03kept\n");
    expect(&slave, b"kept\n");
    check_eq!(seen(libc::SIGINT), 0);
    drain(&master);
    set(&slave, |new| {
        new.c_lflag &= !libc::ECHO;
        new.c_iflag = libc::IGNCR | libc::INLCR;
    });
    put(&master, b"quiet\r\n\x04");
    expect(&slave, b"quiet\r");
    expect_nothing(&master);
}

pub(crate) fn output() {
    let Pair { master, slave, .. } = pair();
    put(&slave, b"a\nb\tc\r\n");
    expect(&master, b"a\r\nb\tc\r\r\n");
    set(&slave, |new| new.c_oflag |= libc::XTABS);
    put(&slave, b"ab\tc\n");
    expect(&master, b"ab      c\r\n");
    set(&slave, |new| new.c_oflag = libc::OPOST | libc::OCRNL);
    put(&slave, b"a\r\n");
    expect(&master, b"a\n\n");
    set(&slave, |new| new.c_oflag = 0);
    put(&slave, b"a\n");
    expect(&master, b"a\n");
    check_eq!(ask(&slave, libc::TIOCOUTQ), 0);
    for request in [libc::TCSBRK, libc::TCSBRKP] {
        check_eq!(control_by(&slave, request, 1), 0);
    }
    check_eq!(control_by(&slave, libc::TCFLSH, 9), -libc::EINVAL);
    check_eq!(control_by(&slave, libc::TCXONC, 9), -libc::EINVAL);
}

pub(crate) fn bytes_as_they_come() {
    let Pair { master, slave, .. } = pair();
    make_raw(&slave, 3, 0);
    put(&master, b"a\x03");
    thread::sleep(Duration::from_millis(20));
    check_eq!(poll(&slave), libc::POLLOUT);
    put(&master, b"\r");
    await_event(&slave, libc::POLLIN);
    check_eq!(read_some(&slave, 9), Ok(b"a\x03\r".to_vec()));
    check_eq!(read_some(&slave, 9), Err(libc::EAGAIN));
    make_raw(&slave, 0, 0);
    check_eq!(read_some(&slave, 9), Ok(Vec::new()));
    // What was typed stays, as a line.
    put(&master, b"raw");
    await_event(&slave, libc::POLLIN);
    set(&slave, |new| new.c_lflag |= libc::ICANON);
    check_eq!(read_some(&slave, 9), Ok(b"raw".to_vec()));
    put(&master, b"part");
    expect_nothing(&slave);
    set(&slave, |new| new.c_lflag &= !libc::ICANON);
    check_eq!(read_some(&slave, 9), Ok(b"part".to_vec()));
    expect_nothing(&master);
}

/// Reads that wait: for a line, for bytes, for a time.
pub(crate) fn waiting() {
    let Pair { master, path, slave } = pair();
    let patient = open(&path, libc::O_RDWR | libc::O_NOCTTY).expect("it is unlocked");
    let patient = &patient;
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_some(patient, 99));
        thread::sleep(Duration::from_millis(20));
        put(&master, b"li");
        thread::sleep(Duration::from_millis(20));
        put(&master, b"ne\n");
        check_eq!(reader.join().ok(), Some(Ok(b"line\n".to_vec())));
    });
    make_raw(&slave, 4, 0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_some(patient, 99));
        for byte in *b"wxyz" {
            thread::sleep(Duration::from_millis(10));
            put(&master, &[byte]);
        }
        check_eq!(reader.join().ok(), Some(Ok(b"wxyz".to_vec())));
    });
    // The time counts from the first byte on.
    make_raw(&slave, 9, 1);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_some(patient, 99));
        thread::sleep(Duration::from_millis(150));
        check!(!reader.is_finished());
        put(&master, b"ab");
        check_eq!(reader.join().ok(), Some(Ok(b"ab".to_vec())));
    });
    make_raw(&slave, 0, 1);
    let start = Instant::now();
    check_eq!(read_some(patient, 9), Ok(Vec::new()));
    check!(start.elapsed() >= Duration::from_millis(90));
    check_eq!(read_some(&slave, 9), Err(libc::EAGAIN));
}

pub(crate) fn flow() {
    let Pair { master, slave, .. } = pair();
    put(&master, b"\x13");
    await_hold(&slave);
    check_eq!(write(&slave, b"held"), Err(libc::EAGAIN));
    put(&master, b"\x11");
    await_event(&slave, libc::POLLOUT);
    put(&slave, b"goes on");
    expect(&master, b"goes on");
    check_eq!(control_by(&slave, libc::TCXONC, 0), 0);
    check_eq!(write(&slave, b"held"), Err(libc::EAGAIN));
    for action in [1, 2, 3] {
        check_eq!(control_by(&slave, libc::TCXONC, action), 0);
    }
    expect(&master, b"\x13\x11");
}

pub(crate) fn packets() {
    let Pair { master, slave, .. } = pair();
    check_eq!(control(&master, TIOCPKT, &mut 1), 0);
    put(&slave, b"hi");
    expect(&master, b"\0hi");
    check_eq!(control_by(&slave, libc::TCFLSH, 2), 0);
    await_event(&master, libc::POLLPRI);
    check_eq!(poll(&master), libc::POLLIN | libc::POLLPRI | libc::POLLOUT);
    check_eq!(read_some(&master, 99), Ok(vec![3]));
    for (action, status) in [(0, 4), (1, 8)] {
        check_eq!(control_by(&slave, libc::TCXONC, action), 0);
        check_eq!(read_some(&master, 99), Ok(vec![status]));
    }
    set(&slave, |new| new.c_iflag &= !libc::IXON);
    check_eq!(read_some(&master, 99), Ok(vec![16]));
    set(&slave, |new| new.c_iflag |= libc::IXON);
    check_eq!(read_some(&master, 99), Ok(vec![32]));
    check_eq!(control(&master, TIOCPKT, &mut 0), 0);
    put(&slave, b"plain");
    expect(&master, b"plain");
}
