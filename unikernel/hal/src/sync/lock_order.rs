//! The lock checker of debug builds (`cargo build` without `--release`), after Linux's lockdep.
//!
//! All locks that are made at one place in the source are one [`Class`]. Whenever a lock is taken
//! while others are held, the checker notes "held before taken" for the pairs of classes. A pair that
//! closes a circle is a deadlock that some interleaving can reach, so the kernel panics at once, with
//! both places, even though this run did not hang. The order that the circle breaks is written at the
//! top of `sync`.
//!
//! Locks that sleep are kept for each thread ([`ThreadLocks`]), for a thread may go on on another core.
//! Their order among themselves is checked in the same way; that none is taken while a spin lock is
//! held is checked where a thread would sleep.
//!
//! In a release build a [`Class`] has no size and its methods do nothing.

#[cfg(debug_assertions)]
use core::panic::Location;
#[cfg(debug_assertions)]
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

#[cfg(debug_assertions)]
use crate::arch::per_core::PerCore;

/// The locks made at one place.
pub struct Class(#[cfg(debug_assertions)] &'static Location<'static>);

/// Whether a lock may be taken while another of its class is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nesting {
    /// It may not.
    Never,
    /// The caller's structure gives them an order.
    Ordered,
}

impl Class {
    /// The class of the caller's place in the source.
    #[track_caller]
    pub const fn here() -> Self {
        Self(
            #[cfg(debug_assertions)]
            Location::caller(),
        )
    }

    /// Called before the lock is taken by waiting for it.
    ///
    /// # Panics
    ///
    /// If taking it now breaks an order that was seen before.
    #[inline]
    #[track_caller]
    pub fn before_wait(&self, nesting: Nesting) {
        #[cfg(debug_assertions)]
        check_order(&HELD, class_index(self.0), nesting);
        #[cfg(not(debug_assertions))]
        let _ = nesting;
    }

    /// Called when the lock has been taken.
    #[inline]
    pub fn taken(&self) {
        #[cfg(debug_assertions)]
        HELD.push(class_index(self.0));
    }

    /// Called before the lock is released.
    #[inline]
    pub fn released(&self) {
        #[cfg(debug_assertions)]
        HELD.remove(class_index(self.0));
    }
}

