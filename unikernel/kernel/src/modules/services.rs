//! What modules ask of the kernel.

use alloc::string::String;
use core::sync::atomic::Ordering;

use unikernel_cmdline::Shown;
use unikernel_hal::module::{Level, Services, UnboundDevice, UnboundDisk, UnboundHook, UnboundWork, Work};

use super::{by_number, device, disk, hook, work};
use crate::abi::Errno;
use crate::arch::{cpu, tlb};
use crate::kmem::room;
use crate::platform::time;
use crate::task::{WaitQueue, scheduler};

/// The kernel, as modules see it.
pub(super) struct Kernel;

/// What the module of this number is; a module that gives another number than its own asks for nothing.
macro_rules! module {
    ($number:expr) => {
        by_number($number).ok_or(Errno::EINVAL.number())?
    };
}

impl Services for Kernel {
    fn log(&self, module: u64, level: Level, text: &str) {
        let (name, text) = (self.name(module), Shown(text));
        match level {
            Level::Error => log::error!("{name}: {text}"),
            Level::Warn => log::warn!("{name}: {text}"),
            Level::Info => log::info!("{name}: {text}"),
            Level::Debug => log::debug!("{name}: {text}"),
        }
    }

    fn name(&self, module: u64) -> String {
        by_number(module).map_or_else(|| "(unknown)".into(), |module| String::from(&*module.name))
    }

    fn charge(&self, module: u64, bytes: isize) -> bool {
        let Some(module) = by_number(module) else { return false };
        if bytes > 0 && !room::is_left_for(bytes.unsigned_abs()) {
            return false;
        }
        module.charged.fetch_add(bytes as usize, Ordering::Relaxed);
        true
    }

    fn hold(&self, module: u64) -> bool {
        by_number(module).is_some_and(|module| module.hold())
    }

    fn release(&self, module: u64) {
        if let Some(module) = by_number(module) {
            module.release();
        }
    }

    fn add_work(&self, module: u64, delay_ns: u64, work: UnboundWork) -> Result<i64, i32> {
        let module = module!(module);
        let work = work.bind(module.loaded.code()).ok_or(Errno::EINVAL.number())?;
        work::add(module.number, delay_ns, work).map_err(Errno::number)
    }

    fn cancel_work(&self, module: u64, work: i64) -> bool {
        work::cancel(module, work)
    }

    fn add_device(&self, module: u64, name: &str, mode: u32, device: UnboundDevice) -> Result<i64, i32> {
        let module = module!(module);
        let device = device.bind(module.loaded.code()).ok_or(Errno::EINVAL.number())?;
        device::add(&module, name, mode, device).map_err(Errno::number)
    }

    fn remove_device(&self, module: u64, device: i64) {
        device::remove(module, device);
    }

    fn add_hook(&self, module: u64, place: u32, hook: UnboundHook) -> Result<i64, i32> {
        let module = module!(module);
        let hook = hook.bind(module.loaded.code()).ok_or(Errno::EINVAL.number())?;
        hook::add(module.number, place, hook).map_err(Errno::number)
    }

    fn remove_hook(&self, module: u64, hook: i64) {
        hook::remove(module, hook);
    }

    fn bind(&self, module: u64, work: UnboundWork) -> Result<Work, i32> {
        work.bind(module!(module).loaded.code()).ok_or(Errno::EINVAL.number())
    }

    fn add_disk(&self, module: u64, name: &str, disk: UnboundDisk) -> Result<i64, i32> {
        disk::add(&module!(module), name, disk).map_err(Errno::number)
    }

    fn remove_disk(&self, module: u64, disk: i64) {
        disk::remove(module, disk);
    }

    fn poll_disks(&self, module: u64) {
        disk::poll_all(module);
    }

    fn sleep(&self, duration_ns: u64) {
        let deadline_ns = time::now_ns().saturating_add(duration_ns);
        if scheduler::can_block() {
            let _ = WaitQueue::new().wait_uninterrupted(Some(deadline_ns), || None::<()>);
            return;
        }
        while time::now_ns() < deadline_ns {
            cpu::relax();
            tlb::serve();
        }
    }
}
