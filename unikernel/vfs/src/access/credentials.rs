//! Whom a thread acts for, and how that changes: the ids (setuid(2), setreuid(2), setresuid(2), setfsuid(2)), the sets of capabilities
//! that follow them (capabilities(7), "Effect of user ID changes on capabilities"), capset(2) and what of prctl(2) concerns them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Capability, CapabilitySet, Refusal};

/// "Leave it as it is" (setresuid(2)).
const KEEP: u32 = u32::MAX;
const ROOT: u32 = 0;

/// The three ids of a kind (credentials(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    /// Who has started it.
    pub real: u32,
    /// Who it is for what it does.
    pub effective: u32,
    /// Who it may become again.
    pub saved: u32,
}

impl Ids {
    /// The same three times.
    pub const fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setresuid(2): without privilege each may only become one of the present three.
    fn with_each(self, wanted: [u32; 3], is_privileged: bool) -> Result<Self, Refusal> {
        let may = |id: &u32| *id == KEEP || is_privileged || self.has(*id);
        if !wanted.iter().all(may) {
            return Err(Refusal::NotPermitted);
        }
        let or_kept = |wanted, kept| if wanted == KEEP { kept } else { wanted };
        let [real, effective, saved] = wanted;
        Ok(Self {
            real: or_kept(real, self.real),
            effective: or_kept(effective, self.effective),
            saved: or_kept(saved, self.saved),
        })
    }

    /// setuid(2): all three with privilege, else the effective one, which becomes the real or the saved one.
    fn with_one(self, id: u32, is_privileged: bool) -> Result<Self, Refusal> {
        match id {
            _ if is_privileged => Ok(Self::all(id)),
            _ if id == self.real || id == self.saved => Ok(Self { effective: id, ..self }),
            _ => Err(Refusal::NotPermitted),
        }
    }

    /// setreuid(2): the saved one follows the effective one once that leaves the real one.
    fn with_pair(self, real: u32, effective: u32, is_privileged: bool) -> Result<Self, Refusal> {
        let is_swap = real == KEEP || real == self.real || real == self.effective;
        if !is_privileged && !is_swap {
            return Err(Refusal::NotPermitted);
        }
        let mut new = self.with_each([real, effective, KEEP], is_privileged)?;
        if real != KEEP || effective != KEEP && effective != self.real {
            new.saved = new.effective;
        }
        Ok(new)
    }
}

/// The five sets (capabilities(7), "Thread capability sets").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// `CapEff`: those in force.
    pub effective: CapabilitySet,
    /// `CapPrm`: those that it may put in force.
    pub permitted: CapabilitySet,
    /// `CapInh`: those that a program gets whose file says so, too.
    pub inheritable: CapabilitySet,
    /// `CapBnd`: those that a program can get at all.
    pub bounding: CapabilitySet,
    /// `CapAmb`: those that a program gets whose file says nothing.
    pub ambient: CapabilitySet,
}

/// How root differs from others (capabilities(7), "The securebits flags").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SecureBits(u32);

impl SecureBits {
    const NO_ROOT: u32 = 1;
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    const KEEP_CAPS: u32 = 1 << 4;
    const KEEP_CAPS_LOCKED: u32 = 1 << 5;
    const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    const FLAGS: u32 = 0x55;
    const LOCKS: u32 = Self::FLAGS << 1;

    /// As prctl(2) has them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// True if root gets no capabilities for being root.
    pub const fn has_no_root(self) -> bool {
        self.has(Self::NO_ROOT)
    }
}

/// What `PR_CAP_AMBIENT` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ambient {
    /// Adds one.
    Raise,
    /// Takes one away.
    Lower,
}

/// Whom a thread acts for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// Ids of the user.
    pub user: Ids,
    /// Ids of the group.
    pub group: Ids,
    /// Whose files it makes, and as whom it uses files (setfsuid(2)).
    pub user_fs: u32,
    /// The same of the group.
    pub group_fs: u32,
    /// The groups that it is in beside that, in order.
    pub groups: Arc<Vec<u32>>,
    /// What of root it has.
    pub capabilities: Capabilities,
    /// How root differs from others.
    pub secure_bits: SecureBits,
}

impl Credentials {
    /// Root, who may do everything.
    pub fn root() -> Self {
        Self::of_user(ROOT, ROOT, Vec::new())
    }

