//! io_uring_register(2).

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use linux_raw_sys::io_uring::*;

use super::Ring;
use super::buffers::{MAX_BUFFERS, read_files, read_replacements};
use super::operation::{is_supported, opcode};
use crate::abi::{Errno, SysResult};
use crate::event::eventfd::EventFd;
use crate::file;
use crate::mem::user::{UserAbi, UserPtr, UserSlice};
use crate::ops::buffers::RawBuffer;
use crate::task::current;
use crate::task::release::release;

/// `io_uring_files_update`: the first index, and where the descriptors are.
type FilesUpdate = [u64; 2];
/// Bytes of `struct io_uring_probe` before its operations.
const PROBE_HEADER_BYTES: u64 = 16;
/// Registered sparsely: the table has no files yet (`IORING_RSRC_REGISTER_SPARSE`).
const SPARSE: u32 = IORING_RSRC_REGISTER_SPARSE;

impl Ring {
    /// Does one registration.
    pub(crate) fn register(&self, operation: u32, argument: u64, count: u32) -> SysResult {
        use io_uring_register_op as op;
        let is = |wanted: op| operation == wanted as u32;
        match () {
            () if is(op::IORING_REGISTER_BUFFERS) => self.set_buffers(UserPtr::new(argument), count),
            () if is(op::IORING_UNREGISTER_BUFFERS) => {
                let before = core::mem::take(&mut self.registered.lock().buffers);
                if before.is_empty() { Err(Errno::ENXIO) } else { Ok(0) }
            }
            () if is(op::IORING_REGISTER_FILES) => self.set_files(Some(UserPtr::new(argument)), count),
            () if is(op::IORING_UNREGISTER_FILES) => {
                let before = core::mem::take(&mut self.registered.lock().files);
                if before.is_empty() {
                    return Err(Errno::ENXIO);
                }
                release(before.into_iter().flatten());
                Ok(0)
            }
            () if is(op::IORING_REGISTER_FILES_UPDATE) => {
                let [first, descriptors] = UserPtr::<FilesUpdate>::new(argument).read()?;
                self.update_files(first as u32, UserPtr::new(descriptors), count)
            }
            () if is(op::IORING_REGISTER_FILES2) || is(op::IORING_REGISTER_BUFFERS2) => {
                let table: io_uring_rsrc_register = sized(argument, count)?;
                self.register_tagged(is(op::IORING_REGISTER_FILES2), &table)
            }
            () if is(op::IORING_REGISTER_FILES_UPDATE2) => {
                let update: io_uring_rsrc_update2 = sized(argument, count)?;
                self.update_files(update.offset, UserPtr::new(update.data), update.nr)
            }
            () if is(op::IORING_REGISTER_EVENTFD) || is(op::IORING_REGISTER_EVENTFD_ASYNC) => {
                self.set_eventfd(UserPtr::<i32>::new(argument).read()?)
            }
            () if is(op::IORING_UNREGISTER_EVENTFD) => {
                let before = self.registered.lock().eventfd.take();
                before.map(|_| 0).ok_or(Errno::ENXIO)
            }
            () if is(op::IORING_REGISTER_PROBE) => probe(argument, count),
            () if is(op::IORING_REGISTER_ENABLE_RINGS) => {
                if self.issuer.load(Ordering::Relaxed) != 0 {
                    self.issuer.store(current().id, Ordering::Relaxed);
                }
                let was_enabled = self.is_enabled.swap(true, Ordering::Relaxed);
                if let Some(poller) = &self.poller {
                    poller.call();
                }
                if was_enabled { Err(Errno::EBADFD) } else { Ok(0) }
            }
            () if is(op::IORING_REGISTER_PBUF_RING) => {
                let ring: io_uring_buf_reg = UserPtr::new(argument).read()?;
                self.registered.lock().add_ring(&ring)
            }
            () if is(op::IORING_UNREGISTER_PBUF_RING) => {
                let ring: io_uring_buf_reg = UserPtr::new(argument).read()?;
                self.registered.lock().remove_ring(ring.bgid)
            }
            () if is(op::IORING_REGISTER_PBUF_STATUS) => {
                let place = UserPtr::<io_uring_buf_status>::new(argument);
                let mut status = place.read()?;
                let head = self.registered.lock().ring_head(status.buf_group as u16)?;
                status.head = u32::from(head);
                place.write(status)?;
                Ok(0)
            }
            () if is(op::IORING_REGISTER_SYNC_CANCEL) => self.cancel_now(UserPtr::new(argument)),
            // There are no worker threads to bind or to limit; what is asked for is so already.
            () if is(op::IORING_REGISTER_IOWQ_AFF) || is(op::IORING_UNREGISTER_IOWQ_AFF) => Ok(0),
            () if is(op::IORING_REGISTER_IOWQ_MAX_WORKERS) => {
                UserPtr::<[u32; 2]>::new(argument).write([0; 2])?;
                Ok(0)
            }
            () => Err(Errno::EINVAL),
        }
    }

