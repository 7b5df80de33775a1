//! `fdatasync` on a thread of its own, so that the others need not wait for the disk.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The thread.
pub(super) struct Syncer {
    requests: SyncSender<Arc<File>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Syncer {
    pub(super) fn start() -> io::Result<Self> {
        let (requests, received) = sync_channel::<Arc<File>>(0);
        let failure = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&failure);
        let run = move || {
            for file in received {
                if let Err(error) = file.sync_data() {
                    *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(super::plain(&error));
                }
            }
        };
        thread::Builder::new().name("sync".into()).spawn(run)?;
        Ok(Self { requests, failure })
    }

    /// Begins a sync; false if the last one has not ended.
    pub(super) fn begin(&self, file: &Arc<File>) -> bool {
        // Without room in the channel: it is taken only by a thread that waits.
        self.requests.try_send(Arc::clone(file)).is_ok()
    }

    /// Why one did not succeed.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
