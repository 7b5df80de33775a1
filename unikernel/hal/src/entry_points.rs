//! Where the machine calls the kernel that stands on it.

/// Gives the machine the functions of the kernel to which the processor comes. They are found by the linker, not through
/// pointers set at run time, because the ways in are hot, and the first is taken before anything can be set.
///
/// - `main(info)`: with what the loader said, on the boot stack, before anything is initialised; never returns;
/// - `system_call(frame)`: for each system call; its result goes into the frame;
/// - `trap(frame)`: for exceptions and interrupts, of ring 3 and of ring 0 while it halts or copies for the app;
/// - `fatal_trap(frame)`: for NMI, double fault and machine check, which come at any moment;
/// - `switched()`: the first thing on a new thread's stack; `first_exit(frame)`: its last before ring 3.
#[macro_export]
macro_rules! entry_points {
    (
        main: $main:path, system_call: $system_call:path, trap: $trap:path, fatal_trap: $fatal_trap:path,
        switched: $switched:path, first_exit: $first_exit:path $(,)?
    ) => {
        const _: () = {
            use $crate::arch::trap::TrapFrame;

            // SAFETY (of all names): the machine alone calls what has these names, and declares them with these types.
            #[unsafe(export_name = "kernel_main")]
            extern "Rust" fn to_kernel_main(
                info: ::core::result::Result<$crate::boot_info::BootInfo, $crate::boot_info::NoStartInfo>,
            ) -> ! {
                $main(info)
            }
            #[unsafe(export_name = "kernel_system_call")]
            extern "Rust" fn to_kernel_system_call(frame: &mut TrapFrame) {
                $system_call(frame)
            }
            #[unsafe(export_name = "kernel_trap")]
            extern "C" fn to_kernel_trap(frame: &mut TrapFrame) {
                $trap(frame)
            }
            #[unsafe(export_name = "kernel_fatal_trap")]
            extern "C" fn to_kernel_fatal_trap(frame: &mut TrapFrame) {
                $fatal_trap(frame)
            }
            #[unsafe(export_name = "kernel_switched")]
            extern "C" fn to_kernel_switched() {
                $switched()
            }
            #[unsafe(export_name = "kernel_first_exit")]
            extern "C" fn to_kernel_first_exit(frame: &mut TrapFrame) {
                $first_exit(frame)
            }
        };
    };
}
