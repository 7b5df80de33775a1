//! What the line discipline shows, gives and asks for, key by key; the expectations were seen on Linux.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::settings::{input, local, output};
use super::*;

/// What was shown, since the last look.
#[derive(Default)]
struct Seen(Vec<u8>);

impl Screen for Seen {
    fn put(&mut self, byte: u8) {
        self.0.push(byte);
    }
    fn clear(&mut self) {
        self.0.clear();
    }
}

struct Setup {
    terminal: Terminal,
    seen: Seen,
}

fn terminal() -> Setup {
    Setup { terminal: Terminal::new(), seen: Seen::default() }
}

fn with(change: impl FnOnce(&mut Settings)) -> Setup {
    let mut setup = terminal();
    setup.set(change);
    setup
}

impl Setup {
    fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = *self.terminal.settings();
        change(&mut settings);
        self.terminal.set(settings, &mut self.seen);
    }

    fn key(&mut self, byte: u8) -> Typed {
        self.terminal.key(byte, &mut self.seen)
    }

    fn type_all(&mut self, keys: &[u8]) {
        for &byte in keys {
            self.key(byte);
        }
    }

    /// What the keys show.
    fn shown(&mut self, keys: &[u8]) -> String {
        self.type_all(keys);
        String::from_utf8(core::mem::take(&mut self.seen.0)).unwrap()
    }

    fn read_at_most(&mut self, wanted: usize) -> Option<Vec<u8>> {
        let bytes = self.terminal.content(wanted)?.concat();
        self.terminal.consume(bytes.len());
        Some(bytes)
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        self.read_at_most(100)
    }

    fn write(&mut self, bytes: &[u8]) -> String {
        bytes.iter().for_each(|&byte| self.terminal.write(byte, &mut self.seen));
        String::from_utf8(core::mem::take(&mut self.seen.0)).unwrap()
    }
}

#[test]
fn line_can_be_read_once_it_has_ended() {
    let mut setup = terminal();
    assert_eq!(setup.shown(b"ab\x7fc"), "ab\x08 \x08c");
    assert_eq!(setup.read(), None);
    assert_eq!(setup.shown(b"\rnext\n"), "\r\nnext\r\n");
    assert_eq!(setup.terminal.len(), 8);
    assert_eq!(setup.read_at_most(2).unwrap(), b"ac");
    assert_eq!(setup.read().unwrap(), b"\n");
    assert_eq!(setup.read().unwrap(), b"next\n");
    assert!(!setup.terminal.is_readable());
}

#[test]
fn keys_erase_characters_words_and_lines() {
    let mut setup = terminal();
    let shown = setup.shown(b"abc\x7fd\x17xy\x15hello\tw\x7f\x7f\n");
    let erased = |count| "\x08 \x08".repeat(count);
    let word =
        format_args_to(&["abc", &erased(1), "d", &erased(3), "xy", &erased(2), "hello\tw", &erased(1)]);
    assert_eq!(shown, word + "\x08\x08\x08\r\n");
    assert_eq!(setup.read().unwrap(), b"hello\n");
    // Words are letters and digits; what stands behind them goes with them.
    let _ = setup.shown(b"one two, \x17\n");
    assert_eq!(setup.read().unwrap(), b"one \n");
    assert_eq!(setup.shown(b"\x7f\x17\x15"), "");
    // A control character takes two columns; the tab stop is found again.
    assert_eq!(setup.shown(b"\x01\x7f"), format_args_to(&["^A", &erased(2)]));
    assert_eq!(setup.shown(b"\x01b\t\x7f"), "^Ab\t\x08\x08\x08\x08\x08");
}

fn format_args_to(parts: &[&str]) -> String {
    parts.concat()
}

#[test]
fn characters_of_several_bytes_go_as_one() {
    let mut setup = with(|settings| settings.input |= input::UTF8);
    assert_eq!(setup.shown("aü\x7f".as_bytes()), "aü\x08 \x08");
    setup.type_all(b"\n");
    assert_eq!(setup.read().unwrap(), b"a\n");
}

#[test]
fn erasing_shows_what_is_set() {
    let mut setup = with(|settings| settings.local &= !local::ECHO_ERASE);
    assert_eq!(setup.shown(b"ab\x7f"), "ab^?");
    assert_eq!(setup.shown(b"\x15"), "^U\r\n");
    let mut setup = with(|settings| settings.local &= !(local::ECHO_KILL_ERASE | local::ECHO_KILL));
    assert_eq!(setup.shown(b"ab\x15c\n"), "ab^Uc\r\n");
    assert_eq!(setup.read().unwrap(), b"c\n");
    let mut setup = with(|settings| settings.local |= local::ECHO_PRINT);
    assert_eq!(setup.shown(b"abc\x7f\x7fd\n"), "abc\\cb/d\r\n");
    let mut setup = with(|settings| settings.local &= !local::ECHO);
    assert_eq!(setup.shown(b"ab\x7f\n"), "");
    setup.set(|settings| settings.local |= local::ECHO_NEWLINE);
    assert_eq!(setup.shown(b"ab\n"), "\r\n");
}

