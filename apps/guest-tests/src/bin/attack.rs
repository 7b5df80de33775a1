//! An app that has been taken over: `attack CASE` does one thing that must end it, and never the
//! kernel. The table of cases with their expected signals is in `tests.toml`.

use std::arch::asm;

use guest_tests::raw_syscall;

/// From where the kernel is loaded to where it runs.
const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// Where the kernel maps all memory for itself.
const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;

/// First byte of the kernel of this image.
fn kernel_image() -> u64 {
    let start: u64;
    // SAFETY: loads a constant. Compiled code reaches the program's own addresses only.
    unsafe { asm!("movabs {}, offset __kernel_start", out(reg) start, options(pure, nomem, nostack)) };
    start
}

fn read(address: u64) {
    // SAFETY: none: the access must end this process.
    let byte = unsafe { (address as *const u8).read_volatile() };
    println!("read {byte:#x} at {address:#x}");
}

fn write(address: u64) {
    // SAFETY: none: the access must end this process.
    unsafe { (address as *mut u8).write_volatile(0xcc) };
    println!("wrote to {address:#x}");
}

fn jump(address: u64) {
    // SAFETY: none: the jump must end this process.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
    println!("came back from {address:#x}");
}

/// A `ret` instruction, wherever it lies.
const RET: u8 = 0xc3;

fn execute_stack() {
    let code = [RET; 16];
    jump(std::hint::black_box(&code).as_ptr() as u64);
}

fn execute_heap() {
    let code = Box::new([RET; 16]);
    jump(code.as_ptr() as u64);
}

fn write_and_execute() {
    let protection = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let at = raw_syscall(libc::SYS_mmap, [0, 4096, protection, flags, u64::MAX, 0]);
    // Refused by the kernel's rule (W^X), so what follows hits an address that is none.
    write(at as u64);
}

/// Runs one instruction.
macro_rules! instruction {
    ($($text:literal),* $(, in($register:tt) $value:expr)*) => {
        // SAFETY: none: the instruction must end this process.
        unsafe { asm!($($text),* $(, in($register) $value)*, clobber_abi("C")) }
    };
}

/// Goes through `rt_sigreturn` with a frame of our own making.
fn forged_frame(change: impl FnOnce(&mut [u64; 64])) {
    /// Words from the frame's start (after the return address that a handler's `ret` takes) to the
    /// saved registers: flags, link and stack of `ucontext`.
    const REGISTERS: usize = 5;
    let mut frame = [0u64; 64];
    let stack = [0u64; 512];
    frame[REGISTERS + RSP] = stack.as_ptr().addr() as u64 + 2048;
    frame[REGISTERS + RIP] = landed as *const () as u64;
    frame[REGISTERS + FLAGS] = 0x202;
    frame[REGISTERS + SEGMENTS] = 0x33 | 0x2b << 48;
    change(&mut frame);
    // SAFETY: none: the stack pointer moves to the forged frame.
    unsafe {
        asm!("mov rsp, {frame}", "mov eax, 15", "syscall", "ud2", frame = in(reg) frame.as_ptr(), options(noreturn));
    }
}

const RSP: usize = 15;
const RIP: usize = 16;
const FLAGS: usize = 17;
const SEGMENTS: usize = 18;

/// Where good forged frames lead: reports what came through.
extern "C" fn landed() -> ! {
    let (flags, code): (u64, u64);
    // SAFETY: reads registers.
    unsafe { asm!("pushfq", "pop {}", "mov {:e}, cs", out(reg) flags, out(reg) code) };
    let has_io_privilege = flags & 0x3000 != 0;
    let is_ring_3 = code & 3 == 3;
    std::process::exit(if has_io_privilege || !is_ring_3 { 1 } else { 0 });
}

