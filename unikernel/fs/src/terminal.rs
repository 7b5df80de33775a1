//! A terminal's input, edited by line as in canonical mode (termios(3)): what is typed is echoed,
//! backspace erases, Ctrl-D ends a line without a line end or, at its start, the input.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Ctrl-C.
pub const INTERRUPT: u8 = 3;
/// Ctrl-D.
pub const END_OF_INPUT: u8 = 4;
/// What the erase key sends.
pub const DELETE: u8 = 0x7f;
const BACKSPACE: u8 = 8;
const ERASE_ON_SCREEN: &[u8] = b"\x08 \x08";

/// The longest line, its end included; more is not taken (`MAX_CANON`).
pub const MAX_LINE_BYTES: usize = 4096;
/// Completed lines are kept up to here for an app that does not read; what comes then is lost.
pub const MAX_INPUT_BYTES: usize = 65_536;

/// What a key led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// The line goes on.
    Edited,
    /// Something can be read.
    Completed,
    /// The app is to be interrupted.
    Interrupted,
}

/// What was typed and not yet read.
#[derive(Debug, Default)]
pub struct LineEditor {
    complete: VecDeque<u8>,
    /// Lengths of the complete lines, as far as they were not read.
    lines: VecDeque<usize>,
    edited: Vec<u8>,
}

impl LineEditor {
    /// Makes an editor that nothing was typed to.
    pub const fn new() -> Self {
        Self { complete: VecDeque::new(), lines: VecDeque::new(), edited: Vec::new() }
    }

    /// Takes a key; `echo` gets what the terminal is to show.
    pub fn key(&mut self, byte: u8, echo: impl FnOnce(&[u8])) -> Typed {
        match byte {
            INTERRUPT => {
                echo(b"^C\n");
                self.edited.clear();
                return Typed::Interrupted;
            }
            END_OF_INPUT => return self.end_line(),
            b'\r' | b'\n' => {
                echo(b"\n");
                self.edited.push(b'\n');
                return self.end_line();
            }
            BACKSPACE | DELETE => drop(self.edited.pop().map(|_| echo(ERASE_ON_SCREEN))),
            // One byte stays free for the line end.
            _ if self.edited.len() < MAX_LINE_BYTES - 1 => {
                echo(&[byte]);
                self.edited.push(byte);
            }
            _ => {}
        }
        Typed::Edited
    }

    fn end_line(&mut self) -> Typed {
        let fits = self.complete.len() + self.edited.len() <= MAX_INPUT_BYTES;
        if fits && self.lines.len() < MAX_INPUT_BYTES {
            self.lines.push_back(self.edited.len());
            self.complete.extend(&self.edited);
        }
        self.edited.clear();
        Typed::Completed
    }

    /// True if a read would answer at once.
    pub fn has_line(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Bytes in complete lines.
    pub fn len(&self) -> usize {
        self.complete.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.complete.is_empty()
    }

    /// The oldest line, or `wanted` bytes of it. An empty answer is the end of the input; `None`
    /// means that no line is complete.
    pub fn content(&self, wanted: usize) -> Option<[&[u8]; 2]> {
        let count = wanted.min(*self.lines.front()?);
        let (head, tail) = self.complete.as_slices();
        let head = &head[..count.min(head.len())];
        Some([head, &tail[..count - head.len()]])
    }

    /// Takes out what [`Self::content`] showed, or the start of it.
    pub fn consume(&mut self, count: usize) {
        let Some(line) = self.lines.front_mut() else { return };
        let count = count.min(*line);
        *line -= count;
        if *line == 0 {
            self.lines.pop_front();
        }
        self.complete.drain(..count);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn type_all(editor: &mut LineEditor, keys: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        for &byte in keys {
            editor.key(byte, |echo| shown.extend_from_slice(echo));
        }
        shown
    }

    fn read(editor: &mut LineEditor, wanted: usize) -> Option<Vec<u8>> {
        let bytes = editor.content(wanted)?.concat();
        editor.consume(bytes.len());
        Some(bytes)
    }

    #[test]
    fn line_can_be_read_once_it_has_ended() {
        let mut editor = LineEditor::new();
        assert_eq!(type_all(&mut editor, b"ab\x7fc"), b"ab\x08 \x08c");
        assert_eq!(read(&mut editor, 100), None);
        type_all(&mut editor, b"\rnext\n");
        assert_eq!(read(&mut editor, 2).unwrap(), b"ac");
        assert_eq!(read(&mut editor, 100).unwrap(), b"\n");
        assert_eq!(read(&mut editor, 100).unwrap(), b"next\n");
        assert!(!editor.has_line());
    }

    #[test]
    fn erasing_an_empty_line_shows_nothing() {
        assert_eq!(type_all(&mut LineEditor::new(), b"\x7f\x08"), b"");
    }

    #[test]
    fn end_of_input_is_read_once() {
        let mut editor = LineEditor::new();
        type_all(&mut editor, b"ab\x04\x04c\n");
        assert_eq!(read(&mut editor, 100).unwrap(), b"ab");
        assert_eq!(read(&mut editor, 100).unwrap(), b"");
        assert_eq!(read(&mut editor, 100).unwrap(), b"c\n");
    }

    #[test]
    fn interrupt_drops_the_line_being_typed() {
        let mut editor = LineEditor::new();
        type_all(&mut editor, b"half");
        assert_eq!(editor.key(INTERRUPT, |_| {}), Typed::Interrupted);
        type_all(&mut editor, b"x\n");
        assert_eq!(read(&mut editor, 100).unwrap(), b"x\n");
    }

    #[test]
    fn endless_input_is_bounded() {
        let mut editor = LineEditor::new();
        type_all(&mut editor, &vec![b'a'; 3 * MAX_LINE_BYTES]);
        assert!(!editor.has_line());
        (0..100).for_each(|_| drop(type_all(&mut editor, &[vec![b'a'; 2000], vec![b'\n']].concat())));
        assert!(editor.len() <= MAX_INPUT_BYTES);
        assert_eq!(read(&mut editor, usize::MAX).unwrap().len(), MAX_LINE_BYTES);
    }

    proptest! {
        /// Without editing keys, what is read is what was typed, line by line.
        #[test]
        fn lines_come_out_as_typed(lines in prop::collection::vec("[a-z]{0,20}", 0..20), wanted in 1..30usize) {
            let mut editor = LineEditor::new();
            lines.iter().for_each(|line| drop(type_all(&mut editor, &[line.as_bytes(), b"\n"].concat())));
            for line in &lines {
                let mut got = Vec::new();
                while !got.ends_with(b"\n") {
                    got.extend(read(&mut editor, wanted).unwrap());
                }
                prop_assert_eq!(got, [line.as_bytes(), b"\n"].concat());
            }
            prop_assert!(!editor.has_line() && editor.is_empty());
        }

        #[test]
        fn any_keys_do_no_harm(keys in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut editor = LineEditor::new();
            type_all(&mut editor, &keys);
            while read(&mut editor, 7).is_some() {}
            prop_assert!(editor.is_empty());
        }
    }
}
