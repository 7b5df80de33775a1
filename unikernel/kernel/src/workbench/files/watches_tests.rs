//! inotify(7).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run_on_each_filesystem;
use super::{open, write_file};

/// What has happened: watch, mask, name.
fn events(watcher: u64) -> Vec<(u32, u32, String)> {
    let room = Room::new(4096);
    let count = match sys!(read, watcher, &room, 4096) {
        Ok(count) => count as usize,
        Err(error) => {
            assert_eq!(error, EAGAIN);
            0
        }
    };
    let (mut at, mut found) = (0, Vec::new());
    while at < count {
        let len = room.word(at + 12) as usize;
        let name = room.bytes(at + 16, len);
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        found.push((room.word(at), room.word(at + 4), String::from_utf8_lossy(name).to_string()));
        at += 16 + len;
    }
    found
}

fn new_watcher() -> u64 {
    sys!(inotify_init1, O_NONBLOCK).unwrap()
}

#[test]
fn directory_reports_what_is_made_in_it() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        let watcher = new_watcher();
        let watch = sys!(inotify_add_watch, watcher, "/tmp/d", IN_CREATE | IN_DELETE).unwrap() as u32;
        write_file("/tmp/d/file", b"x");
        sys!(mkdir, "/tmp/d/inner", 0o700).unwrap();
        sys!(unlink, "/tmp/d/file").unwrap();
        let wanted = [
            (watch, IN_CREATE, "file".to_string()),
            (watch, IN_CREATE | IN_ISDIR, "inner".to_string()),
            (watch, IN_DELETE, "file".to_string()),
        ];
        assert_eq!(events(watcher), wanted);
        assert_eq!(sys!(read, watcher, &Room::new(64), 64), Err(EAGAIN));
    });
}

#[test]
fn file_reports_what_is_done_to_it() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        let watcher = new_watcher();
        let mask = IN_OPEN | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB;
        let watch = sys!(inotify_add_watch, watcher, "/tmp/file", mask).unwrap() as u32;
        let file = open("/tmp/file", O_WRONLY);
        sys!(write, file, &Room::of(b"y"), 1).unwrap();
        sys!(close, file).unwrap();
        sys!(chmod, "/tmp/file", 0o600).unwrap();
        let masks: Vec<_> = events(watcher).into_iter().map(|(from, mask, _)| (from, mask)).collect();
        let wanted = [IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE, IN_ATTRIB].map(|mask| (watch, mask));
        assert_eq!(masks, wanted);
    });
}

#[test]
fn both_ends_of_a_rename_have_one_cookie() {
    run_on_each_filesystem(|| {
        sys!(mkdir, "/tmp/d", 0o700).unwrap();
        write_file("/tmp/d/old", b"x");
        let watcher = new_watcher();
        sys!(inotify_add_watch, watcher, "/tmp/d", IN_MOVE).unwrap();
        sys!(rename, "/tmp/d/old", "/tmp/d/new").unwrap();
        let room = Room::new(256);
        sys!(read, watcher, &room, 256).unwrap();
        assert_eq!((room.word(4), room.bytes(16, 3)), (IN_MOVED_FROM, b"old".to_vec()));
        let second = 16 + room.word(12) as usize;
        assert_eq!((room.word(second + 4), room.bytes(second + 16, 3)), (IN_MOVED_TO, b"new".to_vec()));
        assert_ne!(room.word(8), 0);
        assert_eq!(room.word(8), room.word(second + 8));
    });
}

#[test]
fn watch_ends_with_its_file_or_when_asked() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        write_file("/tmp/other", b"x");
        let watcher = new_watcher();
        let watch = sys!(inotify_add_watch, watcher, "/tmp/file", IN_DELETE_SELF).unwrap() as u32;
        sys!(unlink, "/tmp/file").unwrap();
        let found = events(watcher);
        assert_eq!(found.last(), Some(&(watch, IN_IGNORED, String::new())));
        assert_eq!(found[found.len() - 2].1, IN_DELETE_SELF);
        assert_eq!(sys!(inotify_rm_watch, watcher, watch), Err(EINVAL));
        let watch = sys!(inotify_add_watch, watcher, "/tmp/other", IN_OPEN).unwrap() as u32;
        assert_eq!(sys!(inotify_rm_watch, watcher, watch), Ok(0));
        open("/tmp/other", O_RDONLY);
        assert_eq!(events(watcher), [(watch, IN_IGNORED, String::new())]);
    });
}

#[test]
fn equal_events_are_one() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        let watcher = new_watcher();
        sys!(inotify_add_watch, watcher, "/tmp/file", IN_MODIFY).unwrap();
        let file = open("/tmp/file", O_WRONLY);
        for _ in 0..3 {
            sys!(write, file, &Room::of(b"y"), 1).unwrap();
        }
        assert_eq!(events(watcher).len(), 1);
    });
}

#[test]
fn second_watch_of_a_file_changes_the_first() {
    run_on_each_filesystem(|| {
        write_file("/tmp/file", b"x");
        let watcher = new_watcher();
        let add = |mask: u32| sys!(inotify_add_watch, watcher, "/tmp/file", mask);
        let watch = add(IN_MODIFY).unwrap();
        assert_eq!(add(IN_OPEN | IN_MASK_ADD), Ok(watch));
        assert_eq!(add(IN_OPEN | IN_MASK_CREATE), Err(EEXIST));
        let file = open("/tmp/file", O_WRONLY);
        sys!(write, file, &Room::of(b"y"), 1).unwrap();
        assert_eq!(events(watcher).len(), 2);
        assert_eq!(add(IN_MODIFY | IN_ONESHOT), Ok(watch));
        sys!(write, file, &Room::of(b"y"), 1).unwrap();
        sys!(write, file, &Room::of(b"y"), 1).unwrap();
        let masks: Vec<_> = events(watcher).into_iter().map(|(_, mask, _)| mask).collect();
        assert_eq!(masks, [IN_MODIFY, IN_IGNORED]);
    });
}

#[test]
fn arguments_of_watches_are_checked() {
    run_on_each_filesystem(|| {
        let watcher = sys!(inotify_init).unwrap();
        assert_eq!(sys!(inotify_init1, 1), Err(EINVAL));
        assert_eq!(sys!(inotify_add_watch, watcher, "/tmp", 0), Err(EINVAL));
        assert_eq!(sys!(inotify_add_watch, watcher, "/none", IN_OPEN), Err(ENOENT));
        assert_eq!(sys!(inotify_add_watch, watcher, "/dev/null", IN_OPEN | IN_ONLYDIR), Err(ENOTDIR));
        assert_eq!(sys!(inotify_add_watch, 99, "/tmp", IN_OPEN), Err(EBADF));
        assert_eq!(sys!(inotify_add_watch, 1, "/tmp", IN_OPEN), Err(EINVAL));
        assert_eq!(sys!(inotify_rm_watch, watcher, 77), Err(EINVAL));
        let watch = sys!(inotify_add_watch, watcher, "/tmp", IN_CREATE).unwrap();
        assert_eq!(watch, 1);
        write_file("/tmp/file", b"");
        assert_eq!(sys!(read, watcher, &Room::new(8), 8), Err(EINVAL));
    });
}
