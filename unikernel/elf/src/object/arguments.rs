//! A module's parameters in a line: `key=value key2="a value" yes`.

/// The words of a line: keys, and what stands behind `=`, if anything. Double quotes keep white space in a value, and are not part of it.
pub fn words(line: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = line;
    core::iter::from_fn(move || {
        let text = rest.trim_ascii_start();
        let mut is_quoted = false;
        let is_end = |character: char| {
            is_quoted ^= character == '"';
            character.is_ascii_whitespace() && !is_quoted
        };
        let end = text.find(is_end).unwrap_or(text.len());
        let (word, behind) = text.split_at(end);
        rest = behind;
        (!word.is_empty()).then(|| split(word))
    })
}

fn split(word: &str) -> (&str, Option<&str>) {
    let whole = unquoted(word);
    match whole.split_once('=') {
        Some((key, value)) => (key, Some(unquoted(value))),
        None => (whole, None),
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::words;

    #[test]
    fn quotes_keep_values_together() {
        let of = |line| words(line).collect::<Vec<_>>();
        assert_eq!(of(" a=1\tb  c=\n"), [("a", Some("1")), ("b", None), ("c", Some(""))]);
        assert_eq!(of("who=\"you all\" \"me=and you\""), [("who", Some("you all")), ("me", Some("and you"))]);
        assert_eq!(of("a=\"not closed b=2"), [("a", Some("not closed b=2"))]);
        assert_eq!((of(""), of("\"\"")), (Vec::new(), alloc::vec![("", None)]));
    }
}
