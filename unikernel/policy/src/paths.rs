//! Which files an app may use: the word `allow-paths=`.
//!
//! ```text
//! allow-paths=r:/etc,rwc:/data,rx:/usr
//!
//! paths := "none" | rule { "," rule }
//! rule  := letters ":" path         an absolute path, which is there when the app starts, and all below it
//! letter := "r" | "w" | "x" | "c"   read and list; write and cut off; execute; make, remove and rename
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::NONE;
use crate::access::FileAccess;

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathRule {
    /// What may be done.
    pub access: FileAccess,
    /// With this, and with all below it.
    pub path: String,
}

/// Reads the word's value; `None` if it has another form. No rule allows nothing.
pub fn parse(text: &str) -> Option<Vec<PathRule>> {
    if text == NONE {
        return Some(Vec::new());
    }
    text.split(',').map(PathRule::parse).collect()
}

/// The rights of letters, as unveil(2) of OpenBSD has them.
pub fn access_of(letters: &str) -> Option<FileAccess> {
    if letters.is_empty() {
        return None;
    }
    letters.chars().try_fold(FileAccess::empty(), |access, letter| {
        Some(
            access
                | match letter {
                    'r' => FileAccess::READ_FILE | FileAccess::READ_DIR,
                    'w' => FileAccess::WRITE_FILE | FileAccess::TRUNCATE,
                    'x' => FileAccess::EXECUTE,
                    'c' => FileAccess::NAMES,
                    _ => return None,
                },
        )
    })
}

/// The letters that give these rights, and more if a letter stands for several.
pub fn letters_of(access: FileAccess) -> String {
    let letters = ["r", "w", "x", "c"].into_iter();
    letters.filter(|letter| access_of(letter).is_some_and(|given| given.intersects(access))).collect()
}

impl PathRule {
    fn parse(text: &str) -> Option<Self> {
        let (letters, path) = text.split_once(':')?;
        let access = access_of(letters)?;
        path.starts_with('/').then(|| Self { access, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_rights() {
        let rules = parse("r:/etc,rwc:/data,rx:/").unwrap();
        assert_eq!(rules[0].access, FileAccess::READ_FILE | FileAccess::READ_DIR);
        assert_eq!(rules[1].path, "/data");
        assert_eq!(rules[1].access, FileAccess::all() - FileAccess::EXECUTE);
        assert!(
            rules[2].access.contains(FileAccess::EXECUTE)
                && !rules[2].access.contains(FileAccess::WRITE_FILE)
        );
        assert_eq!(access_of("rwxc"), Some(FileAccess::all()));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse("none"), Some(Vec::new()), "but this allows nothing");
        for text in ["", "none,r:/etc", "r", ":/etc", "r:etc", "q:/etc", "r:/a,", "r /etc", "R:/etc"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
