//! What a core does for the network, for io_uring and for the log when nobody can run.

use crate::service::syslog;
use crate::task::idle::Work;
use crate::{net, uring};

/// The work of an idle core.
pub(crate) struct IdleWork;

impl Work for IdleWork {
    fn begin(&self) {
        net::flush();
        uring::run_scheduled();
        syslog::wake();
    }

    fn poll(&self) -> bool {
        net::poll()
    }

    fn has_arrivals(&self) -> bool {
        net::has_arrivals()
    }

    fn prepare_to_sleep(&self) -> bool {
        net::prepare_to_sleep()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        net::next_deadline_ns()
    }
}
