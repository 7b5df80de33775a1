//! Model checks of the ready list, as those of the scheduler: every interleaving, every value that a load may see.

use std::sync::Arc;
use std::vec::Vec;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{Mark, ReadyQueue, VecDeque, Watching};

/// A watch on a file that has had so many bytes come in. It is read without a lock, and the stores are relaxed: that a look sees
/// them is what the marks are for.
struct Watch {
    mark: Mark,
    arrived: AtomicUsize,
}

impl Watching for Watch {
    fn mark(&self) -> &Mark {
        &self.mark
    }
}

#[derive(Default)]
struct List(Mutex<VecDeque<Arc<Watch>>>);

impl ReadyQueue for List {
    type Watch = Watch;
    fn with_queue<R>(&self, work: impl FnOnce(&mut VecDeque<Arc<Watch>>) -> R) -> R {
        let mut queue = self.0.lock().unwrap();
        let outcome = work(&mut queue);
        assert!(queue.len() <= 1, "there is one watch, which has room once");
        outcome
    }
}

fn world() -> (Arc<List>, Arc<Watch>) {
    (Arc::default(), Arc::new(Watch { mark: Mark::new(), arrived: AtomicUsize::new(0) }))
}

/// One byte comes in, and is told of.
fn arrive(list: &List, watch: &Arc<Watch>) {
    watch.arrived.fetch_add(1, Ordering::Relaxed);
    list.push(watch);
}

/// Takes what is on the list, and looks at it; what the last look saw.
fn look(list: &List) -> Option<usize> {
    let mut batch = Vec::new();
    list.take(8, &mut batch);
    let seen = batch.into_iter().map(|watch| {
        watch.mark.begin_look();
        watch.arrived.load(Ordering::Relaxed)
    });
    seen.last()
}

/// As an edge-triggered watch: what a look has not seen is on the list afterwards.
#[test]
fn news_during_a_look_are_seen_by_it_or_on_the_list() {
    loom::model(|| {
        let (list, watch) = world();
        arrive(&list, &watch);
        let news = thread::spawn({
            let (list, watch) = (Arc::clone(&list), Arc::clone(&watch));
            move || arrive(&list, &watch)
        });
        let seen = look(&list);
        news.join().unwrap();
        assert!(seen == Some(2) || look(&list) == Some(2), "the second byte is told of: {seen:?}");
    });
}

/// Two have news at once, one looks.
#[test]
fn of_two_news_none_is_lost() {
    loom::model(|| {
        let (list, watch) = world();
        let news = [(); 2].map(|()| {
            let (list, watch) = (Arc::clone(&list), Arc::clone(&watch));
            thread::spawn(move || arrive(&list, &watch))
        });
        let seen = look(&list);
        for news in news {
            news.join().unwrap();
        }
        assert!(seen == Some(2) || look(&list) == Some(2), "both bytes are told of: {seen:?}");
    });
}

/// As a level-triggered watch, which goes back to the list after the look while its file is ready.
#[test]
fn a_watch_that_is_given_back_is_on_the_list_once() {
    loom::model(|| {
        let (list, watch) = world();
        arrive(&list, &watch);
        let news = thread::spawn({
            let (list, watch) = (Arc::clone(&list), Arc::clone(&watch));
            move || arrive(&list, &watch)
        });
        let mut batch = Vec::new();
        list.take(8, &mut batch);
        batch.iter().for_each(|watch| watch.mark.begin_look());
        list.put_back(batch);
        news.join().unwrap();
        assert_eq!(list.len(), 1, "it is ready, and told of");
        assert_eq!(look(&list), Some(2));
    });
}

/// Two threads wait on one instance; each look that finds a byte takes it away.
#[test]
fn two_that_look_leave_nothing_behind() {
    loom::model(|| {
        let (list, watch) = world();
        let take_away = |list: &List| {
            let Some(watch) = list.pop() else { return 0 };
            let found = watch.arrived.swap(0, Ordering::Relaxed);
            // Level-triggered: it goes back if it was ready, and the next look drops it.
            list.put_back((found > 0).then_some(watch));
            found
        };
        arrive(&list, &watch);
        let other = thread::spawn({
            let list = Arc::clone(&list);
            move || take_away(&list)
        });
        arrive(&list, &watch);
        let mine = take_away(&list);
        let theirs = other.join().unwrap();
        let mut rest = 0;
        while !list.is_empty() {
            rest += take_away(&list);
        }
        assert_eq!(mine + theirs + rest, 2, "{mine}, {theirs}, {rest}");
    });
}

/// A look that could not be reported (the app's page was absent) gives the watch back to the start.
#[test]
fn a_look_that_is_taken_back_loses_no_news() {
    loom::model(|| {
        let (list, watch) = world();
        arrive(&list, &watch);
        let news = thread::spawn({
            let (list, watch) = (Arc::clone(&list), Arc::clone(&watch));
            move || arrive(&list, &watch)
        });
        if let Some(watch) = list.pop() {
            let _ = watch.arrived.load(Ordering::Relaxed);
            list.put_first(watch);
        }
        news.join().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(look(&list), Some(2));
    });
}
