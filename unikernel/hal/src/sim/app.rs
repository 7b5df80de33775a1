//! The app: closures that run as ring 3 would, each thread on a stack of its own. They reach the kernel by
//! [`system_call`], and the memory that it gives them by [`read`] and [`write`], which fault as the processor's accesses do.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::arch::descriptor::{USER_CODE, USER_DATA};
use super::arch::user_copy::{self, USER};
use super::arch::{fault, switch};
use super::engine::{self, Single};
use super::faults::{self, Faults};
use super::image::{DATA, ENTRY};
use super::{heap, machine, memory, platform, poison, stack};
use crate::arch::trap::{SYSCALL_VECTOR, TrapFrame};

/// Where the app's code is thought to be whenever the kernel has control.
const CODE: u64 = ENTRY + 0x10;
/// `syscall` has two bytes: from here the call is made once more.
const AGAIN: u64 = CODE - 2;
/// Where the first signal handler is thought to be; further ones follow.
const HANDLERS_START: u64 = ENTRY + 0x100;
const HANDLER_BYTES: u64 = 16;
/// Where handlers are thought to return to.
pub const RESTORER: u64 = ENTRY + 0x80;
/// IF, and the bit that is always one.
const RFLAGS: u64 = 0x202;

const RT_SIGRETURN: u64 = 15;
const EXIT: u64 = 60;
const EXIT_GROUP: u64 = 231;

type Job = Box<dyn FnOnce()>;

/// The app, and what goes wrong while it runs.
type Main = (Box<dyn FnOnce() -> i32>, Faults);

static MAIN: Single<Option<Main>> = Single::new(None);
/// Where the program that runs was entered.
static ENTERED: Single<u64> = Single::new(0);
/// What new threads do, by their stack pointer.
static JOBS: Single<BTreeMap<u64, Job>> = Single::new(BTreeMap::new());
static HANDLERS: Single<Vec<fn(i32)>> = Single::new(Vec::new());

/// Sets what the app is, and what goes wrong while it runs.
pub(super) fn set_main(main: Box<dyn FnOnce() -> i32>, faults: Faults) {
    MAIN.with(|slot| *slot = Some((main, faults)));
}

/// Sets what the program is that is about to take the place of the running one, whatever is in its file. Nothing goes wrong in it.
pub fn set_program(main: impl FnOnce() -> i32 + 'static) {
    set_main(Box::new(main), Faults::default());
}

/// The address at which the kernel has entered the running program.
pub fn entered_at() -> u64 {
    ENTERED.with(|address| *address)
}

/// True for the addresses at which closures are thought to be.
fn is_own(address: u64) -> bool {
    (AGAIN..=CODE).contains(&address) || (HANDLERS_START..DATA.start).contains(&address)
}

/// What the thread does that is about to be made with this stack pointer.
pub fn set_job(stack_pointer: u64, job: Job) {
    JOBS.with(|jobs| jobs.insert(stack_pointer, job));
}

/// An address for `sa_handler` at which `handler` is run.
pub fn handler(handler: fn(i32)) -> u64 {
    HANDLERS.with(|handlers| {
        handlers.push(handler);
        HANDLERS_START + (handlers.len() as u64 - 1) * HANDLER_BYTES
    })
}

unsafe extern "Rust" {
    safe fn kernel_system_call(frame: &mut TrapFrame);
}
unsafe extern "C" {
    safe fn kernel_trap(frame: &mut TrapFrame);
}

extern "C" fn system_call_entry(frame: &mut TrapFrame) {
    kernel_system_call(frame);
}

extern "C" fn trap_entry(frame: &mut TrapFrame) {
    kernel_trap(frame);
}

/// The frame of the thread that runs.
fn frame() -> &'static mut TrapFrame {
    // SAFETY: the frame is the running thread's, which is the caller, and outlives its use here; while the kernel has it,
    // no code of the app's runs in this thread, and callers here keep no reference over that.
    unsafe { &mut *switch::running().0 }
}

/// Goes into the kernel, on its stack, and comes back.
fn enter(entry: extern "C" fn(&mut TrapFrame)) {
    let frame = switch::running().0.addr() as u64;
    heap::set_kernel(true);
    // SAFETY: the thread runs in the app, so its kernel's stack is empty below the frame.
    unsafe { poison::fill_stack(frame) };
    // SAFETY: below the frame the kernel's stack of this thread is empty, for the thread runs in the app.
    unsafe { stack::call_on_stack(frame, entry as *const () as u64, frame) };
    heap::set_kernel(false);
}

fn enter_by(vector: u64, error_code: u64) {
    let frame = frame();
    (frame.vector, frame.error_code) = (vector, error_code);
    (frame.cs, frame.ss) = (USER_CODE.0.into(), USER_DATA.0.into());
    frame.rflags = RFLAGS;
    enter(if vector == SYSCALL_VECTOR { system_call_entry } else { trap_entry });
}

