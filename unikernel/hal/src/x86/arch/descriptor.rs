//! Segments, the task-state segment with its interrupt stacks, and the interrupt descriptor table.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;

use spin::Once;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, DescriptorFlags, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::switch::KernelStack;
use crate::kmem::layout::direct_address;
use crate::kmem::page_table::OutOfFrames;

/// Kernel code segment. The order of the table is dictated by STAR: `syscall` takes code and the
/// next entry as stack, `sysret` takes base + 8 as stack and base + 16 as code.
pub const KERNEL_CODE: SegmentSelector = SegmentSelector::new(1, PrivilegeLevel::Ring0);
/// Kernel stack segment.
pub const KERNEL_DATA: SegmentSelector = SegmentSelector::new(2, PrivilegeLevel::Ring0);
/// The app's stack segment.
pub const USER_DATA: SegmentSelector = SegmentSelector::new(3, PrivilegeLevel::Ring3);
/// The app's 64-bit code segment.
pub const USER_CODE: SegmentSelector = SegmentSelector::new(4, PrivilegeLevel::Ring3);

/// Vectors that run on a stack of their own: they may come when the current one is unusable or
/// in the few instructions of `syscall` entry in which it is still the app's.
const IST_VECTORS: [usize; 3] = [NMI, DOUBLE_FAULT, MACHINE_CHECK];
const NMI: usize = 2;
const DOUBLE_FAULT: usize = 8;
const MACHINE_CHECK: usize = 18;
/// Vectors the app may raise with `int n`: breakpoint and overflow.
const USER_VECTORS: [usize; 2] = [3, 4];

/// One core's descriptor tables.
pub struct Descriptors {
    gdt: UnsafeCell<GlobalDescriptorTable>,
    tss: UnsafeCell<TaskStateSegment>,
}

/// The gates are the same for all cores.
static IDT: Once<[Gate; 256]> = Once::new();

/// An interrupt gate (SDM Vol. 3, 6.14.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

const PRESENT_INTERRUPT_GATE: u8 = 0x8e;
const RING_3: u8 = 3 << 5;
/// Each stub is padded to this, so that its address follows from the vector.
const STUB_BYTES: u64 = 16;

impl Gate {
    fn new(vector: usize) -> Self {
        unsafe extern "C" {
            static trap_stubs: u8;
        }
        let address = (&raw const trap_stubs) as u64 + vector as u64 * STUB_BYTES;
        let ist = IST_VECTORS.iter().position(|&v| v == vector).map_or(0, |index| index as u8 + 1);
        let ring = if USER_VECTORS.contains(&vector) { RING_3 } else { 0 };
        Self {
            offset_low: address as u16,
            selector: KERNEL_CODE.0,
            ist,
            kind: PRESENT_INTERRUPT_GATE | ring,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        }
    }
}

impl Descriptors {
    /// Makes the tables; [`Self::load`] puts them to use.
    pub const fn unloaded() -> Self {
        Self {
            gdt: UnsafeCell::new(GlobalDescriptorTable::new()),
            tss: UnsafeCell::new(TaskStateSegment::new()),
        }
    }

    /// Makes the interrupt stacks of a core that does not run yet, or has just begun. `cpu` is left at the top of each,
    /// where the paranoid entry finds it without trusting GS.
    pub fn prepare(&self, cpu: VirtAddr) -> Result<(), OutOfFrames> {
        // SAFETY: called before the core that owns the table loads it, by the only core that starts it.
        let tss = unsafe { &mut *self.tss.get() };
        for slot in 0..IST_VECTORS.len() {
            // For ever, even if the next one fails: then the core never runs.
            let stack = ManuallyDrop::new(KernelStack::new()?);
            tss.interrupt_stack_table[slot] = VirtAddr::new(stack.top_with_word(cpu.as_u64()));
        }
        Ok(())
    }

    /// Loads GDT, TSS and IDT, after [`Self::prepare`]. The processor is told where the direct map shows the tables: without UMIP
    /// ring 3 can ask it (`sgdt`, `sidt`), and must not learn where the kernel is.
    pub fn load(&'static self) {
        // SAFETY: called once, before anything else can reach the tables, on the core that owns
        // them; they live for ever.
        let gdt = unsafe { &mut *self.gdt.get() };
        // No I/O bitmap: every port is closed to ring 3.
        gdt.append(Descriptor::kernel_code_segment());
        gdt.append(Descriptor::kernel_data_segment());
        gdt.append(Descriptor::UserSegment(DescriptorFlags::USER_DATA.bits()));
        gdt.append(Descriptor::UserSegment(DescriptorFlags::USER_CODE64.bits()));
        // SAFETY: the TSS lives for ever at this address; ring 0's stack slot is updated in place.
        let tss_selector = gdt.append(unsafe { Descriptor::tss_segment_unchecked(self.tss.get()) });
        let idt = DescriptorTablePointer {
            limit: (core::mem::size_of::<[Gate; 256]>() - 1) as u16,
            base: direct_address(VirtAddr::from_ptr(
                IDT.call_once(|| core::array::from_fn(Gate::new)).as_ptr(),
            )),
        };
        let gdt = DescriptorTablePointer {
            limit: gdt.limit(),
            base: direct_address(VirtAddr::from_ptr(gdt.entries().as_ptr())),
        };
        // SAFETY: the tables live for ever where the direct map shows them, the selectors name entries appended above, and the
        // IDT's gates lead to the stubs below, and these to `entry`.
        unsafe {
            lgdt(&gdt);
            CS::set_reg(KERNEL_CODE);
            SS::set_reg(KERNEL_DATA);
            DS::set_reg(SegmentSelector::NULL);
            ES::set_reg(SegmentSelector::NULL);
            load_tss(tss_selector);
            lidt(&idt);
        }
    }

    /// Sets the stack that interrupts from ring 3 land on.
    pub fn set_kernel_stack(&self, top: VirtAddr) {
        // SAFETY: only the owning core writes, with interrupts masked; the processor reads the
        // field only on a change of privilege, which cannot happen meanwhile.
        unsafe { (*self.tss.get()).privilege_stack_table[0] = top }
    }
}

global_asm!(
    r#"
    .section .text.trap_stubs, "ax", @progbits
    .balign 16
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    // The processor pushes an error code for these (SDM Vol. 3, table 6-1); others get a zero.
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    pushq $0
    .endif
    pushq $vector
    .if vector == {nmi} || vector == {double_fault} || vector == {machine_check}
    jmp trap_entry_paranoid
    .else
    jmp trap_entry_common
    .endif
    .set vector, vector + 1
    .endr
    "#,
    nmi = const NMI,
    double_fault = const DOUBLE_FAULT,
    machine_check = const MACHINE_CHECK,
    options(att_syntax)
);