#[test]
fn keys_can_be_taken_literally_and_shown_again() {
    let mut setup = terminal();
    assert_eq!(setup.shown(b"x\x01y\x16\x03\r"), "x^Ay^\x08^C\r\n");
    assert_eq!(setup.read().unwrap(), b"x\x01y\x03\n");
    assert_eq!(setup.shown(b"ab\x12c\n"), "ab^R\r\nabc\r\n");
    assert_eq!(setup.read().unwrap(), b"abc\n");
    let mut setup = with(|settings| settings.local &= !local::EXTENDED);
    assert_eq!(setup.shown(b"\x16\x17\n"), "^V^W\r\n");
    assert_eq!(setup.read().unwrap(), b"\x16\x17\n");
}

#[test]
fn end_of_input_is_read_once() {
    let mut setup = terminal();
    assert_eq!(setup.shown(b"ab\x04\x04c\n"), "abc\r\n");
    assert_eq!(setup.terminal.len(), 4);
    assert_eq!(setup.read().unwrap(), b"ab");
    assert_eq!(setup.read().unwrap(), b"");
    assert_eq!(setup.read().unwrap(), b"c\n");
}

#[test]
fn other_keys_may_end_lines() {
    let mut setup = with(|settings| settings.characters[Key::EndOfLine as usize] = b';');
    assert_eq!(setup.shown(b"a;b\n"), "a;b\r\n");
    assert_eq!((setup.read().unwrap(), setup.read().unwrap()), (b"a;".to_vec(), b"b\n".to_vec()));
}

#[test]
fn signals_flush_and_are_shown() {
    let mut setup = terminal();
    setup.type_all(b"half");
    let typed = setup.key(3);
    assert_eq!((typed.signal, typed.has_flushed), (Some(Signal::Interrupt), true));
    assert_eq!(setup.shown(b"x\n"), "^Cx\r\n");
    assert_eq!(setup.read().unwrap(), b"x\n");
    assert_eq!((setup.key(28).signal, setup.key(26).signal), (Some(Signal::Quit), Some(Signal::Suspend)));
    let mut setup = with(|settings| settings.local |= local::NO_FLUSH);
    setup.type_all(b"half\x03\n");
    assert_eq!(setup.read().unwrap(), b"half\n");
    let mut setup = with(|settings| settings.local &= !local::SIGNALS);
    assert_eq!(setup.key(3).signal, None);
    assert_eq!(setup.shown(b"\n"), "^C\r\n");
    // A key that is 0 is none.
    let mut setup = with(|settings| settings.characters = [0; settings::CHARACTERS]);
    assert_eq!(setup.shown(b"\0\n"), "^@\r\n");
    assert_eq!(setup.read().unwrap(), b"\0\n");
}

#[test]
fn line_ends_are_translated_as_set() {
    let mut setup = with(|settings| settings.input = input::IGNORE_RETURN);
    setup.type_all(b"a\r\n");
    assert_eq!(setup.read().unwrap(), b"a\n");
    let mut setup = with(|settings| settings.input = input::NEWLINE_TO_RETURN);
    setup.type_all(b"a\n\x04");
    assert_eq!(setup.read().unwrap(), b"a\r");
    let mut setup = with(|settings| settings.input = 0);
    setup.type_all(b"a\r\n");
    assert_eq!(setup.read().unwrap(), b"a\r\n");
    let mut setup = with(|settings| settings.input |= input::STRIP | input::TO_LOWER);
    setup.type_all(b"A\xc1\n");
    assert_eq!(setup.read().unwrap(), b"aa\n");
}

#[test]
fn output_is_processed_as_set() {
    let mut setup = terminal();
    assert_eq!(setup.write(b"a\nb\tc\r\n"), "a\r\nb\tc\r\r\n");
    setup.set(|settings| settings.output |= output::EXPAND_TABS);
    assert_eq!(setup.write(b"ab\tc\n\t"), "ab      c\r\n        ");
    setup.set(|settings| settings.output = output::PROCESS | output::RETURN_TO_NEWLINE | output::TO_UPPER);
    assert_eq!(setup.write(b"a\r"), "A\n");
    setup.set(|settings| settings.output = output::PROCESS | output::NO_RETURN_AT_START);
    assert_eq!(setup.write(b"\r\rx\r\r"), "\rx\r");
    setup.set(|settings| settings.output = 0);
    assert_eq!(setup.write(b"a\n\t"), "a\n\t");
}

