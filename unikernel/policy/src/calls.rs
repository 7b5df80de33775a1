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

use crate::profiles::{self, ALWAYS};

/// Numbers that Linux has on x86-64, with room.
pub const CALL_NUMBERS: u32 = 512;
const WORDS: usize = CALL_NUMBERS as usize / 64;
/// What ends the app rather than refusing the call.
const KILL: &str = ":kill";

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
    use super::*;

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
    fn neither_of_two_rules_widens_the_other() {
        let [image, boot] = ["net-server", "all:kill"].map(|text| CallRule::parse(text).unwrap());
        assert_eq!(image.both(boot), CallRule { kills: true, ..image });
        assert_eq!(boot.both(image), image.both(boot));
        assert!(!image.allowed.contains(CALL_NUMBERS) && !CallSet::ALL.contains(u32::MAX));
    }
}
