//! Becoming somebody else: setuid(2) and its family, and the sets of capabilities that follow. Each attempt is a thread's, whose
//! credentials are its own, and ends with it.

use std::fmt::Write;

use guest_tests::check_eq;

use crate::somebody::{
    ALL, CHOWN, DAC_OVERRIDE, FOWNER, NET_BIND_SERVICE, SETGID, SETPCAP, SETUID, SYS_ADMIN, capabilities,
    capset,
};
use crate::{Line, call};

const KEEP: u64 = u32::MAX as u64;

/// What a thread starts an attempt with: ids, and what is in force and permitted.
struct Start {
    name: &'static str,
    ids: [u64; 3],
    effective: u64,
    permitted: u64,
}

const STARTS: [Start; 7] = [
    Start { name: "root", ids: [0, 0, 0], effective: ALL, permitted: ALL },
    Start { name: "root-without", ids: [0, 0, 0], effective: ALL & !SETUID & !SETGID, permitted: ALL },
    Start { name: "left", ids: [1001, 1001, 0], effective: 0, permitted: ALL },
    Start { name: "three", ids: [1001, 1002, 1003], effective: SETPCAP, permitted: SETPCAP | CHOWN },
    Start {
        name: "three-may",
        ids: [1001, 1002, 1003],
        effective: SETUID | SETGID,
        permitted: SETUID | SETGID | FOWNER,
    },
    Start { name: "real-root", ids: [0, 1002, 1003], effective: FOWNER, permitted: ALL },
    Start { name: "nobody", ids: [1001, 1001, 1001], effective: 0, permitted: 0 },
];

/// Ids, ids for files, and capabilities.
fn state() -> String {
    let ids = |number: i64| {
        let mut ids = [9_u32; 3];
        let [real, effective, saved] = &mut ids;
        let places = [real, effective, saved].map(|place| &raw mut *place as u64);
        check_eq!(call(number, &places), 0);
        ids.map(|id| id.to_string()).join("/")
    };
    let (user, group) = (ids(libc::SYS_getresuid), ids(libc::SYS_getresgid));
    let fs = [libc::SYS_setfsuid, libc::SYS_setfsgid].map(|number| call(number, &[KEEP]));
    let mut text = format!("{user},{group},{}/{}", fs[0], fs[1]);
    for set in capabilities() {
        let _ = write!(text, ",{set:x}");
    }
    let _ = write!(text, ",{:x}", call(libc::SYS_prctl, &[libc::PR_GET_SECUREBITS as u64]));
    text
}

impl Start {
    fn begin(&self) {
        check_eq!(call(libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as u64, 1]), 0);
        let [real, effective, saved] = self.ids;
        check_eq!(call(libc::SYS_setresgid, &[real, effective, saved]), 0);
        check_eq!(call(libc::SYS_setresuid, &[real, effective, saved]), 0);
        check_eq!(call(libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as u64, 0]), 0);
        check_eq!(capset(self.effective, self.permitted, 0), 0);
    }

    /// The answer of an attempt, and what it has led to.
    fn attempt(&self, deed: impl FnOnce() -> i64 + Send) -> (i64, String) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.begin();
                let answer = deed();
                (answer, state())
            });
            thread.join().expect("it does not panic")
        })
    }
}

pub(crate) fn ask() {
    for start in &STARTS {
        one(start);
        pairs(start);
        each(start);
        for_files(start);
        sets(start);
        options(start);
        sequences(start);
    }
}

fn note(line: &mut Line, name: &str, (answer, state): (i64, String)) {
    line.answer(name, answer);
    line.value("left", state);
}

const IDS: [u64; 6] = [0, 1001, 1002, 1003, 1009, KEEP];

fn one(start: &Start) {
    for (name, number) in [("setuid", libc::SYS_setuid), ("setgid", libc::SYS_setgid)] {
        let mut line = Line::new(&format!("{} {name}", start.name));
        for id in IDS {
            note(&mut line, &id.to_string(), start.attempt(|| call(number, &[id])));
        }
        line.print();
    }
}

fn pairs(start: &Start) {
    for (name, number) in [("setreuid", libc::SYS_setreuid), ("setregid", libc::SYS_setregid)] {
        for real in IDS {
            let mut line = Line::new(&format!("{} {name} {}", start.name, real as i32));
            for effective in IDS {
                let outcome = start.attempt(|| call(number, &[real, effective]));
                note(&mut line, &(effective as i32).to_string(), outcome);
            }
            line.print();
        }
    }
}

fn each(start: &Start) {
    for (name, number) in [("setresuid", libc::SYS_setresuid), ("setresgid", libc::SYS_setresgid)] {
        for real in [0, 1002, 1009, KEEP] {
            let mut line = Line::new(&format!("{} {name} {}", start.name, real as i32));
            for effective in [0, 1003, 1009, KEEP] {
                for saved in [0, 1001, 1009, KEEP] {
                    let outcome = start.attempt(|| call(number, &[real, effective, saved]));
                    note(&mut line, &format!("{}:{}", effective as i32, saved as i32), outcome);
                }
            }
            line.print();
        }
    }
}

fn for_files(start: &Start) {
    for (name, number) in [("setfsuid", libc::SYS_setfsuid), ("setfsgid", libc::SYS_setfsgid)] {
        let mut line = Line::new(&format!("{} {name}", start.name));
        for id in IDS {
            let (answer, state) = start.attempt(|| call(number, &[id]));
            line.value(&(id as i32).to_string(), answer);
            line.value("left", state);
        }
        line.print();
    }
    let mut line = Line::new(&format!("{} setgroups", start.name));
    let groups = [7_u32, 5];
    for (count, list) in [(0, 0), (2, groups.as_ptr() as u64), (65_537, groups.as_ptr() as u64)] {
        line.answer(&count.to_string(), start.attempt(|| call(libc::SYS_setgroups, &[count, list])).0);
    }
    line.print();
}

