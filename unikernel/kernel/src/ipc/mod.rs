//! Files through which one part of the app sends bytes or messages to another.
//!
//! - [`pipe`]: pipes and FIFOs; [`message_queue`]: POSIX message queues.

pub(crate) mod message_queue;
pub(crate) mod pipe;
