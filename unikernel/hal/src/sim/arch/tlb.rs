//! Nothing remembers translations here: the page tables are walked for each access.

/// See `x86`'s.
pub fn flush(_: u64, _: u64) {}

/// See `x86`'s.
pub fn flush_everywhere() {}

/// See `x86`'s.
pub fn serve() {}

/// See `x86`'s.
pub fn begin_lazy() {}

/// See `x86`'s.
pub fn end_lazy() {}
