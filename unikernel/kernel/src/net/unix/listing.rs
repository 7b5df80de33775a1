//! `/proc/net/unix` (proc_net_unix(5)): every socket of the family, those that wait to be accepted among them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt::{self, Write};
use core::ops::Bound;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Role, Unix, UnixName};
use crate::file::long_text::LongText;
use crate::net::socket::{Socket, kind_number};
use crate::sync::SpinLock;

const HEADING: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n";
/// The flag of a listener (`__SO_ACCEPTCON`).
const LISTENS: u32 = 1 << 16;
/// `SS_UNCONNECTED`, `SS_CONNECTED`.
const UNCONNECTED: u8 = 1;
const CONNECTED: u8 = 3;

static SOCKETS: SpinLock<BTreeMap<u64, Weak<Socket>>> = SpinLock::new(BTreeMap::new());

/// A socket's place in the list, given back when it is dropped.
pub(super) struct Entry(u64);

impl Entry {
    /// A place that nothing stands at yet.
    pub(super) fn reserve() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Shows a socket there.
    pub(super) fn show(&self, socket: &Arc<Socket>) {
        SOCKETS.lock().insert(self.0, Arc::downgrade(socket));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let removed = SOCKETS.lock().remove(&self.0);
        drop(removed);
    }
}

/// Writes the whole file.
pub(crate) fn list(text: &mut LongText) -> fmt::Result {
    text.write_str(HEADING)?;
    let mut place = Bound::Unbounded;
    while let Some((number, socket)) = first_behind(place) {
        text.write_str(&line(&socket).unwrap_or_default())?;
        place = Bound::Excluded(number);
    }
    Ok(())
}

/// The first socket behind a place in [`SOCKETS`]. Not to be dropped under the lock, which its end takes.
fn first_behind(place: Bound<u64>) -> Option<(u64, Arc<Socket>)> {
    let sockets = SOCKETS.lock();
    sockets.range((place, Bound::Unbounded)).find_map(|(number, socket)| Some((*number, socket.upgrade()?)))
}

fn line(socket: &Arc<Socket>) -> Option<String> {
    let unix: &Unix = socket.unix()?;
    let (flags, state, name) = {
        let state = unix.state.lock();
        let (flags, number) = match &state.role {
            Role::Listener { .. } => (LISTENS, UNCONNECTED),
            Role::Connected(_) => (0, CONNECTED),
            Role::Fresh | Role::Closed => (0, UNCONNECTED),
        };
        (flags, number, state.name.clone())
    };
    let inode = socket.inode();
    // The list's own reference is not counted.
    let references = Arc::strong_count(socket) - 1;
    let kind = kind_number(socket);
    Some(format!(
        "{inode:016x}: {references:08X} 00000000 {flags:08X} {kind:04X} {state:02X} {inode:5}{}\n",
        shown(&name)
    ))
}

/// A name as Linux shows it: `@` stands for what cannot be printed at the start of an abstract one.
fn shown(name: &UnixName) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "@");
    match name {
        UnixName::Unnamed => String::new(),
        UnixName::Path(path) => format!(" {}", text(path)),
        UnixName::Abstract(name) => format!(" @{}", text(name)),
    }
}
