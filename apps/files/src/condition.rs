//! Conditions on a request (RFC 9110, section 13): what the client has already, or insists on.

use std::time::{Duration, SystemTime};

use crate::request::Request;

/// By which a client tells one state of a file from another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Validators {
    /// With its quotes; a strong one.
    pub(crate) tag: String,
    pub(crate) modified: SystemTime,
}

/// What the conditions make of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is carried out; its range only if that is true.
    GoOn { with_range: bool },
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client insists on.
    Failed,
}

/// Judges in the order of section 13.2.2.
pub(crate) fn judge(request: &Request, validators: &Validators) -> Verdict {
    let tag = validators.tag.as_str();
    let is_unchanged_since = |date: &str| {
        httpdate::parse_http_date(date).is_ok_and(|date| seconds(validators.modified) <= seconds(date))
    };
    let is_failed = match (&request.if_match, &request.if_unmodified_since) {
        (Some(tags), _) => !lists(tags, tag, false),
        // What is no date is no condition.
        (None, Some(date)) => httpdate::parse_http_date(date).is_ok() && !is_unchanged_since(date),
        (None, None) => false,
    };
    if is_failed {
        return Verdict::Failed;
    }
    let is_known = match (&request.if_none_match, &request.if_modified_since) {
        (Some(tags), _) => lists(tags, tag, true),
        (None, Some(date)) => is_unchanged_since(date),
        (None, None) => false,
    };
    if is_known {
        return Verdict::NotModified;
    }
    let with_range = request.if_range.as_deref().is_none_or(|condition| is_same(condition, validators));
    Verdict::GoOn { with_range }
}

/// `If-Range`: the rest is wanted only of the same file. A date must be the very one.
fn is_same(condition: &str, validators: &Validators) -> bool {
    match httpdate::parse_http_date(condition) {
        Ok(date) => seconds(date) == seconds(validators.modified),
        Err(_) => condition.trim() == validators.tag,
    }
}

/// Whether a list of tags has this one, or is `*`. A weak tag of the list counts if `weakly`.
fn lists(tags: &str, tag: &str, weakly: bool) -> bool {
    tags.trim() == "*"
        || tags
            .split(',')
            .map(str::trim)
            .any(|listed| listed.strip_prefix("W/").filter(|_| weakly).unwrap_or(listed) == tag)
}

/// Dates have whole seconds.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since: Duration| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Parsed, parse};

    /// The verdict on a file of a second after 1994-11-06 08:49:37.
    fn verdict(fields: &str) -> Verdict {
        let modified = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let validators =
            Validators { tag: "\"abc\"".into(), modified: modified + Duration::from_millis(300) };
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
        match parse(head.as_bytes()) {
            Parsed::Request(request, _) => judge(&request, &validators),
            other => panic!("{fields}: {other:?}"),
        }
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn known_content_is_not_sent() {
        for fields in [
            "If-None-Match: \"abc\"".to_owned(),
            "If-None-Match: \"x\", W/\"abc\"".to_owned(),
            "If-None-Match: *".to_owned(),
            format!("If-Modified-Since: {SAME}"),
            format!("If-Modified-Since: {LATER}"),
        ] {
            assert_eq!(verdict(&fields), Verdict::NotModified, "{fields}");
        }
        for fields in [
            "If-None-Match: \"x\"".to_owned(),
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {SAME}"),
            format!("If-Modified-Since: {EARLIER}"),
            "If-Modified-Since: yesterday".to_owned(),
        ] {
            assert_eq!(verdict(&fields), Verdict::GoOn { with_range: true }, "{fields}");
        }
    }

    #[test]
    fn what_is_insisted_on_is_checked() {
        for fields in [
            "If-Match: \"x\"".to_owned(),
            "If-Match: W/\"abc\"".to_owned(),
            format!("If-Unmodified-Since: {EARLIER}"),
        ] {
            assert_eq!(verdict(&fields), Verdict::Failed, "{fields}");
        }
        assert_eq!(verdict("If-Match: \"abc\""), Verdict::GoOn { with_range: true });
        assert_eq!(verdict("If-Unmodified-Since: soon"), Verdict::GoOn { with_range: true });
    }

    #[test]
    fn range_of_another_file_is_not_sent() {
        assert_eq!(verdict("If-Range: \"abc\""), Verdict::GoOn { with_range: true });
        assert_eq!(verdict(&format!("If-Range: {SAME}")), Verdict::GoOn { with_range: true });
        assert_eq!(verdict("If-Range: W/\"abc\""), Verdict::GoOn { with_range: false });
        assert_eq!(verdict(&format!("If-Range: {LATER}")), Verdict::GoOn { with_range: false });
    }
}
