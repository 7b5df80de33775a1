//! Nothing of the kernel's comes to the app with what it is answered. That each call of every other test is looked at is the machine's
//! doing (`hal::sim::poison`); here are the gaps in structures, which are too small for that, and the look itself.

use linux_raw_sys::general::*;
use unikernel_hal::sim::poison::{self, LEAST, PATTERN};

use super::super::app::calls::{Room, sys};
use super::super::app::run::run;

/// What the app has in a gap.
const OWN: u32 = 0x5a5a_5a5a;

#[test]
fn unwritten_bytes_are_found_wherever_they_begin() {
    let unwritten: std::vec::Vec<u8> = PATTERN.repeat(3);
    for start in 0..PATTERN.len() {
        poison::check(&unwritten[start..start + LEAST - 1]);
        let mut bytes = [0; 4 * LEAST];
        bytes[start..start + LEAST].copy_from_slice(&unwritten[start..start + LEAST]);
        assert!(std::panic::catch_unwind(|| poison::check(&bytes)).is_err(), "from {start}");
        bytes[start + 2] = 1;
        poison::check(&bytes);
    }
    poison::check(&[PATTERN[0]; 64]);
}

/// `struct flock` has a gap behind its second field, and one at its end.
#[test]
fn lock_that_is_told_has_the_apps_gaps() {
    run(|| {
        let file = sys!(open, "/tmp/locked", O_RDWR | O_CREAT, 0o600).unwrap();
        let other = sys!(open, "/tmp/locked", O_RDWR, 0).unwrap();
        for is_held in [false, true] {
            let lock = Room::new(32);
            lock.put(0, &(F_WRLCK as u16).to_le_bytes());
            if is_held {
                sys!(fcntl, other, F_OFD_SETLK, &lock).unwrap();
            }
            lock.put_word(4, OWN);
            lock.put_word(28, OWN);
            sys!(fcntl, file, F_OFD_GETLK, &lock).unwrap();
            let told = u32::from(lock.bytes(0, 1)[0]);
            assert_eq!(told, if is_held { F_WRLCK } else { F_UNLCK });
            assert_eq!((lock.word(4), lock.word(28)), (OWN, OWN));
        }
    });
}

/// `struct sysinfo` has one behind the number of processes, and one at its end.
#[test]
fn what_is_told_of_the_system_has_zeros_in_its_gaps() {
    run(|| {
        let info = Room::of(&[0x5a; 120]);
        sys!(sysinfo, &info).unwrap();
        assert_eq!(info.bytes(82, 6), [0; 6]);
        assert_eq!(info.word(108), 0);
        assert_eq!(info.bytes(112, 8), [0x5a; 8], "behind the structure");
    });
}

/// `struct msghdr` has one behind the length of the name, and one at its end.
#[test]
fn header_of_a_message_keeps_its_gaps() {
    run(|| {
        let pair = Room::new(8);
        sys!(socketpair, 1, 2, 0, &pair).unwrap();
        sys!(write, pair.word(0), "text", 4).unwrap();
        let bytes = Room::new(16);
        let vector = Room::of_longs(&[bytes.0, 16]);
        let header = Room::of_longs(&[0, 0, vector.0, 1, 0, 0, 0]);
        header.put_word(12, OWN);
        header.put_word(52, OWN);
        assert_eq!(sys!(recvmsg, pair.word(4), &header, 0), Ok(4));
        assert_eq!((header.word(8), header.word(48)), (0, 0));
        assert_eq!((header.word(12), header.word(52)), (OWN, OWN));
    });
}

/// Frames that come from the kernel's pool have been somebody's: files' pages, objects, the app's own.
#[test]
fn new_memory_is_zero() {
    run(|| {
        const LEN: usize = 8 << 20;
        for round in 0..3 {
            let flags = MAP_PRIVATE | MAP_ANONYMOUS;
            let start = sys!(mmap, 0, LEN, PROT_READ | PROT_WRITE, flags, -1, 0).unwrap();
            let memory = Room(start);
            for page in (0..LEN).step_by(4096) {
                assert!(memory.bytes(page, 4096).iter().all(|&byte| byte == 0), "round {round}, {page:#x}");
                memory.put(page, &[0x5a; 4096]);
            }
            sys!(munmap, start, LEN).unwrap();
        }
    });
}
