//! The unit tests of std, which see it as `crate`: here all of it is re-exported, and modules of the same names take
//! in their tests.

#![feature(assert_matches, core_io_borrowed_buf, dirfd, fs_set_times, io_error_uncategorized, read_buf)]
#![feature(read_buf_at, tcp_linger, unix_file_vectored_at, unix_mkfifo)]
#![feature(unix_socket_ancillary_data, unix_socket_peek)]

pub use std::*;

#[path = "src/test_helpers.rs"]
pub(crate) mod test_helpers;

pub mod thread {
    pub use std::thread::*;

    /// What std has under this name, but does not export.
    pub(crate) fn current_os_id() -> u64 {
        rustix::thread::gettid().as_raw_nonzero().get() as u64
    }
}

#[path = "src/net"]
pub mod net {
    pub use std::net::*;

    pub(crate) mod test;

    #[path = "tcp"]
    mod tcp {
        mod tests;
    }

    #[path = "udp"]
    mod udp {
        mod tests;
    }

    #[path = "socket_addr"]
    mod socket_addr {
        mod tests;
    }
}

#[path = "src/fs"]
mod fs_tests {
    use std::fs::*;

    mod tests;
}

#[path = "src/thread"]
mod thread_tests {
    use std::thread::*;

    mod tests;
}

#[path = "src/os/unix/net"]
mod unix_net_tests {
    use std::os::unix::net::*;

    mod tests;
}

#[path = "src/os/unix/fs"]
mod unix_fs_tests {
    use std::fs::{self, Permissions};
    use std::io::{self, prelude::*};
    use std::os::unix::fs::*;

    mod tests;
}

#[path = "src/os/fd"]
mod os_fd_tests {
    mod tests;
}
