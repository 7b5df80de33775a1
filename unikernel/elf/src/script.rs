//! The first line of a script (Linux's binfmt_script): which program reads it, with which argument.

/// What Linux reads of a file to see what it is (`BINPRM_BUF_SIZE`).
pub const HEAD_BYTES: usize = 256;
/// What scripts begin with.
const MAGIC: &[u8] = b"#!";

/// What a first line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// The interpreter's path.
    pub interpreter: &'a [u8],
    /// All that comes behind it, as one argument.
    pub argument: Option<&'a [u8]>,
}

/// A first line that names nothing, or whose path is longer than what is read of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadLine;

/// Reads the first bytes of a file, [`HEAD_BYTES`] or all that it has; `None` if it is no script.
pub fn parse(head: &[u8]) -> Option<Result<Line<'_>, BadLine>> {
    let rest = head.strip_prefix(MAGIC)?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = rest.iter().position(|&byte| byte == b'\n');
    // A file's end ends its line, too.
    let is_whole = end.is_some() || head.len() < HEAD_BYTES;
    let line = end.map_or(rest, |end| &rest[..end]);
    let first = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let line = &line[first..];
    let name_end = line.iter().position(|byte| is_blank(byte) || *byte == 0);
    if name_end.is_none() && !is_whole {
        return Some(Err(BadLine));
    }
    let (interpreter, rest) = line.split_at(name_end.unwrap_or(line.len()));
    if interpreter.is_empty() {
        return Some(Err(BadLine));
    }
    // C's strings end at a zero.
    let rest = rest.split(|&byte| byte == 0).next().unwrap_or_default();
    let start = rest.iter().position(|byte| !is_blank(byte));
    let argument = start.map(|start| {
        let last = rest.iter().rposition(|byte| !is_blank(byte)).unwrap_or(start);
        &rest[start..=last]
    });
    Some(Ok(Line { interpreter, argument }))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed<'a> = Result<(&'a [u8], Option<&'a [u8]>), BadLine>;

    fn line(head: &[u8]) -> Option<Parsed<'_>> {
        parse(head).map(|line| line.map(|line| (line.interpreter, line.argument)))
    }

    #[test]
    fn lines_are_read_as_linux_reads_them() {
        let good = |path, argument| Some(Ok((path, argument)));
        assert_eq!(line(b"\x7fELF"), None);
        assert_eq!(line(b"#"), None);
        assert_eq!(line(b"#!/bin/sh\necho"), good(&b"/bin/sh"[..], None));
        assert_eq!(line(b"#! \t/bin/sh"), good(b"/bin/sh", None));
        assert_eq!(line(b"#!/bin/sh -e  -x \t\n"), good(b"/bin/sh", Some(&b"-e  -x"[..])));
        assert_eq!(line(b"#!/bin/sh \n -e"), good(b"/bin/sh", None));
        assert_eq!(line(b"#!/bin/sh\0-e x\n"), good(b"/bin/sh", None));
        assert_eq!(line(b"#!/bin/sh -e\0x\n"), good(b"/bin/sh", Some(b"-e")));
        for bad in [&b"#!"[..], b"#!\n/bin/sh", b"#!  \t \n", b"#!\0/bin/sh\n"] {
            assert_eq!(line(bad), Some(Err(BadLine)), "{bad:?}");
        }
    }

    #[test]
    fn long_lines_may_lose_of_their_argument_but_not_of_the_path() {
        let mut head = [b'x'; HEAD_BYTES];
        head[..9].copy_from_slice(b"#!/bin/sh");
        assert_eq!(line(&head), Some(Err(BadLine)));
        head[9] = b' ';
        assert_eq!(line(&head), Some(Ok((&b"/bin/sh"[..], Some(&head[10..])))));
    }
}
