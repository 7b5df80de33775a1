//! What credentials become when a program is executed (execve(2); capabilities(7), "Transformation of capabilities during
//! execve()"), and the capabilities that its file brings (`security.capability`, linux/capability.h).

use super::{Capability, CapabilitySet, Credentials, Refusal, SET_GROUP_ID, SET_USER_ID};

const ROOT: u32 = 0;
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const IS_EFFECTIVE: u32 = 1;

/// What a file's `security.capability` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileCapabilities {
    /// Those that the program gets, whoever executes it.
    pub permitted: CapabilitySet,
    /// Those that it gets from who has them inheritable.
    pub inheritable: CapabilitySet,
    /// They are in force from the start.
    pub is_effective: bool,
}

impl FileCapabilities {
    /// Reads the attribute; `None` if that is not its form, which Linux takes as no capabilities. Those of another user's namespace
    /// (revision 3 with a root other than 0) are none here.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let bytes = value.get(index * 4..index * 4 + 4)?;
            Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let head = word(0)?;
        let (halves, words) = match head & REVISION_MASK {
            REVISION_1 => (1, 3),
            REVISION_2 => (2, 5),
            REVISION_3 if word(5)? == ROOT => (2, 6),
            _ => return None,
        };
        if value.len() != words * 4 {
            return None;
        }
        let half = |index: usize, half: usize| if half < halves { word(index + 2 * half) } else { Some(0) };
        let set = |index| Some(u64::from(half(index, 0)?) | u64::from(half(index, 1)?) << 32);
        Some(Self {
            permitted: CapabilitySet::from_bits(set(1)?),
            inheritable: CapabilitySet::from_bits(set(2)?),
            is_effective: head & IS_EFFECTIVE != 0,
        })
    }
}

/// What the file of a program says of whom it runs as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramFile {
    /// Owning user.
    pub user: u32,
    /// Owning group.
    pub group: u32,
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Its capabilities.
    pub capabilities: Option<FileCapabilities>,
    /// Its mount is `nosuid`: neither bits nor capabilities count.
    pub is_on_nosuid: bool,
}

/// What comes of an execution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Execution {
    /// Whom the program runs as.
    pub credentials: Credentials,
    /// It has privileges that its caller had not (`AT_SECURE`).
    pub is_secure: bool,
}

impl Credentials {
    /// What a program gets that somebody executes; `EPERM` if its file wants capabilities that it cannot have
    /// (Linux: `bprm_fill_uid`, `cap_bprm_creds_from_file`).
    pub fn execute(&self, file: &ProgramFile, has_no_new_privileges: bool) -> Result<Execution, Refusal> {
        let mut new = self.clone();
        if !file.is_on_nosuid && !has_no_new_privileges {
            if file.permissions & SET_USER_ID != 0 {
                new.user.effective = file.user;
            }
            if file.permissions & (SET_GROUP_ID | 0o010) == SET_GROUP_ID | 0o010 {
                new.group.effective = file.group;
            }
        }
        let (mut permitted, mut is_effective) = (CapabilitySet::NONE, false);
        let of_file = file.capabilities.filter(|_| !file.is_on_nosuid);
        let held = self.capabilities;
        if let Some(of_file) = of_file {
            permitted = held.bounding.and(of_file.permitted).or(held.inheritable.and(of_file.inheritable));
            is_effective = of_file.is_effective;
            // Who would have less than its program counts on is not to run it.
            if is_effective && !permitted.contains(of_file.permitted) {
                return Err(Refusal::NotPermitted);
            }
        }
        let is_root = new.user.effective == ROOT;
        let is_mixed = of_file.is_some() && is_root && new.user.real != ROOT;
        if !self.secure_bits.has_no_root() && !is_mixed {
            if is_root || new.user.real == ROOT {
                permitted = held.bounding.or(held.inheritable);
            }
            is_effective |= is_root;
        }
        let has_new_ids = new.user.effective != self.user.effective || !self.is_in_group(new.group.effective);
        let gains = !held.permitted.contains(permitted);
        if (has_new_ids || gains) && has_no_new_privileges {
            // It gets no more than there was, and maybe less.
            new.user.effective = new.user.real;
            new.group.effective = new.group.real;
            permitted = permitted.and(held.permitted);
        }
        (new.user.saved, new.user_fs) = (new.user.effective, new.user.effective);
        (new.group.saved, new.group_fs) = (new.group.effective, new.group.effective);
        let ambient = if of_file.is_some() || has_new_ids { CapabilitySet::NONE } else { held.ambient };
        let sets = &mut new.capabilities;
        sets.ambient = ambient;
        sets.permitted = permitted.or(ambient);
        sets.effective = if is_effective { sets.permitted } else { ambient };
        let has_grown = !sets.ambient.contains(sets.permitted);
        new.forget_keep();
        // Who runs as another than has started him is told so each time.
        let is_secure = has_new_ids
            || new.user.effective != self.user.real
            || new.group.effective != self.group.real
            || new.user.real != ROOT && (is_effective || has_grown);
        Ok(Execution { credentials: new, is_secure })
    }

    /// True if somebody may set a file's capabilities.
    pub fn may_set_file_capabilities(&self) -> bool {
        self.has(Capability::SetFileCapabilities)
    }
}
