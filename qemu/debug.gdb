# Both halves are in one file, so one `file` command knows all symbols. `main` is the app's; the
# kernel's functions have their full Rust names, for example `break unikernel_kernel::mem::fault::handle`.
set pagination off
set confirm off
set architecture i386:x86-64
set tcp connect-timeout 30
target remote localhost:1234
# A hardware breakpoint: at reset the image is not in memory yet, so nothing could be written there.
hbreak main
continue
