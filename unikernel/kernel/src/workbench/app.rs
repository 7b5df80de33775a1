//! What apps of tests have in place of a C library.

pub(super) mod calls;
pub(super) mod files;
pub(super) mod net;
pub(super) mod ring;
pub(super) mod run;
pub(super) mod wait;

use alloc::vec::Vec;
use std::boxed::Box;

use linux_raw_sys::{errno, general as linux};
pub(in crate::workbench) use unikernel_hal::sim::machine::{Machine, Outcome};
use unikernel_hal::sim::{app, faults};

/// A system call's result: a value, or the error number.
pub(in crate::workbench) type Result<T = u64> = core::result::Result<T, i32>;

/// Makes a system call. Where memory is refused that there is ([`faults`]), it is made again: a refused call has done nothing.
pub(in crate::workbench) fn call(number: u32, arguments: &[u64]) -> Result {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    loop {
        match app::system_call(number.into(), all) {
            error @ -4095..0 if faults::may_refuse() && is_refusal(number, -error as u32) => {}
            error @ -4095..0 => return Err(-error as i32),
            value => return Ok(value as u64),
        }
    }
}

/// True for the errors by which calls say that there is no memory.
fn is_refusal(number: u32, error: u32) -> bool {
    match error {
        errno::ENOMEM | errno::ENOBUFS | errno::ENOLCK => true,
        errno::EAGAIN => matches!(number, linux::__NR_clone | linux::__NR_clone3 | linux::__NR_timer_create),
        _ => false,
    }
}

/// Maps `len` bytes of zeros.
pub(in crate::workbench) fn map(len: usize) -> u64 {
    const NOWHERE: u64 = u64::MAX;
    let (protection, flags) =
        (linux::PROT_READ | linux::PROT_WRITE, linux::MAP_PRIVATE | linux::MAP_ANONYMOUS);
    call(linux::__NR_mmap, &[0, len as u64, protection.into(), flags.into(), NOWHERE, 0]).expect("memory")
}

/// Bytes in the app's memory.
pub(in crate::workbench) fn put(bytes: &[u8]) -> u64 {
    let address = map(bytes.len().max(1));
    app::write(address, bytes);
    address
}

/// A string in the app's memory.
pub(in crate::workbench) fn text(text: &str) -> u64 {
    put(&[text.as_bytes(), b"\0"].concat())
}

/// Bytes of the app's memory.
pub(in crate::workbench) fn get(address: u64, len: usize) -> Vec<u8> {
    let mut bytes = alloc::vec![0; len];
    app::read(address, &mut bytes);
    bytes
}

/// A word of the app's memory.
pub(in crate::workbench) fn word(address: u64) -> u32 {
    let mut bytes = [0; 4];
    app::read(address, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Starts a thread of the app; answers its id, and where that becomes 0 when it has ended.
pub(in crate::workbench) fn spawn(job: impl FnOnce() + 'static) -> Result<(u64, u64)> {
    const STACK_BYTES: usize = 16 << 10;
    let stack = map(STACK_BYTES);
    let top = stack + STACK_BYTES as u64 - 64;
    app::set_job(top, Box::new(job));
    let flags = linux::CLONE_VM
        | linux::CLONE_FS
        | linux::CLONE_FILES
        | linux::CLONE_SIGHAND
        | linux::CLONE_THREAD
        | linux::CLONE_SYSVSEM
        | linux::CLONE_PARENT_SETTID
        | linux::CLONE_CHILD_CLEARTID;
    let id = call(linux::__NR_clone, &[flags.into(), top, stack, stack, 0])?;
    Ok((id, stack))
}

/// Waits until a thread has ended.
pub(in crate::workbench) fn join((_, word_address): (u64, u64)) {
    loop {
        let value = word(word_address);
        if value == 0 {
            return;
        }
        let _ = call(linux::__NR_futex, &[word_address, linux::FUTEX_WAIT.into(), value.into(), 0]);
    }
}
