//! What is recorded. One table makes the kinds, what decoders know of their fields, and docs/events.md.

use core::fmt;
use core::net::Ipv4Addr;

/// The bytes of an event in a recording.
pub const EVENT_BYTES: usize = 32;

/// One event, as the core that it happened on has noted it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// When, in steps of the time-stamp counter.
    pub at: u64,
    /// A [`Kind`]'s number. One of a newer kernel is carried along.
    pub kind: u8,
    /// The first field.
    pub small: u32,
    /// The second and third.
    pub wide: [u64; 2],
}

impl Event {
    /// As four words.
    #[inline]
    pub const fn to_words(self) -> [u64; 4] {
        [self.at, Self::head(self.kind, self.small), self.wide[0], self.wide[1]]
    }

    /// The second word: what is known of an event before it happens, for the most part.
    #[inline]
    pub const fn head(kind: u8, small: u32) -> u64 {
        kind as u64 | (small as u64) << 32
    }

    /// From four words, whatever they are.
    #[inline]
    pub const fn from_words([at, head, first, second]: [u64; 4]) -> Self {
        Self { at, kind: head as u8, small: (head >> 32) as u32, wide: [first, second] }
    }

    /// Its kind, if this version knows it.
    pub fn known(&self) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| *kind as u8 == self.kind)
    }

    /// The value of the field with this name of its kind.
    pub fn field(&self, name: &str) -> Option<u64> {
        let index = self.known()?.about().fields.iter().position(|field| *field == name)?;
        [u64::from(self.small), self.wide[0], self.wide[1]].get(index).copied()
    }
}

/// The kind of what stands for events that were lost ([`crate::recording::Recording::by_time`]): `wide[0]` of them.
pub const LOST: u8 = 0;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known().map(Kind::about) {
            Some(about) => self.write(f, about.name, about.fields),
            None if self.kind == LOST => write!(f, "{} events are lost", self.wide[0]),
            None => write!(f, "kind {} {:#x} {:#x} {:#x}", self.kind, self.small, self.wide[0], self.wide[1]),
        }
    }
}

impl Event {
    /// Writes it with the names that are given.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub fn write(&self, f: &mut impl fmt::Write, name: &str, fields: [&str; 3]) -> fmt::Result {
        f.write_str(name)?;
        for field in fields.iter().filter(|field| !field.is_empty()) {
            write!(f, " {field}=")?;
            self.write_value(f, field, fields)?;
        }
        Ok(())
    }

    /// Writes the value of the field with this name of its kind, as [`Self::write`] does.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub fn write_field(&self, f: &mut impl fmt::Write, field: &str) -> fmt::Result {
        let fields = self.known().map_or([""; 3], |kind| kind.about().fields);
        self.write_value(f, field, fields)
    }

    fn write_value(&self, f: &mut impl fmt::Write, field: &str, fields: [&str; 3]) -> fmt::Result {
        let values = [u64::from(self.small), self.wide[0], self.wide[1]];
        let Some((_, value)) = fields.iter().zip(values).find(|(name, _)| **name == field) else {
            return Ok(());
        };
        match field {
            "ports" => write!(f, "{}-{}", value >> 16 & 0xffff, value & 0xffff),
            "peer" => write!(f, "{}", Peer(value)),
            "result" => write!(f, "{}", value as i64),
            "address" | "instruction" | "error" | "events" | "first" | "second" | "user_data" => {
                write!(f, "{value:#x}")
            }
            _ => write!(f, "{value}"),
        }
    }
}

/// The other end of a connection, as far as an event has room for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer(pub u64);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0) {
            Ok(address) => write!(f, "{}", Ipv4Addr::from_bits(address)),
            Err(_) => write!(f, "..:{:x}", self.0),
        }
    }
}

/// What the table says of a kind.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// As decoders print it.
    pub name: &'static str,
    /// The part of the kernel that it is from.
    pub part: &'static str,
    /// Names of the fields; an empty one is not used.
    pub fields: [&'static str; 3],
}

macro_rules! events {
    ($($(#[doc = $meaning:literal])+ $kind:ident = $number:literal, $part:literal $name:literal ($small:literal, $first:literal, $second:literal);)*) => {
        /// A kind of event. Numbers are kept for good: a recording may be read by a later version.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[doc = $meaning])+ $kind = $number,)*
        }

        impl Kind {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// What the table says of it.
            pub const fn about(self) -> About {
                match self {
                    $(Self::$kind => About {
                        name: $name,
                        part: $part,
                        fields: [$small, $first, $second],
                    },)*
                }
            }

            /// Sentences for people, apart: the kernel does without.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($meaning),+),)*
                }
            }
        }
    };
}

