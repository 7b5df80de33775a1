//! A command line in a file, as people edit it.

use alloc::borrow::ToOwned;
use alloc::string::String;

use crate::words::{NotUtf8, text};

/// The words in a file: lines that begin with `#` are left out, white space is as good as a blank, and a quoted word may
/// go over several lines. What is no text is an error.
pub fn of_file(content: &[u8]) -> Result<String, NotUtf8> {
    let content = text(content)?;
    // Editors of another system's put it in front.
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    let mut words = String::new();
    let mut is_quoted = false;
    for line in content.split_inclusive('\n') {
        if is_quoted || !line.trim_start().starts_with('#') {
            is_quoted ^= line.matches('"').count() % 2 == 1;
            words.push_str(line);
        }
    }
    Ok(words.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_lines_are_for_people() {
        let file =
            b"\xef\xbb\xbf# what it listens on\r\nip=dhcp\r\n  # more\n\n-- \"two\n# lines\"  # here\n";
        assert_eq!(of_file(file).unwrap(), "ip=dhcp\r\n\n-- \"two\n# lines\"  # here");
        let options = crate::parse(&of_file(file).unwrap()).unwrap();
        assert_eq!(options.app_arguments, ["two\n# lines", "#", "here"]);
        assert_eq!(of_file(b""), Ok(String::new()));
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert_eq!(of_file(b"log=info a\xffb c"), Err(NotUtf8("a\\xffb".into())));
        assert_eq!(of_file(b"a b\0c\n"), Err(NotUtf8("b\\x00c".into())));
    }
}
