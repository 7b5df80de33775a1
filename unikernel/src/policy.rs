//! What the program forbids itself, once it has opened what it needs: whoever takes it over later has no more than that.
//!
//! The functions are named after OpenBSD's pledge(2) and unveil(2), and made of Linux's seccomp(2) and landlock(7), so they bind the
//! same program under Linux, too. Neither can be taken back.
//!
//! ```
//! use unikernel::fs::File;
//! use unikernel::policy::{pledge, unveil};
//!
//! # std::thread::spawn(|| {
//! unveil(&[("/etc", "r"), ("/tmp", "rwc")])?;
//! assert!(File::open("/etc/hostname").is_ok() || File::open("/etc/passwd").is_ok());
//! assert_eq!(File::open("/proc/self/status").unwrap_err().number(), 13); // EACCES
//! # Ok::<(), unikernel::Error>(())
//! # }).join().unwrap()?;
//! # Ok::<(), unikernel::Error>(())
//! ```

use unikernel_policy::access::FileAccess;
use unikernel_policy::calls::CallRule;
use unikernel_policy::paths::access_of;

use crate::fs::with_path;
use crate::{Error, sys};

/// Lets the program make only these system calls from now on, in all its threads: profiles (`net-server`, `storage`) and names, added or,
/// with `-`, taken away. Others answer `EPERM`; with `:kill` behind the list, they end the program.
///
/// ```no_run
/// // The listener is there, and its files are open.
/// unikernel::policy::pledge("net-server,-openat,-open,-socket:kill")?;
/// # Ok::<(), unikernel::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::INVALID`] for a list that names what there is not, and what seccomp(2) answers.
pub fn pledge(calls: &str) -> Result<(), Error> {
    let rule = CallRule::parse(calls).ok_or(Error::INVALID)?;
    sys::forbid_new_privileges()?;
    sys::add_call_filter(&rule.program())
}

/// Lets the calling thread, and those that it starts, use only these files, and what is below these folders: each with letters for
/// reading and listing (`r`), writing (`w`), executing (`x`), and making, removing and renaming (`c`). What is open stays open.
///
/// # Errors
///
/// [`Error::INVALID`] for other letters, [`Error::NOT_FOUND`] for a path that is not there, and what landlock(7) answers.
pub fn unveil(paths: &[(&str, &str)]) -> Result<(), Error> {
    let ruleset = sys::create_file_ruleset(FileAccess::all())?;
    for (path, letters) in paths {
        let access = access_of(letters).ok_or(Error::INVALID)?;
        with_path(path, |path| sys::allow_path(&ruleset, path, access))?;
    }
    sys::forbid_new_privileges()?;
    sys::restrict_files(&ruleset)
}
