//! The log on the disk: every change, in order, as requests (Redis' "append-only file").
//!
//! - [`load`]: from a log to keys;
//! - [`rewrite`]: a new, shorter log, made beside the old one;
//! - [`sync`]: `fdatasync` in the background, for [`Policy::EverySecond`].
//!
//! [`Log::commit`] is called once a turn of the server, with the changes of all clients: one write and one
//! `fdatasync` for all of them.

mod load;
mod rewrite;
mod sync;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::options::{Options, Policy};
use rewrite::{Progress, Rewrite};
use sync::Syncer;

/// Within `--dir`.
const NAME: &str = "appendonly.aof";
const NEW_NAME: &str = "appendonly.aof.new";
/// Between attempts to write after a failure, and between syncs of [`Policy::EverySecond`].
const INTERVAL: Duration = Duration::from_secs(1);
/// Room that is kept for the changes of a turn.
const KEPT_BYTES: usize = 1 << 20;

/// Why nothing can be written.
struct Failure {
    text: String,
    /// What the disk holds is not known any more: a later success would prove nothing (fsync(2)).
    is_final: bool,
    at: Instant,
}

/// The open log.
pub(crate) struct Log {
    folder: PathBuf,
    /// For the names in it to be durable, and to keep others away.
    folder_file: File,
    file: Arc<File>,
    policy: Policy,
    /// Bytes in the file, all of them whole requests.
    len: u64,
    /// The length when it was made or loaded.
    base: u64,
    least_rewrite: u64,
    /// What is still to be written.
    pending: Vec<u8>,
    /// Written since the last sync was begun, and when that was.
    is_dirty: bool,
    synced_at: Instant,
    failure: Option<Failure>,
    syncer: Option<Syncer>,
    rewrite: Option<Rewrite>,
}

impl Log {
    /// Opens the log in `options.folder`, or makes it, and carries out all that it holds.
    ///
    /// # Errors
    ///
    /// What is wrong with the folder or the log, for people.
    pub(crate) fn open(options: &Options, database: &mut Database) -> Result<Self, String> {
        let folder = options.folder.clone();
        let folder_file = open_folder(&folder)?;
        let path = folder.join(NAME);
        let mut file = open_file(&path)?;
        // Left by a rewrite that did not come to its end.
        let _ = std::fs::remove_file(folder.join(NEW_NAME));
        let len = load::load(&mut file, &path, database)?;
        let made = file.sync_all().and_then(|()| folder_file.sync_all());
        made.map_err(|error| format!("cannot make {} durable: {error}", path.display()))?;
        let syncer = (options.policy == Policy::EverySecond).then(Syncer::start).transpose();
        Ok(Self {
            folder,
            folder_file,
            file: Arc::new(file),
            policy: options.policy,
            len,
            base: len,
            least_rewrite: options.least_rewrite,
            pending: Vec::new(),
            is_dirty: false,
            synced_at: Instant::now(),
            failure: None,
            syncer: syncer.map_err(|error| format!("cannot start a thread: {error}"))?,
            rewrite: None,
        })
    }

    /// Writes the changes; with [`Policy::Always`] they are durable afterwards.
    ///
    /// # Errors
    ///
    /// If not: then [`Self::failure`] says why. The changes are kept, and written later if that is possible.
    pub(crate) fn commit(&mut self, changes: &mut Vec<u8>) -> Result<(), ()> {
        if let Some(rewrite) = &mut self.rewrite {
            rewrite.add(changes);
        }
        if self.pending.is_empty() {
            std::mem::swap(&mut self.pending, changes);
        } else {
            self.pending.append(changes);
        }
        self.note_sync_failure();
        if self.pending.is_empty() && self.failure.is_none() {
            return Ok(());
        }
        if self.failure.as_ref().is_some_and(|failure| failure.is_final || failure.at.elapsed() < INTERVAL) {
            return Err(());
        }
        let is_first = self.failure.is_none();
        self.failure = self.write().err();
        match &self.failure {
            Some(failure) if is_first => {
                eprintln!("cannot write the log: {}; changes are refused", failure.text);
            }
            None if !is_first => println!("the log can be written again"),
            _ => {}
        }
        if self.failure.is_some() { Err(()) } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let fail = |error: &io::Error, is_final| Failure { text: plain(error), is_final, at: Instant::now() };
        if let Err(error) = (&*self.file).write_all(&self.pending) {
            // A part of it would be taken for damage once more follows.
            let is_cut = self.file.set_len(self.len).is_ok();
            return Err(fail(&error, !is_cut));
        }
        self.len += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(KEPT_BYTES);
        self.is_dirty = true;
        if self.policy == Policy::Always {
            self.file.sync_data().map_err(|error| fail(&error, true))?;
            self.is_dirty = false;
        }
        Ok(())
    }

