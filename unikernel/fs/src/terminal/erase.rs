//! Keys that erase: a character, a word, the line.

use super::output::{TAB_COLUMNS, continues};
use super::settings::local;
use super::{Key, Screen, Terminal};

/// What goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Character,
    Word,
    Line,
}

impl Terminal {
    pub(super) fn erase(&mut self, key: u8, screen: &mut impl Screen) {
        if self.input.edited.is_empty() {
            return;
        }
        let extent = if self.settings.is(key, Key::Erase) {
            Extent::Character
        } else if self.settings.is(key, Key::WordErase) {
            Extent::Word
        } else {
            Extent::Line
        };
        let has = |bits| self.settings.has(bits);
        let is_visible = has(local::ECHO | local::ECHO_KILL | local::ECHO_KILL_ERASE | local::ECHO_ERASE);
        if extent == Extent::Line && !is_visible {
            return self.drop_line(key, screen);
        }
        let mut has_word_begun = false;
        while let Some(start) = self.last_character() {
            let byte = self.input.edited[start];
            let is_of_word = byte.is_ascii_alphanumeric() || byte == b'_';
            if extent == Extent::Word && has_word_begun && !is_of_word {
                break;
            }
            has_word_begun |= is_of_word;
            self.show_erased(start, extent, screen);
            self.input.edited.truncate(start);
            if extent == Extent::Character {
                break;
            }
        }
        if self.input.edited.is_empty() && self.settings.has(local::ECHO) {
            self.finish_erasing(screen);
        }
    }

    /// The line goes without being erased on the screen.
    fn drop_line(&mut self, key: u8, screen: &mut impl Screen) {
        self.input.edited.clear();
        if self.settings.has(local::ECHO) {
            self.finish_erasing(screen);
            self.echo(key, screen);
            if self.settings.has(local::ECHO_KILL) {
                self.echo_plain(b'\n', screen);
            }
        }
    }

    /// Where the last character of the line begins.
    fn last_character(&self) -> Option<usize> {
        self.input.edited.iter().rposition(|&byte| !continues(&self.settings, byte))
    }

    /// Shows that the character from `start` on, which is still there, goes.
    fn show_erased(&mut self, start: usize, extent: Extent, screen: &mut impl Screen) {
        if !self.settings.has(local::ECHO) {
            return;
        }
        let byte = self.input.edited[start];
        if self.settings.has(local::ECHO_PRINT) {
            if !core::mem::replace(&mut self.is_printing_erased, true) {
                self.echo_plain(b'\\', screen);
            }
            for index in start..self.input.edited.len() {
                self.echo(self.input.edited[index], screen);
            }
        } else if extent == Extent::Character && !self.settings.has(local::ECHO_ERASE) {
            self.echo(self.settings.character(Key::Erase), screen);
        } else if byte == b'\t' {
            let width = TAB_COLUMNS - self.columns_before(start) % TAB_COLUMNS;
            (0..width).for_each(|_| self.echo_plain(8, screen));
        } else {
            let width = self.width(byte);
            for _ in 0..width {
                [8, b' ', 8].into_iter().for_each(|byte| self.echo_plain(byte, screen));
            }
        }
    }

    /// Columns that a character other than a tab takes.
    fn width(&self, byte: u8) -> usize {
        match byte {
            _ if self.shows_as_control(byte) => 2,
            _ if byte.is_ascii_control() => 0,
            _ => 1,
        }
    }

    /// Columns from the last tab stop that is known to the character at `end`: after a tab, or where the line began.
    fn columns_before(&self, end: usize) -> usize {
        let before = &self.input.edited[..end];
        let after_tab = before.iter().rposition(|&byte| byte == b'\t').map(|tab| tab + 1);
        let seen = &before[after_tab.unwrap_or(0)..];
        let width: usize =
            seen.iter().filter(|&&byte| !continues(&self.settings, byte)).map(|&byte| self.width(byte)).sum();
        width + if after_tab.is_none() { self.line_column } else { 0 }
    }

    /// Ends the printing of what was erased.
    pub(super) fn finish_erasing(&mut self, screen: &mut impl Screen) {
        if core::mem::take(&mut self.is_printing_erased) {
            self.echo_plain(b'/', screen);
        }
    }
}
