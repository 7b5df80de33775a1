//! `learn`: a run that writes down what the program did, as words that would allow just that; and such files as words of a command line.
//!
//! The kernel does the recording (`trace=policy`), and tells it at the end, each word in a line of its own. A person may edit the file: a
//! line is a word of the command line, or a remark behind `#`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What has the kernel record.
pub(crate) const WORD: &str = "trace=policy";
/// What its lines begin with.
const MARK: &str = "policy: learnt ";
/// The words that a file may have.
const KEYS: [&str; 3] = ["allow-calls=", "allow-paths=", "allow-net="];

/// The words that a console shows to have been learnt.
fn learnt(console: &str) -> Vec<&str> {
    console.lines().filter_map(|line| line.trim_end().split_once(MARK)).map(|(_, word)| word).collect()
}

/// Writes down what a run has told.
pub(crate) fn write(file: &Path, program: &str, console: &str) -> Result<()> {
    let words = learnt(console);
    ensure!(
        !words.is_empty(),
        "nothing was learnt: the guest has to end by itself, or by its power button (Ctrl-C, once)"
    );
    let text = format!("# What {program} did in one run (docs/policy.md).\n{}\n", words.join("\n"));
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("{} has what was learnt; use it by `--policy {}`", file.display(), file.display());
    Ok(())
}

/// The words of a file.
pub(crate) fn words_of(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    words_in(&text).with_context(|| file.display().to_string())
}

fn words_in(text: &str) -> Result<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut words = Vec::new();
    for line in lines {
        let is_known = KEYS.iter().any(|key| line.starts_with(key)) && !line.contains(char::is_whitespace);
        ensure!(is_known, "`{line}`: expected `allow-calls=`, `allow-paths=` or `allow-net=` and no spaces");
        words.push(line);
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_the_console_and_from_files() {
        let console = "hello\r\npolicy: learnt allow-calls=read,write\r\n[   1.0] policy: learnt allow-net=bind:*:80\nend";
        assert_eq!(learnt(console), ["allow-calls=read,write", "allow-net=bind:*:80"]);
        let text = "# a remark\n\nallow-calls=read \nallow-paths=r:/etc\n";
        assert_eq!(words_in(text).unwrap(), "allow-calls=read allow-paths=r:/etc");
        assert!(words_in("init=/bin/sh").is_err() && words_in("allow-calls=read exit=halt").is_err());
    }
}
