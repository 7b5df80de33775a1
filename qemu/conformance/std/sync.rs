//! The tests of `std::sync`, whose root does not name all that they use.

#![feature(lock_value_accessors, macro_metavar_expr_concat, mapped_lock_guards, mpmc_channel)]
#![feature(nonpoison_condvar, nonpoison_mutex, nonpoison_rwlock, once_cell_try, oneshot_channel)]
#![feature(reentrant_lock, std_internals, sync_nonpoison, sync_poison_mod)]

#[path = "tests/common/mod.rs"]
mod common;
#[path = "tests/sync/lib.rs"]
mod sync;