fn main() {
    let case = std::env::args().nth(1).unwrap_or_default();
    match case.as_str() {
        "read-kernel-image" => read(kernel_image()),
        "write-kernel-image" => write(kernel_image()),
        "jump-kernel-image" => jump(kernel_image() + 0x1000),
        "read-direct-map" => read(DIRECT_MAP + 0x10_0000),
        "write-direct-map" => write(DIRECT_MAP + 0x10_0000),
        "jump-direct-map" => jump(DIRECT_MAP + 0x10_0000),
        "read-null" => read(std::hint::black_box(0)),
        "jump-null" => jump(0),
        "read-non-canonical" => read(NON_CANONICAL),
        "jump-non-canonical" => jump(NON_CANONICAL),
        "execute-stack" => execute_stack(),
        "execute-heap" => execute_heap(),
        "write-code" => write(main as *const () as u64),
        "write-and-execute" => write_and_execute(),
        "hlt" => instruction!("hlt"),
        "cli" => instruction!("cli"),
        "in" => instruction!("in al, dx", in("edx") 0xf4),
        "out" => instruction!("out dx, eax", in("edx") 0xf4, in("eax") 0),
        "wrmsr" => instruction!("wrmsr", in("ecx") 0xc000_0080u32, in("eax") 0, in("edx") 0),
        "rdmsr" => instruction!("rdmsr", in("ecx") 0xc000_0080u32),
        "mov-cr3" => instruction!("mov cr3, rax", in("rax") 0u64),
        "mov-cr0" => instruction!("mov rax, cr0"),
        "lgdt" => instruction!("sub rsp, 16", "lgdt [rsp]"),
        "lidt" => instruction!("sub rsp, 16", "lidt [rsp]"),
        "swapgs" => instruction!("swapgs"),
        "invlpg" => instruction!("invlpg [rsp]"),
        "int-80" => instruction!("int 0x80"),
        "int-page-fault" => instruction!("int 14"),
        "int-timer" => instruction!("int 224"),
        "int-3" => instruction!("int3"),
        "ud2" => instruction!("ud2"),
        "sysenter" => instruction!("sysenter"),
        "far-jump" => instruction!("push 8", "lea rax, [rip]", "push rax", "retfq"),
        "iret" => instruction!(
            "push 0x10",
            "push rsp",
            "push 0x3002",
            "push 8",
            "lea rax, [rip]",
            "push rax",
            "iretq"
        ),
        "trap-flag" => instruction!("pushfq", "or dword ptr [rsp], 0x100", "popfq", "nop"),
        "divide" => instruction!("div ecx", in("ecx") 0, in("eax") 1, in("edx") 0),
        // These must do no harm at all.
        "unmap-kernel" => {
            unmap_kernel();
            harmless();
        }
        "map-over-loaded-kernel" => {
            map_over_loaded_kernel();
            harmless();
        }
        "nested-task-flag" => {
            instruction!("pushfq", "or dword ptr [rsp], 0x4000", "popfq", "mov eax, 39", "syscall");
            harmless();
        }
        "alignment-flag" => {
            // The kernel must not take AC for its own; glibc-free code may not survive it, so clear it.
            instruction!(
                "pushfq",
                "or dword ptr [rsp], 0x40000",
                "popfq",
                "mov eax, 39",
                "syscall",
                "pushfq",
                "and dword ptr [rsp], ~0x40000",
                "popfq"
            );
            harmless();
        }
        "direction-flag" => {
            instruction!("std", "mov eax, 39", "syscall", "cld");
            harmless();
        }
        "wild-gs" => {
            wild_gs();
            harmless();
        }
        "forged-good" => forged_frame(|_| {}),
        "forged-ring-0" => forged_frame(|frame| {
            frame[5 + SEGMENTS] = 0x08 | 0x10 << 48;
            frame[5 + FLAGS] = 0x3202;
        }),
        "forged-rip" => forged_frame(|frame| frame[5 + RIP] = NON_CANONICAL),
        "forged-rip-kernel" => forged_frame(|frame| frame[5 + RIP] = DIRECT_MAP),
        "forged-nowhere" => {
            // SAFETY: none: the frame is not there at all.
            unsafe { asm!("mov rsp, 16", "mov eax, 15", "syscall", "ud2", options(noreturn)) };
        }
        "wild-stack" => instruction!("mov rsp, 16", "mov eax, 39", "syscall", "push rax"),
        _ => {
            eprintln!("no such attack: {case}");
            std::process::exit(2);
        }
    }
    // An attack that comes here has not been stopped.
    eprintln!("{case}: still alive");
    std::process::exit(3);
}

/// The end of the cases that must go on as if nothing had happened.
fn harmless() -> ! {
    let sum: u64 = (0..1000u64).map(|n| std::thread::spawn(move || n).join().unwrap_or(0)).take(20).sum();
    std::process::exit(if sum == 190 { 0 } else { 1 });
}

/// Ranges with the kernel's pages in them, which no call may take away; more than one page, more than one table.
fn unmap_kernel() {
    const APP_START: u64 = 0x20_0000;
    let kernel = kernel_image();
    let call = |number, args: [u64; 3]| raw_syscall(number, [args[0], args[1], args[2], 0, 0, 0]);
    // The last ones reach to the end, and around it.
    for len in [1, 4096, 40 * 4096, 2 << 20, 1 << 30, kernel.wrapping_neg(), APP_START.wrapping_sub(kernel)] {
        assert!(call(libc::SYS_munmap, [kernel, len, 0]) < 0, "munmap of {len}");
        assert!(
            call(libc::SYS_munmap, [kernel - 4096, len.wrapping_add(4096), 0]) < 0,
            "munmap of {len} and a page before"
        );
        // A mapping of the app's is cut to a page, with everything behind it.
        let behind = kernel.wrapping_add(len).wrapping_sub(APP_START);
        assert!(call(libc::SYS_mremap, [APP_START, behind.max(1 << 47), 4096]) < 0, "mremap of {len}");
    }
    // Advice is taken for the app's own pages in a range, whatever else is there (madvise(2), ENOMEM): so no range
    // that reaches behind the kernel.
    for len in [1, 4096, 40 * 4096, 2 << 20] {
        for advice in [libc::MADV_DONTNEED, libc::MADV_FREE] {
            assert!(call(libc::SYS_madvise, [kernel, len, advice as u64]) < 0, "madvise of {len}");
        }
    }
}

/// The addresses at which the kernel is loaded are not where it runs: they are the app's to map, and show pages of its own.
fn map_over_loaded_kernel() {
    const BYTES: u64 = 4 << 20;
    let at = kernel_image() - KERNEL_OFFSET;
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
    let mapped = raw_syscall(libc::SYS_mmap, [at, BYTES, protection, flags, u64::MAX, 0]);
    assert_eq!(mapped as u64, at);
    for word in (at..at + BYTES).step_by(512) {
        let word = word as *mut u64;
        // SAFETY: the page is this program's by the mapping above.
        unsafe {
            assert_eq!(word.read_volatile(), 0);
            word.write_volatile(u64::MAX);
        }
    }
    assert_eq!(raw_syscall(libc::SYS_munmap, [at, BYTES, 0, 0, 0, 0]), 0);
}

/// GS bases that the kernel must not take for its own.
fn wild_gs() {
    // Without FSGSBASE there is no way to set it from ring 3, and nothing to test.
    // SAFETY: CPUID has no side effects; GS is not used by the program.
    unsafe {
        let features = std::arch::x86_64::__cpuid_count(7, 0).ebx;
        if features & 1 != 0 {
            for base in [0u64, DIRECT_MAP, u64::MAX, 16] {
                asm!("wrgsbase {}", "mov eax, 39", "syscall", in(reg) base, clobber_abi("C"));
            }
        }
    }
}
