//! The app's descriptors: one table, whose logic is `unikernel_fs::DescriptorTable`.

use alloc::sync::Arc;

use linux_raw_sys::general::O_CLOEXEC;
use spin::Once;
use unikernel_fs::{DescriptorTable, TableFull};

use super::{FileFlags, OpenFile};
use crate::abi::Errno;
use crate::kmem::room;
use crate::sync::SpinLock;

/// Descriptors that an app may have at most; it may want fewer (`RLIMIT_NOFILE`). The table grows as they are used.
const MAX_DESCRIPTORS: usize = crate::task::limits::MAX_OPEN_FILES as usize;

/// What becomes of a descriptor when another program takes the place of this one (execve(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed (`FD_CLOEXEC`).
    Close,
}

struct Slot {
    file: Arc<OpenFile>,
    on_exec: OnExec,
}

static TABLE: SpinLock<DescriptorTable<Slot>> = SpinLock::new(DescriptorTable::new(MAX_DESCRIPTORS));

/// Gives out no descriptors from `limit` on.
pub(crate) fn set_limit(limit: usize) {
    TABLE.lock().set_limit(limit.min(MAX_DESCRIPTORS));
}

fn index(descriptor: i32) -> Result<usize, Errno> {
    usize::try_from(descriptor).map_err(|_| Errno::EBADF)
}

/// The open file behind a descriptor, for calls that do something with the file. One that only names it
/// (`O_PATH`) will not do.
#[inline]
pub(crate) fn get(descriptor: i32) -> Result<Arc<OpenFile>, Errno> {
    let opened = get_any(descriptor)?;
    if opened.flags().contains(FileFlags::PATH) { Err(Errno::EBADF) } else { Ok(opened) }
}

/// The open file behind a descriptor, for calls that are about the descriptor, or the file's name.
#[inline]
pub(crate) fn get_any(descriptor: i32) -> Result<Arc<OpenFile>, Errno> {
    // A negative number becomes one that is too high.
    let table = TABLE.lock();
    let slot = table.get(descriptor as u32 as usize).ok_or(Errno::EBADF)?;
    Ok(Arc::clone(&slot.file))
}

fn errno_of(full: TableFull, at_limit: Errno) -> Errno {
    match full {
        TableFull::Limit => at_limit,
        TableFull::Memory => Errno::ENOMEM,
    }
}

/// Gives an open file the lowest free descriptor.
pub(crate) fn install(file: Arc<OpenFile>, on_exec: OnExec) -> Result<usize, Errno> {
    install_from(0, file, on_exec)
}

/// Gives an open file the lowest free descriptor that is not below `lowest`.
pub(crate) fn install_from(lowest: usize, file: Arc<OpenFile>, on_exec: OnExec) -> Result<usize, Errno> {
    // Descriptors do not only come from calls that asked for room: rings accept by themselves.
    room::ask()?;
    let added = TABLE.lock().add(lowest, Slot { file, on_exec });
    added.map_err(|(full, _slot)| errno_of(full, Errno::EMFILE))
}

/// A descriptor for what there is not yet. Who takes something that cannot be put back, such as a connection, has one first: so the lack
/// of one loses nothing. It is given back when this is dropped.
#[must_use = "dropping it gives the descriptor back"]
pub(crate) struct Reserved(usize);

/// Reserves the lowest free descriptor.
pub(crate) fn reserve() -> Result<Reserved, Errno> {
    room::ask()?;
    let reserved = TABLE.lock().reserve();
    reserved.map(Reserved).map_err(|full| errno_of(full, Errno::EMFILE))
}

impl Reserved {
    /// Gives it an open file.
    pub(crate) fn install(self, file: Arc<OpenFile>, on_exec: OnExec) -> usize {
        TABLE.lock().fill(self.0, Slot { file, on_exec });
        let descriptor = self.0;
        core::mem::forget(self);
        descriptor
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        TABLE.lock().unreserve(self.0);
    }
}

/// Gives an open file this descriptor, closing what had it. `EBUSY` if it is reserved, as on Linux.
pub(crate) fn replace(descriptor: i32, file: Arc<OpenFile>, on_exec: OnExec) -> Result<usize, Errno> {
    let index = index(descriptor)?;
    let replaced = {
        let mut table = TABLE.lock();
        if table.is_reserved(index) {
            return Err(Errno::EBUSY);
        }
        table.replace(index, Slot { file, on_exec })
    };
    // Closing may take other locks, so it waits until the table's is released.
    drop(replaced.map_err(|(full, _slot)| errno_of(full, Errno::EBADF))?);
    tell_closed();
    Ok(index)
}

/// Who looks for files that nobody can reach any more.
static COLLECTOR: Once<fn()> = Once::new();

/// Sets who looks, whenever a descriptor has been closed, for files that nobody can reach any more. It is called without locks.
pub(crate) fn set_collector(collect: fn()) {
    COLLECTOR.call_once(|| collect);
}

#[inline]
fn tell_closed() {
    if let Some(collect) = COLLECTOR.get() {
        collect();
    }
}

/// Frees a descriptor.
pub(crate) fn close(descriptor: i32) -> Result<(), Errno> {
    let slot = TABLE.lock().remove(index(descriptor)?);
    slot.map(drop).ok_or(Errno::EBADF)?;
    tell_closed();
    Ok(())
}

/// What is to become of a descriptor at `execve`.
pub(crate) fn on_exec(descriptor: i32) -> Result<OnExec, Errno> {
    let table = TABLE.lock();
    table.get(index(descriptor)?).map(|slot| slot.on_exec).ok_or(Errno::EBADF)
}

/// Sets what is to become of a descriptor at `execve`.
pub(crate) fn set_on_exec(descriptor: i32, on_exec: OnExec) -> Result<(), Errno> {
    let mut table = TABLE.lock();
    let slot = table.get_mut(index(descriptor)?).ok_or(Errno::EBADF)?;
    slot.on_exec = on_exec;
    Ok(())
}

/// The descriptors in use between two bounds, both included; each is looked for when its turn comes.
pub(crate) fn in_use(first: usize, last: usize) -> impl Iterator<Item = i32> {
    let mut next = first;
    core::iter::from_fn(move || {
        let found = TABLE.lock().first_in_use(next).filter(|&found| found <= last)?;
        next = found + 1;
        Some(found as i32)
    })
}

/// Descriptors from this number on have never been used.
pub(crate) fn span() -> usize {
    TABLE.lock().span()
}

/// How many descriptors are in use.
pub(crate) fn count() -> usize {
    TABLE.lock().len()
}

/// The close-on-exec choice in a word of `O_*` flags (`EFD_CLOEXEC` and relatives are the same bit).
pub(crate) fn on_exec_of(flags: u32) -> OnExec {
    if flags & O_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep }
}
