//! The per-CPU block, reached through GS while the kernel runs, and the processor features that
//! decide how the boundary is guarded.

use core::arch::asm;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;

use raw_cpuid::CpuId;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use super::descriptor::Descriptors;
use crate::task::thread::Thread;

/// Work to do before the return to ring 3 (bits of [`Cpu::exit_work`]).
pub mod exit_work {
    /// Another thread should run.
    pub const RESCHEDULE: u32 = 1;
    /// The current thread has a signal to take.
    pub const SIGNAL: u32 = 2;
    /// A device has something for the network stack.
    pub const NETWORK: u32 = 4;
}

/// What one core owns. The offsets of the first four fields are known to the entry stubs.
#[repr(C)]
pub struct Cpu {
    /// Points to this block, so that `gs:0` gives a usable pointer.
    this: *const Cpu,
    /// Where `syscall` puts the kernel stack: the top of the current thread's.
    kernel_stack_top: Cell<u64>,
    /// Scratch for the app's stack pointer during `syscall` entry.
    user_rsp: Cell<u64>,
    current: Cell<*const Thread>,
    exit_work: AtomicU32,
    descriptors: Descriptors,
}

/// Byte offset of [`Cpu::kernel_stack_top`] for the entry stub.
pub const KERNEL_STACK_TOP_OFFSET: usize = core::mem::offset_of!(Cpu, kernel_stack_top);
/// Byte offset of [`Cpu::user_rsp`] for the entry stub.
pub const USER_RSP_OFFSET: usize = core::mem::offset_of!(Cpu, user_rsp);

/// Makes the per-CPU block of this core and loads its tables. Call once a core, early: page
/// faults and per-CPU data work from here on.
pub fn init_this_cpu() {
    let cpu = Box::leak(Box::new(Cpu {
        this: ptr::null(),
        kernel_stack_top: Cell::new(0),
        user_rsp: Cell::new(0),
        current: Cell::new(ptr::null()),
        exit_work: AtomicU32::new(0),
        descriptors: Descriptors::unloaded(),
    }));
    cpu.this = cpu;
    GsBase::write(VirtAddr::from_ptr(cpu));
    KernelGsBase::write(VirtAddr::zero());
    let cpu: &'static Cpu = cpu;
    cpu.descriptors.load(VirtAddr::from_ptr(cpu));
    // Loading the segment registers cleared GS's base.
    GsBase::write(VirtAddr::from_ptr(cpu));
}

/// The block of the core this code runs on.
#[inline]
pub fn this_cpu() -> &'static Cpu {
    let this: *const Cpu;
    // SAFETY: in ring 0, GS holds the address of this core's block, whose first word is its own
    // address (`init_this_cpu`; the entry stubs swap GS before any Rust runs). The block lives
    // for ever.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) this, options(nostack, readonly, preserves_flags));
        &*this
    }
}

impl Cpu {
    /// The running thread, or null before the first one. The pointee is kept alive by the
    /// reference that the scheduler holds for it while it runs.
    pub fn current_thread(&self) -> *const Thread {
        self.current.get()
    }

    /// Makes `thread` the running one: its kernel stack takes the next entry from ring 3.
    pub fn set_current(&self, thread: &Arc<Thread>, kernel_stack_top: u64) {
        self.current.set(Arc::as_ptr(thread));
        self.kernel_stack_top.set(kernel_stack_top);
        self.descriptors.set_kernel_stack(VirtAddr::new(kernel_stack_top));
    }

    /// Asks for work before the next return to ring 3.
    pub fn request(&self, bits: u32) {
        self.exit_work.store(self.exit_work.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
    }

    /// Takes all requested work.
    #[inline]
    pub fn take_exit_work(&self) -> u32 {
        let bits = self.exit_work.load(Ordering::Relaxed);
        if bits != 0 {
            self.exit_work.store(0, Ordering::Relaxed);
        }
        bits
    }
}

static HAS_SMAP: AtomicBool = AtomicBool::new(false);
static HAS_FSGSBASE: AtomicBool = AtomicBool::new(false);
static HAS_FAST_STRING: AtomicBool = AtomicBool::new(false);

/// True if ring 0 must set AC to touch user pages.
#[inline]
pub fn has_smap() -> bool {
    HAS_SMAP.load(Ordering::Relaxed)
}

/// True if the app may write FS and GS bases itself.
#[inline]
pub fn has_fsgsbase() -> bool {
    HAS_FSGSBASE.load(Ordering::Relaxed)
}

/// True if `rep movsb` is the fastest copy. Emulators claim ERMS too, but interpret it byte by
/// byte, so TCG is told apart by its hypervisor leaf.
#[inline]
pub fn has_fast_string() -> bool {
    HAS_FAST_STRING.load(Ordering::Relaxed)
}

/// Turns on what the boundary rests on: WP, NX, and SMEP, SMAP, UMIP, FSGSBASE where present.
pub fn enable_features() {
    let cpuid = CpuId::new();
    let extended = cpuid.get_extended_feature_info();
    let has = |pick: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(pick);
    let smap = has(|f| f.has_smap());
    let fsgsbase = has(|f| f.has_fsgsbase());
    let mut cr4 = Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::PAGE_GLOBAL;
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, has(|f| f.has_smep()));
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, has(|f| f.has_umip()));
    cr4.set(Cr4Flags::FSGSBASE, fsgsbase);
    cr4.set(Cr4Flags::OSXSAVE, cpuid.get_feature_info().is_some_and(|f| f.has_xsave()));
    // SAFETY: the flags only restrict ring 0 or enable state that `fpu` saves; the final page
    // tables already mark user and supervisor pages apart.
    unsafe {
        Cr0::update(|flags| {
            flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            flags.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
        });
        Cr4::update(|flags| flags.insert(cr4));
        Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS));
    }
    HAS_SMAP.store(smap, Ordering::Relaxed);
    HAS_FSGSBASE.store(fsgsbase, Ordering::Relaxed);
    let is_tcg = cpuid.get_hypervisor_info().is_some_and(|h| h.identify() == raw_cpuid::Hypervisor::QEMU);
    let has_fast_string = has(|f| f.has_rep_movsb_stosb()) && !is_tcg;
    HAS_FAST_STRING.store(has_fast_string, Ordering::Relaxed);
    super::memory::USES_STRING_INSTRUCTIONS.store(has_fast_string, Ordering::Relaxed);
    super::fpu::init(&cpuid);
}

/// Halts until an interrupt, with interrupts let in for exactly that time.
pub fn wait_for_interrupt() {
    // `sti` takes effect after the next instruction, so no interrupt slips in before `hlt`
    // (SDM Vol. 2, STI) and a wake-up cannot be lost between the last look and the sleep.
    // SAFETY: interrupt handlers keep the stack and every register; memory may change, which the
    // absence of `nomem` states.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) }
}

/// Stops this core for good.
pub fn halt_forever() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
