//! Names of `AF_UNIX` sockets (unix(7)): paths lead to files ([`Paths`]), abstract names are a table.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use linux_raw_sys::net::AF_UNIX;
use spin::Once;

use super::SocketType;
use crate::abi::Errno;
use crate::net::socket::Socket;
use crate::platform::random;
use crate::sync::SpinLock;

/// Bytes of `sun_path`.
const MAX_NAME_BYTES: usize = 108;

/// What a socket is called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum UnixName {
    /// Nothing.
    #[default]
    Unnamed,
    /// A node of the file tree.
    Path(Vec<u8>),
    /// A name of its own kind: any bytes.
    Abstract(Vec<u8>),
}

impl UnixName {
    /// Reads the part of an address behind the family.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        match bytes {
            [] => Ok(Self::Unnamed),
            _ if bytes.len() > MAX_NAME_BYTES => Err(Errno::EINVAL),
            [0, name @ ..] => Ok(Self::Abstract(name.to_vec())),
            path => {
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                Ok(Self::Path(path[..end].to_vec()))
            }
        }
    }

    /// The whole address.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = (AF_UNIX as u16).to_ne_bytes().to_vec();
        match self {
            Self::Unnamed => {}
            Self::Path(path) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Self::Abstract(name) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
        }
        bytes
    }
}

/// Who has files by which sockets are found.
pub(crate) trait Paths: Sync {
    /// Why a path could not become a socket's name.
    fn check(&self, path: &[u8]) -> Result<(), Errno>;
    /// Makes a file that leads to a socket.
    fn bind(&self, path: &[u8], socket: &Weak<Socket>) -> Result<(), Errno>;
    /// The socket to which a path leads; `None` if the file is no socket's, or its socket is gone.
    fn find(&self, path: &[u8]) -> Result<Option<Arc<Socket>>, Errno>;
}

static PATHS: Once<&'static dyn Paths> = Once::new();

/// Sets who has files by which sockets are found.
pub(crate) fn set_paths(paths: &'static dyn Paths) {
    PATHS.call_once(|| paths);
}

/// Who has them.
///
/// # Panics
///
/// Before [`set_paths`].
pub(super) fn paths() -> &'static dyn Paths {
    *PATHS.get().expect("they are set before the app starts")
}

/// Each type has names of its own.
type AbstractNames = BTreeMap<(SocketType, Vec<u8>), Weak<Socket>>;

static ABSTRACT: SpinLock<AbstractNames> = SpinLock::new(BTreeMap::new());

/// Gives a socket a name; answers the name, which the kernel picks if none is given.
pub(super) fn bind(
    socket: &Weak<Socket>,
    socket_type: SocketType,
    name: UnixName,
) -> Result<UnixName, Errno> {
    match name {
        UnixName::Path(path) => paths().bind(&path, socket).map(|()| UnixName::Path(path)),
        UnixName::Abstract(name) => bind_abstract(socket, socket_type, name),
        UnixName::Unnamed => bind_to_any(socket, socket_type),
    }
}

/// Picks an abstract name: of all that there are at most, from some place on, the first that nobody has.
fn bind_to_any(socket: &Weak<Socket>, socket_type: SocketType) -> Result<UnixName, Errno> {
    const NAMES: u64 = 1 << 20;
    let first = random::next_u64();
    for step in 0..NAMES {
        let name = format!("{:05x}", first.wrapping_add(step) % NAMES).into_bytes();
        match bind_abstract(socket, socket_type, name) {
            Err(Errno::EADDRINUSE) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::ENOSPC)
}

fn bind_abstract(socket: &Weak<Socket>, socket_type: SocketType, name: Vec<u8>) -> Result<UnixName, Errno> {
    let mut names = ABSTRACT.lock();
    let key = (socket_type, name.clone());
    if names.get(&key).is_some_and(|holder| holder.strong_count() > 0) {
        return Err(Errno::EADDRINUSE);
    }
    names.insert(key, Weak::clone(socket));
    Ok(UnixName::Abstract(name))
}

/// The socket with a name.
pub(super) fn find(name: &UnixName, socket_type: SocketType) -> Result<Arc<Socket>, Errno> {
    let socket = match name {
        UnixName::Unnamed => return Err(Errno::EINVAL),
        UnixName::Abstract(name) => ABSTRACT.lock().get(&(socket_type, name.clone())).and_then(Weak::upgrade),
        UnixName::Path(path) => paths().find(path)?,
    };
    socket.ok_or(Errno::ECONNREFUSED)
}

/// Gives an abstract name back; a path stays until it is unlinked.
pub(super) fn release(name: &UnixName, socket_type: SocketType) {
    if let UnixName::Abstract(name) = name {
        let removed = ABSTRACT.lock().remove(&(socket_type, name.clone()));
        drop(removed);
    }
}
