//! What a program finds around itself: arguments, environment, ids, randomness, unknown calls.

use guest_tests::{check, check_eq, raw_syscall};

fn main() {
    check_eq!(std::env::args().skip(1).collect::<Vec<_>>(), ["one", "two"]);
    check!(std::env::args().next().is_some());
    check!(std::process::id() > 0);
    check!(std::thread::available_parallelism().unwrap().get() >= 1);
    check!(std::env::current_dir().is_ok());

    let mut bytes = [[0u8; 64]; 2];
    for half in &mut bytes {
        let address = half.as_mut_ptr() as u64;
        check_eq!(raw_syscall(libc::SYS_getrandom, [address, 64, 0, 0, 0, 0]), 64);
    }
    check!(bytes[0] != bytes[1]);

    const ENOSYS: i64 = -(libc::ENOSYS as i64);
    check_eq!(raw_syscall(5000, [0; 6]), ENOSYS);
    check_eq!(raw_syscall(-1, [0; 6]), ENOSYS);
    // Hash maps are seeded by the kernel's randomness; two differ in order almost surely.
    let order = || (0..64).collect::<std::collections::HashSet<i32>>().into_iter().collect::<Vec<_>>();
    check!(order() != order());
}
