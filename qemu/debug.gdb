# Both halves are in one file, so gdb knows all symbols at once. `main` is the app's; a function of
# the kernel goes by the last part of its path, for example `hbreak sys_brk`.
set pagination off
set confirm off
set architecture i386:x86-64
set tcp connect-timeout 30
target remote localhost:1234
# A hardware breakpoint: at reset the image is not in memory yet, so nothing could be written there.
# By the address that `debug.sh` found: threads of the kernel have functions of this name, too.
hbreak *$app_main
continue
