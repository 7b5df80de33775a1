//! What the program was started with.

use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static VECTOR: AtomicPtr<*const c_char> = AtomicPtr::new(core::ptr::null_mut());

/// Keeps the vector that the program was started with.
pub(crate) fn set(count: usize, vector: *const *const c_char) {
    COUNT.store(count, Ordering::Relaxed);
    VECTOR.store(vector.cast_mut(), Ordering::Relaxed);
}

/// The arguments, the program's name first. What is not UTF-8 is passed over.
///
/// ```
/// let mut arguments = unikernel::env::args().skip(1);
/// let folder = arguments.next().unwrap_or("/www");
/// # assert_eq!(folder, "/www");
/// ```
pub fn args() -> impl Iterator<Item = &'static str> {
    (0..COUNT.load(Ordering::Relaxed)).filter_map(string_at)
}

/// An environment variable.
///
/// ```
/// let port = unikernel::env::var("PORT").and_then(|port| port.parse().ok());
/// let port: u16 = port.unwrap_or(8080);
/// # assert_eq!(port, 8080);
/// ```
pub fn var(name: &str) -> Option<&'static str> {
    // The variables follow the arguments and a null pointer (System V ABI, 3.4.1).
    let first = COUNT.load(Ordering::Relaxed) + 1;
    (first..)
        .map_while(string_at)
        .find_map(|variable| variable.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

fn string_at(index: usize) -> Option<&'static str> {
    let vector = VECTOR.load(Ordering::Relaxed);
    if vector.is_null() {
        return None;
    }
    crate::start::string_at(vector, index)?.to_str().ok()
}

/// For [`crate::start`], which reads the vector.
pub(crate) type RawString = &'static CStr;
