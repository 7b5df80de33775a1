//! The workbench: the kernel on a simulated machine (`unikernel_hal::sim`), with apps that are closures.

mod app;
mod boot_tests;
mod cards;
mod devices;
mod disk_tests;
mod events;
mod files;
mod fuzzed_tests;
mod machine_tests;
mod memory;
mod modules;
mod process;
mod services;
mod simulate;
mod sockets;
mod table_tests;
mod trace_tests;
mod uring;
mod verity_tests;