/// The first code of a thread of the app.
pub(super) extern "C" fn thread_main(_: u64) {
    heap::set_kernel(false);
    let start = frame().rip;
    if !is_own(start) {
        ENTERED.with(|address| *address = start);
        frame().rip = CODE;
        let Some((main, faults)) = MAIN.with(Option::take) else {
            machine::fail("a program starts that nobody has set")
        };
        faults::set(faults);
        let code = main();
        faults::end();
        system_call(EXIT_GROUP, [code as u64, 0, 0, 0, 0, 0]);
    } else {
        go_on();
        let stack_pointer = frame().rsp;
        let job = JOBS.with(|jobs| jobs.remove(&stack_pointer));
        job.expect("a thread is made by `set_job`")();
        system_call(EXIT, [0; 6]);
    }
}

/// Does what the kernel has left for the app to do: handlers of signals, a call once more.
fn go_on() {
    loop {
        match frame().rip {
            CODE => return,
            AGAIN => {
                frame().rip = CODE;
                enter_by(SYSCALL_VECTOR, frame().rax);
            }
            address => run_handler(address),
        }
    }
}

fn run_handler(address: u64) {
    let index = address.wrapping_sub(HANDLERS_START) / HANDLER_BYTES;
    let handler = HANDLERS.with(|handlers| handlers.get(index as usize).copied());
    let Some(handler) = handler else { machine::fail("the kernel returns to where the app has no code") };
    let (number, stack_pointer) = (frame().rdi as i32, frame().rsp);
    frame().rip = CODE;
    handler(number);
    // As `ret` and the restorer would do it.
    let frame = frame();
    (frame.rsp, frame.rax, frame.rip) = (stack_pointer + 8, RT_SIGRETURN, CODE);
    enter_by(SYSCALL_VECTOR, RT_SIGRETURN);
}

/// The app computes: interrupts come in, and another core may have its turn.
pub fn pause() {
    engine::point();
    while let Some(vector) = engine::take_interrupt() {
        enter_by(vector.into(), 0);
        go_on();
    }
}

/// The processor raises an exception at the app's code.
pub fn raise_exception(vector: u64, error_code: u64) {
    pause();
    enter_by(vector, error_code);
    go_on();
}

/// Computes for a while.
pub fn compute_ns(ns: u64) {
    engine::advance_ns(ns);
    pause();
}

/// Makes a system call; answers what `rax` holds then.
pub fn system_call(number: u64, arguments: [u64; 6]) -> i64 {
    pause();
    let frame = frame();
    frame.rax = number;
    [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9] = arguments;
    frame.rip = CODE;
    enter_by(SYSCALL_VECTOR, number);
    go_on();
    self::frame().rax as i64
}

fn reach(address: u64, is_write: bool) -> *mut u8 {
    loop {
        match user_copy::translate(address, is_write) {
            Ok(physical) => return memory::at(physical, 1).expect("page tables show RAM"),
            Err(error_code) => {
                fault::set_address(address);
                enter_by(14, error_code | USER);
                go_on();
            }
        }
    }
}

/// Reads the app's memory.
pub fn read(address: u64, into: &mut [u8]) {
    for (at, piece) in memory::pieces(address, into.len()) {
        let (place, into) = (reach(at, false), &mut into[piece]);
        // SAFETY: the piece lies in one page of RAM; nothing else runs meanwhile.
        unsafe { core::ptr::copy(place, into.as_mut_ptr(), into.len()) };
    }
    // What the kernel shares, such as rings and pages of files, comes without a copy.
    poison::check(into);
}

/// Writes the app's memory.
pub fn write(address: u64, bytes: &[u8]) {
    for (at, piece) in memory::pieces(address, bytes.len()) {
        let (place, bytes) = (reach(at, true), &bytes[piece]);
        // SAFETY: as above.
        unsafe { core::ptr::copy(bytes.as_ptr(), place, bytes.len()) };
    }
}

/// Changes a word of the app's memory if it is what is expected, as `lock cmpxchg` does. Answers what it was.
pub fn compare_exchange(address: u64, expected: u32, new: u32) -> u32 {
    let mut bytes = [0; 4];
    pause();
    // The page is there, and may be written to; nobody else runs between the two.
    reach(address, true);
    read(address, &mut bytes);
    let found = u32::from_le_bytes(bytes);
    if found == expected {
        write(address, &new.to_le_bytes());
    }
    found
}

/// Sets where calls find the app's stack, as for a thread that is about to use another.
pub fn stack_pointer() -> u64 {
    frame().rsp
}

/// Types on the console.
pub fn type_in(bytes: &[u8]) {
    platform::console::type_in(bytes);
    from_device(platform::console::input_arrived);
}

/// Presses the power button.
pub fn press_power_button() {
    from_device(platform::power::press_button);
}

/// Runs what an interrupt would call.
fn from_device(call: fn()) {
    heap::set_kernel(true);
    call();
    heap::set_kernel(false);
    pause();
}
