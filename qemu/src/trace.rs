//! `trace`: what happens in a running guest, event by event, as a timeline for the Perfetto UI or as lines.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use unikernel_report::calls;
use unikernel_trace::recording::Recording;
use unikernel_trace::{perfetto, text};

use crate::observe;

/// What to record, and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TraceOptions {
    pub(crate) at: SocketAddr,
    pub(crate) seconds: u64,
    /// Lines instead of a timeline.
    pub(crate) is_text: bool,
    /// None for the usual: a file for the timeline, standard output for lines.
    pub(crate) output: Option<PathBuf>,
}

/// Records, and writes what has come.
pub(crate) fn run(options: &TraceOptions) -> Result<u8> {
    if options.seconds > 0 {
        eprintln!("records for {} s", options.seconds);
    }
    let bytes = fetch(options.at, options.seconds)?;
    let recording = read(&bytes)?;
    let name = |number| calls::name(number);
    if options.is_text {
        let out: Box<dyn Write> = match &options.output {
            Some(path) => Box::new(create(path)?),
            None => Box::new(io::stdout().lock()),
        };
        let mut out = Lines { out: BufWriter::new(out), problem: None };
        let _ = text::write(&recording, &name, &mut out);
        let outcome = out.problem.map_or_else(|| out.out.flush(), Err);
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            outcome => outcome.context("cannot write the lines")?,
        }
        return Ok(0);
    }
    let path = options.output.clone().unwrap_or_else(|| "trace.pftrace".into());
    let mut out = BufWriter::new(create(&path)?);
    let mut outcome = Ok(());
    perfetto::encode(&recording, &name, &mut |piece| {
        if outcome.is_ok() {
            outcome = out.write_all(piece);
        }
    });
    outcome.and_then(|()| out.flush()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", summary(&recording));
    println!("written: {}; open it at https://ui.perfetto.dev", path.display());
    Ok(0)
}

fn create(path: &PathBuf) -> Result<File> {
    File::create(path).with_context(|| format!("cannot make {}", path.display()))
}

/// A recording of so many seconds.
pub(crate) fn fetch(at: SocketAddr, seconds: u64) -> Result<Vec<u8>> {
    observe::fetch(at, &format!("/trace?seconds={seconds}"), seconds)
}

/// What was fetched, as a recording.
pub(crate) fn read(bytes: &[u8]) -> Result<Recording<'_>> {
    match Recording::read(bytes) {
        Ok(recording) => Ok(recording),
        Err(_) => bail!("what the guest has sent is no recording that this version knows"),
    }
}

fn summary(recording: &Recording<'_>) -> String {
    let events = recording.blocks().iter().map(|block| block.iter().count()).sum::<usize>();
    let mut text = format!("{events} events");
    if recording.lost() > 0 {
        let _ = write!(text, ", {} are lost: they came faster than they could be read", recording.lost());
    }
    recording.notes.iter().for_each(|note| text.extend(["; ", note]));
    text
}

/// Lines on their way to a file or a pipe.
struct Lines<W: Write> {
    out: W,
    problem: Option<io::Error>,
}

impl<W: Write> fmt::Write for Lines<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.problem = Some(error);
            fmt::Error
        })
    }
}

#[cfg(test)]
mod tests {
    use unikernel_trace::event::Kind;

    use crate::project;

    /// The page is made from the table: `UPDATE_SNAPSHOTS=1 cargo test -p qemu events_page` writes it.
    #[test]
    fn events_page_is_as_the_table_says() {
        let mut page = String::from(
            "# Events\n\nWhat `cargo unikernel trace`, `trace=events` and a panic show of a running machine ([observe](observe.md#what-happens-event-by-event)). \
             Made from the table in `unikernel/trace/src/event.rs` by `UPDATE_SNAPSHOTS=1 cargo test -p qemu events_page`.\n\n\
             | event | of | fields | |\n|---|---|---|---|\n",
        );
        for kind in Kind::ALL {
            let about = kind.about();
            let fields: Vec<String> = about
                .fields
                .iter()
                .filter(|field| !field.is_empty())
                .map(|field| format!("`{field}`"))
                .collect();
            let (name, part, fields, meaning) =
                (about.name, about.part, fields.join(", "), kind.meaning().trim());
            page.push_str(&format!("| {name} | {part} | {fields} | {meaning} |\n"));
        }
        let path = project::root().join("docs/events.md");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), page);
    }
}
