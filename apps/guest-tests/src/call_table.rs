//! The calls, as the dispatcher's table in the kernel's source lists them.

use unikernel_report::calls;

/// Numbers that Linux has on x86-64, with room.
const NUMBERS: u32 = 512;

/// What an argument is (`ArgKind` of the table).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file descriptor.
    Fd,
    /// An address.
    Pointer,
    /// The address of a text.
    Str,
    /// A length.
    Size,
    /// A number or flags.
    Number,
    /// A clock's id.
    Clock,
}

/// One call.
pub struct Call {
    /// The Linux name.
    pub name: &'static str,
    /// The number on x86-64.
    pub number: i64,
    /// Names and kinds of the arguments, in their order.
    pub args: Vec<(&'static str, Kind)>,
}

/// All of them, in the table's order.
pub fn calls() -> Vec<Call> {
    const TABLE: &str = include_str!("../../../unikernel/kernel/src/syscall/table.rs");
    TABLE.lines().filter_map(|line| parse(line.trim())).collect()
}

fn parse(line: &'static str) -> Option<Call> {
    let (_, rest) = line.strip_prefix("__NR_")?.split_once(": ")?;
    let (name, rest) = rest.split_once('(')?;
    let (arguments, _) = rest.split_once(") => ")?;
    let number = (0..NUMBERS).find(|number| calls::name(*number) == Some(name))?;
    let args = arguments.split(", ").filter_map(|argument| {
        let (name, kind) = argument.split_once(": ")?;
        Some((name, kind_of(kind)))
    });
    Some(Call { name, number: number.into(), args: args.collect() })
}

fn kind_of(kind: &str) -> Kind {
    match kind {
        "Fd" => Kind::Fd,
        "Str" => Kind::Str,
        "Size" => Kind::Size,
        "Clock" => Kind::Clock,
        "Int" | "Flags" | "Signal" => Kind::Number,
        _ => Kind::Pointer,
    }
}
