//! Who the process is, what it may do, and what it is told of the system.

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use linux_raw_sys::prctl::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::run;

fn users() -> [u32; 3] {
    let room = Room::new(12);
    sys!(getresuid, room.0, room.at(4), room.at(8)).unwrap();
    [room.word(0), room.word(4), room.word(8)]
}

fn groups() -> [u32; 3] {
    let room = Room::new(12);
    sys!(getresgid, room.0, room.at(4), room.at(8)).unwrap();
    [room.word(0), room.word(4), room.word(8)]
}

/// The header that capget(2) and capset(2) want.
fn header() -> Room {
    Room::of(
        &_LINUX_CAPABILITY_VERSION_3.to_le_bytes().into_iter().chain([0; 4]).collect::<std::vec::Vec<_>>(),
    )
}

#[test]
fn root_becomes_anybody_and_does_not_come_back() {
    run(|| {
        assert_eq!((sys!(getuid), sys!(geteuid), users()), (Ok(0), Ok(0), [0; 3]));
        assert_eq!(sys!(setuid, -1), Err(EINVAL));
        assert_eq!(sys!(setuid, 1000), Ok(0));
        assert_eq!((sys!(getuid), sys!(geteuid), users()), (Ok(1000), Ok(1000), [1000; 3]));
        assert_eq!(sys!(setuid, 0), Err(EPERM));
        assert_eq!(sys!(setuid, 1000), Ok(0));
        assert_eq!(sys!(setgid, 5), Err(EPERM));
        assert_eq!(sys!(setgroups, 0, 0), Err(EPERM));
    });
}

#[test]
fn saved_user_allows_to_come_back() {
    run(|| {
        assert_eq!(sys!(setresuid, -1, 1000, -1), Ok(0));
        assert_eq!(users(), [0, 1000, 0]);
        assert_eq!(sys!(setresuid, 5, -1, -1), Err(EPERM));
        assert_eq!(sys!(setreuid, -1, 0), Ok(0));
        assert_eq!(users(), [0, 0, 0]);
        assert_eq!(sys!(setreuid, 7, 8), Ok(0));
        assert_eq!(users(), [7, 8, 8]);
        assert_eq!(sys!(getresuid, 1, 1, 1), Err(EFAULT));
    });
}

