//! Bytes that do not pass through the program (splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2)): all of them
//! arrive, once and in order, and what makes no sense is refused as on Linux.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq, raw_syscall};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe, pipe_with};

const FULL: usize = 65_536;
const HASTY: u32 = 2;
const FAR: i64 = i64::MAX;

type Answer = Result<usize, Errno>;

fn call(number: i64, args: [u64; 6]) -> Answer {
    let answer = raw_syscall(number, args);
    usize::try_from(answer).map_err(|_| Errno::from_raw_os_error(-answer as i32))
}

fn word(offset: &mut Option<i64>) -> u64 {
    offset.as_mut().map_or(0, |offset| std::ptr::from_mut(offset).addr() as u64)
}

fn number(file: impl AsFd) -> u64 {
    file.as_fd().as_raw_fd() as u64
}

fn splice_at(
    (from, mut from_at): (impl AsFd, Option<i64>),
    (to, mut to_at): (impl AsFd, Option<i64>),
    len: usize,
    flags: u32,
) -> (Answer, Option<i64>) {
    let args = [number(&from), word(&mut from_at), number(&to), word(&mut to_at), len as u64, flags.into()];
    let answer = call(libc::SYS_splice, args);
    (answer, from_at.or(to_at))
}

fn splice(from: impl AsFd, to: impl AsFd, len: usize, flags: u32) -> Answer {
    splice_at((from, None), (to, None), len, flags).0
}

fn tee(from: impl AsFd, to: impl AsFd, len: usize, flags: u32) -> Answer {
    call(libc::SYS_tee, [number(&from), number(&to), len as u64, flags.into(), 0, 0])
}

fn sendfile(to: impl AsFd, from: impl AsFd, mut at: Option<i64>, len: usize) -> (Answer, Option<i64>) {
    let answer = call(libc::SYS_sendfile, [number(to), number(&from), word(&mut at), len as u64, 0, 0]);
    (answer, at)
}

fn copy(from: (&File, Option<i64>), to: (&File, Option<i64>), len: usize, flags: u32) -> Answer {
    let (mut from_at, mut to_at) = (from.1, to.1);
    let args = [number(from.0), word(&mut from_at), number(to.0), word(&mut to_at), len as u64, flags.into()];
    let answer = call(libc::SYS_copy_file_range, args);
    if let (Ok(count), Some(before), Some(after)) = (answer, from.1, from_at) {
        check_eq!(after - before, count as i64);
    }
    answer
}

fn vmsplice(end: impl AsFd, buffers: &[[u64; 2]], flags: u32) -> Answer {
    let args = [number(&end), buffers.as_ptr().addr() as u64, buffers.len() as u64, flags.into(), 0, 0];
    call(libc::SYS_vmsplice, args)
}

fn buffer(bytes: &mut [u8]) -> [u64; 2] {
    [bytes.as_mut_ptr().addr() as u64, bytes.len() as u64]
}

/// Bytes that show where they come from.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn read_some(mut from: impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let count = from.read(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

fn hasty(file: &OwnedFd) {
    fcntl_setfl(file, OFlags::NONBLOCK).unwrap();
}

fn files(folder: &Path) -> (File, File, PathBuf) {
    let (source, target) = (folder.join("source"), folder.join("target"));
    fs::write(&source, pattern(200_000)).unwrap();
    let target_file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&target).unwrap();
    (File::open(source).unwrap(), target_file, target)
}

