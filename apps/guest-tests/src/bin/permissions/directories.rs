//! Directories of all modes: searching, listing, making, removing, renaming, linking.

use libc::{O_CREAT, O_DIRECTORY, O_RDONLY, O_TMPFILE, O_WRONLY};

use crate::objects::{Folder, Name, open};
use crate::somebody::{EVERYBODY, GROUP, OTHER, OWNER, Somebody};
use crate::{Line, call};

const HERE: u64 = libc::AT_FDCWD as u64;
const MODES: [u32; 18] = [
    0, 0o700, 0o500, 0o300, 0o100, 0o070, 0o050, 0o030, 0o007, 0o003, 0o001, 0o755, 0o777, 0o770, 0o1777,
    0o1770, 0o2777, 0o3775,
];
/// Who owns the directory: a user of those who ask, or root.
const OWNERS: [(&str, (u32, u32)); 3] =
    [("own", (OWNER, GROUP)), ("roots", (0, 0)), ("others", (OTHER, GROUP))];

/// What is in each directory: a file of the owner's, one of another user's, and directories.
const FILE: &str = "directory/file";
const FOREIGN: &str = "directory/foreign";
const INNER: &str = "directory/inner";
const FOREIGN_INNER: &str = "directory/foreign-inner";
const NEW: &str = "directory/new";

fn renew(folder: &Folder, owner: (u32, u32), mode: u32) -> Name {
    folder.directory("directory", (0, 0), 0o700);
    folder.directory("target", (0, 0), 0o777);
    folder.file(FILE, (OWNER, GROUP), 0o644);
    folder.file(FOREIGN, (1099, 2099), 0o600);
    folder.directory(INNER, (OWNER, GROUP), 0o755);
    folder.directory(FOREIGN_INNER, (1099, 2099), 0o755);
    folder.restore("directory", owner, mode)
}

/// Does everything that is done to names.
pub(crate) fn ask(folder: &Folder) {
    for somebody in EVERYBODY {
        for (whose, owner) in OWNERS {
            // On a disk the same is decided in the same place; a part will do.
            let step = if folder.is_on_disk { 5 } else { 1 };
            for mode in MODES.into_iter().step_by(step) {
                let mut line = Line::new(&format!("{} {whose} directory {mode:04o}", somebody.name));
                looks(folder, &mut line, &somebody, &renew(folder, owner, mode));
                changes(folder, &mut line, &somebody, owner, mode);
                line.print();
            }
        }
    }
}

/// What leaves everything as it is.
fn looks(folder: &Folder, line: &mut Line, somebody: &Somebody, directory: &Name) {
    let (file, absent) = (folder.name(FILE), folder.name("directory/absent"));
    let back = folder.name("");
    let mut state = [0_u8; 256];
    let state = state.as_mut_ptr() as u64;
    line.answer("list", somebody.act(|| open(directory, O_RDONLY | O_DIRECTORY, 0)));
    line.answer("stat", somebody.act(|| call(libc::SYS_stat, &[file.at(), state])));
    line.answer("absent", somebody.act(|| call(libc::SYS_stat, &[absent.at(), state])));
    line.answer("dots", somebody.act(|| call(libc::SYS_stat, &[folder.name("directory/..").at(), state])));
    line.answer("read", somebody.act(|| open(&file, O_RDONLY, 0)));
    for (name, bits) in [("W", 2), ("X", 1), ("RX", 5)] {
        line.answer(name, somebody.act(|| call(libc::SYS_faccessat2, &[HERE, directory.at(), bits, 0x200])));
    }
    line.answer("chdir", somebody.act(|| call(libc::SYS_chdir, &[directory.at()])));
    assert_eq!(call(libc::SYS_chdir, &[back.at()]), 0);
}

