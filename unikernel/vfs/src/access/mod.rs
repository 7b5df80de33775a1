//! Who may do what: discretionary access control as Linux has it (credentials(7), capabilities(7), path_resolution(7), acl(5)).
//!
//! - [`Credentials`]: whom a thread acts for: ids, groups, [`Capabilities`], securebits; how calls change them. `program`: what a
//!   program gets that is executed ([`Execution`], [`FileCapabilities`]);
//! - [`Acl`]: an access control list, in the forms that a disk and an extended attribute have it;
//! - here and in `rules`: the decisions, as functions of credentials and an [`Object`]: [`check`] for what is read, written, executed or searched;
//!   [`check_removal`] in sticky directories; [`check_owner`]; what changes of attributes are allowed and what they bring along; what a new
//!   file gets.
//!
//! Nothing here knows a path, a mount or a lock: the kernel finds the object, asks, and does. Everybody who asks asks here.

mod acl;
mod capability;
mod credentials;
mod program;
mod rules;
#[cfg(test)]
mod tests;

pub use acl::{Acl, AclEntry, AclError, AclTag, Inherited};
pub use capability::{CAPABILITY_COUNT, Capability, CapabilitySet};
pub use credentials::{Ambient, Capabilities, Credentials, Ids, SecureBits};
pub use program::{Execution, FileCapabilities, ProgramFile};
pub use rules::{
    SET_GROUP_ID, SET_USER_ID, STICKY, change_mode, change_owner, check_hard_link, check_owner,
    check_removal, check_times, new_permissions, without_privileges,
};

/// What somebody wants to do with the content of an object; bits of `access(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted(u8);

impl Wanted {
    /// Only that it is there.
    pub const NOTHING: Self = Self(0);
    /// Execute a file, or search a directory.
    pub const EXECUTE: Self = Self(1);
    /// Write a file, or make and remove names in a directory.
    pub const WRITE: Self = Self(2);
    /// Read a file, or list a directory.
    pub const READ: Self = Self(4);
    /// Change the names in a directory.
    pub const CHANGE_NAMES: Self = Self(3);

    /// The lower three bits of a number.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits as u8 & 7)
    }

    /// As a number of three bits, as in a mode.
    pub const fn bits(self) -> u16 {
        self.0 as u16
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What is known of what is to be used or changed.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// It is a directory.
    pub is_directory: bool,
    /// Owning user.
    pub user: u32,
    /// Owning group.
    pub group: u32,
    /// The low twelve bits of the mode.
    pub permissions: u16,
    /// Its access control list, if it has one. Only asked for where [`needs_acl`] says so.
    pub acl: Option<&'a Acl>,
}

/// Why something is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The mode or the list does not allow it (`EACCES`).
    Denied,
    /// Only the owner, or who has a capability, may do it (`EPERM`).
    NotPermitted,
}

/// True if the answer of [`check`] can depend on the object's access control list: its owner is not the one who asks, and the
/// group's bits, which are the list's mask, leave something (Linux: `acl_permission_check`).
pub fn needs_acl(who: &Credentials, user: u32, permissions: u16) -> bool {
    who.user_fs != user && permissions & 0o070 != 0
}

/// Whether somebody may use an object so (Linux: `generic_permission`).
pub fn check(who: &Credentials, object: &Object<'_>, wanted: Wanted) -> Result<(), Refusal> {
    if by_mode(who, object, wanted) {
        return Ok(());
    }
    let reads_only = !wanted.has(Wanted::WRITE);
    let overrides = if object.is_directory {
        reads_only && who.has(Capability::DacReadSearch) || who.has(Capability::DacOverride)
    } else {
        let is_executable = object.permissions & 0o111 != 0;
        wanted == Wanted::READ && who.has(Capability::DacReadSearch)
            || (!wanted.has(Wanted::EXECUTE) || is_executable) && who.has(Capability::DacOverride)
    };
    if overrides { Ok(()) } else { Err(Refusal::Denied) }
}

/// What owner, group, mode and list say, without capabilities.
fn by_mode(who: &Credentials, object: &Object<'_>, wanted: Wanted) -> bool {
    let allows = |bits: u16| wanted.bits() & !bits == 0;
    if who.user_fs == object.user {
        return allows(object.permissions >> 6);
    }
    if let Some(acl) = object.acl.filter(|_| object.permissions & 0o070 != 0) {
        return acl.allows(who, object, wanted);
    }
    let is_member = who.is_in_group(object.group);
    allows(if is_member { object.permissions >> 3 } else { object.permissions })
}