fn through_files(folder: &Path) {
    let (mut source, mut target, path) = files(folder);
    let all = pattern(200_000);
    let (reader, writer) = pipe().unwrap();
    // With the file's own offset, then with one that is given; a pipe holds no more.
    check_eq!(splice(&source, &writer, 10, 0), Ok(10));
    check_eq!(source.stream_position().unwrap(), 10);
    check_eq!(splice_at((&source, Some(1000)), (&writer, None), 20, 0), (Ok(20), Some(1020)));
    check_eq!(source.stream_position().unwrap(), 10);
    check_eq!(splice(&reader, &target, 100, 0), Ok(30));
    check_eq!(fs::read(&path).unwrap(), [&all[..10], &all[1000..1020]].concat());
    check_eq!(target.stream_position().unwrap(), 30);
    (&File::from(writer.try_clone().unwrap())).write_all(b"given").unwrap();
    check_eq!(splice_at((&reader, None), (&target, Some(40)), 100, 0), (Ok(5), Some(45)));
    check_eq!(target.stream_position().unwrap(), 30);
    check_eq!(&fs::read(&path).unwrap()[30..], b"\0\0\0\0\0\0\0\0\0\0given");
    // At the end of the file, and behind it.
    check_eq!(splice_at((&source, Some(199_995)), (&writer, None), 100, 0), (Ok(5), Some(200_000)));
    check_eq!(splice_at((&source, Some(200_000)), (&writer, None), 100, 0), (Ok(0), Some(200_000)));
    check_eq!(splice_at((&source, Some(FAR - 100)), (&writer, None), 100, 0), (Ok(0), Some(FAR - 100)));
    check_eq!(read_some(File::from(reader.try_clone().unwrap()), 100), &all[199_995..]);
    // Everything, through the pipe, until nothing is left.
    source.seek(SeekFrom::Start(0)).unwrap();
    target.set_len(0).unwrap();
    target.seek(SeekFrom::Start(0)).unwrap();
    loop {
        let count = splice(&source, &writer, 1 << 30, 0).unwrap();
        if count == 0 {
            break;
        }
        check!(count <= FULL);
        let mut left = count;
        while left > 0 {
            left -= splice(&reader, &target, left, 4).unwrap();
        }
    }
    check!(fs::read(&path).unwrap() == all);
    drop(writer);
    check_eq!(splice(&reader, &target, 10, 0), Ok(0));
}

fn between_pipes() {
    let ((reader, writer), (second_reader, second_writer)) = (pipe().unwrap(), pipe().unwrap());
    let mut end = File::from(writer.try_clone().unwrap());
    end.write_all(b"abcdef").unwrap();
    check_eq!(tee(&reader, &second_writer, 4, 0), Ok(4));
    check_eq!(tee(&reader, &second_writer, 1 << 40, 0), Ok(6));
    check_eq!(splice(&reader, &second_writer, 2, 0), Ok(2));
    check_eq!(read_some(File::from(second_reader.try_clone().unwrap()), 100), b"abcdabcdefab");
    check_eq!(read_some(File::from(reader.try_clone().unwrap()), 100), b"cdef");
    check_eq!(tee(&reader, &second_writer, 4, HASTY), Err(Errno::AGAIN));
    check_eq!(splice(&reader, &second_writer, 4, HASTY), Err(Errno::AGAIN));
    // Full on one side: what does not fit stays.
    end.write_all(&pattern(FULL)).unwrap();
    check_eq!(tee(&reader, &second_writer, FULL, 0), Ok(FULL));
    check_eq!(tee(&reader, &second_writer, 1, HASTY), Err(Errno::AGAIN));
    check_eq!(splice(&reader, &second_writer, 1, HASTY), Err(Errno::AGAIN));
    for each in [&reader, &second_reader] {
        let mut bytes = vec![0; FULL];
        File::from(each.try_clone().unwrap()).read_exact(&mut bytes).unwrap();
        check!(bytes == pattern(FULL));
    }
    // Who waits is woken.
    thread::scope(|scope| {
        let moved = scope.spawn(|| splice(&reader, &second_writer, 100, 0));
        thread::sleep(Duration::from_millis(30));
        end.write_all(b"late").unwrap();
        check_eq!(moved.join().unwrap(), Ok(4));
    });
    drop((end, writer));
    check_eq!(splice(&reader, &second_writer, 100, 0), Ok(0));
    check_eq!(tee(&reader, &second_writer, 100, 0), Ok(0));
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
    check_eq!(splice(&reader, &second_writer, 1, 0), Err(Errno::AGAIN));
    check_eq!(splice(&second_reader, &writer, 100, 0), Ok(4));
    check_eq!(splice(&second_reader, &writer, 1, 0), Err(Errno::AGAIN));
    check_eq!(read_some(File::from(reader), 100), b"late");
}

