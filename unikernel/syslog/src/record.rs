//! What is to be told: a line, who it is of, and how much it matters.

/// A longer line becomes several. With a header it fits what every server should take (RFC 5426, section 3.2).
pub const MAX_TEXT_BYTES: usize = 1792;
/// What a message may say of its kind (RFC 5424, MSGID).
pub const MAX_TOPIC_BYTES: usize = 32;

/// How much a message matters (RFC 5424, table 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The system is unusable.
    Emergency,
    /// Somebody must act at once.
    Alert,
    /// A program has died.
    Critical,
    /// Something failed.
    Error,
    /// Something may fail.
    Warning,
    /// Normal, but of note.
    Notice,
    /// What happens.
    Informational,
    /// For who looks for a mistake.
    Debug,
}

impl Severity {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Informational,
        Self::Debug,
    ];

    /// The severity with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The kernel.
    Kernel,
    /// The program.
    App,
}

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When it was written, by a clock that nobody sets.
    pub at_ns: u64,
    /// Who speaks.
    pub origin: Origin,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about; empty if nobody said.
    pub topic: &'a str,
    /// The line. What is longer than [`MAX_TEXT_BYTES`] is cut by the queue.
    pub text: &'a [u8],
}
