//! Starting the other cores.

use spin::Once;

use super::cpu;
use crate::kmem::page_table::OutOfFrames;
use crate::platform::{acpi, timer};
use crate::sim::{engine, heap};

static RUN: Once<fn() -> !> = Once::new();

/// Starts all cores that the machine has, one after the other. `prepare` makes what the core of an index needs to run threads;
/// once it is up, it goes on with `run`.
pub fn start_others(prepare: fn(usize) -> Result<(), OutOfFrames>, run: fn() -> !) {
    RUN.call_once(|| run);
    for index in 1..acpi::machine().processors.len() {
        if prepare(index).is_err() {
            log::warn!("no memory for more than {index} cores: the others stay off");
            break;
        }
        engine::start(index, startup_main);
        while cpu::online() == index {
            engine::give_way();
        }
    }
    log::debug!("{} cores", cpu::online());
}

extern "C" fn startup_main() -> ! {
    heap::set_kernel(true);
    let index = engine::current();
    cpu::adopt_block(index);
    timer::init_this_cpu();
    cpu::set_online(index + 1);
    RUN.get().expect("`start_others` was called")()
}
