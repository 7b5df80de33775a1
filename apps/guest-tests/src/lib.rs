//! What the guest tests share: checks that say where they failed, and the system call by number.

pub mod call_table;
pub mod cold;
pub mod held_up;
pub mod mapping;
pub mod objects;
pub mod random;
pub mod rings;

/// Ends the test with code 1 and a line that says what was expected.
#[macro_export]
macro_rules! check {
    ($condition:expr) => {
        if !$condition {
            eprintln!("{}:{}: does not hold: {}", file!(), line!(), stringify!($condition));
            std::process::exit(1);
        }
    };
}

/// Like [`check!`], for equality.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    eprintln!("{}:{}: {} is {left:?}, not {right:?}", file!(), line!(), stringify!($left));
                    std::process::exit(1);
                }
            }
        }
    };
}

/// Runs any system call with any arguments; answers the raw result.
pub fn raw_syscall(number: i64, args: [u64; 6]) -> i64 {
    let result;
    // SAFETY: none can be given: tests use this for calls that are meant to go wrong, and end the
    // process soon after.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// The folder for a test's files: the argument, or what the runner names in `DATA`.
pub fn data_folder() -> std::path::PathBuf {
    let named = std::env::args_os().nth(1).or_else(|| std::env::var_os("DATA"));
    named.expect("an argument or DATA names a folder").into()
}

/// The error number of the last C library call.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
