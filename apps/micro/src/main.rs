//! Times what a kernel does for threads and system calls. The same program measures our kernel and
//! Linux; `make bench` boots both and compares. It prints `micro NAME VALUE` lines, times in
//! nanoseconds, and `micro done 1` at the end.
//!
//! Every figure is the best of several rounds: what disturbs a round only ever makes it slower. What a disk does
//! ([`disk`]) can be measured once only.
//!
//! Arguments: none, for threads and system calls; or `disk FOLDER [sync|random|sequential|cached|files ...]`; or
//! `bulk PORT`, to give and take bytes over TCP ([`bulk`]) for ever.

mod bulk;
mod calls;
mod disk;
mod threads;

use std::path::Path;
use std::time::Instant;

/// Rounds of which the best counts.
const ROUNDS: usize = 7;

fn main() {
    let show = |name: &str, value: f64| println!("micro {name} {value:.1}");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => threads_and_calls(show),
        [what, folder, names @ ..] if what == "disk" => disk::measure(Path::new(folder), names, show),
        [what, port] if what == "bulk" => {
            bulk::serve(port.parse().expect("a port is a number")).expect("the port is free");
        }
        _ => panic!("arguments: none, `disk FOLDER [FIGURE ...]`, or `bulk PORT`"),
    }
    show("done", 1.0);
}

fn threads_and_calls(show: impl Fn(&str, f64)) {
    show("null_syscall_ns", calls::null());
    show("clock_gettime_ns", calls::clock());
    show("page_fault_ns", calls::page_fault());
    show("pipe_round_trip_ns", calls::pipe_round_trip());
    show("futex_round_trip_ns", threads::futex_round_trip());
    show("create_join_ns", threads::create_and_join());
    show("speed_up_of_two_threads", threads::speed_up());
    show("many_threads_leaked_kib", threads::many());
}

/// The best time of one step, in nanoseconds, when `run` does `count` of them.
fn best_ns(count: u32, mut run: impl FnMut(u32)) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        run(count);
        start.elapsed().as_nanos() as f64 / f64::from(count)
    });
    times.fold(f64::INFINITY, f64::min)
}