events! {
    /// The core leaves one thread for another; 0 is a thread of the kernel's. `reason`: 0 it sleeps or ends, 1 its slice is over, 2 it gives way.
    Switch = 1, "sched" "switch" ("reason", "from", "to");
    /// A thread that slept can run. `reason`: 0 somebody woke it, 1 its time is over, 2 a signal came; `by`: who ran here just then.
    Wake = 2, "sched" "wake" ("reason", "thread", "by");
    /// The core has nobody to run.
    IdleBegin = 3, "sched" "idle" ("", "", "");
    /// The core looks for a thread again.
    IdleEnd = 4, "sched" "idle end" ("", "", "");
    /// The app calls the kernel; the number is Linux's.
    CallBegin = 5, "calls" "call" ("number", "first", "second");
    /// The call returns; errors are negative.
    CallEnd = 6, "calls" "call end" ("number", "result", "");
    /// An interrupt is handled.
    InterruptBegin = 7, "interrupts" "interrupt" ("vector", "", "");
    /// It has been.
    InterruptEnd = 8, "interrupts" "interrupt end" ("vector", "", "");
    /// A page was not there, or not to be used so. `error`: the processor's bits (SDM Vol. 3, 4.7); `instruction`: 0 in the kernel.
    FaultBegin = 9, "memory" "page fault" ("error", "address", "instruction");
    /// The page is there, or the app is told. `failed`: 1 if it is.
    FaultEnd = 10, "memory" "page fault end" ("failed", "address", "");
    /// A card has brought a frame. `bytes`: what it carries for a program, without headers; `ports`: ours, and the peer's below it; `peer`: an IPv4 address, or the last half of an IPv6 one. If it is of neither TCP nor UDP, `bytes` are all of it, and both others are 0.
    FrameIn = 11, "net" "frame in" ("bytes", "ports", "peer");
    /// A card gets a frame; the fields are those of one that comes.
    FrameOut = 12, "net" "frame out" ("bytes", "ports", "peer");
    /// A descriptor has become interesting to an epoll instance: `events` are epoll_ctl(2)'s.
    EpollReady = 13, "event" "epoll ready" ("events", "descriptor", "");
    /// A thread is about to sleep in futex(2).
    FutexWait = 14, "sync" "futex wait" ("value", "address", "");
    /// A thread has called for others; `woken` is how many slept.
    FutexWake = 15, "sync" "futex wake" ("woken", "address", "");
    /// A request is given to a disk. `operation`: 0 read, 1 write, 2 flush, 3 discard, 4 write zeroes.
    DiskBegin = 16, "disk" "disk" ("bytes", "sector", "operation");
    /// The disk's answer is there. `failed`: 1 if it is an error.
    DiskEnd = 17, "disk" "disk end" ("failed", "sector", "operation");
    /// An operation of io_uring begins; `opcode` is Linux's.
    RingSubmit = 18, "uring" "uring submit" ("opcode", "user_data", "descriptor");
    /// It is over.
    RingComplete = 19, "uring" "uring complete" ("", "user_data", "result");
    /// Segments are sent once more, since nobody has acknowledged them.
    TcpResend = 20, "net" "tcp resend" ("segments", "ports", "peer");
    /// A connection goes on to another state; `state` is Linux's number in tcp(7)'s `TCP_INFO`.
    TcpState = 21, "net" "tcp state" ("state", "ports", "peer");
    /// A lock of the kernel's is taken that another holds. `spins`: 1 if the core waits for it, 0 if the thread sleeps.
    LockBegin = 22, "sync" "lock" ("spins", "", "");
    /// The lock is this thread's.
    LockEnd = 23, "sync" "lock end" ("spins", "", "");
    /// A part of the boot is done. `phase`: 1 devices, 2 network, 3 processors, 4 mounts, 5 services and modules.
    Boot = 24, "boot" "boot" ("phase", "", "");
    /// A client's connection gets a descriptor (accept(2)).
    SocketOpen = 25, "net" "socket open" ("descriptor", "ports", "peer");
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_names_are_each_used_once() {
        let numbers: std::collections::BTreeSet<u8> = Kind::ALL.iter().map(|kind| *kind as u8).collect();
        let names: std::collections::BTreeSet<&str> =
            Kind::ALL.iter().map(|kind| kind.about().name).collect();
        assert_eq!((numbers.len(), names.len()), (Kind::ALL.len(), Kind::ALL.len()));
        assert!(!numbers.contains(&0), "0 is a slot that nobody wrote");
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let event = Event { at: 1, kind: Kind::Switch as u8, small: 2, wide: [7, 8] };
        let fields = ["reason", "from", "to", "ports", ""].map(|name| event.field(name));
        assert_eq!(fields, [Some(2), Some(7), Some(8), None, None]);
        assert_eq!(Event { kind: 255, ..event }.field("reason"), None);
    }

    #[test]
    fn events_are_told_in_words() {
        let frame =
            Event { at: 1, kind: Kind::FrameIn as u8, small: 60, wide: [8080 << 16 | 4000, 0x0a00_0202] };
        assert_eq!(frame.to_string(), "frame in bytes=60 ports=8080-4000 peer=10.0.2.2");
        let end = Event { at: 1, kind: Kind::CallEnd as u8, small: 0, wide: [-11_i64 as u64, 0] };
        assert_eq!(end.to_string(), "call end number=0 result=-11");
        assert_eq!(Event { kind: 255, ..end }.to_string(), "kind 255 0x0 0xfffffffffffffff5 0x0");
        assert_eq!(Event { kind: LOST, wide: [3, 0], ..end }.to_string(), "3 events are lost");
    }

    proptest! {
        #[test]
        fn words_and_events_are_the_same(words: [u64; 4]) {
            let event = Event::from_words(words);
            prop_assert_eq!(Event::from_words(event.to_words()), event);
        }
    }
}
