//! Named pipes: who waits for whom at opening, hang-ups, and what is left when nobody has one open.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::thread;

use guest_tests::{check, check_eq};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn main() {
    let path = format!("/tmp/guest-test-{}.fifo", std::process::id());
    mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    check!(fs::metadata(&path).unwrap().file_type().is_fifo());
    ends_wait_for_each_other(&path);
    nobody_is_there(&path);
    both_ends_in_one(&path);
    fs::remove_file(&path).unwrap();
}

fn ends_wait_for_each_other(path: &str) {
    let name = path.to_owned();
    let writer = thread::spawn(move || {
        let mut file = OpenOptions::new().write(true).open(name).unwrap();
        file.write_all(b"through the pipe").unwrap();
    });
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    check_eq!(text, "through the pipe");
    writer.join().unwrap();
}

fn poll(file: &File) -> PollFlags {
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents()
}

fn nobody_is_there(path: &str) {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK);
    let refused = options.clone().write(true).open(path).unwrap_err();
    check_eq!(refused.raw_os_error(), Some(libc::ENXIO));
    let mut reader = options.clone().read(true).open(path).unwrap();
    // Nobody has hung up, for nobody was there.
    check_eq!(poll(&reader), PollFlags::empty());
    check_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    let mut writer = options.write(true).open(path).unwrap();
    check_eq!(reader.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    writer.write_all(b"x").unwrap();
    check_eq!(poll(&reader), PollFlags::IN);
    drop(writer);
    check_eq!(poll(&reader), PollFlags::IN | PollFlags::HUP);
    // What nobody has read is gone with the last end.
    drop(reader);
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
    check_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
}

fn both_ends_in_one(path: &str) {
    let mut both = OpenOptions::new().read(true).write(true).open(path).unwrap();
    both.write_all(b"to myself").unwrap();
    let mut bytes = [0; 9];
    both.read_exact(&mut bytes).unwrap();
    check_eq!(&bytes, b"to myself");
}
