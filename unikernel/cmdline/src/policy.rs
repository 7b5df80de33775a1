//! The words that say what the app may do. Several of a kind add up; what an image brings and what the boot line says bind both, so
//! that the line cannot widen what was decided when the image was made.
//!
//! ```text
//! allow-calls=net-server,-openat:kill
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;

use unikernel_policy::calls::CallRule;

use crate::error::ParseError;

/// Every key about what the app may do.
pub(crate) const KEYS: [&str; 1] = [CALLS];
const CALLS: &str = "allow-calls";

const EXPECTED_CALLS: &str =
    "profiles (`net-server`, `storage`, `all`) and calls, such as `net-server,+connect,-openat:kill`";

/// What one of the two says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyOptions {
    /// `allow-calls=`, and the word's value as it was written.
    pub calls: Option<(CallRule, String)>,
}

impl PolicyOptions {
    /// Takes the word of one of [`KEYS`].
    pub(crate) fn take(&mut self, key: &'static str, value: &str) -> Result<(), ParseError> {
        let bad = |expected| ParseError::BadValue(key, value.to_owned(), expected);
        // The whole list anew, so that what is taken away is taken from all.
        let text = match &self.calls {
            Some((_, known)) => [known, ",", value].concat(),
            None => value.to_owned(),
        };
        let rule = CallRule::parse(&text).ok_or_else(|| bad(EXPECTED_CALLS))?;
        self.calls = Some((rule, text));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use crate::{parse, parse_for_image};

    #[test]
    fn words_of_a_kind_add_up() {
        let policy = parse("allow-calls=net-server allow-calls=storage,-read").unwrap().policy;
        let (_, text) = policy.calls.unwrap();
        assert_eq!(text, "net-server,storage,-read");
    }

    #[test]
    fn the_line_does_not_change_what_the_image_says() {
        let packed = "allow-calls=net-server";
        let options = parse_for_image(packed, "allow-calls=all").unwrap();
        assert_eq!(options.image_policy, parse_for_image(packed, "").unwrap().image_policy);
        assert_eq!(options.image_policy.calls.unwrap().1, "net-server");
        assert_eq!(options.policy.calls.unwrap().1, "all");
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (word, expected) in [
            ("allow-calls=net-servre", "`net-server`"),
            ("allow-calls", "needs a value"),
            ("allow-call=all", "did you mean `allow-calls=`"),
        ] {
            let message = parse(word).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
