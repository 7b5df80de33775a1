//! `trust=`: the keys with which what is used must be signed.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ParseError;

/// The word's key.
pub(crate) const KEY: &str = "trust";

/// Who may sign what the machine uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrustOptions {
    /// Their keys, as texts: what a key is is for the kernel to know. Without any, nothing has to be signed.
    pub keys: Vec<String>,
    /// They are the image's own, to which the command line adds none.
    pub are_built_in: bool,
}

impl TrustOptions {
    /// Takes the value of a word.
    pub(crate) fn take(&mut self, value: &str) -> Result<(), ParseError> {
        if self.are_built_in {
            return Err(ParseError::KeysBuiltIn);
        }
        self.keys.push(value.to_owned());
        Ok(())
    }

    /// What was said until now was the image's.
    pub(crate) fn seal(&mut self) {
        self.are_built_in = !self.keys.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use crate::{ParseError, parse_for_image};

    #[test]
    fn keys_of_the_image_are_the_only_ones() {
        let options = parse_for_image("trust=a\0trust=b\0", "log=info").unwrap().trust;
        assert!(options.are_built_in && options.keys == ["a", "b"]);
        assert_eq!(parse_for_image("trust=a\0", "trust=b"), Err(ParseError::KeysBuiltIn));
        let options = parse_for_image("init=/a\0", "trust=a trust=b").unwrap().trust;
        assert!(!options.are_built_in && options.keys == ["a", "b"]);
        assert!(parse_for_image("", "").unwrap().trust.keys.is_empty());
    }
}
