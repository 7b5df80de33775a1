//! Threads, as far as the machine knows them: a stack, registers, and which one a core runs.
//!
//! The kernel's thread is a type of its own that has a [`Context`] in it ([`thread_type!`](crate::thread_type) says which), behind an
//! [`Arc`]. The machine holds one count for each thread that runs, from [`switch_to`] until the thread after it has called
//! [`take_previous`]. A saved stack pointer is used once: who switches to a thread takes it, and only the thread's own switch
//! puts another there. So no stack is run twice, and none is freed under the code that runs on it.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::arch::cpu::{self, this_cpu};
use crate::arch::fpu::FpuState;
use crate::arch::per_core::PerCore;
use crate::arch::switch::{KernelStack, left_at, switch_stacks};
use crate::arch::trap::{SYSCALL_VECTOR, TrapFrame};
use crate::backtrace::{self, Registers};
use crate::kmem::kernel_map::STACK_BYTES;
use crate::per_core;
use crate::user::{CopyError, UserBytes};

/// There was no memory for a thread's stack or registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// How a thread came from ring 3.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The number of the system call, if it was one.
    pub call: Option<u64>,
    /// Its arguments, if it was one.
    pub arguments: [u64; 6],
    /// Where it was there.
    pub registers: Registers,
}

/// A thread's kernel stack, and its registers while it does not run.
///
/// It cannot be misused: what is saved is reached only by the core that runs the thread, or is about to, which takes the stack pointer
/// first.
pub struct Context {
    stack: KernelStack,
    /// Where the thread goes on; 0 while it runs, or a core is about to run it.
    stack_pointer: AtomicU64,
    /// What `stack_pointer` was before the thread had run.
    first_stack_pointer: u64,
    /// `None` for a thread that never enters ring 3, and whose core keeps the registers of another.
    user: Option<UserRegisters>,
}

/// The app's registers that ring 0 does not use.
struct UserRegisters {
    fpu: UnsafeCell<FpuState>,
    fs_base: AtomicU64,
    gs_base: AtomicU64,
}

// SAFETY: the vector state is reached by the core that runs the thread (`Current`, which stays on its core's stack, and `switch_to`, which finds
// it there), and by one that has taken its stack pointer. Of these there is one at a time.
unsafe impl Sync for UserRegisters {}

