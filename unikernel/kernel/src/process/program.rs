//! The program that runs.

use alloc::string::String;
use alloc::sync::Arc;

use super::linked;
use crate::sync::SpinLock;

/// A program in memory.
#[derive(Debug)]
pub(crate) struct Program {
    /// Where its file is, as `/proc/self/exe` tells it.
    pub path: String,
    /// True for that of the image.
    pub is_of_image: bool,
    /// Its first instruction.
    pub entry: u64,
    /// Where its first thread starts: there, or in its interpreter.
    pub start: u64,
    /// Where the interpreter is, if there is one.
    pub interpreter_base: u64,
    /// Where its segments' headers are.
    pub headers: u64,
    /// How many there are.
    pub header_count: u16,
}

static PROGRAM: SpinLock<Option<Arc<Program>>> = SpinLock::new(None);

/// Where the program's file is.
pub(crate) fn path() -> String {
    let program = PROGRAM.lock().clone();
    program.map_or_else(linked::path, |program| program.path.clone())
}

/// True while the program that runs is the image's.
pub(crate) fn runs_image() -> bool {
    PROGRAM.lock().as_ref().is_some_and(|program| program.is_of_image)
}

/// Notes which program runs from now on.
pub(crate) fn set(program: Program) {
    let before = PROGRAM.lock().replace(Arc::new(program));
    drop(before);
}
