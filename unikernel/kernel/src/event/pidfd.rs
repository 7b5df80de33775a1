//! pidfd_open(2): the app, or one of its threads, as a file. It becomes readable when that ends, which the app itself
//! never lives to see.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::{S_IFDIR, S_IFMT};

use crate::file::{File, Metadata, OpenFile, PollSource, Readiness};
use crate::task::exit_watch::ExitListener;
use crate::task::process::{PROCESS_ID, process};
use crate::task::thread::{Thread, ThreadId};

/// Where those gather who wait for the end of a thread: every descriptor of it, however many there are.
#[derive(Default)]
pub(crate) struct ExitEvent {
    has_happened: AtomicBool,
    source: PollSource,
}

impl ExitListener for ExitEvent {
    fn thread_ended(&self) {
        self.has_happened.store(true, Ordering::Release);
        self.source.notify(self.readiness());
    }
}

impl ExitEvent {
    fn readiness(&self) -> Readiness {
        let has_happened = self.has_happened.load(Ordering::Acquire);
        // There is no parent to wait for a thread, so it is gone as soon as it has ended.
        if has_happened { Readiness::READABLE | Readiness::HUP } else { Readiness::empty() }
    }
}

/// Whom a descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// The app.
    Process,
    /// One thread (`PIDFD_THREAD`).
    Thread(ThreadId),
}

/// The app or a thread as a file.
pub(crate) struct PidFd {
    subject: Subject,
    exit: Arc<ExitEvent>,
}

impl PidFd {
    /// The app.
    pub(crate) fn of_process() -> Arc<Self> {
        Arc::new(Self { subject: Subject::Process, exit: Arc::default() })
    }

    /// A thread, unless it has ended.
    pub(crate) fn of_thread(thread: &Thread) -> Option<Arc<Self>> {
        let exit = thread.exit_watch.lock().listener()?;
        Some(Arc::new(Self { subject: Subject::Thread(thread.id), exit }))
    }

    /// True if that has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        !self.exit.has_happened.load(Ordering::Acquire)
    }

    fn id(&self) -> ThreadId {
        match self.subject {
            Subject::Process => PROCESS_ID,
            Subject::Thread(id) => id,
        }
    }
}

/// Whom an open file stands for where a signal is sent to it: a directory of `/proc` will do, too.
pub(crate) fn subject_of(opened: &OpenFile) -> Option<Subject> {
    if let Some(pidfd) = opened.downcast::<PidFd>() {
        return Some(pidfd.subject);
    }
    let is_directory = opened.file.metadata().mode & S_IFMT == S_IFDIR;
    let is_own_directory = is_directory && opened.file.name() == "/proc/1";
    is_own_directory.then_some(Subject::Process)
}

/// The thread with this id, if it can be waited for.
pub(crate) fn find(id: ThreadId) -> Option<Arc<PidFd>> {
    process().thread(id).and_then(|thread| PidFd::of_thread(&thread))
}

impl File for PidFd {
    fn readiness(&self) -> Readiness {
        self.exit.readiness()
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.exit.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata { mode: 0o700, ..Metadata::anonymous(0, self.id() as u64) }
    }

    fn describe(&self, text: &mut String) {
        let id = if self.is_alive() { self.id() } else { -1 };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Pid:\t{id}\nNSpid:\t{id}");
    }

    fn name(&self) -> String {
        "anon_inode:[pidfd]".into()
    }
}
