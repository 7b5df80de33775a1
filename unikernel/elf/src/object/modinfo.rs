//! What a module says about itself: strings `key=value`, each with a NUL at its end, in the section `.modinfo`. Keys that Linux has, too,
//! mean the same, so its `modinfo` reads our files.
//!
//! | key | value |
//! |---|---|
//! | `name`, `version`, `license`, `description` | as Linux's |
//! | `abi` | the version of the interface that it was built for |
//! | `depends` | modules that have to be there before, with commas between |
//! | `parm` | `name:text`: what a parameter is for |
//! | `parmtype` | `name:type` |
//! | `symver` | `name:version`: what it was built for of a symbol that others define |
//! | `export` | `name:version`: a symbol that others may use |

use super::ObjectError;

/// What a module says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modinfo<'a>(&'a str);

impl<'a> Modinfo<'a> {
    /// Checks the section's bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError<'a>> {
        let text = core::str::from_utf8(bytes).map_err(|_| ObjectError::BadModinfo)?;
        let is_pair = |line: &str| line.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        let is_shown = |line: &str| !line.chars().any(char::is_control);
        let mut lines = text.split('\0').filter(|line| !line.is_empty());
        if lines.all(|line| is_pair(line) && is_shown(line)) {
            Ok(Self(text))
        } else {
            Err(ObjectError::BadModinfo)
        }
    }

    /// All that is said, in order.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('\0').filter_map(|line| line.split_once('='))
    }

    /// Everything with this key.
    pub fn all<'k>(self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.pairs().filter(move |(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The first with this key.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    /// What it needs.
    pub fn depends(self) -> impl Iterator<Item = &'a str> {
        self.all("depends").flat_map(|list| list.split(',')).filter(|name| !name.is_empty())
    }

    /// A version of a symbol (`symver`, `export`): the number behind its name.
    pub fn version_of(self, key: &str, symbol: &str) -> Option<u32> {
        self.versions(key).find(|(name, _)| *name == symbol).map(|(_, version)| version)
    }

    /// All symbols with their versions (`symver`, `export`).
    pub fn versions<'k>(self, key: &'k str) -> impl Iterator<Item = (&'a str, u32)> + use<'a, 'k> {
        self.all(key).filter_map(|value| {
            let (name, version) = value.rsplit_once(':')?;
            Some((name, version.parse().ok()?))
        })
    }
}

/// The longest name (Linux: `MODULE_NAME_LEN`, with its NUL, is 56).
pub const MOST_NAME_BYTES: usize = 55;

/// True for a name that a module can have: letters, digits and `_`, for it becomes the name of a directory.
pub fn is_module_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MOST_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_good)
}
