//! `/proc/self/fd/N` opens what is there once more: an opening of its own, asked what every opening is asked.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, inotify, memfd_create, open};
use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::pipe::pipe;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

fn again(file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()), flags, Mode::empty())
}

fn events(file: impl AsFd) -> PollFlags {
    let mut files = [PollFd::new(&file, PollFlags::IN | PollFlags::OUT)];
    poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    files[0].revents()
}

/// Each end counts for itself.
fn pipes() {
    let (reader, writer) = pipe().unwrap();
    let second_writer = again(&reader, OFlags::WRONLY).unwrap();
    let second_reader = again(&writer, OFlags::RDONLY).unwrap();
    let both = again(&reader, OFlags::RDWR).unwrap();
    write(&second_writer, b"abc").unwrap();
    write(&both, b"def").unwrap();
    let mut bytes = [0; 6];
    assert_eq!(read(&second_reader, &mut bytes[..4]), Ok(4));
    assert_eq!(read(&both, &mut bytes[4..]), Ok(2));
    assert_eq!(&bytes, b"abcdef");
    assert_eq!(read(&second_writer, &mut bytes), Err(Errno::BADF));
    // What only names the pipe is no end of it.
    let named = again(&reader, OFlags::PATH).unwrap();
    assert_eq!(read(&named, &mut bytes), Err(Errno::BADF));
    let named_writer = again(&writer, OFlags::PATH).unwrap();
    drop((second_writer, both));
    assert_eq!(events(&reader), PollFlags::empty());
    drop(writer);
    assert_eq!(events(&reader), PollFlags::HUP);
    drop((named, named_writer));
    assert_eq!(read(&reader, &mut bytes), Ok(0));
    let writer = again(&reader, OFlags::WRONLY).unwrap();
    drop(reader);
    write(&writer, b"x").unwrap();
    assert_eq!(read(&second_reader, &mut bytes), Ok(1));
    drop(second_reader);
    assert!(events(&writer).contains(PollFlags::ERR));
    // It has no name by which the other end could come, so nobody waits for that.
    drop(again(&writer, OFlags::WRONLY | OFlags::NONBLOCK).unwrap());
    drop(again(&writer, OFlags::WRONLY).unwrap());
    assert_eq!(again(&writer, OFlags::RDONLY | OFlags::DIRECTORY).unwrap_err(), Errno::NOTDIR);
    let reader = again(&writer, OFlags::RDONLY).unwrap();
    write(&writer, b"y").unwrap();
    assert_eq!(read(&reader, &mut bytes), Ok(1));
}

/// What cannot be opened is as it was, however often it is tried.
fn not_to_be_opened() {
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    let counter = eventfd(1, EventfdFlags::empty()).unwrap();
    let instance = epoll::create(epoll::CreateFlags::empty()).unwrap();
    let event = epoll::EventFlags::IN;
    epoll::add(&instance, &counter, epoll::EventData::new_u64(7), event).unwrap();
    let files = [instance.as_fd(), counter.as_fd(), stream.as_fd(), datagram.as_fd()];
    let others = [
        socket(AddressFamily::INET, SocketType::STREAM, None).unwrap(),
        socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap(),
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).unwrap(),
        inotify::init(inotify::CreateFlags::empty()).unwrap(),
    ];
    for file in files.into_iter().chain(others.iter().map(AsFd::as_fd)) {
        for flags in [OFlags::RDONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::NONBLOCK] {
            assert_eq!(again(file, flags).unwrap_err(), Errno::NXIO);
        }
        drop(again(file, OFlags::PATH).unwrap());
    }
    (&stream).write_all(b"through").unwrap();
    let mut bytes = [0; 7];
    peer.read_exact(&mut bytes).unwrap();
    let mut ready = Vec::with_capacity(4);
    let count = epoll::wait(&instance, rustix::buffer::spare_capacity(&mut ready), None).unwrap();
    assert_eq!((count, ready[0].data.u64()), (1, 7));
}

fn files(folder: &std::path::Path) {
    let path = folder.join(format!("reopen-{}", std::process::id()));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"0123456789").unwrap();
    // An offset and a mode of its own.
    let mut second = File::from(again(&file, OFlags::RDONLY).unwrap());
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    assert_eq!(text, "0123456789");
    assert_eq!(second.write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(again(&file, OFlags::RDONLY | OFlags::DIRECTORY).unwrap_err(), Errno::NOTDIR);
    let exclusive = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    assert_eq!(again(&file, exclusive).unwrap_err(), Errno::EXIST);
    drop(again(&file, OFlags::RDWR | OFlags::CREATE).unwrap());
    // From what only names it.
    let named = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
    let mut writer = File::from(again(&named, OFlags::WRONLY | OFlags::APPEND).unwrap());
    writer.write_all(b"!").unwrap();
    // It lives on without a name.
    fs::remove_file(&path).unwrap();
    let mut third = File::from(again(&file, OFlags::RDWR).unwrap());
    third.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("9!"));
    let empty = File::from(again(&second, OFlags::RDWR | OFlags::TRUNC).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 0);
    drop((empty, second, third, writer, named));
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"end").unwrap();
    let directory = File::open(folder).unwrap();
    assert_eq!(again(&directory, OFlags::RDWR).unwrap_err(), Errno::ISDIR);
    assert_eq!(again(&directory, OFlags::WRONLY).unwrap_err(), Errno::ISDIR);
    drop(again(&directory, OFlags::RDONLY | OFlags::DIRECTORY).unwrap());
    let missing = open("/proc/self/fd/777", OFlags::RDONLY, Mode::empty());
    assert_eq!(missing.unwrap_err(), Errno::NOENT);
}

fn without_a_name() {
    let memory = memfd_create("reopened", MemfdFlags::empty()).unwrap();
    write(&memory, b"in memory").unwrap();
    let mut text = String::new();
    File::from(again(&memory, OFlags::RDONLY).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "in memory");
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    assert_eq!(read(again(&null, OFlags::RDONLY).unwrap(), &mut [0; 8]), Ok(0));
}

/// A disk that is mounted read-only stays so.
fn read_only(folder: &std::path::Path) {
    let directory = File::open(folder.join("lost+found")).unwrap();
    assert_eq!(again(&directory, OFlags::RDWR).unwrap_err(), Errno::ISDIR);
    let entry = fs::read_dir(folder).unwrap().flatten().find(|entry| entry.file_type().unwrap().is_file());
    let entry = entry.expect("the disk was made with files");
    let file = File::open(entry.path()).unwrap();
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::RDONLY | OFlags::TRUNC] {
        assert_eq!(again(&file, flags).unwrap_err(), Errno::ROFS);
    }
    assert_eq!(fs::write(folder.join("new"), "").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
}

fn main() {
    let folder = std::env::var_os("DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    if std::env::args().any(|argument| argument == "read-only") {
        return read_only(&folder);
    }
    for _ in 0..3 {
        pipes();
        not_to_be_opened();
        files(&folder);
        without_a_name();
    }
}
