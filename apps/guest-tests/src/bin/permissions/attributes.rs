//! Changing what files are: modes, owners, times, extended attributes.

use guest_tests::raw_syscall;

use crate::objects::{Folder, Name};
use crate::somebody::{EVERYBODY, GROUP, OTHER, OWNER, Somebody};
use crate::{Line, call};

const HERE: u64 = libc::AT_FDCWD as u64;
const KEEP: u64 = u32::MAX as u64;
const MODES: [u32; 8] = [0o600, 0o644, 0o666, 0o4755, 0o2755, 0o2745, 0o6777, 0o1777];

/// Modes, owners and times of files and of directories.
pub(crate) fn ask(folder: &Folder) {
    for somebody in EVERYBODY {
        for is_directory in [false, true] {
            modes(folder, &somebody, is_directory);
            for mode in MODES {
                owners(folder, &somebody, is_directory, mode);
            }
            times(folder, &somebody, is_directory);
        }
        if folder.is_on_disk {
            names(folder, &somebody);
            lists(folder, &somebody);
        }
    }
}

fn renew(folder: &Folder, is_directory: bool, owner: (u32, u32), mode: u32) -> Name {
    // What was a directory is to be a file now, or the other way round.
    if is_directory { folder.directory("its", owner, mode) } else { folder.file("it", owner, mode) }
}

const fn path(is_directory: bool) -> &'static str {
    if is_directory { "its" } else { "it" }
}

fn modes(folder: &Folder, somebody: &Somebody, is_directory: bool) {
    for (whose, owner) in [("own", (OWNER, GROUP)), ("own-of-others", (OWNER, 2077)), ("roots", (0, 0))] {
        let mut line = Line::new(&format!("{} chmod {whose} {}", somebody.name, path(is_directory)));
        for mode in [0, 0o777, 0o4755, 0o2755, 0o2644, 0o1777, 0o7777] {
            let name = renew(folder, is_directory, owner, 0o644);
            line.answer(&format!("{mode:o}"), somebody.act(|| call(libc::SYS_chmod, &[name.at(), mode])));
            line.value("left", folder.state(path(is_directory)));
        }
        line.print();
    }
}

fn owners(folder: &Folder, somebody: &Somebody, is_directory: bool, mode: u32) {
    let mut line = Line::new(&format!("{} chown {} {mode:04o}", somebody.name, path(is_directory)));
    let ids = |id: u32| u64::from(id);
    for (user, group) in [
        (KEEP, KEEP),
        (ids(OWNER), KEEP),
        (ids(OTHER), KEEP),
        (0, KEEP),
        (KEEP, ids(GROUP)),
        (KEEP, 2002),
        (KEEP, 2003),
        (KEEP, 3000),
        (KEEP, 0),
        (ids(OTHER), 2004),
        (ids(OWNER), 2002),
    ] {
        let name = renew(folder, is_directory, (OWNER, GROUP), mode);
        let shown = format!("{}:{}", user as i32, group as i32);
        line.answer(&shown, somebody.act(|| call(libc::SYS_chown, &[name.at(), user, group])));
        line.value("left", folder.state(path(is_directory)));
    }
    line.print();
}

fn times(folder: &Folder, somebody: &Somebody, is_directory: bool) {
    const NOW: i64 = libc::UTIME_NOW;
    const OMIT: i64 = libc::UTIME_OMIT;
    for mode in [0o600, 0o644, 0o666, 0o620, 0o777] {
        let mut line = Line::new(&format!("{} times {} {mode:04o}", somebody.name, path(is_directory)));
        let name = renew(folder, is_directory, (OWNER, GROUP), mode);
        let set = |times: [[i64; 2]; 2]| {
            raw_syscall(libc::SYS_utimensat, [HERE, name.at(), times.as_ptr() as u64, 0, 0, 0])
        };
        for (call, times) in [
            ("now", [[0, NOW], [0, NOW]]),
            ("omit", [[0, OMIT], [0, OMIT]]),
            ("set", [[5, 0], [6, 0]]),
            ("now-omit", [[0, NOW], [0, OMIT]]),
            ("omit-now", [[0, OMIT], [0, NOW]]),
            ("now-set", [[0, NOW], [6, 0]]),
        ] {
            line.answer(call, somebody.act(|| set(times)));
        }
        line.answer("null", somebody.act(|| call(libc::SYS_utimensat, &[HERE, name.at(), 0, 0])));
        line.answer("utime", somebody.act(|| call(libc::SYS_utime, &[name.at(), 0])));
        line.print();
    }
}

fn set_attribute(name: &Name, attribute: &str, value: &[u8]) -> i64 {
    let (value, len) = (value.as_ptr() as u64, value.len() as u64);
    call(libc::SYS_setxattr, &[name.at(), attribute.as_ptr() as u64, value, len, 0])
}

fn get_attribute(name: &Name, attribute: &str) -> i64 {
    call(libc::SYS_getxattr, &[name.at(), attribute.as_ptr() as u64, 0, 0])
}

