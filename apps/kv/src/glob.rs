//! Patterns of `KEYS`, `SCAN` and `CONFIG GET`: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what is meant
//! as it stands. No pattern costs more than its length times the text's.

/// True if the whole text matches.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Behind the last star, and the text that it has not taken yet: a later star makes earlier ones
    // final, for it can take whatever they could have.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, text));
            pattern = rest;
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else if let Some(rest) = one(pattern, text) {
            (pattern, text) = rest;
        } else {
            let Some((rest, [_, tail @ ..])) = retry else { return false };
            retry = Some((rest, tail));
            (pattern, text) = (rest, tail);
        }
    }
}

/// Matches one character; answers what is left of both.
fn one<'a>(pattern: &'a [u8], text: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (&first, tail) = text.split_first()?;
    let (is_match, rest) = match pattern {
        [b'?', rest @ ..] => (true, rest),
        [b'[', rest @ ..] => class(rest, first),
        [b'\\', wanted, rest @ ..] | [wanted, rest @ ..] => (*wanted == first, rest),
        [] => return None,
    };
    is_match.then_some((rest, tail))
}

/// Whether a class, from behind its `[`, has the byte, and what follows it. A class that is not closed
/// ends with the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut is_in = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', tail @ ..] => {
                rest = tail;
                break;
            }
            [b'\\', wanted, tail @ ..] => {
                is_in |= *wanted == byte;
                tail
            }
            [from, b'-', to, tail @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                tail
            }
            [wanted, tail @ ..] => {
                is_in |= *wanted == byte;
                tail
            }
        };
    }
    (is_in != is_negated, rest)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", ""),
            ("h?llo", "hello"),
            ("h*llo", "hllo"),
            ("h*llo", "heeeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("h\\*llo", "h*llo"),
            ("*a*b", "xaybb"),
            ("[\\]]", "]"),
            ("a[bc", "ab"),
            ("", ""),
        ] {
            assert!(is_match(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", ""), ("?", ""), ("h[^e]llo", "hello"), ("*a", "ab"), ("[]", "a"), ("a*b", "ac")]
        {
            assert!(!is_match(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_are_cheap() {
        let started = Instant::now();
        assert!(!is_match(&"a*".repeat(1000).replace("a*a*a", "a*b*a"), &"a".repeat(10_000)));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    /// What a pattern of letters, `?` and `*` means, in the plainest words.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| model(rest, &text[taken..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => model(rest, tail),
            ([wanted, rest @ ..], [found, tail @ ..]) => wanted == found && model(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_are_as_in_the_model(pattern in "[ab?*]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(is_match(&pattern, &text), model(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
