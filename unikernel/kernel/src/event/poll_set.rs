//! poll(2) and select(2): one look at every file named, and a sleep until one of them changes. A
//! call that must sleep puts a [`Watch`] on each file for as long as it lasts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use unikernel_sched::ready::ReadyQueue;

use crate::file::poll_source::Watch;
use crate::file::ready_list::ReadyList;
use crate::file::{OpenFile, Readiness};
use crate::kmem::room::OutOfMemory;
use crate::net;
use crate::task::scheduler;
use crate::task::wait::WaitError;

/// Why a wait ended without a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PollError {
    /// Its time had come, or a signal.
    Wait(WaitError),
    /// There was no room for the watches.
    OutOfMemory,
}

/// One file to wait for.
pub(crate) struct PollEntry {
    /// The file; `None` if the entry is to be passed over.
    pub opened: Option<Arc<OpenFile>>,
    /// What is waited for; errors and hang-ups are always.
    pub wanted: Readiness,
    /// What was found.
    pub found: Readiness,
}

impl PollEntry {
    /// An entry that has found nothing yet.
    pub(crate) fn new(opened: Option<Arc<OpenFile>>, wanted: Readiness) -> Self {
        Self { opened, wanted: wanted | Readiness::ALWAYS, found: Readiness::empty() }
    }

    fn look(&mut self) -> bool {
        let ready = self.opened.as_ref().map_or(Readiness::empty(), |opened| opened.file.readiness());
        self.found = ready & self.wanted;
        !self.found.is_empty()
    }
}

fn look_at_all(entries: &mut [PollEntry]) -> Option<usize> {
    let mut count = 0;
    for (done, entry) in entries.iter_mut().enumerate() {
        count += usize::from(entry.look());
        // Not on the way to sleep, where this is the condition.
        scheduler::breathe_now_and_then(done);
    }
    (count > 0).then_some(count)
}

/// Waits until an entry finds something. Answers how many did.
///
/// A deadline of 0 means one look only.
pub(crate) fn wait(entries: &mut [PollEntry], deadline_ns: Option<u64>) -> Result<usize, PollError> {
    net::flush();
    if let Some(count) = look_at_all(entries) {
        return Ok(count);
    }
    net::poll();
    if deadline_ns == Some(0) {
        return look_at_all(entries).ok_or(PollError::Wait(WaitError::TimedOut));
    }
    let ready = Arc::new(ReadyList::default());
    let mut watches = Vec::new();
    let outcome = match attach(entries, &ready, &mut watches) {
        Ok(()) => {
            // What is told may be over when it is looked for: somebody else has read it. The sleep goes on then.
            let look = || {
                ready.begin_look_at_all();
                look_at_all(entries)
            };
            ready.source.wait(deadline_ns, look).map_err(PollError::Wait)
        }
        Err(OutOfMemory) => Err(PollError::OutOfMemory),
    };
    for (done, watch) in watches.iter().enumerate() {
        scheduler::breathe_now_and_then(done);
        if let Some(source) = watch.file.poll_source() {
            source.detach(watch);
        }
    }
    ready.clear();
    outcome
}

/// Puts a watch on each file. Those that there was no room for are missing.
fn attach(
    entries: &[PollEntry],
    ready: &Arc<ReadyList>,
    watches: &mut Vec<Arc<Watch>>,
) -> Result<(), OutOfMemory> {
    ready.reserve(entries.len())?;
    watches.try_reserve_exact(entries.len()).map_err(|_| OutOfMemory)?;
    for (index, entry) in entries.iter().enumerate() {
        let Some(opened) = &entry.opened else { continue };
        let Some(source) = opened.file.poll_source() else { continue };
        let key = (index as i32, 0);
        let file = Arc::clone(&opened.file);
        let watch = Watch::new(file, key, (entry.wanted.bits(), 0), Arc::clone(ready), None);
        source.attach(Arc::clone(&watch))?;
        watches.push(watch);
        scheduler::breathe_now_and_then(index);
    }
    Ok(())
}