/// The sleeping locks that a thread holds. Only the thread itself touches them.
pub struct ThreadLocks(#[cfg(debug_assertions)] Held);

impl Default for ThreadLocks {
    fn default() -> Self {
        Self::new()
    }
}

impl ThreadLocks {
    /// None held.
    pub const fn new() -> Self {
        Self(
            #[cfg(debug_assertions)]
            Held::new(),
        )
    }

    /// Called before a sleeping lock is taken by waiting for it.
    ///
    /// # Panics
    ///
    /// If taking it now breaks an order that was seen before.
    #[inline]
    #[track_caller]
    pub fn before_wait(&self, class: &Class) {
        #[cfg(debug_assertions)]
        check_order(&self.0, class_index(class.0), Nesting::Never);
        #[cfg(not(debug_assertions))]
        let _ = class;
    }

    /// Called when the lock has been taken.
    #[inline]
    pub fn taken(&self, class: &Class) {
        #[cfg(debug_assertions)]
        self.0.push(class_index(class.0));
        #[cfg(not(debug_assertions))]
        let _ = class;
    }

    /// Called before the lock is released.
    #[inline]
    pub fn released(&self, class: &Class) {
        #[cfg(debug_assertions)]
        self.0.remove(class_index(class.0));
        #[cfg(not(debug_assertions))]
        let _ = class;
    }
}

/// How many locks this core holds; 0 in release builds.
#[inline]
pub fn held_count() -> usize {
    #[cfg(debug_assertions)]
    return HELD.count.load(Ordering::Relaxed);
    #[cfg(not(debug_assertions))]
    return 0;
}

#[cfg(debug_assertions)]
const MAX_CLASSES: usize = 256;
/// Locks that one core may hold at a time.
#[cfg(debug_assertions)]
const MAX_HELD: usize = 16;
#[cfg(debug_assertions)]
const WORDS: usize = MAX_CLASSES / 64;

/// Every class met so far; indices are for ever.
#[cfg(debug_assertions)]
static CLASSES: [AtomicPtr<Location<'static>>; MAX_CLASSES] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CLASSES];
/// Row `a` has bit `b` if `b` was taken while `a` was held.
#[cfg(debug_assertions)]
static TAKEN_AFTER: [[AtomicU64; WORDS]; MAX_CLASSES] =
    [const { [const { AtomicU64::new(0) }; WORDS] }; MAX_CLASSES];
#[cfg(debug_assertions)]
static HELD: PerCore<Held> = crate::per_core!(Held::new());

/// The classes of the locks that a core or a thread holds, oldest first. Only the holder itself touches
/// them; they are atomics because statics have to be.
#[cfg(debug_assertions)]
struct Held {
    count: AtomicUsize,
    classes: [AtomicUsize; MAX_HELD],
}

#[cfg(debug_assertions)]
impl Held {
    const fn new() -> Self {
        Self { count: AtomicUsize::new(0), classes: [const { AtomicUsize::new(0) }; MAX_HELD] }
    }

    fn oldest_first(&self) -> impl Iterator<Item = usize> {
        let count = self.count.load(Ordering::Relaxed);
        self.classes[..count].iter().map(|class| class.load(Ordering::Relaxed))
    }

    fn push(&self, class: usize) {
        let count = self.count.load(Ordering::Relaxed);
        assert!(count < MAX_HELD, "more than {MAX_HELD} locks are held");
        self.classes[count].store(class, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
    }

    /// Guards may be dropped in any order.
    fn remove(&self, class: usize) {
        let count = self.count.load(Ordering::Relaxed);
        let index = self.oldest_first().collect::<arrayvec::ArrayVec<usize, MAX_HELD>>();
        let Some(index) = index.iter().rposition(|&held| held == class) else { return };
        for later in index + 1..count {
            let moved = self.classes[later].load(Ordering::Relaxed);
            self.classes[later - 1].store(moved, Ordering::Relaxed);
        }
        self.count.store(count - 1, Ordering::Relaxed);
    }
}

#[cfg(debug_assertions)]
fn class_index(place: &'static Location<'static>) -> usize {
    let pointer = core::ptr::from_ref(place).cast_mut();
    // Nearly always it is there, by its address; a place may have several, one in each crate that inlines it.
    let known = CLASSES.iter().take_while(|slot| !slot.load(Ordering::Acquire).is_null());
    if let Some(index) = known.into_iter().position(|slot| slot.load(Ordering::Relaxed) == pointer) {
        return index;
    }
    for (index, slot) in CLASSES.iter().enumerate() {
        let found = match slot.compare_exchange(
            core::ptr::null_mut(),
            pointer,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => pointer,
            Err(found) => found,
        };
        if found == pointer || name(index) == place {
            return index;
        }
    }
    panic!("more than {MAX_CLASSES} classes of locks");
}

#[cfg(debug_assertions)]
fn name(class: usize) -> &'static Location<'static> {
    // SAFETY: slots hold null or a `'static` location, and only indices of filled slots get here.
    unsafe { &*CLASSES[class].load(Ordering::Acquire) }
}

#[cfg(debug_assertions)]
fn is_taken_after(before: usize, after: usize) -> bool {
    TAKEN_AFTER[before][after / 64].load(Ordering::Relaxed) & 1 << (after % 64) != 0
}

#[cfg(debug_assertions)]
#[track_caller]
fn check_order(holder: &Held, class: usize, nesting: Nesting) {
    for held in holder.oldest_first() {
        if held == class && nesting == Nesting::Ordered {
            continue;
        }
        assert!(held != class, "two locks made at {} are held at once", name(class));
        if is_taken_after(held, class) {
            continue;
        }
        assert!(
            !leads_to(class, held, &mut [0; WORDS]),
            "lock order: the lock made at {} is taken while that made at {} is held, and elsewhere it is \
             the other way round",
            name(class),
            name(held)
        );
        TAKEN_AFTER[held][class / 64].fetch_or(1 << (class % 64), Ordering::Relaxed);
    }
}

/// True if `to` was ever taken while `from` was held, or while one was held that was taken after
/// `from`, and so on.
#[cfg(debug_assertions)]
fn leads_to(from: usize, to: usize, visited: &mut [u64; WORDS]) -> bool {
    if is_taken_after(from, to) {
        return true;
    }
    visited[from / 64] |= 1 << (from % 64);
    (0..MAX_CLASSES).any(|next| {
        let is_new = visited[next / 64] & 1 << (next % 64) == 0;
        is_new && is_taken_after(from, next) && leads_to(next, to, visited)
    })
}
