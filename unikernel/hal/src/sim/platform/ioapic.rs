//! Lines to vectors. Devices in memory raise lines; those on PCI send messages.

use std::collections::BTreeMap;

use unikernel_machine::line::Line;

use crate::sim::engine::{self, Single};

/// Vector and core, by line.
static ROUTES: Single<BTreeMap<u32, (u8, u32)>> = Single::new(BTreeMap::new());

/// Leads `line` to `vector`.
pub fn route(line: Line, vector: u8, to: u32) {
    ROUTES.with(|routes| routes.insert(line.gsi, (vector, to)));
}

/// Raises a line. Nobody hears of one that leads nowhere.
pub(in crate::sim) fn raise(line: u32) {
    if let Some((vector, core)) = ROUTES.with(|routes| routes.get(&line).copied()) {
        engine::raise(core as usize, vector);
    }
}
