//! What can be wrong with a command line, for people.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::words::Shown;

/// What is wrong with a command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// A double quote was opened and not closed.
    UnclosedQuote,
    /// No such word; perhaps the other was meant.
    UnknownWord(String, Option<&'static str>),
    /// The word needs a value.
    MissingValue(String),
    /// The value does not fit the key; the last part says what would.
    BadValue(&'static str, String, &'static str),
    /// The word goes with `ip=address/prefix`, not with DHCP.
    NeedsStaticAddress(&'static str),
    /// `format=` names a disk that is mounted nowhere.
    FormatWithoutMount(String),
    /// A disk that is mounted at two places.
    DiskTwice(String, [String; 2]),
    /// Two disks that are mounted at one place.
    PlaceTwice(String, [String; 2]),
    /// `trust=` for an image that has keys of its own.
    KeysBuiltIn,
    /// A mistake in a word about a card that it names.
    OfCard(usize, Box<ParseError>),
}

impl ParseError {
    /// Says what is wrong with a word whose key begins with `card`. What the word brought is shown without its control
    /// characters, which could write over the message.
    fn describe(&self, f: &mut fmt::Formatter<'_>, card: &str) -> fmt::Result {
        match self {
            Self::BadValue(key, value, expected) => {
                write!(f, "`{card}{key}={}`: expected {expected}", Shown(value))
            }
            Self::NeedsStaticAddress(key) => {
                write!(
                    f,
                    "`{card}{key}=` goes with a static address, `{card}ip=10.0.2.15/24`; DHCP brings its own"
                )
            }
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnclosedQuote => write!(f, "a double quote is not closed"),
            Self::UnknownWord(word, near) => {
                write!(f, "unknown option `{}`; ", Shown(word))?;
                match near {
                    Some("env.") => write!(f, "did you mean `env.NAME=`?"),
                    Some("eth1.") => write!(f, "a card's words are `eth1.ip=` and the like"),
                    Some(near) => write!(f, "did you mean `{near}=`?"),
                    None => write!(f, "the app's own arguments come after `--`"),
                }
            }
            Self::MissingValue(key) => write!(f, "option `{key}` needs a value: `{key}=...`"),
            Self::BadValue(..) | Self::NeedsStaticAddress(_) => self.describe(f, ""),
            Self::FormatWithoutMount(disk) => {
                let disk = Shown(disk);
                write!(f, "`format={disk}` goes with `mount=/data:{disk}` or `root={disk}`")
            }
            Self::DiskTwice(disk, [first, second]) => {
                let (first, second) = (Shown(first), Shown(second));
                write!(
                    f,
                    "disk `{disk}` is mounted at `{first}` and at `{second}`: expected one place for it"
                )
            }
            Self::PlaceTwice(path, [first, second]) => {
                let path = Shown(path);
                write!(
                    f,
                    "disks `{first}` and `{second}` are mounted at `{path}`: expected one disk for a place"
                )
            }
            Self::KeysBuiltIn => f.write_str(
                "`trust=`: the image has keys of its own, to which none can be added; leave the word away",
            ),
            Self::OfCard(number, error) => error.describe(f, &format!("eth{number}.")),
        }
    }
}
