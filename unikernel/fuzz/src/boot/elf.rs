//! A program as a file, or a script: what is accepted can be loaded as it says.

use unikernel_elf::{HEADER_BYTES, Header, Program, script};

/// Where programs may be.
const ALLOWED: core::ops::Range<u64> = 0x1_0000..1 << 47;

pub(crate) fn run(data: &[u8]) {
    if let Some(Ok(line)) = script::parse(&data[..data.len().min(script::HEAD_BYTES)]) {
        assert!(!line.interpreter.is_empty());
    }
    let Ok(header) = Header::parse(&data[..data.len().min(HEADER_BYTES)]) else { return };
    let file_bytes = data.len() as u64;
    let start = usize::try_from(header.table_offset()).unwrap_or(usize::MAX);
    let table = data.get(start..).unwrap_or_default();
    let Ok(program) =
        Program::parse(&header, &table[..table.len().min(header.table_bytes())], file_bytes, &ALLOWED)
    else {
        return;
    };
    let span = program.span();
    assert!(span.start < span.end && span.end - span.start <= ALLOWED.end - ALLOWED.start);
    assert!(program.segments.windows(2).all(|pair| pair[0].pages().end <= pair[1].pages().start));
    assert!(program.segments.iter().any(|segment| segment.is_executable && segment.contains(program.entry)));
    assert!(program.alignment.is_power_of_two());
    assert!(program.interpreter.is_none_or(|path| path.start < path.end && path.end < file_bytes));
}
