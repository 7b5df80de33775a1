//! Waiting for files, and files that are there to be waited for.

mod epoll_tests;
mod nested_epoll_tests;
mod poll_tests;
