//! A terminal between its keys and its reader (termios(3); Linux: `n_tty`): lines are edited, keys echoed, signals
//! asked for, output processed. No device: what is to be seen goes to a [`Screen`], and who hears of signals is the
//! kernel's business.
//!
//! - [`Terminal`]: the line discipline; `erase`: its erasing keys;
//! - [`Settings`]: what it is set to; `input`: what was typed; `output`: what becomes of output.

mod erase;
mod input;
mod output;
pub mod settings;

use alloc::vec::Vec;

use input::Input;
pub use input::{MAX_INPUT_BYTES, MAX_LINE_BYTES};
pub use settings::{Key, Settings};
use settings::{input as input_bits, local};

/// Echoes that wait while output is held, at most.
const MAX_HELD_BYTES: usize = 4096;

/// Where it is seen what a terminal shows.
pub trait Screen {
    /// Shows a byte.
    fn put(&mut self, byte: u8);

    /// Drops what was not yet seen, if anything is kept.
    fn clear(&mut self) {}
}

/// A signal that a key sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// `SIGINT`.
    Interrupt,
    /// `SIGQUIT`.
    Quit,
    /// `SIGTSTP`.
    Suspend,
}

/// What a key led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Typed {
    /// Something more can be read.
    pub is_readable: bool,
    /// The app is to be told, who reads and writes here.
    pub signal: Option<Signal>,
    /// All input and output that waited was dropped.
    pub has_flushed: bool,
    /// Output is held from now on, or goes on.
    pub is_held: Option<bool>,
}

impl Typed {
    const READABLE: Self = Self { is_readable: true, signal: None, has_flushed: false, is_held: None };
}

/// The line discipline.
#[derive(Debug)]
pub struct Terminal {
    settings: Settings,
    input: Input,
    /// Where the cursor stands, and stood when the line began that is being typed.
    column: usize,
    line_column: usize,
    /// Output is held.
    is_held: bool,
    /// Echoes that wait for it to go on.
    held: Vec<u8>,
    /// The next key is taken as it is.
    is_next_literal: bool,
    /// What is erased is being printed (`ECHOPRT`).
    is_printing_erased: bool,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// Makes a terminal that nothing was typed to.
    pub const fn new() -> Self {
        Self {
            settings: Settings::INITIAL,
            input: Input::new(),
            column: 0,
            line_column: 0,
            is_held: false,
            held: Vec::new(),
            is_next_literal: false,
            is_printing_erased: false,
        }
    }

    /// What it is set to.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sets it. What was typed stays, as one line where lines are read from now on.
    pub fn set(&mut self, settings: Settings, screen: &mut impl Screen) {
        let was_canonical = core::mem::replace(&mut self.settings, settings).is_canonical();
        if was_canonical != settings.is_canonical() {
            (self.is_next_literal, self.is_printing_erased) = (false, false);
            if was_canonical { self.input.dissolve_lines() } else { self.input.make_line() }
        }
        if settings.input & input_bits::FLOW == 0 {
            self.hold(false, screen);
        }
    }

    /// Takes a key.
    pub fn key(&mut self, byte: u8, screen: &mut impl Screen) -> Typed {
        let settings = self.settings;
        let has_input = |bit: u32| settings.input & bit != 0;
        let mut byte = if has_input(input_bits::STRIP) { byte & 0x7f } else { byte };
        if has_input(input_bits::TO_LOWER) && settings.has(local::EXTENDED) {
            byte.make_ascii_lowercase();
        }
        if core::mem::take(&mut self.is_next_literal) {
            return self.take(byte, screen);
        }
        if has_input(input_bits::FLOW) {
            if settings.is(byte, Key::Start) {
                return self.hold(false, screen);
            }
            if settings.is(byte, Key::Stop) {
                return self.hold(true, screen);
            }
        }
        if settings.has(local::SIGNALS)
            && let Some(signal) = self.signal_of(byte)
        {
            return self.interrupt(signal, byte, screen);
        }
        let resumed = has_input(input_bits::FLOW) && has_input(input_bits::ANY_RESUMES);
        let held = if resumed { self.hold(false, screen).is_held } else { None };
        match byte {
            b'\r' if has_input(input_bits::IGNORE_RETURN) => {
                return Typed { is_held: held, ..Typed::default() };
            }
            b'\r' if has_input(input_bits::RETURN_TO_NEWLINE) => byte = b'\n',
            b'\n' if has_input(input_bits::NEWLINE_TO_RETURN) => byte = b'\r',
            _ => {}
        }
        let typed = if settings.is_canonical() { self.edit(byte, screen) } else { self.take(byte, screen) };
        Typed { is_held: held, ..typed }
    }

    fn signal_of(&self, byte: u8) -> Option<Signal> {
        [(Key::Interrupt, Signal::Interrupt), (Key::Quit, Signal::Quit), (Key::Suspend, Signal::Suspend)]
            .into_iter()
            .find_map(|(key, signal)| self.settings.is(byte, key).then_some(signal))
    }

    fn interrupt(&mut self, signal: Signal, byte: u8, screen: &mut impl Screen) -> Typed {
        let has_flushed = !self.settings.has(local::NO_FLUSH);
        if has_flushed {
            self.clear_input();
            screen.clear();
        }
        let resumes = self.settings.input & input_bits::FLOW != 0;
        let is_held = if resumes { self.hold(false, screen).is_held } else { None };
        if self.settings.has(local::ECHO) {
            self.echo(byte, screen);
        }
        Typed { signal: Some(signal), has_flushed, is_held, is_readable: false }
    }

