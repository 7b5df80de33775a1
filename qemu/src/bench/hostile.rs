//! Good clients while others are not ([`crate::attacks`]): what they notice.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{Guest, System, USUAL_MEMORY_MIB};
use crate::attacks::{self, Attack, Service};
use crate::machine::Kind;

const TIME: Duration = Duration::from_secs(4);

/// The same clients with nobody else there, and under attack.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trial {
    pub(crate) attack: &'static str,
    pub(crate) quiet: Service,
    pub(crate) attacked: Service,
}

/// Lets each kind of attacker loose on a guest.
pub(super) fn trials() -> Result<Vec<Trial>> {
    let attacks: [(&str, Attack); 3] = [
        ("SYN flood", attacks::flood),
        ("1,000 slow clients", attacks::slow_clients),
        ("resets", attacks::resets),
    ];
    attacks.into_iter().map(|(name, attack)| trial(name, attack)).collect()
}

fn trial(name: &'static str, attack: Attack) -> Result<Trial> {
    let _guest = Guest::boot(System::Unikernel, "http", Kind::Q35, USUAL_MEMORY_MIB)?;
    let quiet = attacks::serve(TIME);
    let attacked = attacks::serve_during(attack, TIME).context(name)?;
    Ok(Trial { attack: name, quiet, attacked })
}
