//! What modules have done later: a thread of the kernel's does it, in the order of the deadlines, one after the other.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, Ordering};

use spin::Once;
use unikernel_hal::module::Work;

use crate::abi::Errno;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::thread::ThreadId;
use crate::task::{self, WaitQueue, scheduler};

/// Work that waits, or runs. Its lock is held while it runs.
type Slot = Arc<SpinLock<Option<Work>>>;

struct Item {
    number: i64,
    module: u64,
    due_ns: u64,
    work: Slot,
}

struct Queue {
    waiting: Vec<Item>,
    running: Option<Item>,
    /// Who does it, once there is something to do.
    worker: Option<ThreadId>,
}

static QUEUE: SpinLock<Queue> = SpinLock::new(Queue { waiting: Vec::new(), running: None, worker: None });
static NEWS: WaitQueue = WaitQueue::new();

/// Has work done in `delay_ns`; answers its number.
pub(super) fn add(module: u64, delay_ns: u64, work: Work) -> Result<i64, Errno> {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    static THREAD: Once<bool> = Once::new();
    if !*THREAD.call_once(|| scheduler::start_kernel_thread("modules", main).is_ok()) {
        return Err(Errno::ENOMEM);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let due_ns = time::now_ns().saturating_add(delay_ns);
    {
        let mut queue = QUEUE.lock();
        queue.waiting.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let work = Arc::new(SpinLock::new(Some(work)));
        queue.waiting.push(Item { number, module, due_ns, work });
    }
    NEWS.wake_all();
    Ok(number)
}

/// Takes work back; true if it had not begun. It does not run when this comes back, unless it is the work itself that asks.
pub(super) fn cancel(module: u64, number: i64) -> bool {
    cancel_where(|item| item.number == number && item.module == module) == Found::Waiting
}

/// The same with all work of a module.
pub(super) fn cancel_all(module: u64) {
    while cancel_where(|item| item.module == module) != Found::Nothing {}
}

#[derive(PartialEq, Eq)]
enum Found {
    Waiting,
    Running,
    Nothing,
}

fn cancel_where(is_meant: impl Fn(&Item) -> bool) -> Found {
    let (waiting, running) = {
        let mut queue = QUEUE.lock();
        let place = queue.waiting.iter().position(&is_meant);
        let waiting = place.map(|place| queue.waiting.swap_remove(place));
        let is_worker =
            queue.worker.is_some() && scheduler::can_block() && queue.worker == Some(task::current().id);
        let running = queue.running.as_ref().filter(|item| is_meant(item) && !is_worker);
        (waiting, running.map(|item| Arc::clone(&item.work)))
    };
    match (waiting, running) {
        (Some(item), _) => {
            drop(item.work.lock().take());
            Found::Waiting
        }
        (None, Some(work)) => {
            // It is held until the work is over.
            drop(work.lock().take());
            Found::Running
        }
        (None, None) => Found::Nothing,
    }
}

/// What is next: work that is due, or when there will be some.
fn next() -> Result<Slot, Option<u64>> {
    let mut queue = QUEUE.lock();
    let first = queue.waiting.iter().enumerate().min_by_key(|(_, item)| (item.due_ns, item.number));
    let Some((place, item)) = first else { return Err(None) };
    if item.due_ns > time::now_ns() {
        return Err(Some(item.due_ns));
    }
    let item = queue.waiting.swap_remove(place);
    let work = Arc::clone(&item.work);
    queue.running = Some(item);
    Ok(work)
}

/// What ran is over; or it waits for its next time. Answers what is not needed any more.
fn over(again_ns: Option<u64>) -> Option<Item> {
    let mut queue = QUEUE.lock();
    let mut item = queue.running.take()?;
    match again_ns {
        Some(delay_ns) if queue.waiting.try_reserve(1).is_ok() => {
            item.due_ns = time::now_ns().saturating_add(delay_ns);
            queue.waiting.push(item);
            None
        }
        _ => Some(item),
    }
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    QUEUE.lock().worker = Some(task::current().id);
    loop {
        match next() {
            Ok(work) => {
                let done = {
                    // Until it waits again, or is over: who takes it back waits for this.
                    let running = work.lock();
                    let again_ns = running.as_ref().and_then(|work| work.run());
                    over(again_ns)
                };
                drop((work, done));
                scheduler::yield_now();
            }
            Err(deadline_ns) => {
                // New work may be due before.
                let has_changed = || match next_due() {
                    due if due == deadline_ns => None,
                    _ => Some(()),
                };
                NEWS.wait_uninterrupted(deadline_ns, has_changed);
            }
        }
    }
}

fn next_due() -> Option<u64> {
    QUEUE.lock().waiting.iter().map(|item| item.due_ns).min()
}
