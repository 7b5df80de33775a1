//! Files through which one part of the app sends bytes or messages to another.
//!
//! - [`pipe`]: pipes and FIFOs; [`message_queue`]: POSIX message queues.

pub mod message_queue;
pub mod pipe;
