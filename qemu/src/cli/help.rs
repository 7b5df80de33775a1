//! What `--help` says: all of it, or what belongs to one command.

use super::words::{COMMANDS, HELP};

/// The help on a command; all of it for no command, or an unknown one.
pub(super) fn on(command: Option<&str>) -> String {
    let Some(command) = command.filter(|word| COMMANDS.contains(word) && *word != "help") else {
        return HELP.to_owned();
    };
    let (lists, sections): (Vec<&str>, Vec<&str>) =
        HELP.split("\n\n").partition(|section| !section.starts_with("options of "));
    let mut text = format!("usage: cargo unikernel {command} [options]\n\n");
    lists.iter().for_each(|list| text.push_str(&lines_on(list, command)));
    let about = |command: &str| -> Vec<usize> {
        (0..sections.len()).filter(|&at| header(sections[at]).0.contains(&command)).collect()
    };
    let mut wanted = about(command);
    // With those that these say they come beside.
    let beside = wanted.iter().flat_map(|&at| header(sections[at]).1);
    let beside: Vec<usize> = beside.filter(|word| COMMANDS.contains(word)).flat_map(about).collect();
    wanted.extend(beside);
    wanted.sort_unstable();
    wanted.dedup();
    for at in wanted {
        text.push_str(&format!("\n{}\n", sections[at].trim_end()));
    }
    text
}

/// The lines of a list of commands that are on this one, with those that go on.
fn lines_on(list: &str, command: &str) -> String {
    let mut is_wanted = false;
    let mut text = String::new();
    for line in list.lines() {
        if !line.starts_with("   ") {
            is_wanted = line.starts_with("  ") && line.split_whitespace().next() == Some(command);
        }
        if is_wanted {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

/// The words above a section of options: what it is about, and beside what it comes.
fn header(section: &str) -> (Vec<&str>, Vec<&str>) {
    fn words(text: &str) -> Vec<&str> {
        text.split(|character: char| !character.is_alphanumeric() && character != '-').collect()
    }
    let line = section.lines().next().unwrap_or_default();
    let (about, beside) = line.split_once("beside").unwrap_or((line, ""));
    (words(about), words(beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_on_a_command_is_about_it() {
        for command in COMMANDS.iter().filter(|command| **command != "help") {
            let text = on(Some(command));
            assert!(text.lines().nth(2).is_some_and(|line| line.trim().starts_with(command)), "{text}");
        }
        let run = on(Some("run"));
        assert!(
            run.contains("--memory") && run.contains("--release") && !run.contains("--replicas"),
            "{run}"
        );
        let deploy = on(Some("deploy"));
        assert!(deploy.contains("--replicas") && deploy.contains("--memory"), "{deploy}");
        assert!(!on(Some("stop")).contains("--memory"));
        assert!(on(Some("debug")).contains("--memory"));
    }

    #[test]
    fn help_on_nothing_is_all() {
        assert_eq!(on(None), HELP);
        assert_eq!(on(Some("help")), HELP);
        assert_eq!(on(Some("no-such-command")), HELP);
    }
}