    /// A key where lines are edited.
    fn edit(&mut self, byte: u8, screen: &mut impl Screen) -> Typed {
        let settings = self.settings;
        let is = |key| settings.is(byte, key);
        let is_extended = |key| settings.has(local::EXTENDED) && is(key);
        if is(Key::Erase) || is(Key::Kill) || is_extended(Key::WordErase) {
            self.erase(byte, screen);
        } else if is_extended(Key::Literal) {
            self.is_next_literal = true;
            if settings.has(local::ECHO) {
                self.finish_erasing(screen);
                if settings.has(local::ECHO_CONTROL) {
                    // The caret is replaced by what comes.
                    [b'^', 8].into_iter().for_each(|byte| self.echo_plain(byte, screen));
                }
            }
        } else if is_extended(Key::Reprint) && settings.has(local::ECHO) {
            self.reprint(byte, screen);
        } else if byte == b'\n' {
            if settings.has(local::ECHO) || settings.has(local::ECHO_NEWLINE) {
                self.finish_erasing(screen);
                self.echo_plain(b'\n', screen);
            }
            self.input.end_line(Some(b'\n'));
            return Typed::READABLE;
        } else if is(Key::EndOfFile) {
            self.input.end_line(None);
            return Typed::READABLE;
        } else if is(Key::EndOfLine) || is_extended(Key::EndOfLine2) {
            self.show_typed(byte, screen);
            self.input.end_line(Some(byte));
            return Typed::READABLE;
        } else {
            return self.take(byte, screen);
        }
        Typed::default()
    }

    /// A key without a meaning.
    fn take(&mut self, byte: u8, screen: &mut impl Screen) -> Typed {
        self.show_typed(byte, screen);
        if self.settings.is_canonical() {
            self.input.edit(byte);
            return Typed::default();
        }
        self.input.push(byte);
        Typed::READABLE
    }

    fn show_typed(&mut self, byte: u8, screen: &mut impl Screen) {
        if !self.settings.has(local::ECHO) {
            return;
        }
        self.finish_erasing(screen);
        if self.input.edited.is_empty() {
            self.line_column = self.column;
        }
        if byte == b'\n' { self.echo_plain(byte, screen) } else { self.echo(byte, screen) }
    }

    fn reprint(&mut self, byte: u8, screen: &mut impl Screen) {
        self.finish_erasing(screen);
        self.echo(byte, screen);
        self.echo_plain(b'\n', screen);
        let edited = core::mem::take(&mut self.input.edited);
        edited.iter().for_each(|&byte| self.echo(byte, screen));
        self.input.edited = edited;
    }

    /// Shows a key: control characters as such, if that is set.
    fn echo(&mut self, byte: u8, screen: &mut impl Screen) {
        if self.shows_as_control(byte) {
            self.echo_plain(b'^', screen);
            self.echo_plain(byte ^ 0o100, screen);
        } else {
            self.echo_plain(byte, screen);
        }
    }

    fn shows_as_control(&self, byte: u8) -> bool {
        self.settings.has(local::ECHO_CONTROL) && byte.is_ascii_control() && byte != b'\t'
    }

    fn echo_plain(&mut self, byte: u8, screen: &mut impl Screen) {
        if !self.is_held {
            return self.write(byte, screen);
        }
        if self.held.len() < MAX_HELD_BYTES && self.held.try_reserve(1).is_ok() {
            self.held.push(byte);
        }
    }

    /// Shows a byte of output. While output is held ([`Self::is_held`]), it is the writer who waits.
    pub fn write(&mut self, byte: u8, screen: &mut impl Screen) {
        output::process(&self.settings, &mut self.column, byte, |byte| screen.put(byte));
    }

    /// The most bytes that one byte of output becomes.
    pub const MAX_EXPANSION: usize = output::TAB_COLUMNS;

    /// True if output waits until a key, or a call, lets it go on.
    pub const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Holds output, or lets it go on (tcflow(3)).
    pub fn hold(&mut self, is_held: bool, screen: &mut impl Screen) -> Typed {
        let is_new = core::mem::replace(&mut self.is_held, is_held) != is_held;
        if !is_held {
            let held = core::mem::take(&mut self.held);
            held.into_iter().for_each(|byte| self.write(byte, screen));
        }
        Typed { is_held: is_new.then_some(is_held), ..Typed::default() }
    }

    /// Drops what was typed and not yet read (tcflush(3)), and its echoes.
    pub fn clear_input(&mut self) {
        self.input.clear();
        self.held.clear();
        (self.is_next_literal, self.is_printing_erased) = (false, false);
    }

    /// True if a read would answer at once, with as much as is asked for.
    pub fn is_readable(&self) -> bool {
        let minimum = match self.settings.character(Key::Time) {
            0 => usize::from(self.settings.character(Key::Minimum)).max(1),
            _ => 1,
        };
        if self.settings.is_canonical() { self.input.has_line() } else { self.input.len() >= minimum }
    }

    /// True if there is room for a key: whoever types waits while nobody reads, but for the line that is being typed,
    /// which would never end. `most` is how much is kept.
    pub fn has_room(&self, most: usize) -> bool {
        let is_typing = self.settings.is_canonical() && !self.input.has_line();
        is_typing || self.input.len() + self.input.edited.len() < most
    }

    /// Bytes that can be read.
    pub fn len(&self) -> usize {
        self.input.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a read gives: of the oldest line, or what there is, `wanted` bytes at most. An empty answer is the end of the
    /// input; `None` means that there is nothing yet.
    pub fn content(&self, wanted: usize) -> Option<[&[u8]; 2]> {
        self.input.content(self.settings.is_canonical(), wanted)
    }

    /// Takes out what [`Self::content`] showed, or the start of it.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
    }
}

#[cfg(test)]
mod tests;