fn through_sockets(folder: &Path) {
    let all = pattern(200_000);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let tcp_peer = listener.accept().unwrap().0;
    let (unix, unix_peer) = UnixStream::pair().unwrap();
    for (near, far) in [(OwnedFd::from(tcp), OwnedFd::from(tcp_peer)), (unix.into(), unix_peer.into())] {
        let (reader, writer) = pipe().unwrap();
        let (source, ..) = files(folder);
        thread::scope(|scope| {
            scope.spawn(|| {
                // All that is asked for: the socket is waited for.
                check_eq!(sendfile(&near, &source, None, 150_000).0, Ok(150_000));
                check_eq!(sendfile(&near, &source, Some(150_000), 1 << 40), (Ok(50_000), Some(200_000)));
                rustix::net::shutdown(&near, rustix::net::Shutdown::Write).unwrap();
            });
            let mut target = File::create(folder.join("received")).unwrap();
            loop {
                let count = splice(&far, &writer, 1 << 20, 0).unwrap();
                if count == 0 {
                    break;
                }
                let mut left = count;
                while left > 0 {
                    left -= splice(&reader, &target, left, 0).unwrap();
                }
            }
            target.flush().unwrap();
        });
        check!(fs::read(folder.join("received")).unwrap() == all);
        // The call has its say in whether the socket is waited for, too.
        let (_idle, quiet) = UnixStream::pair().unwrap();
        check_eq!(splice(&quiet, &writer, 1, libc::SPLICE_F_NONBLOCK), Err(Errno::AGAIN));
        // And back: what the socket does not take stays in the pipe.
        hasty(&far);
        let mut end = File::from(writer.try_clone().unwrap());
        let (mut given, mut sent) = (0_usize, 0);
        loop {
            end.write_all(&all[..4096]).unwrap();
            given += 4096;
            match splice(&reader, &far, 4096, 0) {
                Ok(count) => sent += count,
                Err(error) => break check_eq!(error, Errno::AGAIN),
            }
            if given - sent > FULL - 4096 {
                break;
            }
        }
        drop((end, writer));
        let mut near_file = File::from(near);
        let mut bytes = vec![0; sent];
        near_file.read_exact(&mut bytes).unwrap();
        let mut rest = Vec::new();
        File::from(reader).read_to_end(&mut rest).unwrap();
        bytes.append(&mut rest);
        check_eq!(bytes.len(), given);
        check!(bytes.chunks(4096).all(|chunk| chunk == &all[..4096]));
    }
}

fn memory() {
    let (reader, writer) = pipe().unwrap();
    let (mut first, mut second) = (pattern(1000), vec![7; 500]);
    check_eq!(vmsplice(&writer, &[buffer(&mut first), [0, 0], buffer(&mut second)], 0), Ok(1500));
    let (mut one, mut other) = ([0; 700], [0; 900]);
    check_eq!(vmsplice(&reader, &[buffer(&mut one), buffer(&mut other)], 0), Ok(1500));
    let bytes = [&one[..], &other[..800]].concat();
    check!(bytes == [&first[..], &second[..]].concat());
    check_eq!(vmsplice(&reader, &[buffer(&mut one)], HASTY), Err(Errno::AGAIN));
    check_eq!(vmsplice(&writer, &[], 0), Ok(0));
    check_eq!(vmsplice(&writer, &[[0, 0]], 0), Ok(0));
    check_eq!(vmsplice(&writer, &[buffer(&mut one)], 16), Err(Errno::INVAL));
    check_eq!(vmsplice(&writer, &[[1 << 63, 8]], 0), Err(Errno::FAULT));
    check_eq!(vmsplice(&writer, &[[4096, 1 << 63]], 0), Err(Errno::INVAL));
    check_eq!(vmsplice(File::open("/dev/null").unwrap(), &[buffer(&mut one)], 0), Err(Errno::BADF));
    let many = vec![[0_u64; 2]; 1025];
    check_eq!(vmsplice(&writer, &many, 0), Err(Errno::INVAL));
    // What fits.
    let mut much = pattern(FULL + 5000);
    let much = buffer(&mut much);
    // Linux counts in pages, which are not full.
    check!(vmsplice(&writer, &[much], HASTY).is_ok_and(|count| count <= FULL && count > FULL - 4096));
    check_eq!(vmsplice(&writer, &[much], HASTY), Err(Errno::AGAIN));
    drop(reader);
    check_eq!(vmsplice(&writer, &[much], 0), Err(Errno::PIPE));
}

