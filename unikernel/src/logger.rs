//! The `log` backend of `no_std` programs: lines on standard error, at the level that the
//! environment variable `RUST_LOG` names (`info` without one).

use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            crate::eprintln!("{:5} {}: {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sets the backend up; `entry!` has done so before `main`.
///
/// ```
/// use unikernel::log;
///
/// unikernel::logger::init();
/// assert!(log::log_enabled!(log::Level::Info));
/// log::info!("42 files in /www");
/// ```
pub fn init() {
    let level = crate::env::var("RUST_LOG").and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(level);
    }
}
