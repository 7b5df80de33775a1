//! Whom the app starts as (`user=`): numbers as they are, names as `/etc/passwd` and `/etc/group` of the image explain them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general::{AT_FDCWD, O_RDONLY};
use unikernel_cmdline::{Identity, Shown, UnknownUser, User};

use super::executable::read;
use crate::kmem::room;
use crate::ops::open;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// A longer file is none of users.
const MOST_BYTES: u64 = 1 << 20;

/// Who that is; the error is for people.
pub(crate) fn find(user: &User) -> Result<Identity, String> {
    let (passwd, groups) = match user {
        User::Numbers(..) => (Vec::new(), Vec::new()),
        User::Named(..) => (read_file(PASSWD)?, read_file(GROUP)?),
    };
    user.find(&passwd, &groups).map_err(|unknown| {
        let (name, group) = match user {
            User::Named(name, group) => (name.as_str(), group.as_deref().unwrap_or_default()),
            User::Numbers(..) => ("", ""),
        };
        let (what, file, name) = match unknown {
            UnknownUser::User => ("user", PASSWD, name),
            UnknownUser::Group => ("group", GROUP, group),
        };
        format!("`{}` is no {what} of `{file}` in the image; add a line there, or say a number", Shown(name))
    })
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let error = |reason: &str| format!("`{path}` of the image {reason}; say numbers, such as `1000:1000`");
    let opened = open::open_path(AT_FDCWD, path.as_bytes(), O_RDONLY, 0)
        .map_err(|errno| error(&format!("cannot be opened ({})", errno.name())))?;
    let size = opened.file.metadata().size;
    if size > MOST_BYTES {
        return Err(error("is too long"));
    }
    let mut bytes = room::filled(0, size as usize).map_err(|_| error("does not fit the memory"))?;
    read(&opened, 0, &mut bytes).map_err(|_| error("cannot be read"))?;
    Ok(bytes)
}
