//! The per-CPU blocks, each reached through GS while the kernel runs on its core, and the processor
//! features that decide how the boundary is guarded.

use core::arch::asm;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use raw_cpuid::CpuId;
use unikernel_sched::MAX_CORES;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{FS, Segment64};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{FsBase, GsBase, KernelGsBase, Msr};

use super::descriptor::Descriptors;
pub use crate::common::exit_work;
use crate::kmem::page_table::OutOfFrames;
use crate::platform::time;

/// What one core owns. The offsets of the first fields are known to the entry stubs.
#[repr(C, align(64))]
pub struct Cpu {
    /// Points to this block, so that `gs:0` gives a usable pointer.
    this: AtomicPtr<Cpu>,
    /// Where `syscall` puts the kernel stack: the top of the current thread's.
    kernel_stack_top: Cell<u64>,
    /// Scratch for the app's stack pointer during `syscall` entry.
    user_rsp: Cell<u64>,
    /// The thread, which is `task`'s to understand. Written by the owner; others read it to see who runs here.
    current: AtomicPtr<()>,
    index: AtomicUsize,
    apic_id: AtomicU32,
    exit_work: AtomicU32,
    descriptors: Descriptors,
}

// SAFETY: the cells and the descriptor tables are touched by the owning core only (their methods
// are reached through `this_cpu`, or before the core runs); all else is atomic.
unsafe impl Sync for Cpu {}

/// Byte offset of [`Cpu::kernel_stack_top`] for the entry stub.
pub const KERNEL_STACK_TOP_OFFSET: usize = core::mem::offset_of!(Cpu, kernel_stack_top);
/// Byte offset of [`Cpu::user_rsp`] for the entry stub.
pub const USER_RSP_OFFSET: usize = core::mem::offset_of!(Cpu, user_rsp);

static CPUS: [Cpu; MAX_CORES] = [const { Cpu::new() }; MAX_CORES];
/// Cores that run: indices below this.
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// Makes block `index` the one of the core that runs this. The first thing a core does: locks and
/// [`this_cpu`] work from here on.
pub fn adopt_block(index: usize) {
    let cpu = &CPUS[index];
    cpu.this.store(ptr::from_ref(cpu).cast_mut(), Ordering::Relaxed);
    cpu.index.store(index, Ordering::Relaxed);
    GsBase::write(VirtAddr::from_ptr(cpu));
    KernelGsBase::write(VirtAddr::zero());
}

/// Makes the interrupt stacks of core `index`, which is this one or not started yet.
pub fn prepare_interrupt_stacks(index: usize) -> Result<(), OutOfFrames> {
    let cpu = cpu(index);
    cpu.descriptors.prepare(VirtAddr::from_ptr(cpu))
}

/// Loads this core's descriptor tables: exceptions work from here on.
pub fn load_descriptors() {
    let cpu = this_cpu();
    cpu.descriptors.load();
    // Loading the segment registers cleared GS's base.
    GsBase::write(VirtAddr::from_ptr(cpu));
}

/// The block of the core this code runs on.
#[inline]
pub fn this_cpu() -> &'static Cpu {
    let this: *const Cpu;
    // SAFETY: in ring 0, GS holds the address of this core's block, whose first word is its own
    // address (`adopt_block`; the entry stubs swap GS before any Rust runs). The block lives
    // for ever.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) this, options(nostack, readonly, preserves_flags));
        &*this
    }
}

/// The block of core `index`.
#[inline]
pub fn cpu(index: usize) -> &'static Cpu {
    &CPUS[index]
}

/// How many cores run.
#[inline]
pub fn online() -> usize {
    ONLINE.load(Ordering::Relaxed)
}

/// Counts a core that has come up; the next index.
pub fn set_online(count: usize) {
    ONLINE.store(count, Ordering::SeqCst);
}

