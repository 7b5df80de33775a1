//! KVM's paravirtual clock (Linux, Documentation/virt/kvm/x86/msr.rst): the hypervisor writes the
//! counter's exact rate and the wall clock into a page of ours. Both are read once, at boot; from
//! then on the counter is used directly, which costs no look at the page.

use core::sync::atomic::{Ordering, fence};

use raw_cpuid::{CpuId, Hypervisor};
use unikernel_machine::calibration::Scale;
use x86_64::PhysAddr;
use x86_64::registers::model_specific::Msr;

use super::time::{self, NS_PER_SECOND};
use crate::kmem::{self, frames};

const MSR_WALL_CLOCK: u32 = 0x4b56_4d00;
const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;
const ENABLE: u64 = 1;
/// Where in the page the wall clock is put; the system time is at its start.
const WALL_OFFSET: u64 = 64;

/// `struct pvclock_vcpu_time_info`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SystemTime {
    version: u32,
    _padding: u32,
    tsc: u64,
    ns: u64,
    multiplier: u32,
    shift: i8,
    _flags: u8,
    _padding2: [u8; 2],
}

/// `struct pvclock_wall_clock`: the wall time at which the system time was 0.
#[derive(Clone, Copy)]
#[repr(C)]
struct WallClock {
    version: u32,
    seconds: u32,
    nanoseconds: u32,
}

/// What the hypervisor said.
pub(super) struct Clock {
    system: SystemTime,
    wall: WallClock,
}

/// Asks KVM for its clock, where there is one.
pub(super) fn detect() -> Option<Clock> {
    let hypervisor = CpuId::new().get_hypervisor_info()?;
    let is_offered = hypervisor.identify() == Hypervisor::KVM && has_clock_msrs();
    if !is_offered {
        return None;
    }
    let page = frames::alloc_zeroed()?;
    let shown = kmem::phys_to_virt(page);
    enable(page);
    let system = shown.as_ptr::<SystemTime>();
    let wall = (shown + WALL_OFFSET).as_ptr::<WallClock>();
    // SAFETY: both lie within the page, aligned, and any bytes are valid integers; the hypervisor
    // may write meanwhile, so the copies are volatile and repeated until the version stands still.
    let clock = unsafe {
        Clock { system: read_stable(system, |s| s.version), wall: read_stable(wall, |w| w.version) }
    };
    disable(page);
    (clock.system.multiplier != 0).then_some(clock)
}

/// Bit 3 of KVM's feature leaf: the clock at these MSRs.
fn has_clock_msrs() -> bool {
    core::arch::x86_64::__cpuid(0x4000_0001).eax & 1 << 3 != 0
}

fn enable(page: PhysAddr) {
    // SAFETY: KVM offers both MSRs; the page is ours and holds nothing else.
    unsafe {
        Msr::new(MSR_SYSTEM_TIME).write(page.as_u64() | ENABLE);
        Msr::new(MSR_WALL_CLOCK).write(page.as_u64() + WALL_OFFSET);
    }
}

fn disable(page: PhysAddr) {
    // SAFETY: without the enable bit KVM forgets the page; the wall clock is written only when its
    // MSR is. So nobody uses the page, which came from `frames::alloc_zeroed`.
    unsafe {
        Msr::new(MSR_SYSTEM_TIME).write(0);
        frames::free(page);
    }
}

/// Copies a structure that the hypervisor may be writing: its version is odd meanwhile.
///
/// # Safety
///
/// `source` must be valid for volatile reads, and any bytes must be a valid `T`.
unsafe fn read_stable<T: Copy>(source: *const T, version: fn(&T) -> u32) -> T {
    loop {
        // SAFETY: by the caller.
        let first = unsafe { source.read_volatile() };
        fence(Ordering::Acquire);
        // SAFETY: by the caller.
        let second = unsafe { source.read_volatile() };
        if version(&first) & 1 == 0 && version(&first) == version(&second) {
            return second;
        }
        core::hint::spin_loop();
    }
}

impl Clock {
    /// The counter's scale.
    pub(super) fn scale(&self) -> Scale {
        let multiplier = u64::from(self.system.multiplier);
        let shift = u32::from(self.system.shift.unsigned_abs());
        Scale(if self.system.shift < 0 { multiplier >> shift } else { multiplier << shift })
    }

    /// Nanoseconds between 1970 and now.
    pub(super) fn wall_ns(&self) -> u64 {
        let at_zero = u64::from(self.wall.seconds) * NS_PER_SECOND + u64::from(self.wall.nanoseconds);
        let ticks = time::tsc().saturating_sub(self.system.tsc);
        at_zero + self.system.ns + self.scale().ticks_to_ns(ticks)
    }
}
