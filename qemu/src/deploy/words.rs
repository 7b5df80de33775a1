//! Which of `run`'s options a form has words for. One that it has none for is an error: nobody shall believe that it
//! holds where the appliance runs.

use anyhow::{Result, bail};

/// What every form says: on the kernel's command line, or in the initrd.
pub(super) const ALWAYS: [&str; 5] = ["--append", "--env", "--initrd", "--timezone", "--ca-certificates"];

/// The words of a form.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    /// What it is called.
    pub(crate) form: &'static str,
    /// What it has beside [`ALWAYS`]: `--option` with any value, or `--option value` with this one.
    pub(crate) takes: &'static [&'static str],
    /// Options, and what is to be known of them there.
    pub(crate) notes: &'static [(&'static str, &'static str)],
}

/// An option, and its value if it has one.
pub(crate) type Given = (String, Option<String>);

impl Words {
    /// Looks at what was said on the command line: an error if there is no word for it, else what the user should know.
    pub(crate) fn check(&self, given: &[Given]) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for (index, (option, value)) in given.iter().enumerate() {
            let said = value.as_ref().map_or_else(|| option.clone(), |value| format!("{option} {value}"));
            let note = self.notes.iter().find(|(known, _)| known == option).map(|(_, note)| *note);
            let has_word = ALWAYS.contains(&option.as_str())
                || self.takes.iter().any(|known| known == option || *known == said);
            let is_another = option == "--net" && given[..index].iter().any(|(before, _)| before == option);
            if !has_word || is_another {
                let why = note.map_or_else(|| self.why(option), str::to_owned);
                bail!("the form `{}` has no word for `{said}`: {why}", self.form);
            }
            notes.extend(note.map(|note| format!("`{option}` in the form `{}`: {note}", self.form)));
        }
        Ok(notes)
    }

    /// What to do about an option that is not there.
    fn why(&self, option: &str) -> String {
        let has_option = |known: &&&str| known.split_once(' ').is_some_and(|(known, _)| known == option);
        let known: Vec<String> = self.takes.iter().filter(has_option).map(|it| format!("`{it}`")).collect();
        if !known.is_empty() {
            return format!("it has {}, once", known.join(" and "));
        }
        let why = match option {
            "--port" => "the appliance has an address of its own there, with every port",
            "--net" => "the network is the one that the files name",
            "--machine" | "--accel" => "the place has one kind of machine",
            "--memory" | "--smp" => "who starts it says that",
            "--replicas" => "it starts one; nomad and kubevirt start several",
            "--gdb" | "--pcap" | "--time-out" | "--verbose" | "-v" => "that is for a run on this host",
            _ => "leave it out, and edit the files that are written",
        };
        why.to_owned()
    }
}