impl Cpu {
    const fn new() -> Self {
        Self {
            this: AtomicPtr::new(ptr::null_mut()),
            kernel_stack_top: Cell::new(0),
            user_rsp: Cell::new(0),
            current: AtomicPtr::new(ptr::null_mut()),
            index: AtomicUsize::new(0),
            apic_id: AtomicU32::new(0),
            exit_work: AtomicU32::new(0),
            descriptors: Descriptors::unloaded(),
        }
    }

    /// Its number: 0 for the core that booted.
    #[inline]
    pub fn index(&self) -> usize {
        let index = self.index.load(Ordering::Relaxed);
        // Tables by cores are looked at many times in each call: none of these has to be checked.
        // SAFETY: it is 0, or what `adopt_block` has found a block for.
        unsafe { core::hint::assert_unchecked(index < MAX_CORES) };
        index
    }

    /// Where interrupts for it are addressed to.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Notes where interrupts for it are addressed to.
    pub fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }

    /// The running thread, or null before the first one. The pointee is kept alive by the
    /// reference that the scheduler holds for it while it runs.
    #[inline]
    pub(crate) fn current_thread(&self) -> *const () {
        self.current.load(Ordering::Relaxed)
    }

    /// Makes `thread` the running one: its kernel stack takes the next entry from ring 3.
    pub(crate) fn set_current(&self, thread: *const (), kernel_stack_top: u64) {
        self.current.store(thread.cast_mut(), Ordering::Relaxed);
        self.kernel_stack_top.set(kernel_stack_top);
        self.descriptors.set_kernel_stack(VirtAddr::new(kernel_stack_top));
    }

    /// Asks for work before the next return to ring 3. To be sure that another core does it soon,
    /// interrupt it afterwards.
    #[inline]
    pub fn request(&self, bits: u32) {
        self.exit_work.fetch_or(bits, Ordering::SeqCst);
    }

    /// Takes all requested work.
    #[inline]
    pub fn take_exit_work(&self) -> u32 {
        // Most returns find nothing, and a plain load is cheaper than an exchange.
        match self.exit_work.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.exit_work.swap(0, Ordering::SeqCst),
        }
    }
}

/// What `rdtscp` puts into ECX (SDM Vol. 2, RDTSCP).
const TSC_AUX: u32 = 0xc000_0103;

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
    let has_rdtscp = cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_rdtscp());
    if has_rdtscp {
        // SAFETY: the register exists where the instruction does, and only `rdtscp` shows it.
        unsafe { Msr::new(TSC_AUX).write(this_cpu().index() as u64) };
        time::set_has_core_number();
    }
}

/// Halts until an interrupt, with interrupts let in for exactly that time.
pub fn wait_for_interrupt() {
    // `sti` takes effect after the next instruction, so no interrupt slips in before `hlt`
    // (SDM Vol. 2, STI) and a wake-up cannot be lost between the last look and the sleep.
    // SAFETY: interrupt handlers keep the stack and every register; memory may change, which the
    // absence of `nomem` states.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) }
}

/// Lets in the interrupts that are pending, and no others.
pub fn admit_interrupts() {
    // `sti` takes effect after the next instruction (SDM Vol. 2, STI): without the `nop`, none would come in before `cli`.
    // SAFETY: as in `wait_for_interrupt`.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) }
}

/// Stops this core for good.
pub fn halt_forever() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// What a core does while it waits for another.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
}

/// The core is about to take a lock. (Where a seed decides who comes first, this is a place to decide.)
#[inline]
pub fn before_lock() {}

/// The app's FS base, which holds its TLS pointer.
pub fn read_fs_base() -> u64 {
    if has_fsgsbase() { FS::read_base().as_u64() } else { FsBase::read().as_u64() }
}

/// Sets the app's FS base (sign-extended from 48 bits, as the register does).
pub fn write_fs_base(base: u64) {
    FsBase::write(VirtAddr::new_truncate(base));
}

/// The app's GS base, which waits in the other MSR while the kernel runs.
pub fn read_gs_base() -> u64 {
    KernelGsBase::read().as_u64()
}

/// Sets the app's GS base.
pub fn write_gs_base(base: u64) {
    KernelGsBase::write(VirtAddr::new_truncate(base));
}
