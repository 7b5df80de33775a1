//! Frames that come in from network cards, as Ethernet has them.

use alloc::boxed::Box;

use crate::{Context, Error, abi};

/// Where frames are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Place {
    /// As they came from a card, before the packet filter.
    Received = 0,
    /// Those that the packet filter has let pass.
    Filtered = 1,
}

/// What becomes of a frame that was [`Place::Received`]; one that has passed the filter has been taken in when it is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// It goes on.
    Pass = 0,
    /// It does not.
    Drop = 1,
}

/// Who sees frames. Calls come one at a time, with interrupts masked and the network's state locked: they must be short, and ask nothing of the
/// kernel but its log, its clock and memory.
pub trait PacketHook: Send + Sync + 'static {
    /// A frame passes: all its bytes, from the Ethernet header on.
    fn see(&self, frame: &[u8]) -> Verdict;
}

/// A hook that sees frames until this is dropped.
pub struct Hooked<H: PacketHook> {
    context: Context,
    number: i64,
    hook: Box<H>,
}

extern "C" fn see<H: PacketHook>(hook: *const (), _: u32, frame: *const u8, bytes: usize) -> u32 {
    // SAFETY: `Hooked` lends an `H`, and takes it back before that ends; the kernel hands over a frame of so many bytes.
    let (hook, frame) = unsafe { (&*hook.cast::<H>(), core::slice::from_raw_parts(frame, bytes)) };
    hook.see(frame) as u32
}

impl<H: PacketHook> Hooked<H> {
    /// Has it see frames.
    ///
    /// # Errors
    ///
    /// If there is no room for another.
    pub fn add(context: Context, place: Place, hook: H) -> Result<Self, Error> {
        let hook = Box::new(hook);
        let data: *const H = &raw const *hook;
        // SAFETY: the hook is there until `drop` has taken it back.
        let answer =
            unsafe { abi::uk_packet_hook_add(context.number(), place as u32, see::<H>, data.cast()) };
        let number = Error::check(answer)? as i64;
        Ok(Self { context, number, hook })
    }

    /// The hook.
    pub fn hook(&self) -> &H {
        &self.hook
    }
}

impl<H: PacketHook> Drop for Hooked<H> {
    fn drop(&mut self) {
        // SAFETY: a number goes there. Afterwards nobody calls the hook any more.
        unsafe { abi::uk_packet_hook_remove(self.context.number(), self.number) };
    }
}
