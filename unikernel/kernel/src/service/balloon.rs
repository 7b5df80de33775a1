//! Memory that the host borrows (virtio's balloon): pages that nobody uses are given to it when it wants some, and come back
//! when it wants fewer, or when the app needs them and the host has said that it may have them
//! (`VIRTIO_BALLOON_F_DEFLATE_ON_OOM`).
//!
//! The host may want whatever it likes: the kernel's reserve, and as much again, stay here, and what was promised to the app
//! (`overcommit=strict`). Caches of files make room first.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_hal::frame::{Frame, Lent};

use crate::drivers::virtio::VirtioDevice;
use crate::drivers::virtio::balloon::{BATCH_PAGES, Balloon, Statistic};
use crate::kmem::{PAGE_BYTES, frames, room};
use crate::mem::{reclaim, shared};
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// How soon is looked again for pages when there were none to give.
const PAUSE_NS: u64 = 500_000_000;

/// The device, and what it has.
struct State {
    device: Balloon,
    /// Pages that the host has. Batches and their lists have room from the start: here, nothing is allocated.
    given: Vec<Batch>,
    /// Numbers of pages that were taken back, of which the host has still to be told.
    owed: Vec<Vec<u32>>,
    /// What the host is being told of.
    under_way: Option<Message>,
    /// How many pages there are in `given`.
    pages: usize,
}

/// Pages, with room for [`BATCH_PAGES`].
type Batch = Vec<Lent>;

enum Message {
    /// These are the host's from now on.
    Given(Batch),
    /// Those from this index on are not any more, and are free once it knows.
    Returned(Batch, usize),
    /// These are not any more, and were used meanwhile.
    Told,
}

/// What comes next.
enum Next {
    /// There is more to do.
    Step,
    /// The host has something to do.
    Host,
    /// The host wants pages, so many at once at most.
    Find(usize),
}

static STATE: SpinLock<Option<State>> = SpinLock::new(None);
static NEWS: WaitQueue = WaitQueue::new();
static HAS_NEWS: AtomicBool = AtomicBool::new(false);

/// Starts the device.
pub(super) fn init(device: VirtioDevice) {
    let place = device.place.clone();
    // Each batch but the last is full.
    let batches = frames::total_pages() / BATCH_PAGES + 2;
    let lists = room::with_capacity(batches).and_then(|given| Ok((given, room::with_capacity(batches)?)));
    let Ok((given, owed)) = lists else { return log::warn!("{place}: there is no memory for it") };
    let device = match Balloon::start(device, interrupt) {
        Ok(device) => device,
        Err(error) => return log::warn!("{place}: not used: {error}"),
    };
    if device.may_take_back() {
        reclaim::set_lender(lend);
    }
    *STATE.lock() = Some(State { device, given, owed, under_way: None, pages: 0 });
    if scheduler::start_kernel_thread("balloon", main).is_err() {
        log::warn!("{place}: there is no memory for its thread");
    }
}

/// The host wants another number of pages, has heard of a message, or asks for statistics.
fn interrupt() {
    HAS_NEWS.store(true, Ordering::Release);
    NEWS.wake_all();
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    loop {
        let next = STATE.lock().as_mut().map_or(Next::Host, State::step);
        let deadline_ns = match next {
            Next::Host => None,
            Next::Find(count) if !find(count) => Some(time::now_ns() + PAUSE_NS),
            // A host that answers at once, and always wants something else, does not get the core.
            Next::Step | Next::Find(_) => {
                scheduler::breathe();
                continue;
            }
        };
        NEWS.wait_uninterrupted(deadline_ns, || HAS_NEWS.swap(false, Ordering::Acquire).then_some(()));
    }
}

/// Gives the host up to `count` pages that nobody uses; what is in caches can be read again. False if there are none.
fn find(count: usize) -> bool {
    let margin = count + frames::reserve_pages();
    if !frames::can_app_take(margin) {
        reclaim::shrink_caches(margin);
    }
    let Ok(mut batch) = room::with_capacity(BATCH_PAGES) else { return false };
    while batch.len() < count && frames::can_app_take(1 + frames::reserve_pages()) {
        // What no message can name stays here.
        let Some(Ok(lent)) = Frame::alloc().map(Frame::lend) else { break };
        batch.push(lent);
    }
    let is_found = !batch.is_empty();
    if is_found && let Some(state) = &mut *STATE.lock() {
        state.device.give(Lent::numbers(&batch));
        state.under_way = Some(Message::Given(batch));
    }
    is_found
}

/// Takes pages back from the host until `count` can be had, as far as there are any. The host is told later.
fn lend(count: usize) {
    // Whoever has it locked does not wait for memory.
    let mut state = STATE.lock();
    let Some(state) = &mut *state else { return };
    while !frames::can_app_take(count) && state.owed.len() < state.owed.capacity() {
        let Some(batch) = state.given.pop() else { return };
        state.pages -= batch.len();
        state.owed.push(Lent::take_all_back(batch));
        interrupt();
    }
}

impl State {
    /// Does what can be done without memory and without waiting.
    fn step(&mut self) -> Next {
        self.device.tell_statistics(statistics);
        if self.device.is_busy() {
            return Next::Host;
        }
        if let Some(message) = self.under_way.take() {
            self.is_heard(message);
            return Next::Step;
        }
        if let Some(batch) = self.owed.pop() {
            self.device.take_back(&batch);
            self.under_way = Some(Message::Told);
            return Next::Step;
        }
        let wanted = self.device.wanted_pages();
        if wanted > self.pages {
            // A batch that is not full takes more; a new one needs a place.
            let room = self.given.last().map_or(0, |last| BATCH_PAGES - last.len());
            let most = if self.given.len() < self.given.capacity() { BATCH_PAGES } else { room };
            let count = (wanted - self.pages).min(most);
            return if count > 0 { Next::Find(count) } else { Next::Host };
        }
        if wanted < self.pages {
            self.return_some(self.pages - wanted);
            return Next::Step;
        }
        Next::Host
    }

    /// Begins to take pages back, up to `most` of them.
    fn return_some(&mut self, most: usize) {
        let Some(batch) = self.given.pop() else { return };
        let kept = batch.len().saturating_sub(most);
        self.device.take_back(Lent::numbers(&batch[kept..]));
        self.pages -= batch.len();
        self.under_way = Some(Message::Returned(batch, kept));
    }

    fn is_heard(&mut self, message: Message) {
        match message {
            Message::Given(batch) => self.keep(batch),
            Message::Returned(mut batch, kept) => {
                batch.drain(kept..).for_each(|page| drop(page.take_back()));
                self.keep(batch);
            }
            Message::Told => {}
        }
        self.device.report(self.pages);
    }

    /// Puts pages on the list of those that the host has.
    fn keep(&mut self, mut batch: Batch) {
        self.pages += batch.len();
        if let Some(last) = self.given.last_mut() {
            let moved = batch.len().min(BATCH_PAGES - last.len());
            last.extend(batch.drain(..moved));
        }
        if !batch.is_empty() {
            self.given.push(batch);
        }
    }
}

fn statistics() -> [(Statistic, u64); 4] {
    let bytes = |pages: usize| (pages * PAGE_BYTES) as u64;
    let free = frames::free_pages();
    [
        (Statistic::Free, bytes(free)),
        (Statistic::Total, bytes(frames::total_pages())),
        (Statistic::Available, bytes(free.saturating_sub(frames::reserve_pages()))),
        (Statistic::Caches, bytes(shared::count())),
    ]
}