    fn set_buffers(&self, list: UserPtr<RawBuffer>, count: u32) -> SysResult {
        if count == 0 || count as usize > MAX_BUFFERS {
            return Err(Errno::EINVAL);
        }
        let read = |index| {
            let [address, len] = list.element(index).read()?;
            let len = usize::try_from(len).map_err(|_| Errno::EFAULT)?;
            if address == 0 && len != 0 { Err(Errno::EFAULT) } else { Ok(UserSlice::new(address, len)) }
        };
        let mut buffers = Vec::new();
        buffers.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
        for index in 0..count as usize {
            buffers.push(read(index)?);
        }
        let mut registered = self.registered.lock();
        if !registered.buffers.is_empty() {
            return Err(Errno::EBUSY);
        }
        registered.buffers = buffers;
        Ok(0)
    }

    fn set_files(&self, descriptors: Option<UserPtr<i32>>, count: u32) -> SysResult {
        if !self.registered.lock().files.is_empty() {
            return Err(Errno::EBUSY);
        }
        let files = read_files(descriptors, count)?;
        // Let go of before the files are.
        let mut registered = self.registered.lock();
        if !registered.files.is_empty() {
            return Err(Errno::EBUSY);
        }
        registered.files = files;
        Ok(0)
    }

    /// Replaces registered files. The app's array is read before anything is changed.
    pub(super) fn update_files(&self, first: u32, descriptors: UserPtr<i32>, count: u32) -> SysResult {
        self.registered.lock().check_update(first, count)?;
        let mut files = read_replacements(descriptors, count)?;
        let replaced = files.len();
        self.registered.lock().exchange_files(first, &mut files)?;
        release(files.into_iter().flatten().flatten());
        Ok(replaced)
    }

    fn register_tagged(&self, are_files: bool, table: &io_uring_rsrc_register) -> SysResult {
        let is_sparse = table.flags & SPARSE != 0;
        // Tags would announce when a file is let go (IORING_FEAT_RSRC_TAGS, which is not claimed).
        if table.flags & !SPARSE != 0 || table.tags != 0 || is_sparse && table.data != 0 {
            return Err(Errno::EINVAL);
        }
        match (are_files, is_sparse) {
            (true, true) => self.set_files(None, table.nr),
            (true, false) => self.set_files(Some(UserPtr::new(table.data)), table.nr),
            (false, true) => {
                let count = (table.nr as usize).min(MAX_BUFFERS);
                let mut buffers = Vec::new();
                buffers.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
                buffers.resize(count, UserSlice::new(0, 0));
                self.registered.lock().buffers = buffers;
                Ok(0)
            }
            (false, false) => self.set_buffers(UserPtr::new(table.data), table.nr),
        }
    }

    fn set_eventfd(&self, descriptor: i32) -> SysResult {
        let opened = file::get(descriptor)?;
        opened.downcast::<EventFd>().ok_or(Errno::EINVAL)?;
        let mut registered = self.registered.lock();
        if registered.eventfd.is_some() {
            return Err(Errno::EBUSY);
        }
        registered.eventfd = Some(opened);
        Ok(0)
    }

    fn cancel_now(&self, argument: UserPtr<io_uring_sync_cancel_reg>) -> SysResult {
        let asked = argument.read()?;
        let target = self.target(asked.flags, asked.addr, asked.fd, asked.opcode)?;
        let result = self.end_all(&target);
        self.announce();
        result
    }
}

/// Reads a structure whose size the app names.
fn sized<T: UserAbi>(argument: u64, size: u32) -> Result<T, Errno> {
    if size as usize != size_of::<T>() {
        return Err(Errno::EINVAL);
    }
    Ok(UserPtr::<T>::new(argument).read()?)
}

fn probe(argument: u64, count: u32) -> SysResult {
    if count > 256 {
        return Err(Errno::EINVAL);
    }
    let last = opcode::ALL.iter().max().copied().unwrap_or(0);
    let len = count.min(u32::from(last) + 1) as u8;
    UserPtr::<[u8; 16]>::new(argument).write([last, len, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    let entries = UserPtr::<io_uring_probe_op>::new(argument + PROBE_HEADER_BYTES);
    for op in 0..len {
        let flags = if is_supported(op) { IO_URING_OP_SUPPORTED as u16 } else { 0 };
        entries.element(op.into()).write(io_uring_probe_op { op, resv: 0, flags, resv2: 0 })?;
    }
    Ok(0)
}
