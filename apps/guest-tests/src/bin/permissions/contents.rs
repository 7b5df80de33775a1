//! Reading, writing, executing files of all modes.

use libc::{O_CREAT, O_EXCL, O_NOATIME, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

use crate::objects::{Folder, Name, open};
use crate::somebody::{EVERYBODY, GROUP, OWNER};
use crate::{Line, call};

const HERE: u64 = libc::AT_FDCWD as u64;
const MODES: [u32; 24] = [
    0, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o644, 0o600, 0o755, 0o777, 0o666,
    0o060, 0o006, 0o077, 0o4755, 0o2755, 0o2745, 0o6777, 0o4666, 0o2666,
];

/// Opens in all ways, asks access(2), cuts and writes.
pub(crate) fn ask(folder: &Folder) {
    for somebody in EVERYBODY {
        let step = if folder.is_on_disk { 4 } else { 1 };
        for mode in MODES.into_iter().step_by(step) {
            let mut line = Line::new(&format!("{} file {mode:04o}", somebody.name));
            let name = folder.file("file", (OWNER, GROUP), mode);
            let mut answer = |call: &str, deed: &dyn Fn() -> i64| line.answer(call, somebody.act(deed));
            for (call, flags) in [
                ("r", O_RDONLY),
                ("w", O_WRONLY),
                ("rw", O_RDWR),
                ("path", O_PATH),
                ("noatime", O_RDONLY | O_NOATIME),
                ("creat", O_CREAT | O_RDONLY),
                ("excl", O_CREAT | O_EXCL | O_WRONLY),
                ("odd", 3),
            ] {
                answer(call, &|| open(&name, flags, 0o600));
            }
            for (call, bits) in [("R", 4), ("W", 2), ("X", 1), ("RX", 5), ("F", 0)] {
                answer(call, &|| access(&name, bits, 0));
                answer(&format!("{call}e"), &|| access(&name, bits, libc::AT_EACCESS));
            }
            answer("exec", &|| execute(&name));
            // These change it, and with it perhaps its bits.
            answer("trunc", &|| open(&name, O_RDONLY | O_TRUNC, 0));
            answer("truncate", &|| call(libc::SYS_truncate, &[name.at(), 3]));
            line.value("left", folder.state("file"));
            let name = folder.file("file", (OWNER, GROUP), mode);
            line.answer("write", somebody.act(|| write(&name)));
            line.value("left", folder.state("file"));
            line.print();
        }
    }
}

fn access(name: &Name, bits: u64, flags: i32) -> i64 {
    call(libc::SYS_faccessat2, &[HERE, name.at(), bits, flags as u64])
}

/// Whether it may be executed. The list of arguments is where nothing is, so nothing is executed.
fn execute(name: &Name) -> i64 {
    const NOWHERE: u64 = 1;
    call(libc::SYS_execve, &[name.at(), NOWHERE, 0])
}

/// Appends a byte, if it can be opened.
fn write(name: &Name) -> i64 {
    let fd = call(libc::SYS_openat, &[HERE, name.at(), (O_WRONLY | libc::O_APPEND) as u64]);
    if fd < 0 {
        return fd;
    }
    let byte = b"x";
    let written = call(libc::SYS_write, &[fd as u64, byte.as_ptr() as u64, 1]);
    call(libc::SYS_close, &[fd as u64]);
    written
}
