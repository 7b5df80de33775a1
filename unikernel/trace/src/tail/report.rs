//! What is known of requests, as text.

use alloc::string::String;
use core::fmt::{self, Write};

use super::{Part, Request, Stretch, Tail};

/// Parts of a slow request that are named.
const NAMED: usize = 3;

/// Writes the table, what the slow requests spend their time on, and so many of the slowest. `call_name` knows the names of system calls.
///
/// # Errors
///
/// Those of `out`.
pub fn write(
    tail: &Tail,
    slowest: usize,
    call_name: &dyn Fn(u32) -> Option<&'static str>,
    out: &mut impl Write,
) -> fmt::Result {
    let report = Report { tail, call_name };
    report.heading(out)?;
    if tail.requests.is_empty() {
        return Ok(());
    }
    let [middle, slow] = [500, 990].map(|per_mille| Means::of(tail.around(per_mille)));
    report.table(&middle, &slow, out)?;
    report.verdict(&middle, &slow, out)?;
    report.slowest(slowest, out)
}

struct Report<'a> {
    tail: &'a Tail,
    call_name: &'a dyn Fn(u32) -> Option<&'static str>,
}

/// The mean of each part over some requests.
struct Means([u64; Part::COUNT]);

impl Means {
    fn of(requests: &[Request]) -> Self {
        let count = requests.len().max(1) as u128;
        Self(Part::ALL.map(|part| {
            let sum: u128 = requests.iter().map(|request| u128::from(request.parts[part as usize])).sum();
            (sum / count) as u64
        }))
    }

    fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl Report<'_> {
    /// Milliseconds.
    fn ms(&self, steps: u64) -> Ms {
        Ms(self.tail.clock.ns(self.tail.clock.start.saturating_add(steps)))
    }

    fn heading(&self, out: &mut impl Write) -> fmt::Result {
        let tail = self.tail;
        let span = self.ms(tail.span.end.saturating_sub(tail.span.start));
        write!(out, "{} requests on {} connections in {span} ms", tail.requests.len(), tail.connections)?;
        let oldest = tail.unanswered.iter().min_by_key(|(_, begin)| *begin);
        if let Some((connection, begin)) = oldest {
            let age = self.ms(tail.span.end.saturating_sub(*begin));
            let count = tail.unanswered.len();
            write!(out, "; {count} without an answer, the oldest for {age} ms: {connection}")?;
        }
        if tail.lost > 0 {
            write!(out, "; {} events are lost, so that some of the time is not known", tail.lost)?;
        }
        out.write_char('\n')
    }

    fn table(&self, middle: &Means, slow: &Means, out: &mut impl Write) -> fmt::Result {
        let tail = self.tail;
        let length = |per_mille: usize| {
            let index = (tail.requests.len() * per_mille / 1000).min(tail.requests.len() - 1);
            self.ms(tail.requests[index].length())
        };
        writeln!(out, "\n{:<28}{:>12}{:>12}{:>12}", "ms", "p50", "p99", "slowest")?;
        writeln!(out, "{:<28}{:>12}{:>12}{:>12}", "in all", length(500), length(990), length(1000))?;
        let last = Means::of(&tail.requests[tail.requests.len() - 1..]);
        for part in Part::ALL {
            let columns = [middle, slow, &last].map(|means| means.0[part as usize]);
            if columns.iter().any(|steps| *steps > 0) {
                let [middle, slow, last] = columns.map(|steps| self.ms(steps));
                writeln!(out, "  {:<26}{middle:>12}{slow:>12}{last:>12}", part.title())?;
            }
        }
        let [middle, slow, last] =
            [tail.around(500), tail.around(990), &tail.requests[tail.requests.len() - 1..]]
                .map(|requests| self.ms(acknowledged(requests)));
        writeln!(out, "{:<28}{middle:>12}{slow:>12}{last:>12}", "then, until acknowledged")
    }