    /// Somebody, as login(1) makes him: without capabilities, unless it is root.
    pub fn of_user(user: u32, group: u32, mut groups: Vec<u32>) -> Self {
        let held = if user == ROOT { CapabilitySet::ALL } else { CapabilitySet::NONE };
        groups.sort_unstable();
        Self {
            user: Ids::all(user),
            group: Ids::all(group),
            user_fs: user,
            group_fs: group,
            groups: Arc::new(groups),
            capabilities: Capabilities {
                effective: held,
                permitted: held,
                inheritable: CapabilitySet::NONE,
                bounding: CapabilitySet::ALL,
                ambient: CapabilitySet::NONE,
            },
            secure_bits: SecureBits::default(),
        }
    }

    /// True if it has a capability in force.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.effective.has(capability)
    }

    /// True if it is in a group, as far as files are concerned.
    pub fn is_in_group(&self, group: u32) -> bool {
        self.group_fs == group || self.groups.binary_search(&group).is_ok()
    }

    /// True for who may do everything with files, and owns what root owns: nothing that a mode says matters but whether
    /// anybody may execute it.
    pub fn is_unrestricted(&self) -> bool {
        self.user_fs == ROOT && self.capabilities.effective == CapabilitySet::ALL
    }

    /// setuid(2).
    pub fn set_user(&mut self, id: u32) -> Result<(), Refusal> {
        let new = self.user.with_one(id, self.has(Capability::SetUid))?;
        self.become_user(new);
        Ok(())
    }

    /// setreuid(2).
    pub fn set_user_pair(&mut self, real: u32, effective: u32) -> Result<(), Refusal> {
        let new = self.user.with_pair(real, effective, self.has(Capability::SetUid))?;
        self.become_user(new);
        Ok(())
    }

    /// setresuid(2).
    pub fn set_user_each(&mut self, wanted: [u32; 3]) -> Result<(), Refusal> {
        let new = self.user.with_each(wanted, self.has(Capability::SetUid))?;
        // Nothing to change leaves the id for files, too (Linux since 6.2).
        let changes_fs = wanted[1] != KEEP && self.user_fs != new.effective;
        if new != self.user || changes_fs {
            self.become_user(new);
        }
        Ok(())
    }

    fn become_user(&mut self, new: Ids) {
        let before = self.user;
        self.user = new;
        self.user_fs = new.effective;
        if self.secure_bits.has(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        let sets = &mut self.capabilities;
        if before.has(ROOT) && !new.has(ROOT) {
            if !self.secure_bits.has(SecureBits::KEEP_CAPS) {
                (sets.permitted, sets.effective) = (CapabilitySet::NONE, CapabilitySet::NONE);
            }
            sets.ambient = CapabilitySet::NONE;
        }
        match (before.effective == ROOT, new.effective == ROOT) {
            (true, false) => sets.effective = CapabilitySet::NONE,
            (false, true) => sets.effective = sets.permitted,
            _ => {}
        }
    }

    /// setgid(2).
    pub fn set_group(&mut self, id: u32) -> Result<(), Refusal> {
        self.become_group(self.group.with_one(id, self.has(Capability::SetGid))?);
        Ok(())
    }

    /// setregid(2).
    pub fn set_group_pair(&mut self, real: u32, effective: u32) -> Result<(), Refusal> {
        self.become_group(self.group.with_pair(real, effective, self.has(Capability::SetGid))?);
        Ok(())
    }

    /// setresgid(2).
    pub fn set_group_each(&mut self, wanted: [u32; 3]) -> Result<(), Refusal> {
        let new = self.group.with_each(wanted, self.has(Capability::SetGid))?;
        if new != self.group || wanted[1] != KEEP {
            self.become_group(new);
        }
        Ok(())
    }

    fn become_group(&mut self, new: Ids) {
        self.group = new;
        self.group_fs = new.effective;
    }

    /// setfsuid(2): the capabilities that concern files come and go with root. What is not allowed changes nothing.
    pub fn set_user_fs(&mut self, id: u32) {
        let may = self.user.has(id) || id == self.user_fs || self.has(Capability::SetUid);
        if id == KEEP || !may {
            return;
        }
        let before = core::mem::replace(&mut self.user_fs, id);
        if self.secure_bits.has(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        let sets = &mut self.capabilities;
        let of_files = CapabilitySet::OF_FILES;
        match (before == ROOT, id == ROOT) {
            (true, false) => sets.effective = sets.effective.without(of_files),
            (false, true) => sets.effective = sets.effective.or(sets.permitted.and(of_files)),
            _ => {}
        }
    }

    /// setfsgid(2).
    pub fn set_group_fs(&mut self, id: u32) {
        if id != KEEP && (self.group.has(id) || id == self.group_fs || self.has(Capability::SetGid)) {
            self.group_fs = id;
        }
    }

    /// setgroups(2).
    pub fn set_groups(&mut self, mut groups: Vec<u32>) -> Result<(), Refusal> {
        if !self.has(Capability::SetGid) {
            return Err(Refusal::NotPermitted);
        }
        groups.sort_unstable();
        self.groups = Arc::new(groups);
        Ok(())
    }

    /// capset(2): gives capabilities up, or puts others of its own in force.
    pub fn set_capabilities(
        &mut self,
        effective: CapabilitySet,
        permitted: CapabilitySet,
        inheritable: CapabilitySet,
    ) -> Result<(), Refusal> {
        let held = self.capabilities;
        let may_inherit =
            self.has(Capability::SetPcap) || held.inheritable.or(held.permitted).contains(inheritable);
        let is_allowed = may_inherit
            && held.inheritable.or(held.bounding).contains(inheritable)
            && held.permitted.contains(permitted)
            && permitted.contains(effective);
        if !is_allowed {
            return Err(Refusal::NotPermitted);
        }
        let ambient = held.ambient.and(permitted.and(inheritable));
        self.capabilities = Capabilities { effective, permitted, inheritable, ambient, ..held };
        Ok(())
    }

    /// `PR_CAPBSET_DROP`.
    pub fn drop_bounding(&mut self, dropped: CapabilitySet) -> Result<(), Refusal> {
        if !self.has(Capability::SetPcap) {
            return Err(Refusal::NotPermitted);
        }
        self.capabilities.bounding = self.capabilities.bounding.without(dropped);
        Ok(())
    }

    /// `PR_CAP_AMBIENT`.
    pub fn change_ambient(&mut self, what: Ambient, which: CapabilitySet) -> Result<(), Refusal> {
        let sets = &mut self.capabilities;
        if what == Ambient::Lower {
            sets.ambient = sets.ambient.without(which);
            return Ok(());
        }
        let is_own = sets.permitted.and(sets.inheritable).contains(which);
        if !is_own || self.secure_bits.has(SecureBits::NO_CAP_AMBIENT_RAISE) {
            return Err(Refusal::NotPermitted);
        }
        sets.ambient = sets.ambient.or(which);
        Ok(())
    }

    /// `PR_SET_SECUREBITS`.
    pub fn set_secure_bits(&mut self, bits: u64) -> Result<(), Refusal> {
        let old = self.secure_bits.0;
        let known = u64::from(SecureBits::FLAGS | SecureBits::LOCKS);
        let new = bits as u32;
        let locked = (old & SecureBits::LOCKS) >> 1;
        let is_refused = locked & (old ^ new) != 0
            || old & SecureBits::LOCKS & !new != 0
            || bits & !known != 0
            || !self.has(Capability::SetPcap);
        if is_refused {
            return Err(Refusal::NotPermitted);
        }
        self.secure_bits = SecureBits(new);
        Ok(())
    }

    /// `PR_GET_KEEPCAPS`.
    pub fn keeps_capabilities(&self) -> bool {
        self.secure_bits.has(SecureBits::KEEP_CAPS)
    }

    /// `PR_SET_KEEPCAPS`.
    pub fn set_keeps_capabilities(&mut self, keeps: bool) -> Result<(), Refusal> {
        if self.secure_bits.has(SecureBits::KEEP_CAPS_LOCKED) {
            return Err(Refusal::NotPermitted);
        }
        let others = self.secure_bits.0 & !SecureBits::KEEP_CAPS;
        self.secure_bits = SecureBits(if keeps { others | SecureBits::KEEP_CAPS } else { others });
        Ok(())
    }

    /// The program has ended for which capabilities were to be kept.
    pub(super) fn forget_keep(&mut self) {
        self.secure_bits.0 &= !SecureBits::KEEP_CAPS;
    }

    /// Whom access(2) asks for: the real ids, with what root would have in force.
    #[must_use]
    pub fn with_real_ids(&self) -> Self {
        let mut real = self.clone();
        (real.user_fs, real.group_fs) = (self.user.real, self.group.real);
        if !self.secure_bits.has(SecureBits::NO_SETUID_FIXUP) {
            let sets = &mut real.capabilities;
            sets.effective = if self.user.real == ROOT { sets.permitted } else { CapabilitySet::NONE };
        }
        real
    }
}
