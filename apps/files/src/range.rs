//! The `Range` field (RFC 9110, section 14).

use std::ops::Range;

/// More ranges than this, or ranges that overlap, are a mistake or an attack: the whole is sent (section 14.2
/// allows that, 17.15 advises it).
const MOST_RANGES: usize = 16;

/// What is to be sent of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These parts, none of them empty, as they were asked for.
    Parts(Vec<Range<u64>>),
    /// Nothing: no part that was asked for is there.
    Nothing,
}

/// What a field's value asks for of a file of `len` bytes. A value that is not understood asks for nothing special.
pub(crate) fn parse(value: &str, len: u64) -> Wanted {
    let Some((unit, set)) = value.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let specs: Option<Vec<Spec>> =
        set.split(',').map(str::trim).filter(|spec| !spec.is_empty()).map(Spec::parse).collect();
    let Some(specs) = specs.filter(|specs| (1..=MOST_RANGES).contains(&specs.len())) else {
        return Wanted::Whole;
    };
    let parts: Vec<Range<u64>> = specs.iter().filter_map(|spec| spec.within(len)).collect();
    if parts.is_empty() {
        Wanted::Nothing
    } else if overlap(&parts) {
        Wanted::Whole
    } else {
        Wanted::Parts(parts)
    }
}

fn overlap(parts: &[Range<u64>]) -> bool {
    let mut sorted: Vec<&Range<u64>> = parts.iter().collect();
    sorted.sort_by_key(|part| part.start);
    sorted.windows(2).any(|pair| pair[1].start < pair[0].end)
}

/// One range, as it is written.
enum Spec {
    /// From a byte, to another one or the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => number(last).map(Self::Last),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The bytes of it that a file of `len` bytes has.
    fn within(&self, len: u64) -> Option<Range<u64>> {
        let range = match *self {
            Self::From(first, last) => first..last.map_or(len, |last| last.saturating_add(1).min(len)),
            Self::Last(count) => len.saturating_sub(count)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Digits alone; more than fit are more than any file has.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_as_in_the_rfc() {
        // As first and last byte of each.
        let parts = |value: &str| match parse(value, 10_000) {
            Wanted::Parts(parts) => parts.iter().map(|part| (part.start, part.end - 1)).collect::<Vec<_>>(),
            other => panic!("{value}: {other:?}"),
        };
        assert_eq!(parts("bytes=0-499"), [(0, 499)]);
        assert_eq!(parts("bytes=9500-"), [(9500, 9999)]);
        assert_eq!(parts("bytes=-500"), [(9500, 9999)]);
        assert_eq!(parts("bytes=0-0,-1"), [(0, 0), (9999, 9999)]);
        assert_eq!(parts("bytes= 0-999, 4500-5499, -1000"), [(0, 999), (4500, 5499), (9000, 9999)]);
        assert_eq!(parts("Bytes=0-99999999999999999999999"), [(0, 9999)]);
        assert_eq!(parts("bytes=-99999999999999999999999"), [(0, 9999)]);
        assert_eq!(parts("bytes=20000-,5-5"), [(5, 5)]);
    }

    #[test]
    fn nothing_of_it_is_told_from_nonsense() {
        assert_eq!(parse("bytes=10-", 10), Wanted::Nothing);
        assert_eq!(parse("bytes=-0", 10), Wanted::Nothing);
        assert_eq!(parse("bytes=0-0", 0), Wanted::Nothing);
        for value in [
            "bytes",
            "bytes=",
            "lines=0-1",
            "bytes=5-3",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=0-5,3-9",
        ] {
            assert_eq!(parse(value, 10), Wanted::Whole, "{value}");
        }
        assert_eq!(parse(&format!("bytes={}", "1-1,".repeat(17)), 10), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn parts_lie_within(value in "bytes=[0-9,\\- ]{0,30}", len in 0_u64..100) {
            if let Wanted::Parts(parts) = parse(&value, len) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
                prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= len);
            }
        }
    }
}
