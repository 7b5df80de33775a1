//! The app's descriptors: numbers for open files, the lowest free one first (POSIX), found in
//! constant time.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::OpenFile;
use crate::sync::SpinLock;
use crate::syscall::Errno;

/// Descriptors that an app may have (`RLIMIT_NOFILE`). The table grows as they are used.
pub const MAX_DESCRIPTORS: usize = crate::syscall::identity::MAX_OPEN_FILES as usize;

/// What becomes of a descriptor at `execve`. No program is ever started here, but the app may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed (`FD_CLOEXEC`).
    Close,
}

struct Slot {
    file: Arc<OpenFile>,
    on_exec: OnExec,
}

struct Table {
    slots: Vec<Option<Slot>>,
    /// One bit a descriptor: taken or free. 64 descriptors are passed at a look.
    taken: Vec<u64>,
    /// No descriptor below this one is free.
    lowest_free: usize,
}

static TABLE: SpinLock<Table> = SpinLock::new(Table { slots: Vec::new(), taken: Vec::new(), lowest_free: 0 });

impl Table {
    /// The lowest free descriptor, not below `lowest`.
    fn find_free(&self, lowest: usize) -> usize {
        let first_word = lowest / 64;
        for (index, &taken) in self.taken.iter().enumerate().skip(first_word) {
            let below = if index == first_word { (1 << (lowest % 64)) - 1 } else { 0 };
            let free = !(taken | below);
            if free != 0 {
                return index * 64 + free.trailing_zeros() as usize;
            }
        }
        lowest.max(self.taken.len() * 64)
    }

    fn put(&mut self, descriptor: usize, slot: Slot) -> Option<Slot> {
        if descriptor >= self.slots.len() {
            self.slots.resize_with(descriptor + 1, || None);
            self.taken.resize(self.slots.len().div_ceil(64), 0);
        }
        self.taken[descriptor / 64] |= 1 << (descriptor % 64);
        self.slots[descriptor].replace(slot)
    }

    fn add(&mut self, lowest: usize, slot: Slot) -> Result<usize, Errno> {
        let descriptor = self.find_free(lowest.max(self.lowest_free));
        if descriptor >= MAX_DESCRIPTORS {
            return Err(Errno::EMFILE);
        }
        if lowest <= self.lowest_free {
            self.lowest_free = descriptor + 1;
        }
        self.put(descriptor, slot);
        Ok(descriptor)
    }

    fn take(&mut self, descriptor: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(descriptor)?.take()?;
        self.taken[descriptor / 64] &= !(1 << (descriptor % 64));
        self.lowest_free = self.lowest_free.min(descriptor);
        Some(slot)
    }

    fn slot(&mut self, descriptor: i32) -> Result<&mut Slot, Errno> {
        let slot = usize::try_from(descriptor).ok().and_then(|index| self.slots.get_mut(index)?.as_mut());
        slot.ok_or(Errno::EBADF)
    }
}

/// The open file behind a descriptor.
#[inline]
pub fn get(descriptor: i32) -> Result<Arc<OpenFile>, Errno> {
    let table = TABLE.lock();
    match table.slots.get(descriptor as u32 as usize) {
        Some(Some(slot)) => Ok(Arc::clone(&slot.file)),
        _ => Err(Errno::EBADF),
    }
}

/// Gives an open file the lowest free descriptor.
pub fn install(file: Arc<OpenFile>, on_exec: OnExec) -> Result<usize, Errno> {
    install_from(0, file, on_exec)
}

/// Gives an open file the lowest free descriptor that is not below `lowest`.
pub fn install_from(lowest: usize, file: Arc<OpenFile>, on_exec: OnExec) -> Result<usize, Errno> {
    TABLE.lock().add(lowest, Slot { file, on_exec })
}

/// Gives an open file this descriptor, closing what had it.
pub fn replace(descriptor: i32, file: Arc<OpenFile>, on_exec: OnExec) -> Result<usize, Errno> {
    let index =
        usize::try_from(descriptor).ok().filter(|&index| index < MAX_DESCRIPTORS).ok_or(Errno::EBADF)?;
    let before = TABLE.lock().put(index, Slot { file, on_exec });
    // Closing may take other locks, so it waits until the table's is released.
    drop(before);
    Ok(index)
}

/// Frees a descriptor.
pub fn close(descriptor: i32) -> Result<(), Errno> {
    let index = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
    let slot = TABLE.lock().take(index);
    slot.map(drop).ok_or(Errno::EBADF)
}

/// What is to become of a descriptor at `execve`.
pub fn on_exec(descriptor: i32) -> Result<OnExec, Errno> {
    TABLE.lock().slot(descriptor).map(|slot| slot.on_exec)
}

/// Sets what is to become of a descriptor at `execve`.
pub fn set_on_exec(descriptor: i32, on_exec: OnExec) -> Result<(), Errno> {
    TABLE.lock().slot(descriptor).map(|slot| slot.on_exec = on_exec)
}

/// The descriptors in use between two bounds, both included.
pub fn in_use(first: usize, last: usize) -> Vec<i32> {
    let table = TABLE.lock();
    let last = last.min(table.slots.len().saturating_sub(1));
    (first..=last)
        .filter(|&index| table.slots.get(index).is_some_and(Option::is_some))
        .map(|index| index as i32)
        .collect()
}

/// How many descriptors are in use.
pub fn count() -> usize {
    TABLE.lock().taken.iter().map(|word| word.count_ones() as usize).sum()
}
