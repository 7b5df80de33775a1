//! The local APIC of this core, through its registers in memory (xAPIC) or, where the processor
//! has it, through MSRs (x2APIC), which saves a hypervisor from decoding instructions
//! (SDM Vol. 3, chapter 11).

use spin::Once;
use x86_64::PhysAddr;
use x86_64::registers::model_specific::Msr;

use super::interrupts::{SPURIOUS_VECTOR, TIMER_VECTOR};
use super::io::Mmio;

const IA32_APIC_BASE: u32 = 0x1b;
const APIC_BASE_ENABLE: u64 = 1 << 11;
const APIC_BASE_X2APIC: u64 = 1 << 10;
const X2APIC_FIRST_MSR: u32 = 0x800;
const IA32_TSC_DEADLINE: u32 = 0x6e0;

/// Registers, as byte offsets into the xAPIC page; an x2APIC's MSR is 0x800 + offset / 16.
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND: u32 = 0x300;
const COMMAND_DESTINATION: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
/// Bits of an interrupt command (SDM Vol. 3, 11.6.1).
const COMMAND_INIT: u32 = 0b101 << 8;
const COMMAND_STARTUP: u32 = 0b110 << 8;
const COMMAND_ASSERT: u32 = 1 << 14;
const COMMAND_PENDING: u32 = 1 << 12;
const MODE_TSC_DEADLINE: u32 = 0b10 << 17;
/// The divide register's code for 16: 16 ns a step at the 1 GHz that hypervisors use, and a reach
/// of a minute.
const DIVIDE_BY_16: u32 = 0b0011;

enum Access {
    Memory(Mmio),
    Msrs,
}

static ACCESS: Once<Access> = Once::new();

/// How the timer of the APIC is told when to fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerMode {
    /// It counts down at its own rate.
    OneShot,
    /// It compares with the time-stamp counter.
    TscDeadline,
}

/// Enables this core's APIC, with every line of its own masked.
pub fn init_this_cpu() {
    let features = raw_cpuid::CpuId::new().get_feature_info();
    let has_x2apic = features.is_some_and(|features| features.has_x2apic());
    let access = ACCESS.call_once(|| if has_x2apic { Access::Msrs } else { Access::Memory(map_registers()) });
    let mut base = Msr::new(IA32_APIC_BASE);
    let x2apic = if matches!(access, Access::Msrs) { APIC_BASE_X2APIC } else { 0 };
    // SAFETY: turns the APIC on at the address it has; interrupts are masked.
    unsafe { base.write(base.read() | APIC_BASE_ENABLE | x2apic) };
    write(TASK_PRIORITY, 0);
    for line in [LVT_TIMER, LVT_LINT0, LVT_ERROR] {
        write(line, MASKED);
    }
    write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
}

fn map_registers() -> Mmio {
    // SAFETY: reading this MSR has no effect.
    let base = unsafe { Msr::new(IA32_APIC_BASE).read() } & 0x000f_ffff_ffff_f000;
    // SAFETY: the MSR says that the APIC's page is there; an APIC does no DMA.
    unsafe { Mmio::map(PhysAddr::new(base), 4096) }
}

/// This core's APIC id.
pub fn id() -> u32 {
    match ACCESS.get() {
        Some(Access::Msrs) => read(ID),
        Some(Access::Memory(_)) => read(ID) >> 24,
        None => 0,
    }
}

/// Tells the APIC that the interrupt being handled is done.
#[inline]
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sends an interrupt to the core with APIC id `to`.
#[inline]
pub fn send(to: u32, vector: u8) {
    command(to, COMMAND_ASSERT | u32::from(vector));
}

/// Resets a core; it waits for [`send_startup`].
pub fn send_init(to: u32) {
    command(to, COMMAND_ASSERT | COMMAND_INIT);
}

/// Starts a core in real mode at the page with number `page`.
pub fn send_startup(to: u32, page: u8) {
    command(to, COMMAND_ASSERT | COMMAND_STARTUP | u32::from(page));
}

#[inline]
fn command(to: u32, bits: u32) {
    match ACCESS.get() {
        Some(Access::Memory(registers)) => {
            while registers.read::<u32>(COMMAND as usize) & COMMAND_PENDING != 0 {
                core::hint::spin_loop();
            }
            registers.write(COMMAND_DESTINATION as usize, to << 24);
            registers.write(COMMAND as usize, bits);
        }
        Some(Access::Msrs) => {
            // Writing this MSR does not order earlier stores, which the receiver is to see (SDM
            // Vol. 3, 11.12.3).
            core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            // SAFETY: the x2APIC is on; the vectors sent are those that `interrupts` handles, and
            // start-up goes to the trampoline page.
            unsafe {
                Msr::new(X2APIC_FIRST_MSR + COMMAND / 16).write(u64::from(to) << 32 | u64::from(bits));
            }
        }
        None => {}
    }
}

/// Sets what the timer does when it fires; it does not run yet.
pub fn start_timer(mode: TimerMode) {
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    let mode_bits = if mode == TimerMode::TscDeadline { MODE_TSC_DEADLINE } else { 0 };
    write(LVT_TIMER, u32::from(TIMER_VECTOR) | mode_bits);
    // The mode must have reached the APIC before the first deadline does (SDM Vol. 3, 11.5.4.1).
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// Lets the timer run down from `count` without an interrupt, to be measured.
pub fn start_measured_timer(count: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, MASKED);
    set_timer_count(count);
}

/// What is left of the timer's count.
pub fn timer_count() -> u32 {
    read(TIMER_CURRENT)
}

/// One-shot mode: fires after `count` steps; 0 stops the timer.
#[inline]
pub fn set_timer_count(count: u32) {
    write(TIMER_INITIAL, count);
}

/// Deadline mode: fires when the time-stamp counter reaches `tsc`; 0 stops the timer.
#[inline]
pub fn set_tsc_deadline(tsc: u64) {
    // SAFETY: `start_timer` was called with a mode that the processor has, and the interrupt has
    // a handler.
    unsafe { Msr::new(IA32_TSC_DEADLINE).write(tsc) }
}

#[inline]
fn read(register: u32) -> u32 {
    match ACCESS.get() {
        Some(Access::Memory(registers)) => registers.read(register as usize),
        // SAFETY: the x2APIC is on, and reading its registers has no effect.
        Some(Access::Msrs) => unsafe { Msr::new(X2APIC_FIRST_MSR + register / 16).read() as u32 },
        None => 0,
    }
}

#[inline]
fn write(register: u32, value: u32) {
    match ACCESS.get() {
        Some(Access::Memory(registers)) => registers.write(register as usize, value),
        // SAFETY: the x2APIC is on; the values written here mask lines, end interrupts or point to
        // vectors that `interrupts` handles.
        Some(Access::Msrs) => unsafe { Msr::new(X2APIC_FIRST_MSR + register / 16).write(u64::from(value)) },
        None => {}
    }
}
