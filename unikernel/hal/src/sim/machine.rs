//! A machine: a child process that boots the kernel and runs an app. Whoever asks for one gets what came of it.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::sync::Once;
use std::vec::Vec;

use super::engine::Single;
use super::faults::Faults;
use super::heap::HostScope;
use super::platform::{acpi, console};
use super::stack::{self, HostStack};
use super::{app, engine, heap, image, memory};
use crate::boot_info::{BootInfo, NoStartInfo};

/// The exit code of a machine's process in which something went wrong.
const FAILED: i32 = 101;
/// So much of the console comes back.
const CONSOLE_BYTES: usize = 64 << 10;
/// What the machine's process may take, in seconds of the host.
const MOST_SECONDS: u32 = 100;

/// What a machine is like.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Decides everything that is not decided elsewhere.
    pub seed: u64,
    /// Cores.
    pub cores: usize,
    /// RAM.
    pub ram_bytes: usize,
    /// The kernel's command line.
    pub command_line: String,
    /// Another core's turn once in so many places where it may be.
    pub switch_one_in: u32,
    /// A run with more steps has no end.
    pub most_steps: u64,
    /// What goes wrong from the app's first call on.
    pub faults: Faults,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            seed: 1,
            cores: 1,
            ram_bytes: 64 << 20,
            command_line: String::new(),
            switch_one_in: 4,
            most_steps: 20_000_000,
            faults: Faults::default(),
        }
    }
}

/// What came of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The app's exit code, as the host of a virtual machine sees it; none if the machine did not end by itself.
    pub code: Option<i32>,
    /// Decisions.
    pub steps: u64,
    /// Its time.
    pub now_ns: u64,
    /// What was decided, mixed to one number: equal for equal runs.
    pub trace: u64,
    /// What was written to the console.
    pub console: String,
}

/// What the machine's process leaves for its parent.
#[repr(C)]
struct Report {
    has_ended: bool,
    code: i32,
    steps: u64,
    now_ns: u64,
    trace: u64,
    console_bytes: usize,
    console: [u8; CONSOLE_BYTES],
}

/// How a machine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It switches itself off.
    Off,
    /// It loses its power.
    Cut,
    /// Something is wrong.
    Failed,
}

/// Who is told of the end, and when that is.
type EndHook = Box<dyn FnOnce(End, u64)>;

static END_HOOK: Single<Option<EndHook>> = Single::new(None);
static CODE: AtomicI32 = AtomicI32::new(0);
/// True in the process of a machine.
static IS_MACHINE: AtomicBool = AtomicBool::new(false);
static REPORT: Single<Option<&'static mut Report>> = Single::new(None);

/// Makes a panic in a machine's process end the machine.
///
/// The parent does so, once, before there is a child: `set_hook` in the child would wait for ever if another thread of the
/// parent was in its panic hook, with the hook's lock, at the moment of the fork. To read the hook waits for no reader.
fn set_panic_hook() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IS_MACHINE.load(Ordering::Relaxed) {
                heap::set_kernel(false);
                fail(&info.to_string());
            }
            usual(info);
        }));
    });
}

/// Memory that a child shares with its parent.
pub fn share(bytes: usize) -> *mut u8 {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping of the host's choice.
    let got = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert!(got != libc::MAP_FAILED, "memory for {bytes} bytes");
    got.cast()
}

/// Gives memory of [`share`] back.
///
/// # Safety
///
/// Nobody uses it any more.
pub unsafe fn unshare(memory: *mut u8, bytes: usize) {
    // SAFETY: by the caller.
    unsafe { libc::munmap(memory.cast(), bytes) };
}

/// Memory of the parent's that is to be as a machine leaves it, and where machines leave it.
struct Mirrored {
    memory: *mut u8,
    copy: *mut u8,
    bytes: usize,
}

static MIRRORED: AtomicPtr<Mirrored> = AtomicPtr::new(ptr::null_mut());

/// From here on, what a machine has in this memory at its end, the parent has then, too: counters of the code that ran. For programs that run
/// one machine at a time. Call it once.
///
/// # Safety
///
/// The memory is the program's for as long as it runs, anything may be in it, and nobody relies on what it has while a machine runs.
pub unsafe fn mirror(memory: *mut u8, bytes: usize) {
    let mirrored = Box::new(Mirrored { memory, copy: share(bytes), bytes });
    MIRRORED.store(Box::into_raw(mirrored), Ordering::Release);
}

/// Copies what is mirrored: at a machine's end to where the parent finds it, and there from it.
fn copy_mirrored(is_parent: bool) {
    // SAFETY: null, or a box that `mirror` has made and nobody takes apart.
    let Some(mirrored) = (unsafe { MIRRORED.load(Ordering::Acquire).as_ref() }) else { return };
    let (memory, copy) = (mirrored.memory, mirrored.copy);
    let (from, to) = if is_parent { (copy, memory) } else { (memory, copy) };
    // SAFETY: both have so many bytes, by `mirror`'s caller and by `share`; the machine is gone when its parent comes here.
    unsafe { ptr::copy_nonoverlapping(from, to, mirrored.bytes) };
}

