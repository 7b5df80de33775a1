//! A recording as lines for people: when, on which core, in which thread, what.

use alloc::collections::BTreeMap;
use core::fmt::{self, Write};

use crate::event::{Event, Kind};
use crate::recording::Recording;

/// Writes the lines. `call_name` knows the names of system calls.
///
/// # Errors
///
/// Those of `out`.
pub fn write(
    recording: &Recording<'_>,
    call_name: &dyn Fn(u32) -> Option<&'static str>,
    out: &mut impl Write,
) -> fmt::Result {
    let mut running: BTreeMap<u32, u64> = recording.running().collect();
    for (core, event) in recording.by_time() {
        let us = recording.clock.ns(event.at) / 1000;
        write!(out, "{:>6}.{:06}  core {core}  ", us / 1_000_000, us % 1_000_000)?;
        match running.get(&core) {
            Some(thread) => write!(out, "thread {thread:<4}")?,
            None => out.write_str("           ")?,
        }
        out.write_str("  ")?;
        write_event(recording, call_name, &event, out)?;
        out.write_char('\n')?;
        match event.known() {
            Some(Kind::Switch) => _ = running.insert(core, event.wide[1]),
            // Nothing is known of the core until its next switch.
            None => _ = running.remove(&core),
            _ => {}
        }
    }
    recording.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn write_event(
    recording: &Recording<'_>,
    call_name: &dyn Fn(u32) -> Option<&'static str>,
    event: &Event,
    out: &mut impl Write,
) -> fmt::Result {
    match (event.known(), recording.kind(event.kind)) {
        (Some(Kind::CallBegin | Kind::CallEnd), Some((name, [_, fields @ ..]))) => {
            match call_name(event.small) {
                Some(call) => write!(out, "{call}: ")?,
                None => write!(out, "call {}: ", event.small)?,
            }
            event.write(out, name, ["", fields[0], fields[1]])
        }
        // The recording knows kinds that this version does not.
        (None, Some((name, fields))) => event.write(out, name, fields),
        _ => write!(out, "{event}"),
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;
    use crate::recording::{Clock, Tag, Writer};

    #[test]
    fn each_event_is_a_line() {
        let mut writer = Writer::new(1 << 14).unwrap();
        writer.head(&Clock { hz: 1_000_000, start: 0, start_unix_ns: 0 }).unwrap();
        writer
            .text(Tag::Kinds, |out| {
                out.write_str("5\tcalls\tcall\tnumber\tfirst\tsecond\n77\tnew\tnews\ta\tb\t\n")
            })
            .unwrap();
        writer.text(Tag::Threads, |out| out.write_str("9\t0\tmain\n")).unwrap();
        let event = |at, kind, small| Event { at, kind, small, wide: [3, 4] };
        let written = writer.events(0, |see| {
            assert!(
                [event(1_500_000, 5, 0), event(1_500_001, 1, 0), event(1_500_002, 77, 1)]
                    .into_iter()
                    .all(see)
            );
            0
        });
        assert_eq!(written, Ok(()));
        let bytes = writer.finish();
        let mut text = String::new();
        write(&Recording::read(&bytes).unwrap(), &|_| Some("read"), &mut text).unwrap();
        assert_eq!(
            text,
            "     1.500000  core 0  thread 9     read: call first=0x3 second=0x4\n\
             \x20    1.500001  core 0  thread 9     switch reason=0 from=3 to=4\n\
             \x20    1.500002  core 0  thread 4     news a=1 b=3\n"
        );
    }
}
