//! inotify(7): who watches a directory or a file hears what happens, in order, once.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use libc::{
    IN_ACCESS, IN_ALL_EVENTS, IN_ATTRIB, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE,
    IN_DELETE_SELF, IN_IGNORED, IN_ISDIR, IN_MASK_ADD, IN_MASK_CREATE, IN_MODIFY, IN_MOVE_SELF,
    IN_MOVED_FROM, IN_MOVED_TO, IN_ONESHOT, IN_OPEN, IN_Q_OVERFLOW,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{
    FallocateFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, copy_file_range, fallocate, futimens,
    sendfile,
};
use rustix::io::Errno;

/// One event: the watch, what happened, the cookie, the name.
type Event = (i32, u32, u32, String);

struct Instance(OwnedFd);

impl Instance {
    fn new() -> Self {
        Self(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap())
    }

    fn watch(&self, path: &Path, mask: u32) -> Result<i32, Errno> {
        inotify::add_watch(&self.0, path, WatchFlags::from_bits_retain(mask))
    }

    /// Everything that waits.
    fn events(&self) -> Vec<Event> {
        let mut buffer = vec![0; 1 << 16];
        let mut events = Vec::new();
        loop {
            let len = match rustix::io::read(&self.0, &mut buffer) {
                Ok(len) => len,
                Err(Errno::AGAIN) => return events,
                Err(error) => panic!("{error}"),
            };
            let mut rest = &buffer[..len];
            while !rest.is_empty() {
                let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
                let name = &rest[16..][..word(12) as usize];
                assert!(name.len().is_multiple_of(16));
                let name: Vec<u8> = name.iter().copied().take_while(|&byte| byte != 0).collect();
                events.push((word(0) as i32, word(4), word(8), String::from_utf8(name).unwrap()));
                rest = &rest[16 + word(12) as usize..];
            }
        }
    }

    /// The events of one watch, without cookies.
    fn masks(&self, watch: i32) -> Vec<(u32, String)> {
        let events = self.events();
        assert!(events.iter().all(|event| event.0 == watch), "{events:x?}");
        events.into_iter().map(|(_, mask, _, name)| (mask, name)).collect()
    }
}

fn expect(events: &[(u32, String)], wanted: &[(u32, &str)]) {
    let same = events.len() == wanted.len()
        && events.iter().zip(wanted).all(|(event, wanted)| event.0 == wanted.0 && event.1 == wanted.1);
    assert!(same, "{events:x?}, not {wanted:x?}");
}