/// A number that machines and their parent share: what an app has got done when its machine loses its power.
#[derive(Clone, Copy, Debug)]
pub struct SharedCounter(&'static AtomicU64);

impl SharedCounter {
    /// A zero, for the rest of the parent's life.
    #[expect(clippy::new_without_default, reason = "it is for ever, which nobody should get without asking")]
    pub fn new() -> Self {
        // SAFETY: the memory is a page, zeroed, never given back, and touched by nothing but atomics.
        Self(unsafe { AtomicU64::from_ptr(share(size_of::<u64>()).cast()) })
    }

    /// What it is.
    pub fn get(self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl Machine {
    /// Boots it, runs the app, and answers what came of it. `add_devices` is called in the machine's process before it boots.
    pub fn run_with(self, add_devices: impl FnOnce(), app: impl FnOnce() -> i32 + 'static) -> Outcome {
        set_panic_hook();
        let report: *mut Report = share(size_of::<Report>()).cast();
        // SAFETY: the child has this thread alone. It uses locks of the standard library that another thread of the
        // parent may hold in no other way than by its allocator, which the C library sets right in a child.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "the host gives no process");
        if child == 0 {
            // SAFETY: the memory is shared with the parent, which looks at it when this process is gone. Zeros are a report.
            REPORT.with(|slot| *slot = Some(unsafe { &mut *report }));
            self.boot(add_devices, Box::new(app));
        }
        let mut status = 0;
        // SAFETY: the child is this process's own.
        while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {}
        copy_mirrored(true);
        // SAFETY: the child is gone, so nobody changes the report; zeros, or what `end` has left, are one.
        let outcome = unsafe { (*report).outcome() };
        // SAFETY: nobody uses it any more.
        unsafe { unshare(report.cast(), size_of::<Report>()) };
        outcome
    }

    /// [`Self::run_with`] no devices.
    pub fn run(self, app: impl FnOnce() -> i32 + 'static) -> Outcome {
        self.run_with(|| {}, app)
    }

    fn boot(self, add_devices: impl FnOnce(), app: Box<dyn FnOnce() -> i32>) -> ! {
        // SAFETY: no handler is set for the signal, so it ends the process.
        unsafe { libc::alarm(MOST_SECONDS) };
        IS_MACHINE.store(true, Ordering::Relaxed);
        memory::init(self.ram_bytes);
        engine::init(self.seed, self.switch_one_in, self.most_steps);
        acpi::init(self.cores);
        image::init();
        app::set_main(app, self.faults);
        add_devices();
        BOOT.with(|slot| *slot = Some((self.ram_bytes, self.command_line)));
        let stack = HostStack::new().expect("memory for the boot stack");
        // SAFETY: the stack is new, and is never left but by the end of the process.
        unsafe { stack::call_on_stack(stack.top(), boot_main as *const () as u64, 0) };
        unreachable!("the kernel came back")
    }
}

static BOOT: Single<Option<(usize, String)>> = Single::new(None);

unsafe extern "Rust" {
    safe fn kernel_main(info: Result<BootInfo, NoStartInfo>) -> !;
}

extern "C" fn boot_main(_: u64) {
    let (ram_bytes, command_line) = BOOT.with(Option::take).expect("set by `boot`");
    let info = BootInfo::of_simulated(ram_bytes as u64, command_line.as_bytes());
    crate::arch::cpu::adopt_block(0);
    crate::platform::init_early();
    heap::set_kernel(true);
    kernel_main(Ok(info))
}

impl Report {
    fn outcome(&self) -> Outcome {
        let console = &self.console[..self.console_bytes.min(CONSOLE_BYTES)];
        Outcome {
            code: self.has_ended.then_some(self.code),
            steps: self.steps,
            now_ns: self.now_ns,
            trace: self.trace,
            console: String::from_utf8_lossy(console).into_owned(),
        }
    }
}

/// Sets the code with which the machine ends.
pub(super) fn set_code(code: u8) {
    CODE.store(code.into(), Ordering::Relaxed);
}

/// Calls `hook` at this machine's end, with its time.
pub fn on_end(hook: impl FnOnce(End, u64) + 'static) {
    END_HOOK.with(|slot| *slot = Some(Box::new(hook)));
}

fn leave_report(end: End) {
    let (steps, now_ns, trace) = engine::progress();
    if let Some(hook) = END_HOOK.with(Option::take) {
        let _host = HostScope::enter();
        hook(end, now_ns);
    }
    let written = console::written();
    REPORT.with(|report| {
        let Some(report) = report else { return };
        let tail = &written[written.len().saturating_sub(CONSOLE_BYTES)..];
        report.console[..tail.len()].copy_from_slice(tail);
        report.console_bytes = tail.len();
        (report.steps, report.now_ns, report.trace) = (steps, now_ns, trace);
        report.code = CODE.load(Ordering::Relaxed);
        report.has_ended = end != End::Failed;
    });
}

/// The machine is off.
pub(super) fn end() -> ! {
    leave_report(End::Off);
    leave(0)
}

/// The power goes, whatever the kernel is at.
pub fn cut_power() -> ! {
    leave_report(End::Cut);
    leave(0)
}

/// Something is wrong: the machine ends with a report on the host's standard error.
pub fn fail(reason: &str) -> ! {
    let _host = HostScope::enter();
    leave_report(End::Failed);
    let mut text: Vec<u8> = console::written();
    text.extend_from_slice(format!("\nthe machine failed: {reason}\n{}", engine::describe()).as_bytes());
    if std::env::var_os("SIMULATE_BACKTRACE").is_some() {
        text.extend_from_slice(std::backtrace::Backtrace::force_capture().to_string().as_bytes());
    }
    // SAFETY: so many bytes are there. Not by `std`, whose lock another thread of the parent may have held.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    leave(FAILED)
}

/// Ends the process, with what is done at its end (a profile of what ran is written then).
fn leave(code: i32) -> ! {
    heap::set_kernel(false);
    copy_mirrored(false);
    if !MIRRORED.load(Ordering::Relaxed).is_null() {
        // What is done at the end is the fuzzer's, which goes on.
        // SAFETY: nothing is left to do.
        unsafe { libc::_exit(code) };
    }
    // SAFETY: there is one thread.
    unsafe { libc::exit(code) }
}
