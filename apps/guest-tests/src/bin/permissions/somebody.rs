//! Whom the program acts as. The saved user id stays root's, so that there is a way back; what is in force is what matters to files.

use guest_tests::check_eq;

use crate::call;

// linux/capability.h
pub(crate) const CHOWN: u64 = 1;
pub(crate) const DAC_OVERRIDE: u64 = 1 << 1;
pub(crate) const DAC_READ_SEARCH: u64 = 1 << 2;
pub(crate) const FOWNER: u64 = 1 << 3;
pub(crate) const FSETID: u64 = 1 << 4;
pub(crate) const SETGID: u64 = 1 << 6;
pub(crate) const SETUID: u64 = 1 << 7;
pub(crate) const SETPCAP: u64 = 1 << 8;
pub(crate) const NET_BIND_SERVICE: u64 = 1 << 10;
pub(crate) const NET_ADMIN: u64 = 1 << 12;
pub(crate) const NET_RAW: u64 = 1 << 13;
pub(crate) const SYS_ADMIN: u64 = 1 << 21;
pub(crate) const SYS_NICE: u64 = 1 << 23;
const SYS_RESOURCE: u64 = 1 << 24;
pub(crate) const ALL: u64 = ((1 << 41) - 1) & !SYS_RESOURCE;
/// "Leave it as it is".
const KEEP: u64 = u32::MAX as u64;

/// Who owns what is there.
pub(crate) const OWNER: u32 = 1001;
pub(crate) const GROUP: u32 = 2001;
pub(crate) const OTHER: u32 = 1004;

/// Somebody.
#[derive(Clone, Copy)]
pub(crate) struct Somebody {
    pub(crate) name: &'static str,
    user: u32,
    group: u32,
    groups: &'static [u32],
    capabilities: u64,
    /// The id for files, if it is another.
    user_fs: Option<u32>,
}

const fn user(
    name: &'static str,
    user: u32,
    group: u32,
    groups: &'static [u32],
    capabilities: u64,
) -> Somebody {
    Somebody { name, user, group, groups, capabilities, user_fs: None }
}

pub(crate) const fn other(name: &'static str, capabilities: u64) -> Somebody {
    user(name, OTHER, 2004, &[], capabilities)
}

pub(crate) const ROOT: Somebody = user("root", 0, 0, &[], ALL);

pub(crate) const EVERYBODY: [Somebody; 16] = [
    ROOT,
    user("owner", OWNER, GROUP, &[], 0),
    user("owner-elsewhere", OWNER, 2002, &[], 0),
    user("member", 1002, GROUP, &[], 0),
    user("member-too", 1003, 2003, &[7, GROUP, 3000], 0),
    other("other", 0),
    other("overrides", DAC_OVERRIDE),
    other("searches", DAC_READ_SEARCH),
    other("owns-all", FOWNER),
    other("gives", CHOWN),
    other("gives-and-owns", CHOWN | FOWNER),
    other("keeps-bits", FSETID),
    user("owner-keeps-bits", OWNER, 2002, &[], FSETID),
    user("bare-root", 0, 0, &[], 0),
    Somebody { user_fs: Some(OTHER), ..user("root-as-other", 0, 0, &[], ALL) },
    Somebody { user_fs: Some(0), ..user("other-as-root", OTHER, 2004, &[], SETUID | DAC_READ_SEARCH) },
];

/// Some machines' root lacks a capability: here nobody has it.
pub(crate) fn equalise() {
    check_eq!(call(libc::SYS_prctl, &[libc::PR_CAPBSET_DROP as u64, 24]), 0);
    set_capabilities(ALL, ALL, 0);
    check_eq!(call(libc::SYS_setgroups, &[0, 0]), 0);
}

fn words(set: u64) -> [u32; 2] {
    [set as u32, (set >> 32) as u32]
}

/// capset(2).
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> i64 {
    let header = [0x2008_0522_u32, 0];
    let [effective, permitted, inheritable] = [effective, permitted, inheritable].map(words);
    let words = [0, 1].map(|half| [effective[half], permitted[half], inheritable[half]]);
    call(libc::SYS_capset, &[header.as_ptr() as u64, words.as_ptr() as u64])
}

fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) {
    check_eq!(capset(effective, permitted, inheritable), 0);
}

/// Effective, permitted and inheritable.
pub(crate) fn capabilities() -> [u64; 3] {
    let (header, mut words) = ([0x2008_0522_u32, 0], [[0_u32; 3]; 2]);
    check_eq!(call(libc::SYS_capget, &[header.as_ptr() as u64, words.as_mut_ptr() as u64]), 0);
    [0, 1, 2].map(|index| u64::from(words[0][index]) | u64::from(words[1][index]) << 32)
}

impl Somebody {
    /// Does something as this one, and becomes root again.
    pub(crate) fn act<T>(&self, deed: impl FnOnce() -> T) -> T {
        check_eq!(call(libc::SYS_setgroups, &[self.groups.len() as u64, self.groups.as_ptr() as u64]), 0);
        check_eq!(call(libc::SYS_setresgid, &[self.group.into(), self.group.into(), 0]), 0);
        check_eq!(call(libc::SYS_setresuid, &[self.user.into(), self.user.into(), 0]), 0);
        if let Some(user) = self.user_fs {
            set_capabilities(self.capabilities, ALL, 0);
            call(libc::SYS_setfsuid, &[user.into()]);
        } else {
            set_capabilities(self.capabilities, ALL, 0);
        }
        let outcome = deed();
        check_eq!(call(libc::SYS_setresuid, &[KEEP, 0, KEEP]), 0);
        check_eq!(call(libc::SYS_setresuid, &[0, 0, 0]), 0);
        set_capabilities(ALL, ALL, 0);
        check_eq!(call(libc::SYS_setresgid, &[0, 0, 0]), 0);
        check_eq!(call(libc::SYS_setgroups, &[0, 0]), 0);
        outcome
    }
}
