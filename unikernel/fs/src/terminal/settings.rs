//! What a terminal is set to (termios(3)). The bits and places are Linux's own.

/// Bits of [`Settings::input`].
pub mod input {
    /// Strip the eighth bit (`ISTRIP`).
    pub const STRIP: u32 = 0o40;
    /// Newline becomes carriage return (`INLCR`).
    pub const NEWLINE_TO_RETURN: u32 = 0o100;
    /// Carriage return is dropped (`IGNCR`).
    pub const IGNORE_RETURN: u32 = 0o200;
    /// Carriage return becomes newline (`ICRNL`).
    pub const RETURN_TO_NEWLINE: u32 = 0o400;
    /// Upper case becomes lower case (`IUCLC`).
    pub const TO_LOWER: u32 = 0o1000;
    /// The stop and start keys hold output (`IXON`).
    pub const FLOW: u32 = 0o2000;
    /// Any key lets it go on (`IXANY`).
    pub const ANY_RESUMES: u32 = 0o4000;
    /// Characters are UTF-8 (`IUTF8`).
    pub const UTF8: u32 = 0o40000;
}

/// Bits of [`Settings::output`].
pub mod output {
    /// Output is processed at all (`OPOST`).
    pub const PROCESS: u32 = 0o1;
    /// Lower case becomes upper case (`OLCUC`).
    pub const TO_UPPER: u32 = 0o2;
    /// Newline becomes carriage return and newline (`ONLCR`).
    pub const NEWLINE_TO_BOTH: u32 = 0o4;
    /// Carriage return becomes newline (`OCRNL`).
    pub const RETURN_TO_NEWLINE: u32 = 0o10;
    /// No carriage return in the first column (`ONOCR`).
    pub const NO_RETURN_AT_START: u32 = 0o20;
    /// Newline returns the carriage (`ONLRET`).
    pub const NEWLINE_RETURNS: u32 = 0o40;
    /// Tabs become spaces (`XTABS`, all of the field).
    pub const EXPAND_TABS: u32 = 0o14000;
}

/// Bits of [`Settings::local`].
pub mod local {
    /// Keys send signals (`ISIG`).
    pub const SIGNALS: u32 = 0o1;
    /// Input is edited and read by line (`ICANON`).
    pub const CANONICAL: u32 = 0o2;
    /// What is typed is shown (`ECHO`).
    pub const ECHO: u32 = 0o10;
    /// Erasing erases on the screen (`ECHOE`).
    pub const ECHO_ERASE: u32 = 0o20;
    /// Killing a line is shown by a newline (`ECHOK`).
    pub const ECHO_KILL: u32 = 0o40;
    /// Newlines are shown, even if nothing else is (`ECHONL`).
    pub const ECHO_NEWLINE: u32 = 0o100;
    /// Signals do not flush (`NOFLSH`).
    pub const NO_FLUSH: u32 = 0o200;
    /// Control characters are shown as `^X` (`ECHOCTL`).
    pub const ECHO_CONTROL: u32 = 0o1000;
    /// What is erased is printed, for paper (`ECHOPRT`).
    pub const ECHO_PRINT: u32 = 0o2000;
    /// Killing a line erases it on the screen (`ECHOKE`).
    pub const ECHO_KILL_ERASE: u32 = 0o4000;
    /// The keys that POSIX does not know (`IEXTEN`).
    pub const EXTENDED: u32 = 0o100_000;
}

/// A key with a meaning, or a number for reads without lines: a place in [`Settings::characters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Key {
    /// Sends `SIGINT`.
    Interrupt = 0,
    /// Sends `SIGQUIT`.
    Quit = 1,
    /// Erases a character.
    Erase = 2,
    /// Erases the line.
    Kill = 3,
    /// Ends a line without a line end.
    EndOfFile = 4,
    /// Tenths of a second.
    Time = 5,
    /// Fewest bytes.
    Minimum = 6,
    /// Lets output go on.
    Start = 8,
    /// Holds output.
    Stop = 9,
    /// Sends `SIGTSTP`.
    Suspend = 10,
    /// Ends a line, too.
    EndOfLine = 11,
    /// Shows the line again.
    Reprint = 12,
    /// Erases a word.
    WordErase = 14,
    /// Takes the next key as it is.
    Literal = 15,
    /// Ends a line, too.
    EndOfLine2 = 16,
}

/// How many characters there are (`NCCS`).
pub const CHARACTERS: usize = 19;

/// The settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `c_iflag`.
    pub input: u32,
    /// `c_oflag`.
    pub output: u32,
    /// `c_cflag`: kept for who asks, as no line is behind.
    pub control: u32,
    /// `c_lflag`.
    pub local: u32,
    /// `c_line`.
    pub line: u8,
    /// `c_cc`. A key that is 0 is none.
    pub characters: [u8; CHARACTERS],
    /// `c_ispeed` and `c_ospeed`.
    pub speeds: [u32; 2],
}

impl Settings {
    /// What a terminal begins with (Linux: `tty_std_termios`), with 38,400 baud, eight bits and a receiver.
    pub const INITIAL: Self = Self {
        input: input::RETURN_TO_NEWLINE | input::FLOW,
        output: output::PROCESS | output::NEWLINE_TO_BOTH,
        control: 0o17 | 0o60 | 0o200,
        local: local::SIGNALS
            | local::CANONICAL
            | local::ECHO
            | local::ECHO_ERASE
            | local::ECHO_KILL
            | local::ECHO_CONTROL
            | local::ECHO_KILL_ERASE
            | local::EXTENDED,
        line: 0,
        characters: [3, 28, 0x7f, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
        speeds: [38_400; 2],
    };

    /// True if input is edited and read by line.
    pub const fn is_canonical(&self) -> bool {
        self.local & local::CANONICAL != 0
    }

    /// True if all of these local bits are set.
    pub(super) const fn has(&self, bits: u32) -> bool {
        self.local & bits == bits
    }

    /// The byte of a key, or the number.
    pub const fn character(&self, key: Key) -> u8 {
        self.characters[key as usize]
    }

    /// True if `byte` is what this key sends.
    pub(super) const fn is(&self, byte: u8, key: Key) -> bool {
        byte != 0 && self.character(key) == byte
    }

    /// True if the usual keys hold output (packet mode tells of that: tty_ioctl(4), `TIOCPKT`).
    pub const fn has_usual_flow(&self) -> bool {
        self.input & input::FLOW != 0
            && self.character(Key::Stop) == Self::INITIAL.character(Key::Stop)
            && self.character(Key::Start) == Self::INITIAL.character(Key::Start)
    }
}
