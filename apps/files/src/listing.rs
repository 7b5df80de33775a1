//! The names in a folder, as a page.

use std::io;
use std::path::Path;

/// A page with the names, folders first and with a slash.
pub(crate) fn page(folder: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        // Links count as what they lead to.
        let is_folder = entry.path().is_dir();
        let name = entry.file_name().to_string_lossy().into_owned();
        names.push((!is_folder, if is_folder { name + "/" } else { name }));
    }
    names.sort();
    let mut page = String::from("<!doctype html>\n<meta charset=\"utf-8\">\n<title>Files</title>\n<ul>\n");
    for (_, name) in names {
        page.push_str(&format!("<li><a href=\"{}\">{}</a></li>\n", encoded(&name), escaped(&name)));
    }
    page.push_str("</ul>\n");
    Ok(page)
}

/// As text of a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As a relative reference: a colon would be taken for a scheme's.
pub(crate) fn encoded(name: &str) -> String {
    let mut reference = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                reference.push(char::from(byte));
            }
            byte => reference.push_str(&format!("%{byte:02X}")),
        }
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_linked() {
        let folder = std::env::temp_dir().join(format!("files-listing-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("a<b&c"), "").unwrap();
        let page = page(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(page.contains("<a href=\"a%3Cb%26c\">a&lt;b&amp;c</a>"), "{page}");
        assert!(page.find("sub/") < page.find("a%3C"));
    }
}
