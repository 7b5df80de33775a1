//! What is registered with a ring: files by index, buffers by index, and groups of buffers from which the
//! kernel takes one when there is something to put in (io_uring_register(2)).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use linux_raw_sys::io_uring::*;

use super::Ring;
use crate::abi::{Errno, SysResult};
use crate::file::{self, AttemptError, OpenFile};
use crate::kmem::room;
use crate::mem::user::{UserPtr, UserSlice};
use crate::task::scheduler::breathe_now_and_then;

/// Registered files at most (Linux: the limit of descriptors).
const MAX_FILES: usize = 65_536;
/// Registered buffers at most (Linux: `IORING_MAX_REG_BUFFERS`).
pub(super) const MAX_BUFFERS: usize = 16_384;
/// Buffers in a group at most: their numbers have 16 bits.
const MAX_PROVIDED: usize = 65_536;
/// Entries of a buffer ring at most (Linux: 32,768).
const MAX_RING_ENTRIES: u32 = 32_768;
/// `struct io_uring_buf`: address, length, number.
const RING_BUFFER_BYTES: u64 = 16;
/// Where the tail lies in the ring: in the part of the first entry that entries leave free.
const RING_TAIL: u64 = 14;

/// A provided buffer that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selected {
    pub(super) buffer: UserSlice<'static>,
    pub(super) number: u16,
    /// Its entry, if it comes from a ring.
    position: u16,
}

impl Selected {
    /// What the completion says of it.
    pub(super) fn cqe_flags(&self) -> u32 {
        IORING_CQE_F_BUFFER | u32::from(self.number) << IORING_CQE_BUFFER_SHIFT
    }
}

/// What comes in a registered file's place: a file or none, or what is there stays.
pub(super) type Replacement = Option<Option<Arc<OpenFile>>>;

enum Group {
    /// By `IORING_OP_PROVIDE_BUFFERS`.
    List(VecDeque<Selected>),
    /// In a ring in the app's memory, whose tail the app moves.
    Ring { address: u64, mask: u16, head: u16 },
}

/// See the module.
#[derive(Default)]
pub(super) struct Registered {
    pub(super) files: Vec<Option<Arc<OpenFile>>>,
    pub(super) buffers: Vec<UserSlice<'static>>,
    pub(super) eventfd: Option<Arc<OpenFile>>,
    groups: HashMap<u16, Group>,
}

impl Registered {
    /// The file at an index.
    pub(super) fn file(&self, index: u32) -> Result<Arc<OpenFile>, Errno> {
        self.files.get(index as usize).and_then(Option::clone).ok_or(Errno::EBADF)
    }

    /// Exchanges files from an index on with those of `others` that are not to be skipped. What was there is for the
    /// caller to let go, who holds no lock then.
    pub(super) fn exchange_files(&mut self, first: u32, others: &mut [Replacement]) -> Result<(), Errno> {
        self.check_update(first, others.len() as u32)?;
        for (file, other) in self.files[first as usize..].iter_mut().zip(others) {
            if let Some(other) = other {
                core::mem::swap(file, other);
            }
        }
        Ok(())
    }