impl Context {
    /// A context which enters ring 3 with `frame`, with the vector registers of a new program or a copy of those that the core has now.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn for_user(frame: &TrapFrame, fs_base: u64, copy_fpu: bool) -> Result<Self, OutOfMemory> {
        let mut fpu = FpuState::new().ok_or(OutOfMemory)?;
        if copy_fpu {
            fpu.save();
        }
        let stack = KernelStack::new().map_err(|_| OutOfMemory)?;
        let stack_pointer = stack.prepare(frame);
        Ok(Self::with(stack, stack_pointer, Some(UserRegisters::new(fpu, fs_base))))
    }

    /// A context that runs `main` in ring 0 for ever. Without user registers, the core keeps those of the thread that ran before: only the
    /// threads that cores idle with are so.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn for_kernel(main: extern "C" fn() -> !, has_user_registers: bool) -> Result<Self, OutOfMemory> {
        let fpu = if has_user_registers { Some(FpuState::new().ok_or(OutOfMemory)?) } else { None };
        let stack = KernelStack::new().map_err(|_| OutOfMemory)?;
        let stack_pointer = stack.prepare_kernel(main);
        Ok(Self::with(stack, stack_pointer, fpu.map(|fpu| UserRegisters::new(fpu, 0))))
    }

    fn with(stack: KernelStack, stack_pointer: u64, user: Option<UserRegisters>) -> Self {
        Self { stack, stack_pointer: AtomicU64::new(stack_pointer), first_stack_pointer: stack_pointer, user }
    }

    /// True if it keeps the app's registers.
    #[inline]
    pub fn has_user_registers(&self) -> bool {
        self.user.is_some()
    }

    /// One past the highest byte of its stack.
    #[inline]
    pub fn stack_top(&self) -> u64 {
        self.stack.top()
    }

    /// Where the thread goes on, for who looks on; `None` while it runs.
    ///
    /// It cannot be misused: the stack stays as long as this does, what is read there is checked to be on a stack, and what a thread that
    /// goes on meanwhile has left there are numbers, which may fit nothing.
    pub fn left_at(&self) -> Option<Registers> {
        let stack_pointer = self.stack_pointer.load(Ordering::Acquire);
        if stack_pointer == 0 { None } else { left_at(stack_pointer) }
    }

    /// An aligned word of its stack, for who looks on; `None` for any other address.
    ///
    /// It cannot be misused: the stack stays as long as this does, and what is there is a number, old or new.
    pub fn stack_word(&self, address: u64) -> Option<u64> {
        let top = self.stack_top();
        let stack = top.saturating_sub(STACK_BYTES as u64)..top;
        stack.contains(&address).then(|| backtrace::stack_word(address)).flatten()
    }

    /// The registers of the last entry from ring 3, for who looks on, as [`Self::left_at`].
    pub fn last_entry(&self) -> Option<Entry> {
        let frame = self.stack.user_frame().addr() as u64;
        let word = |offset: usize| self.stack_word(frame.checked_add(offset as u64)?);
        Some(Entry {
            call: (word(offset_of!(TrapFrame, vector))? == SYSCALL_VECTOR)
                .then(|| word(offset_of!(TrapFrame, error_code)))
                .flatten(),
            arguments: [
                word(offset_of!(TrapFrame, rdi))?,
                word(offset_of!(TrapFrame, rsi))?,
                word(offset_of!(TrapFrame, rdx))?,
                word(offset_of!(TrapFrame, r10))?,
                word(offset_of!(TrapFrame, r8))?,
                word(offset_of!(TrapFrame, r9))?,
            ],
            registers: Registers {
                instruction: word(offset_of!(TrapFrame, rip))?,
                stack: word(offset_of!(TrapFrame, rsp))?,
                frame_pointer: word(offset_of!(TrapFrame, rbp))?,
            },
        })
    }

    /// Sets what it enters ring 3 with.
    ///
    /// # Panics
    ///
    /// If the thread has run.
    pub fn set_user_frame(&self, frame: &TrapFrame) {
        let stack_pointer = self.take_stack_pointer();
        assert!(stack_pointer == self.first_stack_pointer, "a thread that has run gets no other frame");
        // SAFETY: the stack is mapped, with room for a frame at its top. The thread has not run, and does not begin to, because we have taken
        // its stack pointer: so nobody else reads or writes there.
        unsafe { self.stack.user_frame().write(*frame) };
        self.stack_pointer.store(stack_pointer, Ordering::Release);
    }

    /// Takes the place where the thread goes on, so that nobody else does.
    ///
    /// # Panics
    ///
    /// If it runs, or somebody was faster.
    #[inline]
    fn take_stack_pointer(&self) -> u64 {
        // Pairs with the store of the switch that left the thread: what it has saved is seen.
        let stack_pointer = self.stack_pointer.swap(0, Ordering::Acquire);
        assert!(stack_pointer != 0, "the thread runs already");
        stack_pointer
    }
}

impl UserRegisters {
    fn new(fpu: FpuState, fs_base: u64) -> Self {
        Self { fpu: UnsafeCell::new(fpu), fs_base: AtomicU64::new(fs_base), gs_base: AtomicU64::new(0) }
    }

    /// Puts the core's registers aside.
    ///
    /// # Safety
    ///
    /// The core runs this thread.
    #[inline]
    unsafe fn save(&self) {
        // SAFETY: by the caller nobody else reaches it; no reference to it outlives a function here.
        unsafe { (*self.fpu.get()).save() };
        self.fs_base.store(cpu::read_fs_base(), Ordering::Relaxed);
        self.gs_base.store(cpu::read_gs_base(), Ordering::Relaxed);
    }

