//! The registers of interrupted code. What becomes of it is decided by the kernel.

/// The registers of the interrupted code, as the stubs push them. For a `syscall`, `vector` is
/// [`SYSCALL_VECTOR`] and `error_code` keeps the call's number while `rax` takes its result.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the registers they are named after")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// The pseudo-vector of the `syscall` instruction.
pub const SYSCALL_VECTOR: u64 = 256;

impl TrapFrame {
    /// True if the app was interrupted, false if the kernel was.
    pub fn is_from_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// True if the frame was made by the `syscall` instruction.
    pub fn is_syscall(&self) -> bool {
        self.vector == SYSCALL_VECTOR
    }
}
