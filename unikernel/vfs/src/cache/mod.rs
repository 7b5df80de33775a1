//! What a page cache decides: which page goes when memory is wanted ([`Clock`]), how much is read before it is asked for
//! ([`ReadAhead`]), and who is told of writes that failed ([`ErrorSequence`]).

mod clock;
mod error_sequence;
mod read_ahead;

pub use clock::{Clock, Verdict};
pub use error_sequence::{ErrorCursor, ErrorSequence};
pub use read_ahead::ReadAhead;
