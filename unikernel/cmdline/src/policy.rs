//! The words that say what the app may do. Several of a kind add up; what an image brings and what the boot line says bind both, so
//! that the line cannot widen what was decided when the image was made.
//!
//! ```text
//! allow-calls=net-server,-openat:kill allow-paths=r:/etc,rwc:/data allow-net=bind:*:80,connect:10.0.0.0/8:5432
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use unikernel_policy::calls::CallRule;
use unikernel_policy::net::{self, NetRule};
use unikernel_policy::paths::{self, PathRule};

use crate::error::ParseError;

/// Every key about what the app may do.
pub(crate) const KEYS: [&str; 3] = [CALLS, PATHS, NET];
const CALLS: &str = "allow-calls";
const PATHS: &str = "allow-paths";
const NET: &str = "allow-net";

const EXPECTED_CALLS: &str =
    "profiles (`net-server`, `storage`, `all`) and calls, such as `net-server,+connect,-openat:kill`";
const EXPECTED_PATHS: &str =
    "rights and absolute paths, such as `r:/etc,rwc:/data,rx:/usr` (read, write, execute, create), or `none`";
const EXPECTED_NET: &str =
    "addresses and ports, such as `bind:*:80,connect:10.0.0.0/8:5432,connect:[2001:db8::]/32:443`, or `none`";

/// What one of the two says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyOptions {
    /// `allow-calls=`, and the word's value as it was written.
    pub calls: Option<(CallRule, String)>,
    /// `allow-paths=`.
    pub paths: Option<Vec<PathRule>>,
    /// `allow-net=`.
    pub net: Option<Vec<NetRule>>,
}

impl PolicyOptions {
    /// Takes the word of one of [`KEYS`].
    pub(crate) fn take(&mut self, key: &'static str, value: &str) -> Result<(), ParseError> {
        let bad = |expected| ParseError::BadValue(key, value.to_owned(), expected);
        match key {
            CALLS => {
                // The whole list anew, so that what is taken away is taken from all.
                let text = match &self.calls {
                    Some((_, known)) => [known, ",", value].concat(),
                    None => value.to_owned(),
                };
                let rule = CallRule::parse(&text).ok_or_else(|| bad(EXPECTED_CALLS))?;
                self.calls = Some((rule, text));
            }
            PATHS => {
                let rules = paths::parse(value).ok_or_else(|| bad(EXPECTED_PATHS))?;
                self.paths.get_or_insert_default().extend(rules);
            }
            _ => {
                let rules = net::parse(value).ok_or_else(|| bad(EXPECTED_NET))?;
                self.net.get_or_insert_default().extend(rules);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use crate::{parse, parse_for_image};

    #[test]
    fn words_of_a_kind_add_up() {
        let policy =
            parse("allow-calls=net-server allow-calls=storage,-read allow-paths=r:/a allow-paths=rw:/b,x:/c")
                .unwrap()
                .policy;
        let (_, text) = policy.calls.unwrap();
        assert_eq!((&*text, policy.paths.unwrap().len(), policy.net), ("net-server,storage,-read", 3, None));
    }

    #[test]
    fn none_is_a_word_that_allows_nothing() {
        let policy = parse("allow-paths=none allow-net=none").unwrap().policy;
        assert_eq!((policy.paths, policy.net), (Some([].into()), Some([].into())));
        let more = parse("allow-paths=none allow-paths=r:/etc").unwrap().policy;
        assert_eq!(more.paths.unwrap().len(), 1);
    }

    #[test]
    fn the_line_does_not_change_what_the_image_says() {
        let packed = "allow-calls=net-server\0allow-net=bind:*:80";
        let options = parse_for_image(packed, "allow-calls=all allow-net=bind:*:*,connect:*:*").unwrap();
        assert_eq!(options.image_policy, parse_for_image(packed, "").unwrap().image_policy);
        assert_eq!(options.image_policy.calls.unwrap().1, "net-server");
        assert_eq!(options.policy.calls.unwrap().1, "all");
        assert_eq!((options.image_policy.net.unwrap().len(), options.policy.net.unwrap().len()), (1, 2));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (word, expected) in [
            ("allow-calls=net-servre", "`net-server`"),
            ("allow-paths=etc", "absolute paths"),
            ("allow-net=80", "ports"),
            ("allow-calls", "needs a value"),
            ("allow-call=all", "did you mean `allow-calls=`"),
        ] {
            let message = parse(word).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