fn refusals(folder: &Path) {
    let (source, target, _) = files(folder);
    let (reader, writer) = pipe().unwrap();
    let (second_reader, second_writer) = pipe().unwrap();
    let mut end = File::from(writer.try_clone().unwrap());
    end.write_all(b"stays").unwrap();
    check_eq!(splice(&source, &target, 10, 0), Err(Errno::INVAL));
    check_eq!(splice(&reader, &writer, 10, 0), Err(Errno::INVAL));
    check_eq!(tee(&reader, &writer, 10, 0), Err(Errno::INVAL));
    check_eq!(tee(&reader, &target, 10, 0), Err(Errno::INVAL));
    check_eq!(tee(&source, &writer, 10, 0), Err(Errno::INVAL));
    check_eq!(splice(&reader, &target, 10, 16), Err(Errno::INVAL));
    check_eq!(splice(&reader, &target, 0, 16), Ok(0));
    check_eq!(splice(&writer, &target, 10, 0), Err(Errno::BADF));
    check_eq!(splice(&source, &reader, 10, 0), Err(Errno::BADF));
    check_eq!(splice(&reader, &source, 10, 0), Err(Errno::BADF));
    check_eq!(tee(&writer, &second_writer, 10, 0), Err(Errno::BADF));
    check_eq!(splice_at((&reader, Some(0)), (&target, None), 10, 0).0, Err(Errno::SPIPE));
    check_eq!(splice_at((&source, None), (&writer, Some(0)), 10, 0).0, Err(Errno::SPIPE));
    check_eq!(splice_at((&source, Some(-1)), (&writer, None), 10, 0).0, Err(Errno::INVAL));
    check_eq!(splice_at((&reader, None), (&target, Some(-1)), 10, 0).0, Err(Errno::INVAL));
    check_eq!(splice_at((&source, Some(FAR - 5)), (&writer, None), 10, 0).0, Err(Errno::INVAL));
    check_eq!(splice_at((&reader, None), (&target, Some(FAR - 5)), 10, 0).0, Err(Errno::INVAL));
    check_eq!(splice(&source, &writer, 1 << 63, 0), Err(Errno::INVAL));
    check_eq!(splice(&reader, &target, 1 << 63, 0), Err(Errno::INVAL));
    let (unix, _peer) = UnixStream::pair().unwrap();
    check_eq!(splice_at((&unix, Some(0)), (&writer, None), 10, 0).0, Err(Errno::INVAL));
    check_eq!(splice_at((&reader, None), (&unix, Some(0)), 10, 0).0, Err(Errno::INVAL));
    let appending = OpenOptions::new().append(true).open(folder.join("target")).unwrap();
    check_eq!(splice(&reader, &appending, 10, 0), Err(Errno::INVAL));
    check_eq!(splice(File::open(folder).unwrap(), &writer, 10, 0), Err(Errno::INVAL));
    let counter = eventfd(1, EventfdFlags::empty()).unwrap();
    check_eq!(splice(&counter, &writer, 10, 0), Err(Errno::INVAL));
    check_eq!(splice(&reader, &counter, 10, 0), Err(Errno::INVAL));
    check_eq!(call(libc::SYS_splice, [number(&reader), 0, 999, 0, 10, 0]), Err(Errno::BADF));
    check_eq!(call(libc::SYS_splice, [number(&source), 8, number(&writer), 0, 10, 0]), Err(Errno::FAULT));
    drop(second_reader);
    check_eq!(splice(&reader, &second_writer, 10, 0), Err(Errno::PIPE));
    check_eq!(splice(&source, &second_writer, 10, 0), Err(Errno::PIPE));
    // Nothing of all this has taken anything.
    check_eq!(splice(&reader, File::options().write(true).open("/dev/null").unwrap(), 2, 0), Ok(2));
    check_eq!(read_some(File::from(reader.try_clone().unwrap()), 100), b"ays");
}

