//! io_uring(7): rings that the app shares with the kernel.

mod file_tests;
mod order_tests;
mod register_tests;
mod setup_tests;
mod socket_tests;