const SETS: [u64; 5] = [0, CHOWN, CHOWN | SETPCAP, SETUID | FOWNER, ALL];

/// capset(2) with all combinations of some sets.
fn sets(start: &Start) {
    for effective in SETS {
        let mut line = Line::new(&format!("{} capset {effective:x}", start.name));
        for permitted in SETS {
            for inheritable in [0, CHOWN, NET_BIND_SERVICE] {
                let outcome = start.attempt(|| capset(effective, permitted, inheritable));
                note(&mut line, &format!("{permitted:x}:{inheritable:x}"), outcome);
            }
        }
        line.print();
    }
}

fn prctl(option: i32, arguments: [u64; 4]) -> i64 {
    let [second, third, fourth, fifth] = arguments;
    call(libc::SYS_prctl, &[option as u64, second, third, fourth, fifth])
}

fn options(start: &Start) {
    let mut line = Line::new(&format!("{} prctl", start.name));
    let mut ask = |name: &str, option: i32, arguments: [u64; 4]| {
        let (answer, state) = start.attempt(|| prctl(option, arguments));
        line.value(name, answer);
        line.value("left", state);
    };
    for number in [0, 8, 24, 40, 41, 63, u64::MAX] {
        ask("bounding-read", libc::PR_CAPBSET_READ, [number, 0, 0, 0]);
        ask("bounding-drop", libc::PR_CAPBSET_DROP, [number, 0, 0, 0]);
        for what in [1, 2, 3, 4, 5] {
            ask("ambient", libc::PR_CAP_AMBIENT, [what, number, 0, 0]);
        }
    }
    ask("ambient-more", libc::PR_CAP_AMBIENT, [1, 0, 1, 0]);
    ask("ambient-clear", libc::PR_CAP_AMBIENT, [4, 0, 0, 0]);
    for bits in [0, 1, 3, 4, 0x10, 0x30, 0x40, 0xff, 0x1000] {
        ask("securebits", libc::PR_SET_SECUREBITS, [bits, 0, 0, 0]);
    }
    for keep in [0, 1, 2] {
        ask("keepcaps", libc::PR_SET_KEEPCAPS, [keep, 0, 0, 0]);
    }
    ask("get-keepcaps", libc::PR_GET_KEEPCAPS, [0; 4]);
    for arguments in [[1, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0]] {
        ask("no-new-privs", libc::PR_SET_NO_NEW_PRIVS, arguments);
    }
    line.print();
}

/// What one call leaves to the next.
fn sequences(start: &Start) {
    type Step = fn() -> i64;
    let steps: [(&str, &[Step]); 9] = [
        ("keep", &[|| prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0]), || call(libc::SYS_setresuid, &[7, 7, 7])]),
        (
            "fixed",
            &[|| prctl(libc::PR_SET_SECUREBITS, [4, 0, 0, 0]), || call(libc::SYS_setresuid, &[7, 7, 7])],
        ),
        (
            "locked",
            &[
                || prctl(libc::PR_SET_SECUREBITS, [0x20, 0, 0, 0]),
                || prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0]),
                || prctl(libc::PR_SET_SECUREBITS, [0x30, 0, 0, 0]),
                || prctl(libc::PR_SET_SECUREBITS, [0, 0, 0, 0]),
            ],
        ),
        (
            "ambient",
            &[
                || capset(SETPCAP | CHOWN, SETPCAP | CHOWN, CHOWN),
                || prctl(libc::PR_CAP_AMBIENT, [2, 0, 0, 0]),
                || prctl(libc::PR_CAP_AMBIENT, [1, 0, 0, 0]),
                || capset(0, CHOWN, CHOWN),
                || prctl(libc::PR_CAP_AMBIENT, [1, 0, 0, 0]),
                || capset(0, 0, CHOWN),
                || prctl(libc::PR_CAP_AMBIENT, [1, 0, 0, 0]),
            ],
        ),
        (
            "no-raise",
            &[
                || prctl(libc::PR_SET_SECUREBITS, [0x40, 0, 0, 0]),
                || capset(CHOWN, CHOWN, CHOWN),
                || prctl(libc::PR_CAP_AMBIENT, [2, 0, 0, 0]),
            ],
        ),
        (
            "bounded",
            &[
                || prctl(libc::PR_CAPBSET_DROP, [0, 0, 0, 0]),
                || prctl(libc::PR_CAPBSET_READ, [0, 0, 0, 0]),
                || capset(SETPCAP | CHOWN, SETPCAP | CHOWN, CHOWN),
            ],
        ),
        (
            "there-and-back",
            &[
                || call(libc::SYS_setresuid, &[KEEP, 7, KEEP]),
                || call(libc::SYS_setresuid, &[KEEP, 0, KEEP]),
                || call(libc::SYS_setuid, &[8]),
                || call(libc::SYS_setuid, &[0]),
            ],
        ),
        (
            "files",
            &[
                || call(libc::SYS_setfsuid, &[7]),
                || call(libc::SYS_setfsuid, &[0]),
                || call(libc::SYS_setresuid, &[KEEP, KEEP, KEEP]),
            ],
        ),
        ("overrides", &[|| capset(DAC_OVERRIDE, DAC_OVERRIDE | SYS_ADMIN, 0), || capset(ALL, ALL, 0)]),
    ];
    let mut line = Line::new(&format!("{} then", start.name));
    for (name, steps) in steps {
        let mut answers = Vec::new();
        let (_, state) = start.attempt(|| {
            answers = steps.iter().map(|step| step()).collect();
            0
        });
        for answer in answers {
            line.value(name, answer);
        }
        line.value("left", state);
    }
    line.print();
}