fn sending(folder: &Path) {
    let (source, target, path) = files(folder);
    let (reader, writer) = pipe().unwrap();
    check_eq!(sendfile(&target, &source, Some(5), 0), (Ok(0), Some(5)));
    check_eq!(sendfile(&target, &source, Some(5), 10), (Ok(10), Some(15)));
    check_eq!(sendfile(&target, &source, Some(-1), 10).0, Err(Errno::INVAL));
    check_eq!(sendfile(&target, &source, None, 1 << 63).0, Err(Errno::INVAL));
    check_eq!(sendfile(&target, &source, Some(FAR - 5), 10).0, Err(Errno::INVAL));
    check_eq!(sendfile(&target, &reader, None, 10).0, Err(Errno::INVAL));
    check_eq!(sendfile(&target, &reader, Some(0), 10).0, Err(Errno::SPIPE));
    check_eq!(sendfile(&source, &target, None, 10).0, Err(Errno::BADF));
    check_eq!(sendfile(&target, File::open(folder).unwrap(), None, 10).0, Err(Errno::INVAL));
    let appending = OpenOptions::new().append(true).open(&path).unwrap();
    check_eq!(sendfile(&appending, &source, None, 10).0, Err(Errno::INVAL));
    // A pipe is filled, and not waited for again.
    check_eq!(sendfile(&writer, &source, Some(0), 200_000), (Ok(FULL), Some(FULL as i64)));
    hasty(&writer);
    check_eq!(sendfile(&writer, &source, Some(9), 10), (Err(Errno::AGAIN), Some(9)));
    check_eq!(read_some(File::from(reader.try_clone().unwrap()), 3), &pattern(3)[..]);
}

fn copying(folder: &Path) {
    let (source, target, path) = files(folder);
    let all = pattern(200_000);
    check_eq!(copy((&source, Some(0)), (&target, Some(0)), 0, 0), Ok(0));
    check_eq!(copy((&source, Some(10)), (&target, Some(0)), 5, 0), Ok(5));
    check_eq!(fs::read(&path).unwrap(), &all[10..15]);
    check_eq!(copy((&source, Some(199_990)), (&target, Some(0)), 100, 0), Ok(10));
    check_eq!(copy((&source, Some(200_000)), (&target, Some(0)), 100, 0), Ok(0));
    check_eq!(copy((&source, Some(199_990)), (&target, Some(0)), 1 << 62, 0), Ok(10));
    check_eq!(copy((&source, Some(0)), (&target, Some(0)), 5, 1), Err(Errno::INVAL));
    check_eq!(copy((&source, Some(1)), (&target, Some(0)), usize::MAX, 0), Err(Errno::OVERFLOW));
    check_eq!(copy((&source, Some(0)), (&target, Some(-5)), 10, 0), Err(Errno::OVERFLOW));
    check_eq!(copy((&source, Some(0)), (&target, Some(-50)), 10, 0), Err(Errno::INVAL));
    check_eq!(copy((&source, Some(-50)), (&target, Some(0)), 10, 0), Err(Errno::INVAL));
    check_eq!(copy((&target, Some(0)), (&source, Some(0)), 10, 0), Err(Errno::BADF));
    let appending = OpenOptions::new().append(true).open(&path).unwrap();
    check_eq!(copy((&source, None), (&appending, None), 10, 0), Err(Errno::BADF));
    let directory = File::open(folder).unwrap();
    check_eq!(copy((&directory, None), (&target, None), 10, 0), Err(Errno::ISDIR));
    let (reader, writer) = pipe().unwrap();
    check_eq!(copy((&File::from(reader), None), (&target, None), 10, 0), Err(Errno::INVAL));
    check_eq!(copy((&source, None), (&File::from(writer), None), 10, 0), Err(Errno::INVAL));
    check_eq!(copy((&File::open("/proc/version").unwrap(), None), (&target, None), 10, 0), Err(Errno::XDEV));
    // Within one file: side by side, but not over itself. What lies behind the end does not count.
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    fs::write(&path, &all[..1000]).unwrap();
    check_eq!(copy((&both, Some(0)), (&both, Some(500)), 500, 0), Ok(500));
    check!(fs::read(&path).unwrap() == [&all[..500], &all[..500]].concat());
    check_eq!(copy((&both, Some(0)), (&both, Some(499)), 500, 0), Err(Errno::INVAL));
    check_eq!(copy((&both, Some(499)), (&both, Some(0)), 500, 0), Err(Errno::INVAL));
    check_eq!(copy((&both, Some(900)), (&both, Some(1000)), 5000, 0), Ok(100));
    check_eq!(copy((&both, Some(7)), (&both, Some(7)), 1, 0), Err(Errno::INVAL));
}

fn main() {
    let data = std::env::var_os("DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = data.join(format!("splicing-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    // SAFETY: a disposition without a handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    through_files(&folder);
    between_pipes();
    through_sockets(&folder);
    memory();
    refusals(&folder);
    sending(&folder);
    copying(&folder);
    fs::remove_dir_all(&folder).unwrap();
}
