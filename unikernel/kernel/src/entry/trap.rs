//! Exceptions and interrupts: the entry stubs and what each vector means.

use core::arch::global_asm;

use x86_64::registers::control::Cr2;

use super::exit;
use crate::arch::fpu;
use crate::arch::trap::TrapFrame;
use crate::arch::user_copy;
use crate::mem::fault::{self, Access, Failure};
use crate::task::out_of_memory;
use crate::task::signal_delivery::{self, Cause};

const DIVIDE_ERROR: u64 = 0;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const BREAKPOINT: u64 = 3;
const OVERFLOW: u64 = 4;
const INVALID_OPCODE: u64 = 6;
const PAGE_FAULT: u64 = 14;
const X87_ERROR: u64 = 16;
const ALIGNMENT_CHECK: u64 = 17;
const SIMD_ERROR: u64 = 19;
const FIRST_INTERRUPT: u64 = 32;
/// RFLAGS.TF: the app steps.
const TRAP_FLAG: u64 = 1 << 8;

/// In a page fault's error code: the access was ring 3's own (SDM Vol. 3, 4.7).
const ERROR_USER: u64 = 1 << 2;

global_asm!(
    r#"
    .macro SAVE_REGISTERS
    pushq %rdi; pushq %rsi; pushq %rdx; pushq %rcx; pushq %rax
    pushq %r8;  pushq %r9;  pushq %r10; pushq %r11
    pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    .endm
    .macro RESTORE_REGISTERS
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    popq %r11; popq %r10; popq %r9;  popq %r8
    popq %rax; popq %rcx; popq %rdx; popq %rsi; popq %rdi
    .endm

    .section .text.trap_entry, "ax", @progbits
    .global trap_entry_common
trap_entry_common:
    testb $3, 24(%rsp)          // the interrupted code's ring, in its CS
    jz 1f
    swapgs
1:  SAVE_REGISTERS
    pushq $2                    // AC, DF, NT and TF of the app mean nothing here
    popfq
    xorl %ebp, %ebp
    movq %rsp, %rdi
    call {handler}
    .global trap_return
trap_return:
    testb $3, 144(%rsp)
    jz 2f
    RESTORE_REGISTERS
    swapgs
    addq $16, %rsp
    iretq
2:  RESTORE_REGISTERS
    addq $16, %rsp
    iretq

    // NMI, double fault and machine check may come while GS is still the app's, whatever CS
    // says, and the app may have set its GS base to anything. So the base is not guessed but
    // loaded, from the word at the top of the interrupt stack, and put back afterwards.
    .global trap_entry_paranoid
trap_entry_paranoid:
    SAVE_REGISTERS
    pushq $2
    popfq
    movl $0xc0000101, %ecx      // GS base
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, %r12
    movq {frame_bytes}(%rsp), %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    xorl %ebp, %ebp
    movq %rsp, %rdi
    call {fatal}
    movl $0xc0000101, %ecx
    movq %r12, %rax
    movq %r12, %rdx
    shrq $32, %rdx
    wrmsr
    RESTORE_REGISTERS
    addq $16, %rsp
    iretq
    "#,
    handler = sym trap_handler,
    fatal = sym paranoid_handler,
    frame_bytes = const core::mem::size_of::<TrapFrame>(),
    options(att_syntax)
);

/// Every exception and interrupt but the three below comes here.
extern "C" fn trap_handler(frame: &mut TrapFrame) {
    if frame.vector >= FIRST_INTERRUPT {
        crate::platform::interrupts::dispatch(frame.vector as u8);
    } else if frame.vector == PAGE_FAULT {
        page_fault(frame);
    } else {
        exception(frame);
    }
    if frame.is_from_user() {
        exit::to_user(frame);
    }
}

/// NMI is counted and ignored; a double fault or machine check is the end.
extern "C" fn paranoid_handler(frame: &mut TrapFrame) {
    if frame.vector != NMI {
        crate::debug::set_fault_frame(frame);
        panic!(
            "exception {} in ring {} at {:#x}, stack {:#x}",
            frame.vector,
            frame.cs & 3,
            frame.rip,
            frame.rsp
        );
    }
}

fn page_fault(frame: &mut TrapFrame) {
    let address = Cr2::read_raw();
    let landing = user_copy::landing(frame.rip);
    // The kernel touches user pages in one place only; anything else is its own fault.
    if !frame.is_from_user() && landing.is_none() {
        kernel_fault(frame, address);
    }
    // Ring 3 makes the processor itself read memory, as a supervisor: tables on a load of a segment
    // and, in QEMU 7.2 with SMAP, the stack on `retf` and `iret`. No page could be brought in for that.
    let is_implicit = frame.is_from_user() && frame.error_code & ERROR_USER == 0;
    let access = Access::from_error_code(frame.error_code);
    let outcome = match (is_implicit, frame.is_from_user()) {
        (true, _) => Err(Failure::NotAllowed),
        (false, true) => fault::handle(address, access),
        (false, false) => fault::handle_in_kernel(address, access),
    };
    let Err(failure) = outcome else { return };
    match landing {
        Some(landing) if !frame.is_from_user() => frame.rip = landing,
        // No handler could help: it would need a page for its frame.
        _ if failure == Failure::OutOfMemory => out_of_memory::end_app(),
        _ => signal_delivery::force(frame, Cause::page_fault(address, failure, frame.error_code)),
    }
}

fn exception(frame: &mut TrapFrame) {
    if !frame.is_from_user() {
        match user_copy::landing(frame.rip) {
            // A non-canonical address raises #GP rather than #PF.
            Some(landing) => frame.rip = landing,
            None => kernel_fault(frame, 0),
        }
        return;
    }
    let cause = match frame.vector {
        DIVIDE_ERROR => Cause::divide(frame.rip),
        DEBUG => Cause::debug(frame.rip, frame.rflags & TRAP_FLAG != 0),
        BREAKPOINT => Cause::BREAKPOINT,
        OVERFLOW => Cause::GENERAL_PROTECTION,
        INVALID_OPCODE => Cause::illegal_instruction(frame.rip),
        X87_ERROR => Cause::floating_point(frame.rip, fpu::x87_errors()),
        SIMD_ERROR => Cause::floating_point(frame.rip, fpu::simd_errors()),
        ALIGNMENT_CHECK => Cause::ALIGNMENT,
        _ => Cause::GENERAL_PROTECTION,
    };
    signal_delivery::force(frame, cause.with_trap(frame.vector, frame.error_code));
}

/// The kernel broke its own rules: report and stop.
fn kernel_fault(frame: &TrapFrame, address: u64) -> ! {
    crate::debug::set_fault_frame(frame);
    panic!(
        "kernel exception {} (error {:#x}, address {address:#x}) at {:#x}",
        frame.vector, frame.error_code, frame.rip
    );
}