    /// What makes the slow ones slow.
    fn verdict(&self, middle: &Means, slow: &Means, out: &mut impl Write) -> fmt::Result {
        let has_tail = slow.sum() / 2 >= middle.sum();
        let excess = |part: &Part| {
            let usual = if has_tail { middle.0[*part as usize] } else { 0 };
            slow.0[*part as usize].saturating_sub(usual)
        };
        let Some(part) = Part::ALL.into_iter().max_by_key(excess) else { return Ok(()) };
        out.write_char('\n')?;
        match has_tail {
            true => write!(
                out,
                "the slow ones (p99) take {} ms longer than the usual (p50), of which {} ms: {}",
                self.ms(slow.sum().saturating_sub(middle.sum())),
                self.ms(excess(&part)),
                part.title()
            )?,
            false => write!(
                out,
                "the slow ones (p99) are like the usual (p50); most of their time, {} ms of {} ms: {}",
                self.ms(slow.0[part as usize]),
                self.ms(slow.sum()),
                part.title()
            )?,
        }
        out.write_char('\n')?;
        let stretches = self.tail.around(990).iter().filter_map(|request| request.longest);
        match stretches.filter(|stretch| stretch.part == part).max_by_key(Stretch::length) {
            Some(stretch) => writeln!(out, "the longest: {}", self.describe(&stretch)),
            None => Ok(()),
        }
    }

    fn slowest(&self, count: usize, out: &mut impl Write) -> fmt::Result {
        if count == 0 {
            return Ok(());
        }
        writeln!(out, "\nthe slowest:")?;
        for request in self.tail.requests.iter().rev().take(count) {
            let at = self.tail.clock.ns(request.begin) / 1000;
            write!(
                out,
                "{:>6}.{:06}  {:>9} ms  {}  {} bytes, answered by {}:",
                at / 1_000_000,
                at % 1_000_000,
                self.ms(request.length()),
                request.connection,
                request.bytes[0],
                request.bytes[1]
            )?;
            let mut parts = Part::ALL.map(|part| (request.parts[part as usize], part));
            parts.sort_by_key(|(steps, _)| core::cmp::Reverse(*steps));
            let named = parts.iter().filter(|(steps, _)| *steps > 0).take(NAMED);
            for (index, (steps, part)) in named.enumerate() {
                let between = if index > 0 { "," } else { "" };
                write!(out, "{between} {} {}", part.title(), self.ms(*steps))?;
            }
            out.write_char('\n')?;
            if let Some(stretch) = &request.longest {
                writeln!(out, "{:>27}{}", "", self.describe(stretch))?;
            }
        }
        Ok(())
    }

    fn describe(&self, stretch: &Stretch) -> String {
        let mut text = String::new();
        // A string takes all there is.
        let _ = self.write_stretch(stretch, &mut text);
        text
    }

    fn write_stretch(&self, stretch: &Stretch, out: &mut String) -> fmt::Result {
        let length = self.ms(stretch.length());
        if stretch.thread == 0 {
            return write!(out, "{length} ms: {}", stretch.part.title());
        }
        write!(out, "{length} ms in ")?;
        self.write_thread(stretch.thread, out)?;
        write!(out, ": {}", stretch.part.title())?;
        if let Some((number, argument)) = stretch.call {
            match (self.call_name)(number) {
                Some(name) => write!(out, ", in {name}({argument:#x}, ...)")?,
                None => write!(out, ", in call {number}")?,
            }
        }
        match (stretch.part, stretch.other) {
            (_, 0) => Ok(()),
            (Part::Core, other) => {
                out.write_str(", which this had: ")?;
                self.write_thread(other, out)
            }
            (_, other) => {
                out.write_str(", woken by ")?;
                self.write_thread(other, out)
            }
        }
    }

    fn write_thread(&self, id: u64, out: &mut String) -> fmt::Result {
        write!(out, "thread {id}")?;
        match self.tail.names.get(&id) {
            Some(name) if !name.is_empty() => write!(out, " \"{name}\""),
            _ => Ok(()),
        }
    }
}

/// The mean time from the last byte out until something came back, of those where that is known.
fn acknowledged(requests: &[Request]) -> u64 {
    let times = requests.iter().filter_map(|request| Some(request.acknowledged?.saturating_sub(request.end)));
    let (sum, count) = times.fold((0_u128, 0_u128), |(sum, count), time| (sum + u128::from(time), count + 1));
    (sum / count.max(1)) as u64
}

/// Nanoseconds, as milliseconds.
#[derive(Clone, Copy)]
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write!(text, "{}.{:03}", self.0 / 1_000_000, self.0 / 1000 % 1000)?;
        f.pad(&text)
    }
}
