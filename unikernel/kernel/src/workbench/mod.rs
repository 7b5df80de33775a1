//! The workbench: the kernel on a simulated machine (`unikernel_hal::sim`), with apps that are closures.

mod app;
mod machine_tests;