fn names_in_a_directory(folder: &Path) {
    let instance = Instance::new();
    let mask = IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB;
    let watch = instance.watch(folder, mask).unwrap();
    let file = folder.join("file");
    fs::write(&file, "bytes").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::create_dir(folder.join("inner")).unwrap();
    std::os::unix::fs::symlink("file", folder.join("link")).unwrap();
    fs::hard_link(&file, folder.join("second")).unwrap();
    expect(
        &instance.masks(watch),
        &[
            (IN_CREATE, "file"),
            (IN_MODIFY, "file"),
            (IN_CLOSE_WRITE, "file"),
            (IN_ATTRIB, "file"),
            (IN_CREATE | IN_ISDIR, "inner"),
            (IN_CREATE, "link"),
            (IN_CREATE, "second"),
        ],
    );
    for name in ["second", "link", "file"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::remove_dir(folder.join("inner")).unwrap();
    let events = instance.masks(watch);
    let gone: Vec<_> = events.into_iter().filter(|event| event.0 & IN_DELETE != 0).collect();
    expect(
        &gone,
        &[(IN_DELETE, "second"), (IN_DELETE, "link"), (IN_DELETE, "file"), (IN_DELETE | IN_ISDIR, "inner")],
    );
    // What was tried in vain tells nothing.
    assert_eq!(fs::remove_file(&file).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::create_dir(folder).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(instance.events().is_empty());
}

fn one_file(folder: &Path) {
    let path = folder.join("watched");
    fs::write(&path, "0123456789").unwrap();
    let instance = Instance::new();
    let watch = instance.watch(&path, IN_ALL_EVENTS).unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut part = [0; 4];
    file.read_exact(&mut part).unwrap();
    file.read_exact(&mut part).unwrap();
    file.write_all(b"x").unwrap();
    file.set_len(3).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    // The end of the file was read, not a byte of it.
    assert_eq!(file.read(&mut part).unwrap(), 0);
    drop(file);
    drop(File::open(&path).unwrap());
    expect(
        &instance.masks(watch),
        &[
            (IN_OPEN, ""),
            // Two reads, one event; and two changes.
            (IN_ACCESS, ""),
            (IN_MODIFY, ""),
            (IN_CLOSE_WRITE, ""),
            (IN_OPEN, ""),
            (IN_CLOSE_NOWRITE, ""),
        ],
    );
    fs::rename(&path, folder.join("elsewhere")).unwrap();
    expect(&instance.masks(watch), &[(IN_MOVE_SELF, "")]);
    fs::remove_file(folder.join("elsewhere")).unwrap();
    expect(&instance.masks(watch), &[(IN_ATTRIB, ""), (IN_DELETE_SELF, ""), (IN_IGNORED, "")]);
    assert_eq!(inotify::remove_watch(&instance.0, watch), Err(Errno::INVAL));
}

/// Each way to use a file, with what it tells, as Linux 6.18 does.
fn each_use(folder: &Path) {
    let path = folder.join("used");
    File::create(&path).unwrap();
    let instance = Instance::new();
    let watch = instance.watch(&path, IN_ALL_EVENTS).unwrap();
    let told = |what: &str, wanted: &[u32]| {
        let seen: Vec<u32> = instance.masks(watch).into_iter().map(|event| event.0).collect();
        assert_eq!(seen, wanted, "{what}");
    };
    // An empty file is cut off, too.
    let mut file = File::create(&path).unwrap();
    told("open with O_TRUNC", &[IN_OPEN, IN_MODIFY]);
    assert_eq!(file.write(b"").unwrap(), 0);
    told("write of nothing", &[]);
    file.set_len(0).unwrap();
    told("ftruncate to the same length", &[IN_MODIFY]);
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let (past, now) = (Timespec { tv_sec: 5, tv_nsec: 0 }, Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
    let times: [(&str, Timespec, Timespec, &[u32]); 5] = [
        ("both times", past, past, &[IN_ATTRIB]),
        ("the last change alone", omitted, past, &[IN_MODIFY]),
        ("the last access alone", past, omitted, &[IN_ACCESS]),
        ("both times, one of them now", past, now, &[IN_ATTRIB]),
        ("neither time", omitted, omitted, &[]),
    ];
    for (what, last_access, last_modification, wanted) in times {
        futimens(&file, &Timestamps { last_access, last_modification }).unwrap();
        told(what, wanted);
    }
    fallocate(&file, FallocateFlags::empty(), 0, 100).unwrap();
    told("fallocate", &[IN_MODIFY]);
    let mut reader = File::open(&path).unwrap();
    told("open", &[IN_OPEN]);
    assert_eq!(reader.read(&mut [0; 5]).unwrap(), 5);
    told("read", &[IN_ACCESS]);
    reader.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(reader.read(&mut [0; 5]).unwrap(), 0);
    told("read at the end", &[]);
    sendfile(&file, &reader, Some(&mut 0), 10).unwrap();
    told("sendfile", &[IN_ACCESS, IN_MODIFY]);
    copy_file_range(&reader, Some(&mut 10), &file, Some(&mut 200), 10).unwrap();
    told("copy_file_range", &[IN_ACCESS, IN_MODIFY]);
    drop(reader);
    drop(file);
    told("close", &[IN_CLOSE_NOWRITE, IN_CLOSE_WRITE]);
    // A file that is made has nothing to cut off.
    let watch = instance.watch(folder, IN_ALL_EVENTS).unwrap();
    drop(File::create(folder.join("made")).unwrap());
    let events: Vec<_> = instance.events().into_iter().filter(|event| event.0 == watch).collect();
    let masks: Vec<u32> = events.into_iter().map(|event| event.1).collect();
    assert_eq!(masks, [IN_CREATE, IN_OPEN, IN_CLOSE_WRITE]);
}

fn renames(folder: &Path) {
    let (one, two) = (folder.join("one"), folder.join("two"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    fs::write(one.join("a"), "").unwrap();
    fs::write(two.join("b"), "").unwrap();
    let instance = Instance::new();
    let mask = IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF;
    let first = instance.watch(&one, mask).unwrap();
    let second = instance.watch(&two, mask).unwrap();
    let replaced = instance.watch(&two.join("b"), mask).unwrap();
    fs::rename(one.join("a"), two.join("b")).unwrap();
    let events = instance.events();
    let cookie = events[0].2;
    assert_ne!(cookie, 0);
    let wanted: [Event; 4] = [
        (first, IN_MOVED_FROM, cookie, "a".into()),
        (second, IN_MOVED_TO, cookie, "b".into()),
        (replaced, IN_DELETE_SELF, 0, String::new()),
        (replaced, IN_IGNORED, 0, String::new()),
    ];
    assert_eq!(events, wanted);
    fs::remove_dir_all(&one).unwrap();
    fs::remove_dir_all(&two).unwrap();
    let events = instance.events();
    let ends: Vec<u32> = events.iter().map(|event| event.1).collect();
    assert_eq!(ends, [IN_DELETE_SELF, IN_IGNORED, IN_DELETE_SELF, IN_IGNORED]);
}

fn masks(folder: &Path) {
    let instance = Instance::new();
    let path = folder.join("masks");
    fs::write(&path, "").unwrap();
    assert_eq!(instance.watch(&path, 0), Err(Errno::INVAL));
    assert_eq!(instance.watch(&path, libc::IN_ONLYDIR | IN_OPEN), Err(Errno::NOTDIR));
    assert_eq!(instance.watch(&folder.join("absent"), IN_OPEN), Err(Errno::NOENT));
    assert_eq!(inotify::add_watch(File::open(&path).unwrap(), &path, WatchFlags::OPEN), Err(Errno::INVAL));
    let watch = instance.watch(&path, IN_OPEN).unwrap();
    assert_eq!(instance.watch(&path, IN_MODIFY | IN_MASK_ADD), Ok(watch));
    assert_eq!(instance.watch(&path, IN_MODIFY | IN_MASK_CREATE), Err(Errno::EXIST));
    fs::write(&path, "x").unwrap();
    let seen = instance.masks(watch).iter().fold(0, |all, event| all | event.0);
    assert_eq!(seen, IN_OPEN | IN_MODIFY);
    // A mask without `IN_MASK_ADD` takes the place of the one before.
    assert_eq!(instance.watch(&path, IN_CLOSE_WRITE | IN_ONESHOT), Ok(watch));
    fs::write(&path, "y").unwrap();
    fs::write(&path, "z").unwrap();
    expect(&instance.masks(watch), &[(IN_CLOSE_WRITE, ""), (IN_IGNORED, "")]);
    // A watch's number does not come back.
    assert!(instance.watch(&path, IN_OPEN).unwrap() > watch);
    assert_eq!(inotify::remove_watch(&instance.0, 77), Err(Errno::INVAL));
    fs::remove_file(&path).unwrap();
}

fn waiting(folder: &Path) {
    let instance = Instance::new();
    let watch = instance.watch(folder, IN_CREATE | IN_DELETE).unwrap();
    let path = folder.join("later");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            fs::write(&path, "").unwrap();
        });
        let mut files = [PollFd::new(&instance.0, PollFlags::IN)];
        assert_eq!(poll(&mut files, None), Ok(1));
    });
    let mut bytes = 0;
    // SAFETY: FIONREAD writes an `int`.
    assert_eq!(unsafe { libc::ioctl(instance.0.as_raw_fd(), libc::FIONREAD, &mut bytes) }, 0);
    assert_eq!(bytes, 32);
    // Too little room for the event, which stays.
    assert_eq!(rustix::io::read(&instance.0, &mut [0; 24]), Err(Errno::INVAL));
    expect(&instance.masks(watch), &[(IN_CREATE, "later")]);
    fs::remove_file(path).unwrap();
}

/// More than the queue holds: the end is told.
fn overflow(folder: &Path) {
    let instance = Instance::new();
    instance.watch(folder, IN_CREATE | IN_DELETE).unwrap();
    let paths = [folder.join("odd"), folder.join("even")];
    for round in 0..20_000 {
        let path = &paths[round % 2];
        fs::write(path, "").unwrap();
        fs::remove_file(path).unwrap();
    }
    let events = instance.events();
    let last = events.last().unwrap();
    assert_eq!((last.0, last.1), (-1, IN_Q_OVERFLOW));
    assert!(events.len() > 10_000 && events.len() <= 16_385, "{}", events.len());
    fs::write(&paths[0], "").unwrap();
    assert_eq!(instance.events().len(), 1);
    fs::remove_file(&paths[0]).unwrap();
}

fn main() {
    let place = std::env::var_os("DATA").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = place.join(format!("watching-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    names_in_a_directory(&folder);
    one_file(&folder);
    each_use(&folder);
    renames(&folder);
    masks(&folder);
    waiting(&folder);
    if std::env::var_os("DATA").is_none() {
        overflow(&folder);
    }
    fs::remove_file(folder.join("used")).unwrap();
    fs::remove_file(folder.join("made")).unwrap();
    fs::remove_dir(&folder).unwrap();
}
