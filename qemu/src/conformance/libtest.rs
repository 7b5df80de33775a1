//! What Rust's test harness says: its list of tests, and its JSON events, one line each, among whatever else
//! is on a console. The events tell which test was running when a machine stopped.
//!
//! The format is unstable, but has been the same for years; `RUSTC_BOOTSTRAP=1` opens it on a stable toolchain.

use serde::Deserialize;

use super::results::Outcome;

/// The environment that lets a stable toolchain's harness speak JSON.
pub(super) const ENVIRONMENT: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");
/// How much of a failed test's output is kept.
const REASON_BYTES: usize = 160;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A test begins.
    Started(String),
    /// A test has its outcome.
    Finished(String, Outcome),
    /// All tests have.
    Over,
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    event: Option<String>,
    name: Option<String>,
    stdout: Option<String>,
    message: Option<String>,
}

/// The event on a line of a console, if there is one.
pub(super) fn event(line: &str) -> Option<Event> {
    // Something else may stand before it: output without a newline.
    let begin = line.find("{ \"type\": ")?;
    // And behind it.
    let mut lines = serde_json::Deserializer::from_str(&line[begin..]).into_iter::<Line>();
    let line = lines.next()?.ok()?;
    match (line.r#type.as_str(), line.event?.as_str(), line.name) {
        ("suite", "ok" | "failed", _) => Some(Event::Over),
        ("test", "started", Some(name)) => Some(Event::Started(name)),
        ("test", "ok", Some(name)) => Some(Event::Finished(name, Outcome::Passed)),
        ("test", "ignored", Some(name)) => Some(Event::Finished(name, Outcome::Ignored)),
        ("test", "failed", Some(name)) => {
            let output = line.stdout.or(line.message).unwrap_or_default();
            Some(Event::Finished(name, Outcome::Failed(reason(&output))))
        }
        _ => None,
    }
}

/// The names in the harness's `--list --format terse`; `None` if this is no such harness.
pub(super) fn names(list: &str) -> Option<Vec<String>> {
    let names: Vec<&str> = list.lines().filter(|line| !line.is_empty()).collect();
    let is_list = names.iter().all(|name| name.ends_with(": test") || name.ends_with(": benchmark"));
    let tests = names.into_iter().filter_map(|name| name.strip_suffix(": test"));
    is_list.then(|| tests.map(str::to_owned).collect())
}

/// What a failed test's output says about why: the panic's message.
pub(super) fn reason(output: &str) -> String {
    let mut lines = output.lines();
    let panic = lines.by_ref().find(|line| line.contains("panicked at"));
    let mut words: Vec<&str> = match panic {
        Some(_) => lines
            .take_while(|line| !line.starts_with("note: ") && !line.starts_with("stack backtrace"))
            .collect(),
        None => output.lines().rev().take(1).collect(),
    };
    words.truncate(3);
    shorten(&words.join(" "))
}

/// One line of bounded length.
pub(super) fn shorten(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > REASON_BYTES {
        let cut = (0..=REASON_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_among_other_output() {
        let line = "half a line{ \"type\": \"test\", \"event\": \"ok\", \"name\": \"a::b\" }[INFO] x";
        assert_eq!(event(line), Some(Event::Finished("a::b".into(), Outcome::Passed)));
        assert_eq!(event("[INFO] booted"), None);
        let line = "{ \"type\": \"suite\", \"event\": \"started\", \"test_count\": 2 }";
        assert_eq!(event(line), None);
    }

    #[test]
    fn failure_carries_the_panic_message() {
        let line = r#"{ "type": "test", "name": "t", "event": "failed", "stdout": "noise\nthread 't' (7) panicked at src/a.rs:1:2:\nassertion failed: x\nnote: run with\n" }"#;
        let expected = Outcome::Failed("assertion failed: x".into());
        assert_eq!(event(line), Some(Event::Finished("t".into(), expected)));
    }

    #[test]
    fn list_of_another_harness_is_none() {
        assert_eq!(names("a::b: test\nc: benchmark\n"), Some(vec!["a::b".to_owned()]));
        assert_eq!(names("running everything\n"), None);
        assert_eq!(names(""), Some(vec![]));
    }
}
