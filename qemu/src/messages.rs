//! What cargo tells of a build, a line of JSON at a time (`--message-format=json`).

use std::path::PathBuf;

use serde::Deserialize;

/// A line.
#[derive(Deserialize)]
pub(crate) struct Message {
    pub(crate) reason: String,
    pub(crate) target: Option<Target>,
    pub(crate) executable: Option<PathBuf>,
    /// Whether it was there already.
    pub(crate) fresh: Option<bool>,
    pub(crate) message: Option<Diagnostic>,
    pub(crate) package_id: Option<String>,
}

/// What of a package it is about.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    kind: Vec<String>,
}

/// What the compiler says.
#[derive(Deserialize)]
pub(crate) struct Diagnostic {
    pub(crate) level: String,
    pub(crate) message: String,
    /// As the compiler would show it.
    pub(crate) rendered: Option<String>,
}

impl Message {
    /// Reads a line; other programs may write lines of their own in between.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

impl Target {
    /// True for `bin`, `example`, `test` and so on.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|word| word == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_are_told_from_others() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"x","kind":["bin"]},"executable":"/x"}"#;
        let message = Message::parse(line).unwrap();
        assert!(message.target.is_some_and(|target| target.is("bin") && !target.is("test")));
        assert!(Message::parse("warning: {}").is_none());
    }
}
