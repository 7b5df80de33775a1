//! What the kernel has to know before it has memory: whether it may move (`kaslr=`). It takes the words as [`crate::parse`] and
//! [`crate::of_file`] do, without making any of them a text of its own; what is wrong in a line is said by those, later.

use crate::system::KASLR;

/// Longer words are of no interest here.
const MOST_BYTES: usize = 16;

/// False if these words leave the kernel where it was linked. `packed` are those of the image, `line` and `file` the command
/// line and the file that goes on with it.
pub fn moves_kernel(packed: &[u8], line: &[u8], file: &[u8]) -> bool {
    let mut scan = Scan::new();
    for word in packed.split(|&byte| byte == 0) {
        word.iter().for_each(|&byte| scan.push(byte));
        scan.end_word();
    }
    line.iter().for_each(|&byte| scan.take(byte));
    scan.take(b' ');
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let mut is_quoted = false;
    for line in file.split_inclusive(|&byte| byte == b'\n') {
        if is_quoted || !line.trim_ascii_start().starts_with(b"#") {
            is_quoted ^= line.iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
            line.iter().for_each(|&byte| scan.take(byte));
        }
    }
    scan.end_word();
    scan.moves_kernel
}

struct Scan {
    /// The beginning of the word.
    word: [u8; MOST_BYTES],
    word_bytes: usize,
    is_quoted: bool,
    /// What follows is the app's.
    is_over: bool,
    moves_kernel: bool,
}

impl Scan {
    fn new() -> Self {
        Self { word: [0; MOST_BYTES], word_bytes: 0, is_quoted: false, is_over: false, moves_kernel: true }
    }

    /// A byte of the command line.
    fn take(&mut self, byte: u8) {
        if byte == b'"' {
            self.is_quoted = !self.is_quoted;
        } else if byte.is_ascii_whitespace() && !self.is_quoted {
            self.end_word();
        } else {
            self.push(byte);
        }
    }

    /// A byte of a word.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.word.get_mut(self.word_bytes) {
            *place = byte;
        }
        self.word_bytes = self.word_bytes.saturating_add(1);
    }

    fn end_word(&mut self) {
        let bytes = core::mem::take(&mut self.word_bytes);
        let word = self.word.get(..bytes).unwrap_or_default();
        if self.is_over {
            return;
        }
        self.is_over = word == b"--";
        if let Some(value) = word.strip_prefix(KASLR.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            match value {
                b"on" => self.moves_kernel = true,
                b"off" => self.moves_kernel = false,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    #[test]
    fn last_word_before_the_apps_counts() {
        let moves = |line: &str| moves_kernel(b"", line.as_bytes(), b"");
        assert!(moves("") && moves("log=debug -- kaslr=off") && moves("kaslr=off kaslr=on"));
        assert!(moves("env.A=\"x kaslr=off\"") && moves("env.kaslr=off") && moves("kaslr=offf"));
        assert!(!moves("ip=dhcp\tkaslr=off\n") && !moves("\"kaslr=off\" -- x") && !moves("kas\"lr=o\"ff"));
        assert!(
            !moves_kernel(b"init=/a\0kaslr=off\0", b"", b"")
                && moves_kernel(b"kaslr=off\0", b"kaslr=on", b"")
        );
        assert!(
            !moves_kernel(b"argument=--\0", b"", b"# kaslr=on\nkaslr=off")
                && moves_kernel(b"", b"--", b"kaslr=off")
        );
    }

    /// Pieces of which lines are made that mean something, or nearly.
    fn line() -> impl Strategy<Value = String> {
        const PIECES: [&str; 13] = [
            "kaslr=off",
            "kaslr=on",
            "kaslr",
            "=off",
            " ",
            "\n",
            "\t",
            "\"",
            "#",
            "--",
            "log=info",
            "é",
            "wx=on",
        ];
        proptest::collection::vec(prop::sample::select(&PIECES[..]), 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn early_look_finds_what_the_parser_finds(line in line(), file in line()) {
            let words = crate::of_file(file.as_bytes()).unwrap();
            if let Ok(options) = crate::parse(&[&line, " ", words.as_str()].concat()) {
                prop_assert_eq!(moves_kernel(b"", line.as_bytes(), file.as_bytes()), options.system.moves_kernel);
            }
        }
    }
}