    /// Loads the core's registers.
    ///
    /// # Safety
    ///
    /// The core has taken the thread's stack pointer.
    #[inline]
    unsafe fn load(&self) {
        // SAFETY: by the caller nobody else reaches it.
        unsafe { (*self.fpu.get()).restore() };
        cpu::write_fs_base(self.fs_base.load(Ordering::Relaxed));
        cpu::write_gs_base(self.gs_base.load(Ordering::Relaxed));
    }
}

/// The kernel's type of threads.
///
/// # Safety
///
/// There is one such type in the program, and `context` is a field of it. [`thread_type!`](crate::thread_type) sees to both.
pub unsafe trait Thread: Send + Sync + Sized + 'static {
    /// The machine's part of it.
    fn context(&self) -> &Context;
}

/// What [`thread_type!`](crate::thread_type) takes a field to be: there is one implementation, so that nothing else can be taken for it.
#[doc(hidden)]
pub trait IsContext {
    fn context(&self) -> &Context;
}

impl IsContext for Context {
    #[inline]
    fn context(&self) -> &Context {
        self
    }
}

/// Says what the kernel's type of threads is, and which of its fields is the [`Context`]: `thread_type!(Thread, context)`.
///
/// It cannot be misused: a field of another type does not compile, and a second type does not link.
#[macro_export]
macro_rules! thread_type {
    ($thread:ident, $field:ident) => {
        // SAFETY: the field is a `Context`, or `exactly` would not take it; a pattern without `..` before it reaches the field itself, and
        // no `Deref`. The name below can be defined once in a program, so there is no second such type.
        unsafe impl $crate::thread::Thread for $thread {
            #[inline]
            fn context(&self) -> &$crate::thread::Context {
                fn exactly<C: $crate::thread::IsContext>(context: &C) -> &$crate::thread::Context {
                    $crate::thread::IsContext::context(context)
                }
                let $thread { $field: context, .. } = self;
                exactly(context)
            }
        }
        const _: () = {
            // SAFETY: nobody reads it. It is there to be the only one.
            #[unsafe(export_name = "kernel_thread_type")]
            static ONE: u8 = 0;
        };
    };
}

/// The running thread. It stays alive while its own code runs, so this borrows it without
/// counting; not `Send`, since on another core it would name another thread.
pub struct Current<T>(ManuallyDrop<Arc<T>>, PhantomData<*const ()>);

impl<T> Deref for Current<T> {
    type Target = Arc<T>;
    #[inline]
    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

/// True if this core runs a thread: it does for good, once it has begun ([`start`]).
#[inline]
pub fn has_current() -> bool {
    !this_cpu().current_thread().is_null()
}

/// The running thread.
///
/// It can be misused before this core's first thread runs: there is none then. Builds with debug assertions panic. Others read
/// at a null pointer, where nothing is ever mapped, so the machine stops with a page fault; a check would cost each system call several times.
///
/// # Panics
///
/// Before the first thread runs (debug builds).
#[inline]
pub fn current<T: Thread>() -> Current<T> {
    let thread: *const T = this_cpu().current_thread().cast();
    debug_assert!(!thread.is_null(), "no thread runs yet");
    // SAFETY: the pointer came from `Arc::into_raw` of a `T`, as there is one type of threads, and the machine keeps a count of the running
    // thread; `ManuallyDrop` keeps the count as it was.
    Current(ManuallyDrop::new(unsafe { Arc::from_raw(thread) }), PhantomData)
}

/// True if `core` runs `thread`, which may be over at once.
#[inline]
pub fn runs_on<T: Thread>(core: usize, thread: &Arc<T>) -> bool {
    ptr::eq(cpu::cpu(core).current_thread().cast(), Arc::as_ptr(thread))
}

impl<T: Thread> Current<T> {
    /// Its registers at the last entry from ring 3.
    ///
    /// It cannot be misused: a thread that never was there has a stack with other words at this place, and any are registers.
    pub fn user_frame(&self) -> TrapFrame {
        // SAFETY: the stack is mapped up to its top. The entry from ring 3 has written the frame; it is this thread's, whose code runs here, so
        // nobody writes it meanwhile. Volatile, because the entry's caller has it borrowed.
        unsafe { self.context().stack.user_frame().read_volatile() }
    }

