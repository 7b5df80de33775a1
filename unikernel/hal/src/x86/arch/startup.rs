//! Starting the other cores. A core wakes up in real mode at a page below 1 MiB that the start-up
//! interrupt names (SDM Vol. 3, 9.4.4). The few instructions there lead into the image, where 32-bit
//! code goes the way that `boot` went, with the boot page tables, and changes to the final ones.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use x86_64::PhysAddr;
use x86_64::registers::control::Cr3;

use super::cpu;
use super::switch::KernelStack;
use crate::kmem;
use crate::kmem::layout::KERNEL_OFFSET;
use crate::kmem::page_table::OutOfFrames;
use crate::platform::{acpi, apic, time, timer};

/// Where a core wakes up. Nobody else uses this page: what loaders leave below 1 MiB has been read
/// by now, and the kernel's frames begin above.
const TRAMPOLINE: PhysAddr = PhysAddr::new(0x8000);
/// How long a core may take to come up; a host with other work can keep one waiting for longer than a second.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How long INIT may take before the start-up interrupt; hypervisors need none of the specified
/// 10 ms (Linux skips it on modern processors, too).
const INIT_NS: u64 = 10_000;
/// A core that missed the first start-up interrupt gets a second one after this time.
const RETRY_NS: u64 = 20_000_000;

unsafe extern "C" {
    static startup_trampoline: u8;
    static startup_trampoline_end: u8;
}

/// The stack that the next core starts on; the 32-bit code reads it.
static STARTUP_STACK: AtomicU64 = AtomicU64::new(0);
/// What a core does once it is up.
static RUN: Once<fn() -> !> = Once::new();
/// The final page tables.
static ROOT: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r#"
    .section .rodata.startup, "a", @progbits
    .global startup_trampoline, startup_trampoline_end
    .code16
startup_trampoline:
    cli
    cld
    // CS is the page; the descriptor table and the target lie in the image.
    lgdtl %cs:(startup_gdt_pointer - startup_trampoline)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $16, $startup32 - {offset}
    .balign 4
startup_gdt_pointer:
    .word 31
    .long startup_gdt - {offset}
startup_trampoline_end:

    .balign 8
startup_gdt:
    .quad 0
    .quad 0x00209b0000000000    // 64-bit code, ring 0
    .quad 0x00cf9b000000ffff    // 32-bit code
    .quad 0x00cf93000000ffff    // 32-bit data

    .section .text.boot, "ax", @progbits
    .code32
startup32:
    movl $24, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $boot_pml4 - {offset}, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax             // PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx      // EFER
    rdmsr
    orl $0x900, %eax            // LME, NXE
    wrmsr
    movl %cr0, %eax
    andl $0x9ffffffb, %eax      // not EM; caches on
    orl $0x80010023, %eax       // PG, WP, NE, MP, PE
    movl %eax, %cr0
    ljmp $8, $startup64 - {offset}

    .code64
startup64:
    jmpq *startup_high(%rip)
startup_start_high:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq {root}(%rip), %rax
    movq %rax, %cr3
    movq {stack}(%rip), %rsp
    xorl %ebp, %ebp             // ends the chain of frame pointers
    call {main}
    ud2

    // Where the kernel runs, wherever it has moved.
    .section .data.rel.ro.startup, "aw", @progbits
    .balign 8
startup_high: .quad startup_start_high
    "#,
    offset = const KERNEL_OFFSET,
    root = sym ROOT,
    stack = sym STARTUP_STACK,
    main = sym startup_main,
    options(att_syntax)
);

/// Starts all cores that the firmware lists, one after the other. `prepare` makes what the core of an index needs to
/// run threads; once it is up, it goes on with `run`.
pub fn start_others(prepare: fn(usize) -> Result<(), OutOfFrames>, run: fn() -> !) {
    RUN.call_once(|| run);
    let listed = &acpi::machine().processors;
    let own = apic::id();
    cpu::this_cpu().set_apic_id(own);
    ROOT.store(Cr3::read().0.start_address().as_u64(), Ordering::SeqCst);
    if listed.len() > 1 {
        place_trampoline();
    }
    for &apic_id in listed.iter().filter(|&&id| id != own) {
        let index = cpu::online();
        if index == unikernel_sched::MAX_CORES {
            log::warn!("more than {index} cores: the others stay off");
            break;
        }
        match start(index, apic_id, prepare) {
            Ok(()) => {}
            Err(NotStarted::NoMemory) => {
                log::warn!("no memory for more than {index} cores: the others stay off");
                break;
            }
            Err(NotStarted::Absent) => {
                log::warn!("core with APIC id {apic_id} did not start");
                // Should it come up later, it must not find the next core's stack.
                break;
            }
        }
    }
    log::debug!("{} cores", cpu::online());
}

fn place_trampoline() {
    let (code, end) = (&raw const startup_trampoline, &raw const startup_trampoline_end);
    let page: *mut u8 = kmem::phys_to_virt(TRAMPOLINE).as_mut_ptr();
    // SAFETY: source and length are the stub's own; the destination is RAM that nobody uses (see
    // `TRAMPOLINE`), shown by the direct map.
    unsafe { page.copy_from_nonoverlapping(code, end as usize - code as usize) };
}

/// Why a core does not run.
enum NotStarted {
    /// There is no memory for its stacks.
    NoMemory,
    /// It did not come up in time.
    Absent,
}

impl From<OutOfFrames> for NotStarted {
    fn from(_: OutOfFrames) -> Self {
        Self::NoMemory
    }
}

/// Starts a core. All that it needs is made here: up there, nobody could be told that there is no memory.
fn start(
    index: usize,
    apic_id: u32,
    prepare: fn(usize) -> Result<(), OutOfFrames>,
) -> Result<(), NotStarted> {
    let stack = KernelStack::new()?;
    cpu::prepare_interrupt_stacks(index)?;
    prepare(index)?;
    STARTUP_STACK.store(stack.top(), Ordering::SeqCst);
    // The idle thread takes the core over from here; this stack is needed until then, and a core
    // starts once.
    core::mem::forget(stack);
    cpu::cpu(index).set_apic_id(apic_id);
    apic::send_init(apic_id);
    wait_until(INIT_NS, || false);
    for _ in 0..2 {
        apic::send_startup(apic_id, (TRAMPOLINE.as_u64() >> 12) as u8);
        if wait_until(RETRY_NS, || cpu::online() > index) {
            return Ok(());
        }
    }
    if wait_until(PATIENCE_NS, || cpu::online() > index) { Ok(()) } else { Err(NotStarted::Absent) }
}

fn wait_until(timeout_ns: u64, is_done: impl Fn() -> bool) -> bool {
    let end_ns = time::now_ns() + timeout_ns;
    while !is_done() {
        if time::now_ns() >= end_ns {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// A started core's first Rust code.
extern "C" fn startup_main() -> ! {
    let index = cpu::online();
    cpu::adopt_block(index);
    cpu::enable_features();
    cpu::load_descriptors();
    apic::init_this_cpu();
    timer::init_this_cpu();
    cpu::set_online(index + 1);
    RUN.get().expect("`start_others` was called")()
}