#[test]
fn output_can_be_held() {
    let mut setup = terminal();
    assert_eq!(setup.key(19).is_held, Some(true));
    assert_eq!(setup.key(19).is_held, None);
    assert!(setup.terminal.is_held());
    assert_eq!(setup.shown(b"ab"), "");
    assert_eq!(setup.key(17).is_held, Some(false));
    assert_eq!(setup.shown(b""), "ab");
    // The signal lets it go on.
    setup.key(19);
    assert_eq!(setup.key(3).is_held, Some(false));
    setup.key(19);
    assert_eq!(setup.key(b'x').is_held, None);
    setup.set(|settings| settings.input |= input::ANY_RESUMES);
    assert_eq!(setup.key(b'x').is_held, Some(false));
    setup.key(19);
    setup.set(|settings| settings.input &= !input::FLOW);
    assert!(!setup.terminal.is_held());
}

fn raw(settings: &mut Settings) {
    (settings.input, settings.output, settings.local) = (0, 0, 0);
}

#[test]
fn bytes_are_read_as_they_come_without_lines() {
    let mut setup = with(raw);
    assert!(setup.key(3).is_readable);
    setup.set(|settings| settings.characters[Key::Minimum as usize] = 3);
    assert!(!setup.terminal.is_readable());
    setup.type_all(b"\r\x04");
    assert!(setup.terminal.is_readable());
    assert_eq!(setup.read().unwrap(), b"\x03\r\x04");
    assert_eq!(setup.read(), None);
    assert_eq!(setup.shown(b""), "");
}

#[test]
fn what_was_typed_stays_when_lines_begin_or_end() {
    let mut setup = with(raw);
    setup.type_all(b"raw");
    setup.set(|settings| settings.local |= local::CANONICAL);
    assert!(setup.terminal.is_readable());
    setup.type_all(b"part");
    assert_eq!(setup.read().unwrap(), b"raw");
    assert_eq!(setup.read(), None);
    setup.set(raw);
    assert_eq!(setup.read().unwrap(), b"part");
}

#[test]
fn clearing_drops_what_was_not_read() {
    let mut setup = terminal();
    setup.type_all(b"a\nb");
    setup.terminal.clear_input();
    setup.type_all(b"c\n");
    assert_eq!(setup.read().unwrap(), b"c\n");
    assert!(setup.terminal.is_empty());
}

#[test]
fn endless_input_is_bounded() {
    let mut setup = terminal();
    setup.type_all(&vec![b'a'; 3 * MAX_LINE_BYTES]);
    assert!(!setup.terminal.is_readable() && setup.terminal.has_room(100));
    (0..100).for_each(|_| setup.type_all(&[vec![b'a'; 2000], vec![b'\n']].concat()));
    assert!(setup.terminal.len() <= MAX_INPUT_BYTES && !setup.terminal.has_room(100));
    assert_eq!(setup.read_at_most(usize::MAX).unwrap().len(), MAX_LINE_BYTES);
    let mut setup = with(raw);
    setup.type_all(&vec![b'a'; 2 * MAX_INPUT_BYTES]);
    assert_eq!(setup.terminal.len(), MAX_INPUT_BYTES);
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let keys = prop::array::uniform19(prop_oneof![Just(0), 0..32_u8, any::<u8>()]);
    let flags = (any::<u32>(), any::<u32>(), any::<u32>(), keys);
    flags.prop_map(|(input, output, local, characters)| Settings {
        input,
        output,
        local,
        characters,
        ..Settings::INITIAL
    })
}

proptest! {
    /// Without editing keys, what is read is what was typed, line by line.
    #[test]
    fn lines_come_out_as_typed(lines in prop::collection::vec("[a-z]{0,20}", 0..20), wanted in 1..30usize) {
        let mut setup = terminal();
        lines.iter().for_each(|line| setup.type_all(&[line.as_bytes(), b"\n"].concat()));
        for line in &lines {
            let mut got = Vec::new();
            while !got.ends_with(b"\n") {
                got.extend(setup.read_at_most(wanted).unwrap());
            }
            prop_assert_eq!(got, [line.as_bytes(), b"\n"].concat());
        }
        prop_assert!(!setup.terminal.is_readable() && setup.terminal.is_empty());
    }

    /// Whatever is typed under whatever settings, which change meanwhile, all of it can be read or is dropped.
    #[test]
    fn any_keys_do_no_harm(
        steps in prop::collection::vec((any_settings(), prop::collection::vec(any::<u8>(), 0..60)), 0..6),
    ) {
        let mut setup = terminal();
        for (settings, keys) in steps {
            setup.terminal.set(settings, &mut setup.seen);
            setup.type_all(&keys);
            let _ = setup.read_at_most(7);
        }
        let _ = setup.terminal.hold(false, &mut setup.seen);
        while setup.read_at_most(7).is_some() {}
        prop_assert!(setup.terminal.is_empty());
    }
}
