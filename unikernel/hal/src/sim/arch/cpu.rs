//! The cores' blocks, and what a core does when it waits.

use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use unikernel_sched::MAX_CORES;

pub use crate::common::exit_work;
use crate::kmem::page_table::OutOfFrames;
use crate::sim::engine;

/// What one core owns.
pub struct Cpu {
    /// The top of the current thread's kernel stack.
    kernel_stack_top: Cell<u64>,
    current: AtomicPtr<()>,
    index: AtomicUsize,
    exit_work: AtomicU32,
    fs_base: Cell<u64>,
    gs_base: Cell<u64>,
}

// SAFETY: a machine's cores are one thread of the host.
unsafe impl Sync for Cpu {}

static CPUS: [Cpu; MAX_CORES] = [const { Cpu::new() }; MAX_CORES];
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// Makes block `index` the one of the core that runs this.
pub fn adopt_block(index: usize) {
    CPUS[index].index.store(index, Ordering::Relaxed);
}

/// There is one kind of stack.
pub fn prepare_interrupt_stacks(_: usize) -> Result<(), OutOfFrames> {
    Ok(())
}

/// There are no tables.
pub fn load_descriptors() {}

/// There are no features to turn on.
pub fn enable_features() {}

/// The block of the core this code runs on.
#[inline]
pub fn this_cpu() -> &'static Cpu {
    &CPUS[engine::current()]
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

/// Counts a core that has come up.
pub fn set_online(count: usize) {
    ONLINE.store(count, Ordering::SeqCst);
}

impl Cpu {
    const fn new() -> Self {
        Self {
            kernel_stack_top: Cell::new(0),
            current: AtomicPtr::new(ptr::null_mut()),
            index: AtomicUsize::new(0),
            exit_work: AtomicU32::new(0),
            fs_base: Cell::new(0),
            gs_base: Cell::new(0),
        }
    }

    /// Its number: 0 for the core that booted.
    #[inline]
    pub fn index(&self) -> usize {
        self.index.load(Ordering::Relaxed)
    }

    /// Where interrupts for it are addressed to.
    pub fn apic_id(&self) -> u32 {
        self.index() as u32
    }

    /// The running thread, or null before the first one.
    #[inline]
    pub(crate) fn current_thread(&self) -> *const () {
        self.current.load(Ordering::Relaxed)
    }

    /// Makes `thread` the running one: its kernel stack takes the next entry from ring 3.
    pub(crate) fn set_current(&self, thread: *const (), kernel_stack_top: u64) {
        self.current.store(thread.cast_mut(), Ordering::Relaxed);
        self.kernel_stack_top.set(kernel_stack_top);
    }

    /// The top of the running thread's kernel stack.
    pub(in crate::sim) fn kernel_stack_top(&self) -> u64 {
        self.kernel_stack_top.get()
    }

    /// Asks for work before the next return to ring 3.
    #[inline]
    pub fn request(&self, bits: u32) {
        self.exit_work.fetch_or(bits, Ordering::SeqCst);
    }

    /// Takes all requested work.
    #[inline]
    pub fn take_exit_work(&self) -> u32 {
        self.exit_work.swap(0, Ordering::SeqCst)
    }
}

/// The app's FS base, which holds its TLS pointer.
pub fn read_fs_base() -> u64 {
    this_cpu().fs_base.get()
}

/// Sets the app's FS base.
pub fn write_fs_base(base: u64) {
    this_cpu().fs_base.set(base);
}

/// The app's GS base.
pub fn read_gs_base() -> u64 {
    this_cpu().gs_base.get()
}

/// Sets the app's GS base.
pub fn write_gs_base(base: u64) {
    this_cpu().gs_base.set(base);
}

/// True if the app may write FS and GS bases itself.
pub fn has_fsgsbase() -> bool {
    false
}

/// Halts until an interrupt.
pub fn wait_for_interrupt() {
    engine::wait_for_interrupt();
}

/// Lets in the interrupts that are pending, and no others.
pub fn admit_interrupts() {
    engine::admit_interrupts();
}

/// What a core does while it waits for another.
pub fn relax() {
    engine::give_way();
}

/// The core is about to take a lock.
pub fn before_lock() {
    engine::point();
}

/// Stops this core.
pub fn halt_forever() -> ! {
    loop {
        engine::wait_for_interrupt();
    }
}