/// Each with everything as it was at first.
fn changes(folder: &Folder, line: &mut Line, somebody: &Somebody, owner: (u32, u32), mode: u32) {
    let [new, file, foreign, inner, foreign_inner] =
        [NEW, FILE, FOREIGN, INNER, FOREIGN_INNER].map(|path| folder.name(path));
    let (out, directory) = (folder.name("target/moved"), folder.name("directory"));
    let elsewhere = folder.name("elsewhere");
    let target = c"target-of-a-link".as_ptr() as u64;
    let mut is_new = false;
    let mut ask = |call: &str, deed: &dyn Fn() -> i64, left: Option<&str>| {
        if !is_new {
            renew(folder, owner, mode);
            folder.file("elsewhere", (OWNER, GROUP), 0o666);
        }
        let answer = somebody.act(deed);
        // What was refused has left everything as it was.
        is_new = answer < 0;
        line.answer(call, answer);
        if let Some(path) = left {
            line.value("left", folder.state(path));
        }
    };
    ask("create", &|| open(&new, O_CREAT | O_WRONLY, 0o6777), Some(NEW));
    ask("again", &|| open(&file, O_CREAT | O_RDONLY, 0o600), None);
    ask("unnamed", &|| open(&directory, O_TMPFILE | O_WRONLY, 0o600), None);
    ask("mkdir", &|| call(libc::SYS_mkdir, &[new.at(), 0o777]), Some(NEW));
    ask("there", &|| call(libc::SYS_mkdir, &[inner.at(), 0o777]), None);
    ask("fifo", &|| call(libc::SYS_mknod, &[new.at(), (libc::S_IFIFO | 0o666).into(), 0]), Some(NEW));
    ask("symlink", &|| call(libc::SYS_symlink, &[target, new.at()]), Some(NEW));
    ask("link", &|| call(libc::SYS_link, &[elsewhere.at(), new.at()]), None);
    ask("link-foreign", &|| call(libc::SYS_link, &[foreign.at(), out.at()]), None);
    ask("unlink", &|| call(libc::SYS_unlink, &[file.at()]), None);
    ask("unlink-foreign", &|| call(libc::SYS_unlink, &[foreign.at()]), None);
    ask("unlink-directory", &|| call(libc::SYS_unlink, &[inner.at()]), None);
    ask("rmdir", &|| call(libc::SYS_rmdir, &[inner.at()]), None);
    ask("rmdir-foreign", &|| call(libc::SYS_rmdir, &[foreign_inner.at()]), None);
    ask("rmdir-file", &|| call(libc::SYS_rmdir, &[file.at()]), None);
    ask("rename", &|| call(libc::SYS_rename, &[file.at(), new.at()]), None);
    ask("rename-over", &|| call(libc::SYS_rename, &[file.at(), foreign.at()]), None);
    ask("rename-out", &|| call(libc::SYS_rename, &[file.at(), out.at()]), None);
    ask("rename-in", &|| call(libc::SYS_rename, &[elsewhere.at(), new.at()]), None);
    ask("move-directory", &|| call(libc::SYS_rename, &[inner.at(), out.at()]), None);
    ask("move-foreign", &|| call(libc::SYS_rename, &[foreign_inner.at(), out.at()]), None);
    let exchange =
        |from: &Name, to: &Name, flags| call(libc::SYS_renameat2, &[HERE, from.at(), HERE, to.at(), flags]);
    ask("exchange", &|| exchange(&file, &foreign, 2), None);
    ask("no-replace", &|| exchange(&file, &foreign, 1), None);
    ask("bind", &|| bind(&new), Some(NEW));
    folder.restore("directory", (0, 0), 0o755);
}

/// Gives a socket the name.
fn bind(name: &Name) -> i64 {
    let fd = call(libc::SYS_socket, &[libc::AF_UNIX as u64, libc::SOCK_DGRAM as u64, 0]);
    let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    address.extend_from_slice(name.bytes());
    let outcome = call(libc::SYS_bind, &[fd as u64, address.as_ptr() as u64, address.len() as u64]);
    call(libc::SYS_close, &[fd as u64]);
    outcome
}