    /// Saves its vector state and copies it to the app.
    ///
    /// # Errors
    ///
    /// See [`CopyError`].
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn copy_vector_state(&self, to: UserBytes<'_>) -> Result<(), CopyError> {
        self.with_vector_state(|state| {
            state.save();
            to.write(state.image())
        })
    }

    /// Loads vector state that the app may have changed: what the processor would refuse is left out.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn load_vector_state(&self, image: &[u8]) {
        self.with_vector_state(|state| {
            state.save();
            state.load_image(image);
            state.restore();
        });
    }

    /// `work` does not switch, nor come here again.
    fn with_vector_state<R>(&self, work: impl FnOnce(&mut FpuState) -> R) -> R {
        let user = self.context().user.as_ref().expect("an idle thread is never in ring 3");
        // SAFETY: the thread runs here, so no other core reaches its state, and `work`, of the two functions above, ends before
        // anything else here runs. The page fault that a copy may raise does not switch: its handler never sleeps.
        work(unsafe { &mut *user.fpu.get() })
    }
}

/// The thread that ran on the core before the last switch: a count of it.
static PREVIOUS: PerCore<AtomicPtr<()>> = per_core!(AtomicPtr::new(ptr::null_mut()));

/// Runs the core's first thread; the stack on which this was called is left for good.
///
/// # Panics
///
/// If the core runs a thread already, or `first` runs elsewhere.
pub fn start<T: Thread>(first: Arc<T>) -> ! {
    assert!(!has_current(), "the core runs threads already");
    let mut boot_stack = 0;
    let stack_pointer = arrive(first);
    // SAFETY: the stack pointer was saved by a switch or made by `KernelStack`, and we have taken it. Nobody comes back here, so
    // what is saved goes nowhere.
    unsafe { switch_stacks(&raw mut boot_stack, stack_pointer) };
    unreachable!("the boot stack was resumed");
}

/// Leaves the running thread for `next`, and comes back when some core switches to it again. The first to be done then is [`take_previous`], as
/// by a new thread.
///
/// It cannot be misused: a thread that runs is not run twice. One that nobody holds any more when it has been left ends there, with
/// all that is on its stack forgotten.
///
/// # Panics
///
/// If `next` runs, or the core runs no thread yet.
pub fn switch_to<T: Thread>(next: Arc<T>) {
    let me: *const T = this_cpu().current_thread().cast();
    assert!(!me.is_null(), "the core runs no thread yet");
    // SAFETY: as in `current`; the count goes to `PREVIOUS` below, and lives until another thread has taken it.
    let context = unsafe { (*me).context() };
    if let Some(user) = &context.user {
        // SAFETY: the core runs this thread.
        unsafe { user.save() };
    }
    let stack_pointer = arrive(next);
    PREVIOUS.store(me.cast_mut().cast(), Ordering::Relaxed);
    // SAFETY: the stack pointer was saved here or made by `KernelStack`, and we have taken it, so no other core uses the stack.
    // `context` outlives the switch: `PREVIOUS` holds its thread.
    unsafe { switch_stacks(context.stack_pointer.as_ptr(), stack_pointer) };
}

/// Makes `next` the running thread, but for the stack, whose pointer is the answer.
fn arrive<T: Thread>(next: Arc<T>) -> u64 {
    let stack_pointer = next.context().take_stack_pointer();
    if let Some(user) = &next.context().user {
        // SAFETY: we have taken its stack pointer.
        unsafe { user.load() };
    }
    let stack_top = next.context().stack_top();
    this_cpu().set_current(Arc::into_raw(next).cast(), stack_top);
    stack_pointer
}

/// The thread that ran before the last switch of this core, once: from here on it may run elsewhere. The first thing on the new stack; who
/// forgets it keeps the other thread from being freed.
#[inline]
pub fn take_previous<T: Thread>() -> Option<Arc<T>> {
    let previous = PREVIOUS.load(Ordering::Relaxed);
    PREVIOUS.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: `switch_to` put the machine's count of the thread here, of the one type that there is; it is taken once.
    (!previous.is_null()).then(|| unsafe { Arc::from_raw(previous.cast_const().cast()) })
}
