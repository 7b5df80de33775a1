//! The end of a module: nobody uses it, it ends itself, and what it has left is taken away.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{MODULES, Module, State, by_name, device, disk, hook, sysfs, turn, work};
use crate::abi::Errno;
use crate::mem::space;

/// Unloads a module: `EBUSY` while anybody uses it. (Linux has `EWOULDBLOCK` for that, and `EBUSY` for a module that is coming or going.)
pub(crate) fn unload(name: &str) -> Result<(), Errno> {
    let _turn = turn();
    let module = by_name(name).filter(|module| !module.is_built_in()).ok_or(Errno::ENOENT)?;
    {
        let mut usage = module.usage.lock();
        if usage.holders > 0 {
            return Err(Errno::EBUSY);
        }
        usage.state = State::Unloading;
    }
    module.loaded.exit(module.number);
    log::info!("module {}: unloaded", module.name);
    take_away(module);
    Ok(())
}

/// Takes away what is left of a module that has ended, or has not begun.
pub(super) fn take_away(module: Arc<Module>) {
    module.usage.lock().state = State::Unloading;
    device::remove_all(module.number);
    disk::remove_all(module.number);
    work::cancel_all(module.number);
    hook::remove_all(module.number);
    // It cannot be asked any more: its devices are kept from memory, and what they shared with it is free then.
    let forgotten = unikernel_hal::module::release_all(module.number);
    if forgotten > 0 {
        log::warn!("module {}: it has not given back {forgotten} bytes that devices use", module.name);
        module.charged.fetch_sub(forgotten, Ordering::Relaxed);
    }
    sysfs::remove(&module);
    // What was on the list may end here, which takes other locks.
    let removed = {
        let mut modules = MODULES.lock();
        let place = modules.iter().position(|known| known.number == module.number);
        place.map(|place| modules.remove(place))
    };
    let leaked = module.charged.load(Ordering::Relaxed);
    if leaked > 0 {
        log::warn!("module {}: it has not given back {leaked} bytes of memory", module.name);
    }
    drop((removed, module));
    free_memory();
}

/// Takes out of memory what nobody uses any more.
pub(super) fn free_memory() {
    if unikernel_hal::module::has_retired() {
        space::locked(unikernel_hal::module::free_retired);
    }
}
