//! What Redis' test suite prints of its tests.

use std::collections::BTreeMap;

use super::results::Outcome;

/// Outcomes by name; of tests with one name, the second is `name #2`.
pub(super) type Outcomes = BTreeMap<String, Outcome>;

/// What a server that the suite did not start itself cannot be tested for.
const EXTERNAL: &str = "for servers that the suite starts itself";

/// The tests of a unit, as its output tells them.
pub(super) fn outcomes(output: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let text = without_colours(output);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((status, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("]: ")) else {
            continue;
        };
        let (name, outcome) = match status {
            "ok" => (rest.rsplit_once(" (").map_or(rest, |(name, _)| name), Outcome::Passed),
            "err" => {
                let name = rest.rsplit_once(" in tests/").map_or(rest, |(name, _)| name);
                // Where in the suite follows, with paths of this host.
                let reason =
                    lines.peek().map_or("", |line| line.split(" (context:").next().unwrap_or(line).trim());
                (name, Outcome::Failed(reason.chars().take(200).collect()))
            }
            "ignore" => ignored(rest),
            _ => continue,
        };
        enter(&mut outcomes, name, outcome);
    }
    outcomes
}

/// True if all tests of a unit have had their turn.
pub(super) fn is_over(output: &str, unit: &str) -> bool {
    let has_unit = |rest: &str| rest.strip_prefix(unit).is_some_and(|rest| rest.starts_with(" ("));
    let text = without_colours(output);
    text.lines().filter_map(|line| line.split_once(" done]: ")).any(|(_, rest)| has_unit(rest))
}

/// A test that is not for this server; of a whole group there is only the reason.
fn ignored(rest: &str) -> (&str, Outcome) {
    let (name, reason) = rest.rsplit_once(": ").unwrap_or(("a group of tests", rest));
    let reason = if reason == "Not supported on external server" { EXTERNAL } else { reason };
    (name, Outcome::Excused(reason.to_owned()))
}

fn enter(outcomes: &mut Outcomes, name: &str, outcome: Outcome) {
    let numbered = (2..).map(|number| format!("{name} #{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let name = names.find(|name| !outcomes.contains_key(name)).unwrap_or_default();
    outcomes.insert(name, outcome);
}

/// The text without terminals' sequences for colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_is_told_once() {
        let output = "[\x1b[0;32;49mok\x1b[0m]: SET: and (GET) (12 ms)\n[testing]: x\n\
            [\x1b[0;31;49merr\x1b[0m]: EXPIRE in time in tests/unit/expire.tcl\nExpected '1' to be equal to '2'\n\
            [ok]: SET: and (GET) (3 ms)\n[ignore]: MIGRATE: twice: Not supported on external server\n\
            [ignore]: Tag: slow denied\n[1/1 \x1b[0;33;49mdone\x1b[0m]: unit/x (1 seconds)\n";
        let told = outcomes(output);
        let expected = [
            ("EXPIRE in time", Outcome::Failed("Expected '1' to be equal to '2'".to_owned())),
            ("MIGRATE: twice", Outcome::Excused(EXTERNAL.to_owned())),
            ("SET: and (GET)", Outcome::Passed),
            ("SET: and (GET) #2", Outcome::Passed),
            ("Tag", Outcome::Excused("slow denied".to_owned())),
        ];
        assert_eq!(told, expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
        assert!(is_over(output, "unit/x") && !is_over(output, "unit/y"));
    }

    #[test]
    fn unit_that_an_exception_ends_is_not_over() {
        let output = "[ok]: GET (1 ms)\n[\x1b[0;31;49mexception\x1b[0m]: Executing test client: LOADING Redis is loading.\n";
        assert!(!is_over(output, "unit/x"));
    }
}