    /// Whether so many files from an index on are there to be replaced.
    pub(super) fn check_update(&self, first: u32, count: u32) -> Result<(), Errno> {
        if self.files.is_empty() {
            return Err(Errno::ENXIO);
        }
        let end = first.checked_add(count).ok_or(Errno::EINVAL)?;
        if end as usize > self.files.len() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Puts a file at `index - 1`, or at a free index for `IORING_FILE_INDEX_ALLOC`, and answers that; with
    /// what was there. That, and the caller's reference, are for the caller to let go, who holds no lock then.
    pub(super) fn place_file(
        &mut self,
        opened: &Arc<OpenFile>,
        index: u32,
    ) -> Result<(usize, Option<Arc<OpenFile>>), Errno> {
        if self.files.is_empty() {
            return Err(Errno::ENXIO);
        }
        if index == IORING_FILE_INDEX_ALLOC as u32 {
            let free = self.files.iter().position(Option::is_none).ok_or(Errno::ENFILE)?;
            self.files[free] = Some(Arc::clone(opened));
            return Ok((free, None));
        }
        let slot = self.files.get_mut((index as usize).wrapping_sub(1)).ok_or(Errno::EINVAL)?;
        Ok((0, slot.replace(Arc::clone(opened))))
    }

    /// Takes a file out.
    pub(super) fn remove_file(&mut self, index: u32) -> Result<Arc<OpenFile>, Errno> {
        self.files.get_mut(index as usize).ok_or(Errno::EINVAL)?.take().ok_or(Errno::EBADF)
    }

    /// Adds `count` buffers of the length of `first`, one behind the other, to a group.
    pub(super) fn provide(&mut self, group: u16, first: UserSlice, count: u32, number: u16) -> SysResult {
        if count == 0 || count as usize > MAX_PROVIDED || first.is_empty() {
            return Err(Errno::EINVAL);
        }
        self.groups.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let group = self.groups.entry(group).or_insert_with(|| Group::List(VecDeque::new()));
        let Group::List(list) = group else { return Err(Errno::EINVAL) };
        if list.len() + count as usize > MAX_PROVIDED {
            return Err(Errno::EOVERFLOW);
        }
        list.try_reserve(count as usize).map_err(|_| Errno::ENOMEM)?;
        for index in 0..count as u16 {
            let address = first.address().wrapping_add(u64::from(index) * first.len() as u64);
            let buffer = UserSlice::new(address, first.len());
            list.push_back(Selected { buffer, number: number.wrapping_add(index), position: 0 });
        }
        Ok(0)
    }

    /// Takes up to `count` buffers back; answers how many.
    pub(super) fn unprovide(&mut self, group: u16, count: u32) -> SysResult {
        let Some(Group::List(list)) = self.groups.get_mut(&group) else { return Err(Errno::ENOENT) };
        let count = list.len().min(count as usize);
        list.drain(..count);
        Ok(count)
    }

    /// `IORING_REGISTER_PBUF_RING`.
    pub(super) fn add_ring(&mut self, ring: &io_uring_buf_reg) -> SysResult {
        let entries = ring.ring_entries;
        let is_bad = !entries.is_power_of_two() || entries > MAX_RING_ENTRIES;
        // Rings in the kernel's memory, and buffers that are used bit by bit, are later additions.
        if is_bad || ring.flags != 0 || ring.ring_addr == 0 || !ring.ring_addr.is_multiple_of(4096) {
            return Err(Errno::EINVAL);
        }
        match self.groups.get(&ring.bgid) {
            Some(Group::List(list)) if list.is_empty() => {}
            Some(_) => return Err(Errno::EEXIST),
            None => {}
        }
        let group = Group::Ring { address: ring.ring_addr, mask: (entries - 1) as u16, head: 0 };
        self.groups.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.groups.insert(ring.bgid, group);
        Ok(0)
    }

    /// `IORING_UNREGISTER_PBUF_RING`.
    pub(super) fn remove_ring(&mut self, group: u16) -> SysResult {
        match self.groups.get(&group) {
            Some(Group::Ring { .. }) => {
                self.groups.remove(&group);
                Ok(0)
            }
            Some(Group::List(_)) => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    /// How far a buffer ring was used (`IORING_REGISTER_PBUF_STATUS`).
    pub(super) fn ring_head(&self, group: u16) -> Result<u16, Errno> {
        match self.groups.get(&group) {
            Some(Group::Ring { head, .. }) => Ok(*head),
            Some(Group::List(_)) => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    /// True if a group has a buffer.
    pub(super) fn has_buffer(&self, group: u16) -> Result<bool, AttemptError> {
        Ok(match self.groups.get(&group) {
            Some(Group::List(list)) => !list.is_empty(),
            Some(Group::Ring { address, head, .. }) => {
                UserPtr::<u16>::new(*address + RING_TAIL).try_read()? != *head
            }
            None => false,
        })
    }

    /// Takes a buffer of a group, cut to `len` unless that is 0.
    pub(super) fn select(&mut self, group: u16, len: usize) -> Result<Selected, AttemptError> {
        let selected = match self.groups.get_mut(&group).ok_or(Errno::ENOBUFS)? {
            Group::List(list) => list.pop_front().ok_or(Errno::ENOBUFS)?,
            Group::Ring { address, mask, head } => {
                let tail = UserPtr::<u16>::new(*address + RING_TAIL).try_read()?;
                if tail == *head {
                    return Err(Errno::ENOBUFS.into());
                }
                let entry = *address + u64::from(*head & *mask) * RING_BUFFER_BYTES;
                let [place, rest] = UserPtr::<[u64; 2]>::new(entry).try_read()?;
                let position = *head;
                *head = head.wrapping_add(1);
                // Length and number share a word.
                let buffer = UserSlice::new(place, rest as u32 as usize);
                Selected { buffer, number: (rest >> 32) as u16, position }
            }
        };
        let buffer = if len == 0 { selected.buffer } else { selected.buffer.truncate(len) };
        Ok(Selected { buffer, ..selected })
    }

    /// Puts a buffer that was not used back.
    pub(super) fn give_back(&mut self, group: u16, selected: Selected) {
        match self.groups.get_mut(&group) {
            Some(Group::List(list)) => list.push_front(selected),
            // Unless another request has taken the next: then the app misses this one until it starts anew.
            Some(Group::Ring { head, .. }) if *head == selected.position.wrapping_add(1) => {
                *head = selected.position;
            }
            _ => {}
        }
    }

    /// True if `range` lies in the registered buffer `index`.
    pub(super) fn holds(&self, index: u16, range: UserSlice) -> bool {
        self.buffers.get(index as usize).is_some_and(|buffer| {
            let start = range.address().checked_sub(buffer.address());
            start.is_some_and(|start| start.saturating_add(range.len() as u64) <= buffer.len() as u64)
        })
    }
}

/// The files to register for descriptors; -1 leaves an index free. Without descriptors all are free.
pub(super) fn read_files(
    descriptors: Option<UserPtr<i32>>,
    count: u32,
) -> Result<Vec<Option<Arc<OpenFile>>>, Errno> {
    if count == 0 || count as usize > MAX_FILES {
        return Err(if count == 0 { Errno::EINVAL } else { Errno::EMFILE });
    }
    let read = |index| match descriptors {
        Some(descriptors) => registrable(descriptors.element(index).read()?),
        None => Ok(None),
    };
    let mut files = Vec::new();
    files.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
    for index in 0..count as usize {
        files.push(read(index)?);
        breathe_now_and_then(index);
    }
    Ok(files)
}

/// The files that are to come in the place of registered ones, as far as there are such for the app's descriptors: the first
/// has to be one.
pub(super) fn read_replacements(descriptors: UserPtr<i32>, count: u32) -> Result<Vec<Replacement>, Errno> {
    let mut replacements = room::with_capacity(count as usize)?;
    let mut is_over = false;
    for index in 0..count as usize {
        // All are read, whether they are wanted or not.
        let descriptor = descriptors.element(index).read()?;
        let replacement = match descriptor {
            _ if is_over => continue,
            IORING_REGISTER_FILES_SKIP => Ok(None),
            descriptor => registrable(descriptor).map(Some),
        };
        match replacement {
            Ok(replacement) => replacements.push(replacement),
            Err(error) if index == 0 => return Err(error),
            Err(_) => is_over = true,
        }
        breathe_now_and_then(index);
    }
    Ok(replacements)
}

/// The file to register for a descriptor. Rings are not for registering: they could hold each other.
fn registrable(descriptor: i32) -> Result<Option<Arc<OpenFile>>, Errno> {
    if descriptor == -1 {
        return Ok(None);
    }
    let opened = file::get(descriptor)?;
    if opened.downcast::<Ring>().is_some() { Err(Errno::EBADF) } else { Ok(Some(opened)) }
}
