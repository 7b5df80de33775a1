//! Emptying the address space, for another program (execve(2)).

use core::ops::ControlFlow;

use super::{FutureLocks, LOWEST, RegionKind, SPACE, Space, SpaceError, pieces};
use crate::kmem::layout::USER_END;
use crate::kmem::page_table;

/// Takes everything away that the app has mapped, and what the kernel has mapped for it. Nobody may be in ring 3.
pub(crate) fn clear() -> Result<(), SpaceError> {
    SPACE.lock().keep_image()?;
    pieces::unmap_checked(LOWEST, USER_END)?;
    SPACE.lock().forget_program();
    Ok(())
}

impl Space {
    fn forget_program(&mut self) {
        (self.break_start, self.break_end, self.break_limit) = (0, 0, 0);
        self.future_locks = FutureLocks::No;
        // The image's pages were charged, and stay where they are.
        self.kept_pages = 0;
        self.publish();
    }

    /// The frames of the image are not given to others: the loader's map counts on them.
    fn keep_image(&self) -> Result<(), SpaceError> {
        for region in self.regions.iter().filter(|region| region.kind == RegionKind::Image) {
            page_table::for_each_entry(region.start, region.end, |_, mut entry, _| {
                entry.keep_frame();
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }
}
