//! io_uring(7): requests that end before their time: time-outs, alone and linked, and cancelling.

use std::time::{Duration, Instant};

use guest_tests::rings::{ECANCELED, ETIME, complete, fd, one, pipe, push, read, results, ring};
use io_uring::types::{CancelBuilder, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{cqueue, opcode, squeue};

fn main() {
    let tests: &[(&str, fn())] =
        &[("time-outs", timeouts), ("linked time-outs", linked_timeouts), ("cancelling", cancel)];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

fn timeouts() {
    let mut ring = ring(8);
    let begin = Instant::now();
    let short = Timespec::new().nsec(20_000_000);
    let long = Timespec::new().sec(100);
    assert_eq!(one(&mut ring, &opcode::Timeout::new(&short).build()), ETIME);
    assert!(begin.elapsed() >= Duration::from_millis(20));
    // As many completions end it too.
    push(&mut ring, &opcode::Timeout::new(&long).count(2).build().user_data(1));
    push(&mut ring, &opcode::Nop::new().build().user_data(2));
    push(&mut ring, &opcode::Nop::new().build().user_data(3));
    assert_eq!(results(&mut ring, 3), [(1, 0), (2, 0), (3, 0)]);
    // It can be removed, and changed.
    push(&mut ring, &opcode::Timeout::new(&long).build().user_data(1));
    push(&mut ring, &opcode::TimeoutRemove::new(1).build().user_data(2));
    assert_eq!(results(&mut ring, 2), [(1, ECANCELED), (2, 0)]);
    push(&mut ring, &opcode::Timeout::new(&long).build().user_data(1));
    push(&mut ring, &opcode::TimeoutUpdate::new(1, &short).build().user_data(2));
    assert_eq!(results(&mut ring, 2), [(1, ETIME), (2, 0)]);
    assert_eq!(one(&mut ring, &opcode::TimeoutRemove::new(1).build()), -libc::ENOENT);
    // One that repeats.
    let repeats = opcode::Timeout::new(&short).flags(TimeoutFlags::MULTISHOT).count(3).build();
    push(&mut ring, &repeats);
    let seen = complete(&mut ring, 3);
    assert!(seen.iter().all(|(_, result, _)| *result == ETIME));
    assert_eq!(seen.iter().filter(|(_, _, flags)| cqueue::more(*flags)).count(), 2);
    // Waiting itself has one.
    let args = SubmitArgs::new().timespec(&short);
    let error = ring.submitter().submit_with_args(1, &args).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIME));
}

fn linked_timeouts() {
    let mut ring = ring(8);
    let (reader, writer) = pipe();
    let mut byte = [0_u8];
    let short = Timespec::new().nsec(20_000_000);
    let long = Timespec::new().sec(100);
    for (bytes, limit, expected) in
        [(&b""[..], &short, [(1, ECANCELED), (2, ETIME)]), (b"x", &long, [(1, 1), (2, ECANCELED)])]
    {
        push(&mut ring, &read(&reader, &mut byte).flags(squeue::Flags::IO_LINK).user_data(1));
        push(&mut ring, &opcode::LinkTimeout::new(limit).build().user_data(2));
        ring.submit().unwrap();
        if !bytes.is_empty() {
            rustix::io::write(&writer, bytes).unwrap();
        }
        assert_eq!(results(&mut ring, 2), expected);
    }
    // A time-out alone has nothing to watch over.
    assert_eq!(one(&mut ring, &opcode::LinkTimeout::new(&short).build()), -libc::EINVAL);
}

fn cancel() {
    let mut ring = ring(16);
    let (reader, _writer) = pipe();
    let mut bytes = [0_u8; 4];
    let mut entries: Vec<_> = bytes.chunks_mut(1).map(|byte| read(&reader, byte)).collect();
    for (index, entry) in entries.drain(..).enumerate() {
        push(&mut ring, &entry.user_data(index as u64));
    }
    push(&mut ring, &opcode::AsyncCancel::new(2).build().user_data(10));
    assert_eq!(results(&mut ring, 2), [(2, ECANCELED), (10, 0)]);
    push(&mut ring, &opcode::AsyncCancel::new(2).build().user_data(10));
    assert_eq!(results(&mut ring, 1), [(10, -libc::ENOENT)]);
    let all = CancelBuilder::fd(fd(&reader)).all();
    push(&mut ring, &opcode::AsyncCancel2::new(all).build().user_data(10));
    assert_eq!(results(&mut ring, 4), [(0, ECANCELED), (1, ECANCELED), (3, ECANCELED), (10, 3)]);
    push(&mut ring, &read(&reader, &mut bytes[..]).user_data(1));
    ring.submit().unwrap();
    ring.submitter().register_sync_cancel(None, CancelBuilder::any()).unwrap();
    assert_eq!(results(&mut ring, 1), [(1, ECANCELED)]);
}
