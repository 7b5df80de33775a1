//! What the kernel would do, for tests of this crate.

#[unsafe(no_mangle)]
extern "C" fn uk_relax() {}