    fn note_sync_failure(&mut self) {
        if let Some(text) = self.syncer.as_ref().and_then(Syncer::failure) {
            self.failure = Some(Failure { text, is_final: true, at: Instant::now() });
        }
    }

    /// Why changes have to be refused.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.text.as_str())
    }

    /// Does what is due: the sync of the second, a part of the rewrite. To be called after
    /// [`Self::commit`].
    pub(crate) fn work(&mut self, database: &mut Database) {
        if let Some(syncer) = &self.syncer
            && self.is_dirty
            && self.synced_at.elapsed() >= INTERVAL
            && syncer.begin(&self.file)
        {
            (self.is_dirty, self.synced_at) = (false, Instant::now());
        }
        self.start_rewrite_if_due(database);
        if self.rewrite.is_some() {
            self.go_on_with_rewrite(database);
        }
        let status = &mut database.status;
        (status.log_bytes, status.log_base_bytes) = (self.len, self.base);
        status.is_rewriting = self.rewrite.is_some();
    }

    /// When [`Self::work`] or [`Self::commit`] has something to do without a new change.
    pub(crate) fn next_work(&self) -> Option<Duration> {
        if self.rewrite.is_some() {
            return Some(Duration::ZERO);
        }
        let is_waiting = self.failure.as_ref().is_some_and(|failure| !failure.is_final);
        let is_sync_due = self.syncer.is_some() && self.is_dirty && self.failure.is_none();
        (is_waiting || is_sync_due).then_some(INTERVAL)
    }

    fn start_rewrite_if_due(&mut self, database: &mut Database) {
        let has_grown = self.len >= self.least_rewrite && self.len >= self.base.saturating_mul(2);
        let is_wanted = std::mem::take(&mut database.wants_rewrite) || has_grown;
        if !is_wanted || self.rewrite.is_some() || self.failure.is_some() {
            return;
        }
        match Rewrite::start(&self.folder.join(NEW_NAME)) {
            Ok(rewrite) => self.rewrite = Some(rewrite),
            Err(error) => self.give_up_rewrite(&error),
        }
    }

    fn go_on_with_rewrite(&mut self, database: &Database) {
        let Some(rewrite) = &mut self.rewrite else { return };
        match rewrite.step(&database.keys) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => {
                if let Err(error) = self.take_rewritten() {
                    self.give_up_rewrite(&error);
                }
            }
            Err(error) => self.give_up_rewrite(&error),
        }
    }

    /// Puts the new log in the place of the old one.
    fn take_rewritten(&mut self) -> io::Result<()> {
        let Some(rewrite) = self.rewrite.take() else { return Ok(()) };
        let (file, len) = rewrite.finish()?;
        std::fs::rename(self.folder.join(NEW_NAME), self.folder.join(NAME))?;
        println!("the log was made anew: {} bytes, before {}", len, self.len);
        (self.file, self.len, self.base) = (Arc::new(file), len, len);
        // The new log has it.
        self.pending.clear();
        self.is_dirty = true;
        if let Err(error) = self.folder_file.sync_all() {
            // Which of the two logs is there after a crash is not known.
            self.failure = Some(Failure { text: plain(&error), is_final: true, at: Instant::now() });
        }
        Ok(())
    }

    /// The old log goes on. It is tried again when the log has grown as much again.
    fn give_up_rewrite(&mut self, error: &io::Error) {
        eprintln!("cannot make the log anew: {error}");
        self.rewrite = None;
        let _ = std::fs::remove_file(self.folder.join(NEW_NAME));
        self.base = self.len;
    }

    /// Makes everything durable, whatever the policy.
    ///
    /// # Errors
    ///
    /// If that is not possible.
    pub(crate) fn close(mut self, changes: &mut Vec<u8>) -> Result<(), String> {
        self.rewrite = None;
        let _ = std::fs::remove_file(self.folder.join(NEW_NAME));
        let written = self.commit(changes);
        let failure = || format!("changes are lost: {}", self.failure().unwrap_or("not written"));
        written.map_err(|()| failure())?;
        self.file.sync_all().map_err(|error| format!("changes may be lost: {error}"))
    }
}

/// The error as Redis shows it, without Rust's number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn open_folder(folder: &Path) -> Result<File, String> {
    let shown = folder.display();
    let file = File::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no {shown}: mount a disk there (mount={shown}:blk0:ext4), or name a folder with --dir")
        }
        _ => format!("cannot open {shown}: {error}"),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("another kv works in {shown}")),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {shown}: {error}")),
    }
}

fn open_file(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "cannot write {}: its file system is read-only (mounted with :ro, or after an error)",
                path.display()
            )
        }
        _ => format!("cannot open {}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests;
