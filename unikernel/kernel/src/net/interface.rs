//! The network's interfaces by name and number (netdevice(7)): `lo`, and `eth0` if there is a card.

use linux_raw_sys::ioctl::{SIOCGIFINDEX, SIOCGIFNAME};

use crate::mem::user::UserPtr;
use crate::syscall::{Errno, SysResult};

/// Room for a name in a `struct ifreq` (`IFNAMSIZ`); the number follows.
const NAME_BYTES: usize = 16;

/// Numbers begin at 1.
fn names() -> &'static [&'static str] {
    if super::lock().nic.is_some() { &["lo", "eth0"] } else { &["lo"] }
}

/// Answers a question about interfaces; `None` if it is none.
pub(super) fn ioctl(request: u32, argument: u64) -> Option<SysResult> {
    match request {
        SIOCGIFINDEX => Some(index(argument)),
        SIOCGIFNAME => Some(name(argument)),
        _ => None,
    }
}

fn index(request: u64) -> SysResult {
    let name = UserPtr::<[u8; NAME_BYTES]>::new(request).read()?;
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
    let index = names().iter().position(|known| known.as_bytes() == &name[..len]).ok_or(Errno::ENODEV)?;
    UserPtr::<i32>::new(request + NAME_BYTES as u64).write(index as i32 + 1)?;
    Ok(0)
}

fn name(request: u64) -> SysResult {
    let index = UserPtr::<i32>::new(request + NAME_BYTES as u64).read()?;
    let known = usize::try_from(index).ok().and_then(|index| names().get(index.wrapping_sub(1)));
    let known = known.ok_or(Errno::ENODEV)?;
    let mut bytes = [0; NAME_BYTES];
    bytes[..known.len()].copy_from_slice(known.as_bytes());
    UserPtr::new(request).write(bytes)?;
    Ok(0)
}
