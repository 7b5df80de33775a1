//! Lines of the ISA bus that several PCI devices share: one vector, and everybody on the line is asked.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::platform::interrupts;
use crate::sync::SpinLock;

type Handler = Box<dyn Fn() + Send>;

/// Lines there are.
const LINES: usize = 16;

static HANDLERS: [SpinLock<Vec<Handler>>; LINES] = [const { SpinLock::new(Vec::new()) }; LINES];

/// Calls `handler`, from the interrupt handler, whenever `line` is raised, by whichever device on it. False if
/// there is no such line or no vector for it.
pub fn add(line: u8, handler: impl Fn() + Send + 'static) -> bool {
    let Some(handlers) = HANDLERS.get(usize::from(line)) else { return false };
    // The first one gets the vector. A handler is on the list only if there is one: who comes later goes by that.
    if handlers.lock().is_empty() {
        let ask_all = move || handlers.lock().iter().for_each(|handler| handler());
        let Some(vector) = interrupts::register(Box::leak(Box::new(ask_all))) else { return false };
        interrupts::route_isa_irq(line, vector);
    }
    handlers.lock().push(Box::new(handler));
    true
}