/// Extended attributes of all kinds.
fn names(folder: &Folder, somebody: &Somebody) {
    for (is_directory, mode) in
        [(false, 0o644), (false, 0o666), (false, 0o600), (true, 0o755), (true, 0o1777)]
    {
        let mut line = Line::new(&format!("{} xattr {} {mode:04o}", somebody.name, path(is_directory)));
        for (attribute, value) in [
            ("user.note\0", b"x".as_slice()),
            ("trusted.note\0", b"x"),
            ("security.note\0", b"x"),
            ("security.capability\0", &CAPABILITY),
            ("system.posix_acl_access\0", &LIST),
        ] {
            let name = renew(folder, is_directory, (OWNER, GROUP), mode);
            let shown = attribute.trim_end_matches('\0');
            line.answer(&format!("set-{shown}"), somebody.act(|| set_attribute(&name, attribute, value)));
            assert_eq!(set_attribute(&name, attribute, value), 0, "{attribute}");
            line.answer(&format!("get-{shown}"), somebody.act(|| get_attribute(&name, attribute)));
            let removed =
                somebody.act(|| call(libc::SYS_removexattr, &[name.at(), attribute.as_ptr() as u64]));
            line.answer(&format!("remove-{shown}"), removed);
            line.value("left", folder.state(path(is_directory)));
        }
        line.print();
    }
}

/// `CAP_NET_BIND_SERVICE`, in force (linux/capability.h, revision 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const fn entry(tag: u8, permissions: u8, id: u32) -> [u8; 8] {
    let id = id.to_le_bytes();
    [tag, 0, permissions, 0, id[0], id[1], id[2], id[3]]
}

/// Owner rw, user 1004 r, group r, mask r, others none (acl(5)).
const LIST: [u8; 44] =
    list(&[entry(1, 6, !0), entry(2, 4, 1004), entry(4, 4, !0), entry(16, 4, !0), entry(32, 0, !0)]);

const fn list<const BYTES: usize>(entries: &[[u8; 8]]) -> [u8; BYTES] {
    let mut value = [0; BYTES];
    value[0] = 2;
    let mut at = 4;
    while at < BYTES {
        value[at] = entries[(at - 4) / 8][(at - 4) % 8];
        at += 1;
    }
    value
}

/// Lists that name users and groups, with masks; and what new files get of a directory's.
fn lists(folder: &Folder, somebody: &Somebody) {
    use libc::{O_CREAT, O_RDONLY, O_RDWR, O_WRONLY};

    use crate::objects::open;
    for user in 0..8_u8 {
        let mut line = Line::new(&format!("{} list {user}", somebody.name));
        for group in [0, 4, 6] {
            for mask in [0, 4, 7] {
                let value: [u8; 60] = list(&[
                    entry(1, 6, !0),
                    entry(2, user, OTHER),
                    entry(2, 7 - user, 1003),
                    entry(4, group, !0),
                    entry(8, user ^ 2, 2002),
                    entry(16, mask, !0),
                    entry(32, user & 5, !0),
                ]);
                let name = folder.file("it", (OWNER, GROUP), 0o640);
                assert_eq!(set_attribute(&name, "system.posix_acl_access\0", &value), 0);
                for (call, flags) in [("r", O_RDONLY), ("w", O_WRONLY), ("rw", O_RDWR)] {
                    line.answer(&format!("{call}{group}{mask}"), somebody.act(|| open(&name, flags, 0)));
                }
                line.value("left", folder.state("it"));
                line.answer("chmod", somebody.act(|| call(libc::SYS_chmod, &[name.at(), 0o664])));
                line.answer("after", somebody.act(|| open(&name, O_WRONLY, 0)));
                line.value("left", folder.state("it"));
            }
        }
        let directory = folder.directory("its", (0, 0), 0o777);
        let value: [u8; 52] = list(&[
            entry(1, 7, !0),
            entry(2, user, OTHER),
            entry(4, 5, !0),
            entry(8, 6, GROUP),
            entry(16, 7, !0),
            entry(32, user & 3, !0),
        ]);
        assert_eq!(set_attribute(&directory, "system.posix_acl_default\0", &value), 0);
        for (path, mode) in [("its/a", 0o666), ("its/b", 0o600), ("its/c", 0o777)] {
            let name = folder.name(path);
            line.answer("make", somebody.act(|| open(&name, O_CREAT | O_WRONLY, mode)));
            line.value("left", folder.state(path));
            line.value("list", get_attribute(&name, "system.posix_acl_access\0"));
        }
        let inner = folder.name("its/d");
        line.answer("mkdir", somebody.act(|| call(libc::SYS_mkdir, &[inner.at(), 0o750])));
        line.value("left", folder.state("its/d"));
        line.value("default", get_attribute(&inner, "system.posix_acl_default\0"));
        line.print();
    }
}
