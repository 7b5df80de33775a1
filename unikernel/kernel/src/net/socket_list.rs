//! Who listens, and the connections, for people.

use core::fmt::{Result, Write};

use unikernel_net::socket_list::HEADING;

use super::shards;
use crate::file::long_text::LongText;
use crate::task::scheduler;

/// Connections that are listed while the stack's lock is held.
const AT_ONCE: usize = 64;

/// Writes them. One that comes or goes meanwhile may be missing, or be there twice.
pub(crate) fn write(out: &mut LongText) -> Result {
    out.write_str(HEADING)?;
    {
        let net = super::lock();
        net.stack.show_listeners(out, |id| net.routes.inode(id))?;
    }
    for shard in 0..shards::count() {
        let mut start = 0;
        loop {
            let passed = {
                let net = shards::lock(shard);
                net.stack.show_connections(out, start, AT_ONCE, |id| net.routes.inode(id))?
            };
            if passed < AT_ONCE {
                break;
            }
            start += passed;
            scheduler::breathe();
        }
    }
    Ok(())
}