#[test]
fn groups_are_remembered() {
    run(|| {
        assert_eq!(sys!(setresgid, 1, 2, 3), Ok(0));
        assert_eq!((groups(), sys!(getgid), sys!(getegid)), ([1, 2, 3], Ok(1), Ok(2)));
        assert_eq!(sys!(setregid, 4, -1), Ok(0));
        assert_eq!(groups(), [4, 2, 2]);
        assert_eq!(sys!(setgid, 9), Ok(0));
        assert_eq!(groups(), [9; 3]);
        let list = Room::of(&[7, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(sys!(setgroups, 2, &list), Ok(0));
        let told = Room::new(16);
        assert_eq!(sys!(getgroups, 0, 0), Ok(2));
        assert_eq!(sys!(getgroups, 4, &told), Ok(2));
        let mut found = [told.word(0), told.word(4)];
        found.sort_unstable();
        assert_eq!(found, [5, 7]);
        assert_eq!(sys!(getgroups, 1, &told), Err(EINVAL));
        assert_eq!(sys!(getgroups, -1, &told), Err(EINVAL));
        assert_eq!(sys!(setgroups, 65_537, &list), Err(EINVAL));
        assert_eq!(sys!(setgroups, 1, 1), Err(EFAULT));
    });
}

#[test]
fn capabilities_are_given_up() {
    run(|| {
        let data = Room::new(24);
        assert_eq!(sys!(capget, &header(), &data), Ok(0));
        let (effective, permitted) = (data.word(0), data.word(4));
        assert_eq!(effective, permitted);
        assert_ne!(effective & 1 << CAP_SETUID, 0);
        data.put_word(0, effective & !(1 << CAP_SETUID));
        assert_eq!(sys!(capset, &header(), &data), Ok(0));
        assert_eq!(sys!(setresuid, -1, -1, 1234), Err(EPERM));
        data.put_word(4, permitted & !(1 << CAP_SETUID));
        assert_eq!(sys!(capset, &header(), &data), Ok(0));
        // What is gone is gone.
        data.put_word(4, permitted);
        assert_eq!(sys!(capset, &header(), &data), Err(EPERM));
    });
}

#[test]
fn header_of_capabilities_is_checked() {
    run(|| {
        let (wrong, data) = (Room::of(&[1, 2, 3, 4, 0, 0, 0, 0]), Room::new(24));
        assert_eq!(sys!(capget, &wrong, &data), Err(EINVAL));
        assert_eq!(wrong.word(0), _LINUX_CAPABILITY_VERSION_3);
        assert_eq!(sys!(capget, 1, &data), Err(EFAULT));
        assert_eq!(sys!(capset, &header(), 1), Err(EFAULT));
        let other = header();
        other.put_word(4, 77);
        assert_eq!(sys!(capset, &other, &data), Err(EPERM));
        assert_eq!(sys!(capget, &other, &data), Err(ESRCH));
    });
}

#[test]
fn groups_of_processes_and_sessions() {
    run(|| {
        assert_eq!((sys!(getpgrp), sys!(getpgid, 0), sys!(getpgid, 1)), (Ok(1), Ok(1), Ok(1)));
        assert_eq!((sys!(getsid, 0), sys!(getsid, 77), sys!(getpgid, 77)), (Ok(1), Err(ESRCH), Err(ESRCH)));
        assert_eq!((sys!(setsid), sys!(setsid)), (Ok(1), Err(EPERM)));
        assert_eq!(sys!(setpgid, 77, 0), Err(ESRCH));
        assert_eq!(sys!(setpgid, 0, -1), Err(EINVAL));
    });
}

#[test]
fn uname_and_sysinfo_tell_of_the_system() {
    run(|| {
        let name = Room::new(390);
        assert_eq!(sys!(uname, &name), Ok(0));
        assert_eq!((name.bytes(0, 6), name.bytes(4 * 65, 7)), (b"Linux\0".to_vec(), b"x86_64\0".to_vec()));
        assert_eq!(sys!(uname, 1), Err(EFAULT));
        let info = Room::new(112);
        assert_eq!(sys!(sysinfo, &info), Ok(0));
        let unit = u64::from(info.word(104));
        let (total, free) = (info.long(32) * unit, info.long(40) * unit);
        assert!(32 << 20 < free && free < total && total <= 64 << 20, "{total} {free}");
        assert_eq!(sys!(sysinfo, 1), Err(EFAULT));
    });
}

#[test]
fn limits_are_set_within_the_hard_one() {
    run(|| {
        let limit = Room::new(16);
        assert_eq!(sys!(getrlimit, RLIMIT_NOFILE, &limit), Ok(0));
        let (soft, hard) = (limit.long(0), limit.long(8));
        assert!(soft <= hard);
        let set = |soft: u64, hard: u64| sys!(setrlimit, RLIMIT_NOFILE, &Room::of_longs(&[soft, hard]));
        assert_eq!(set(11, 10), Err(EINVAL));
        assert_eq!(set(u64::MAX, u64::MAX), Err(EPERM));
        let old = Room::new(16);
        assert_eq!(sys!(prlimit64, 0, RLIMIT_NOFILE, &Room::of_longs(&[100, hard]), &old), Ok(0));
        assert_eq!((old.long(0), old.long(8)), (soft, hard));
        assert_eq!(sys!(prlimit64, 1, RLIMIT_NOFILE, 0, &old), Ok(0));
        assert_eq!(old.long(0), 100);
        assert_eq!(sys!(getrlimit, 16, &limit), Err(EINVAL));
        assert_eq!(sys!(prlimit64, 77, RLIMIT_NOFILE, 0, &old), Err(ESRCH));
        assert_eq!(sys!(getrlimit, RLIMIT_NOFILE, 1), Err(EFAULT));
    });
}

#[test]
fn thread_has_a_name() {
    run(|| {
        let name = Room::new(16);
        assert_eq!(sys!(prctl, PR_SET_NAME, "a-name-that-is-too-long"), Ok(0));
        assert_eq!(sys!(prctl, PR_GET_NAME, &name), Ok(0));
        assert_eq!(name.bytes(0, 16), b"a-name-that-is-\0");
        assert_eq!(sys!(prctl, PR_SET_NAME, 1), Err(EFAULT));
        let file = sys!(open, "/proc/self/comm", O_RDONLY, 0).unwrap();
        let text = Room::new(32);
        assert_eq!(sys!(read, file, &text, 32), Ok(16));
        assert_eq!(text.bytes(0, 16), b"a-name-that-is-\n");
    });
}

#[test]
fn options_of_prctl_are_kept() {
    run(|| {
        assert_eq!(sys!(prctl, PR_GET_DUMPABLE), Ok(1));
        assert_eq!(sys!(prctl, PR_SET_DUMPABLE, 0), Ok(0));
        assert_eq!(sys!(prctl, PR_GET_DUMPABLE), Ok(0));
        assert_eq!(sys!(prctl, PR_SET_DUMPABLE, 9), Err(EINVAL));
        assert_eq!(sys!(prctl, PR_GET_KEEPCAPS, 0, 0, 0, 0), Ok(0));
        assert_eq!(sys!(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), Ok(0));
        assert_eq!(sys!(prctl, PR_GET_KEEPCAPS, 0, 0, 0, 0), Ok(1));
        assert_eq!(sys!(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Ok(0));
        assert_eq!(sys!(prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), Ok(1));
        assert_eq!(sys!(prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), Err(EINVAL));
        assert_eq!(sys!(prctl, 9999), Err(EINVAL));
    });
}

#[test]
fn personality_and_segments() {
    run(|| {
        assert_eq!(sys!(personality, u32::MAX), Ok(0));
        assert_eq!(sys!(personality, 0x0004_0000), Ok(0));
        assert_eq!(sys!(personality, u32::MAX), Ok(0x0004_0000));
        const SET_FS: u32 = 0x1002;
        const GET_FS: u32 = 0x1003;
        let told = Room::new(8);
        assert_eq!(sys!(arch_prctl, SET_FS, 0x1234_5000), Ok(0));
        assert_eq!(sys!(arch_prctl, GET_FS, &told), Ok(0));
        assert_eq!(told.long(0), 0x1234_5000);
        assert_eq!(sys!(arch_prctl, SET_FS, 1_u64 << 63), Err(EPERM));
        assert_eq!(sys!(arch_prctl, GET_FS, 1), Err(EFAULT));
        assert_eq!(sys!(arch_prctl, 0x9999, 0), Err(EINVAL));
    });
}
