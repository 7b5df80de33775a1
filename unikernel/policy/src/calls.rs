//! Which system calls an app may make: the word `allow-calls=`.
//!
//! ```text
//! allow-calls=net-server,+ptrace,-execve:kill
//!
//! calls := part { "," part } [ ":kill" ]
//! part  := [ "+" | "-" ] name          a profile (`profiles`) or a call, added or taken away, in this order
//! ```

use alloc::vec::Vec;

use unikernel_report::calls::name;

use crate::bpf::Instruction;
use crate::bpf::code::{JEQ_K, JGE_K, LD_W_ABS, RET_K};
use crate::profiles::{self, ALWAYS};
use crate::seccomp::{ALLOW, ARCHITECTURE};

/// Numbers that Linux has on x86-64, with room.
pub const CALL_NUMBERS: u32 = 512;
const WORDS: usize = CALL_NUMBERS as usize / 64;
/// What ends the app rather than refusing the call.
const KILL: &str = ":kill";
/// `SECCOMP_RET_KILL_PROCESS`, `SECCOMP_RET_ERRNO`, and the error number.
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;

/// A set of system calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallSet([u64; WORDS]);

impl CallSet {
    /// No call.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// All calls.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// True if the call is in the set.
    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// Adds a call, if there can be one of this number.
    pub fn insert(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// Takes a call out.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// The calls that are in both.
    #[must_use]
    pub fn intersection(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, others)| *word &= others);
        self
    }

    /// The set as words of 64 bits, the lowest numbers first.
    pub const fn words(&self) -> [u64; WORDS] {
        self.0
    }

    /// The numbers of the calls.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        let set = *self;
        (0..CALL_NUMBERS).filter(move |number| set.contains(*number))
    }
}

/// The number of a call of this name.
pub fn number_of(wanted: &str) -> Option<u32> {
    (0..CALL_NUMBERS).find(|number| name(*number) == Some(wanted))
}

/// What `allow-calls=` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallRule {
    /// The calls that are allowed.
    pub allowed: CallSet,
    /// Another ends the app.
    pub kills: bool,
}

impl CallRule {
    /// Reads the word's value; `None` if it has another form, or names what there is not.
    pub fn parse(text: &str) -> Option<Self> {
        let (list, kills) = text.strip_suffix(KILL).map_or((text, false), |list| (list, true));
        let mut allowed = CallSet::EMPTY;
        for part in list.split(',') {
            let (wanted, adds) = match part.strip_prefix('-') {
                Some(wanted) => (wanted, false),
                None => (part.strip_prefix('+').unwrap_or(part), true),
            };
            for number in meant(wanted)? {
                if adds { allowed.insert(number) } else { allowed.remove(number) }
            }
        }
        // Without these, no thread could end, and no handler return.
        ALWAYS.iter().filter_map(|always| number_of(always)).for_each(|number| allowed.insert(number));
        Some(Self { allowed, kills })
    }

    /// What two rules allow, of which one was made with the image: neither can widen the other.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self { allowed: self.allowed.intersection(other.allowed), kills: self.kills || other.kills }
    }
}

impl CallRule {
    /// The rule as a filter for seccomp(2), for kernels that know no such rules: what is not allowed is `EPERM`, or the end of the
    /// process. A program of another architecture is refused altogether.
    pub fn program(&self) -> Vec<Instruction> {
        let refused = if self.kills { KILL_PROCESS } else { ERRNO | EPERM };
        let branch = |code, k, jump_true, jump_false| Instruction { code, jump_true, jump_false, k };
        let mut program = Vec::from([
            Instruction::plain(LD_W_ABS, 4),
            branch(JEQ_K, ARCHITECTURE, 1, 0),
            Instruction::plain(RET_K, refused),
            Instruction::plain(LD_W_ABS, 0),
        ]);
        let mut number = 0;
        while number < CALL_NUMBERS {
            let first = number;
            while self.allowed.contains(number) {
                number += 1;
            }
            if number > first {
                // Beyond this range, before it, or in it.
                program.extend([
                    branch(JGE_K, number, 2, 0),
                    branch(JGE_K, first, 0, 1),
                    Instruction::plain(RET_K, ALLOW),
                ]);
            }
            number += 1;
        }
        program.push(Instruction::plain(RET_K, refused));
        program
    }
}

/// The calls of a profile, or the one call of this name.
fn meant(wanted: &str) -> Option<Vec<u32>> {
    if wanted == profiles::ALL {
        return Some((0..CALL_NUMBERS).collect());
    }
    match profiles::PROFILES.iter().find(|(profile, _)| *profile == wanted) {
        Some((_, groups)) => {
            groups.iter().flat_map(|group| group.iter()).map(|call| number_of(call)).collect()
        }
        None => number_of(wanted).map(|number| [number].into()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::bpf::{Program, Subject};
    use crate::seccomp::{Action, CallData, Chain, Filter};

    fn allowed(text: &str, call: &str) -> bool {
        CallRule::parse(text).unwrap().allowed.contains(number_of(call).unwrap())
    }

    #[test]
    fn parts_are_taken_in_their_order() {
        assert!(allowed("net-server", "accept4") && !allowed("net-server", "execve"));
        assert!(!allowed("net-server", "connect") && allowed("net-server,+connect", "connect"));
        assert!(!allowed("net-server,-read", "read") && allowed("-read,net-server", "read"));
        assert!(allowed("all,-ptrace", "execve") && !allowed("all,-ptrace", "ptrace"));
        assert!(allowed("read", "exit_group") && allowed("all,-exit_group", "exit_group"), "the app can end");
        assert!(!allowed("net-server", "unlink") && allowed("net-server,storage", "unlink"));
        let rule = CallRule::parse("net-server,-read:kill").unwrap();
        assert!(rule.kills && !CallRule::parse("net-server").unwrap().kills);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for text in
            ["", "net-server,", "raed", "net-server,+", "net-server:die", "--read", "@", "all:kill:kill"]
        {
            assert_eq!(CallRule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_name_of_a_profile_is_a_call() {
        for (_, groups) in profiles::PROFILES {
            for call in groups.iter().flat_map(|group| group.iter()) {
                assert!(number_of(call).is_some(), "{call}");
            }
        }
    }

    #[test]
    fn filter_says_what_the_rule_says() {
        for text in ["net-server", "storage,-read:kill", "all", "read"] {
            let rule = CallRule::parse(text).unwrap();
            let program = Program::check(rule.program(), Subject::Call).unwrap();
            let filter = Filter::new(program, false, || ());
            let chain = Chain::with(None, Arc::new(filter)).unwrap();
            for number in 0..CALL_NUMBERS + 10 {
                let call = CallData { number, instruction_pointer: 0, arguments: [0; 6] };
                let expected = match (rule.allowed.contains(number), rule.kills) {
                    (true, _) => Action::Allow,
                    (false, true) => Action::KillProcess,
                    (false, false) => Action::Errno(1),
                };
                assert_eq!(chain.judge(&call).action, expected, "{text}: {number}");
            }
        }
    }

    #[test]
    fn neither_of_two_rules_widens_the_other() {
        let [image, boot] = ["net-server", "all:kill"].map(|text| CallRule::parse(text).unwrap());
        assert_eq!(image.both(boot), CallRule { kills: true, ..image });
        assert_eq!(boot.both(image), image.both(boot));
        assert!(!image.allowed.contains(CALL_NUMBERS) && !CallSet::ALL.contains(u32::MAX));
    }
}
