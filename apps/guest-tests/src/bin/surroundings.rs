//! What a program finds around itself: arguments, environment, ids, randomness, unknown calls.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::{fs, thread};

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

    listings();
    auxiliary_vector();
    settings();
}

/// prctl(2) tells what was set, of this thread; one that it starts has the same.
fn settings() {
    const EINVAL: i64 = -(libc::EINVAL as i64);
    let call = |option: i32, args: [u64; 4]| {
        let [second, third, fourth, fifth] = args;
        raw_syscall(libc::SYS_prctl, [option as u64, second, third, fourth, fifth, 0])
    };
    let get = move |option| call(option, [0; 4]);
    for (set, ask) in [
        (libc::PR_SET_KEEPCAPS, libc::PR_GET_KEEPCAPS),
        (libc::PR_SET_THP_DISABLE, libc::PR_GET_THP_DISABLE),
        (libc::PR_SET_TIMERSLACK, libc::PR_GET_TIMERSLACK),
    ] {
        check_eq!(call(set, [1, 0, 0, 0]), 0);
        check_eq!(get(ask), 1);
        check_eq!(call(set, [0; 4]), 0);
    }
    check_eq!(get(libc::PR_GET_TIMERSLACK), 50_000);
    check_eq!(call(libc::PR_SET_KEEPCAPS, [2, 0, 0, 0]), EINVAL);
    check_eq!(call(libc::PR_SET_PDEATHSIG, [65, 0, 0, 0]), EINVAL);
    check_eq!(call(libc::PR_SET_PDEATHSIG, [10, 0, 0, 0]), 0);
    let mut signal = 0_i32;
    check_eq!(call(libc::PR_GET_PDEATHSIG, [(&raw mut signal).addr() as u64, 0, 0, 0]), 0);
    check_eq!(signal, 10);
    check_eq!(get(libc::PR_GET_NO_NEW_PRIVS), 0);
    for wrong in [[0, 0, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 7]] {
        check_eq!(call(libc::PR_SET_NO_NEW_PRIVS, wrong), EINVAL);
    }
    check_eq!(call(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]), 0);
    check_eq!(get(libc::PR_GET_NO_NEW_PRIVS), 1);
    check_eq!(thread::spawn(move || get(libc::PR_GET_NO_NEW_PRIVS)).join().unwrap(), 1);
    check_eq!(call(12345, [0; 4]), EINVAL);
}

/// `/proc/self/fd` and `/proc/self/task` show what there is now.
fn listings() {
    let names = |path: &str| -> HashSet<String> {
        let entries = fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let threads = names("/proc/self/task").len();
    let (sender, receiver) = mpsc::channel::<()>();
    let other = thread::spawn(move || receiver.recv());
    check_eq!(names("/proc/self/task").len(), threads + 1);
    drop(sender);
    let _ = other.join().unwrap();
    let file = fs::File::open("/proc/self/status").unwrap();
    let number = file.as_raw_fd().to_string();
    check!(names("/proc/self/fd").contains(&number));
    let target = fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    check!(target.to_str().unwrap().ends_with("/status"));
    drop(file);
    check!(fs::read_link(format!("/proc/self/fd/{number}")).is_err());
}

/// prctl(2); `libc` does not know it.
const PR_GET_AUXV: u64 = 0x4155_5856;

fn auxiliary_vector() {
    let mut vector = [0_u64; 128];
    let call = [PR_GET_AUXV, vector.as_mut_ptr() as u64, 1024, 0, 0, 0];
    let len = raw_syscall(libc::SYS_prctl, call);
    check!(len > 0 && len <= 1024 && len % 16 == 0);
    let pairs: Vec<_> = vector[..len as usize / 8].chunks(2).collect();
    check_eq!(pairs.last().unwrap(), &[0, 0]);
    check!(pairs.contains(&&[libc::AT_PAGESZ, 4096][..]));
}
