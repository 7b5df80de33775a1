//! Crates that are written for the GNU C library alone: what the compiler says of them for musl is long, and does not name
//! the way out.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use crate::messages::Message;
use crate::project::{GNU_TARGET, TARGET};

/// The form of cargo's messages that the compiler's words come in, to be shown as they are.
pub(super) fn message_format() -> &'static str {
    if std::io::stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" }
}

/// What did not compile, or was not linked.
#[derive(Default)]
pub(super) struct Failures {
    crates: BTreeSet<String>,
    lacks_symbols: bool,
}

impl Failures {
    /// Takes note of what the compiler says, and shows it.
    pub(super) fn take(&mut self, message: &Message) {
        let Some(diagnostic) = &message.message else { return };
        let text = diagnostic.rendered.as_deref().unwrap_or(&diagnostic.message);
        eprintln!("{}", text.trim_end());
        eprintln!();
        if diagnostic.level == "error" {
            self.lacks_symbols |= diagnostic.message.starts_with("linking with")
                && ["undefined symbol", "undefined reference"].iter().any(|words| text.contains(words));
            self.crates.extend(message.package_id.as_deref().and_then(name_of));
        }
    }

    /// What to try, if the C library may be the reason. The package's own errors are its own.
    pub(super) fn hint(&self, target: &str, package: &str) -> String {
        if target != TARGET {
            return String::new();
        }
        let others: Vec<String> =
            self.crates.iter().filter(|name| *name != package).map(|name| format!("`{name}`")).collect();
        let what = match others.is_empty() {
            false => format!("{} did not compile", others.join(", ")),
            true if self.lacks_symbols => "functions are missing".to_owned(),
            true => return String::new(),
        };
        format!(
            "\n{what} with musl, the C library of {TARGET}. If plain `cargo build` works on this host, the GNU C library is wanted: \
             add `--target {GNU_TARGET}`"
        )
    }
}

/// The name in a package's id: `registry+https://...#name@1.0.0`, or `path+file:///.../name#1.0.0`.
fn name_of(id: &str) -> Option<String> {
    let (source, package) = id.rsplit_once('#')?;
    let name = package.split_once('@').map_or_else(|| source.rsplit('/').next(), |(name, _)| Some(name));
    name.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(lines: &[&str]) -> Failures {
        let mut failures = Failures::default();
        lines.iter().filter_map(|line| Message::parse(line)).for_each(|message| failures.take(&message));
        failures
    }

    const OTHER: &str = r#"{"reason":"compiler-message","package_id":"registry+https://x/y#uring@0.5.0",
        "message":{"level":"error","message":"mismatched types","rendered":"error: mismatched types\n"}}"#;
    const OWN: &str = r#"{"reason":"compiler-message","package_id":"path+file:///home/me/server#0.1.0",
        "message":{"level":"error","message":"mismatched types","rendered":null}}"#;
    const LINK: &str = r#"{"reason":"compiler-message","package_id":"path+file:///home/me/server#0.1.0",
        "message":{"level":"error","message":"linking with `cc` failed: exit status: 1",
        "rendered":"error: linking with `cc` failed\n  = note: rust-lld: error: undefined symbol: qsort_r\n"}}"#;
    const WARNING: &str = r#"{"reason":"compiler-message","package_id":"registry+https://x/y#uring@0.5.0",
        "message":{"level":"warning","message":"unused","rendered":"warning: unused\n"}}"#;

    #[test]
    fn other_crates_may_want_the_other_c_library() {
        let hint = failures(&[OTHER, OTHER, OWN]).hint(TARGET, "server");
        assert!(hint.contains("\n`uring` did not compile with musl"), "{hint}");
        assert!(hint.ends_with("`--target x86_64-unknown-linux-gnu`"), "{hint}");
        assert!(failures(&[LINK]).hint(TARGET, "server").contains("functions are missing with musl"));
    }

    #[test]
    fn own_errors_and_warnings_get_no_hint() {
        assert_eq!(failures(&[OWN, WARNING]).hint(TARGET, "server"), "");
        assert_eq!(failures(&[OTHER, LINK]).hint(GNU_TARGET, "server"), "");
        assert_eq!(
            failures(&[&LINK.replace("undefined symbol", "duplicate symbol")]).hint(TARGET, "server"),
            ""
        );
    }
}
