//! execve(2), as far as it fails.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run;

/// A file that may be executed.
fn write_program(path: &str, bytes: &[u8]) {
    let file = sys!(open, path, O_WRONLY | O_CREAT | O_TRUNC, 0o755).unwrap();
    sys!(write, file, &Room::of(bytes), bytes.len()).unwrap();
    sys!(close, file).unwrap();
}

/// No arguments and no environment.
fn execute(path: &str) -> Result<u64, u32> {
    let arguments = Room::new(16);
    sys!(execve, path, &arguments, &arguments)
}

#[test]
fn what_is_no_program_is_not_executed() {
    run(|| {
        assert_eq!(execute("/tmp/none"), Err(ENOENT));
        assert_eq!(execute(""), Err(ENOENT));
        assert_eq!(execute("/tmp"), Err(EACCES));
        write_program(
            "/tmp/text",
            b"no program, but long enough to have been one, as it were, if it had a header",
        );
        assert_eq!(execute("/tmp/text"), Err(ENOEXEC));
        write_program("/tmp/empty", b"");
        assert_eq!(execute("/tmp/empty"), Err(ENOEXEC));
        sys!(chmod, "/tmp/text", 0o644).unwrap();
        assert_eq!(execute("/tmp/text"), Err(EACCES));
        assert_eq!(execute("/tmp/text/x"), Err(ENOTDIR));
    });
}

#[test]
fn damaged_programs_are_refused() {
    run(|| {
        let mut header = [0; 128];
        header[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        write_program("/tmp/zeros", &header);
        assert_eq!(execute("/tmp/zeros"), Err(ENOEXEC));
        // Of another machine.
        header[16] = 2;
        header[18] = 40;
        write_program("/tmp/other", &header);
        assert_eq!(execute("/tmp/other"), Err(ENOEXEC));
        write_program("/tmp/short", &header[..20]);
        assert_eq!(execute("/tmp/short"), Err(ENOEXEC));
    });
}

#[test]
fn interpreter_of_a_script_must_be_there() {
    run(|| {
        write_program("/tmp/script", b"#!/tmp/no-interpreter\n");
        assert_eq!(execute("/tmp/script"), Err(ENOENT));
        write_program("/tmp/nothing", b"#!\n");
        assert_eq!(execute("/tmp/nothing"), Err(ENOEXEC));
        write_program("/tmp/itself", b"#!/tmp/itself\n");
        assert_eq!(execute("/tmp/itself"), Err(ELOOP));
    });
}

#[test]
fn arguments_of_execve_are_checked() {
    run(|| {
        write_program("/tmp/text", b"text");
        assert_eq!(sys!(execve, 1, 0, 0), Err(EFAULT));
        assert_eq!(sys!(execve, "/tmp/text", 1, 0), Err(EFAULT));
        let bad = Room::of_longs(&[1, 0]);
        assert_eq!(sys!(execve, "/tmp/text", &bad, 0), Err(EFAULT));
    });
}

#[test]
fn execveat_begins_at_its_descriptor() {
    run(|| {
        write_program("/tmp/text", b"text");
        let nothing = Room::new(16);
        let folder = sys!(open, "/tmp", O_RDONLY | O_DIRECTORY, 0).unwrap();
        let at = |directory: u64, path: &str, flags: u32| {
            sys!(execveat, directory, path, &nothing, &nothing, flags)
        };
        assert_eq!(at(folder, "text", 0), Err(ENOEXEC));
        assert_eq!(at(folder, "none", 0), Err(ENOENT));
        assert_eq!(at(99, "text", 0), Err(EBADF));
        assert_eq!(at(folder, "text", 1), Err(EINVAL));
        let file = sys!(open, "/tmp/text", O_RDONLY, 0).unwrap();
        assert_eq!(at(file, "", AT_EMPTY_PATH), Err(ENOEXEC));
        assert_eq!(at(file, "", 0), Err(ENOENT));
        sys!(symlink, "text", "/tmp/link").unwrap();
        assert_eq!(at(folder, "link", AT_SYMLINK_NOFOLLOW), Err(ELOOP));
    });
}
