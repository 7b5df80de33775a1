//! Access control lists (acl(5)): who beside owner, group and others may do what. The check is Linux's `posix_acl_permission`.
//!
//! Two forms of the same: an attribute, as `getxattr` tells it (linux/posix_acl_xattr.h: version 2, entries of 8 bytes), and ext4's own on a
//! disk (version 1, with ids only where there are any). What either says is checked by one rule ([`Acl::from_attribute`]).

use alloc::vec::Vec;

use super::{Credentials, Object, Wanted};

/// Entries at most: what fits an attribute of 64 KiB.
const MOST_ENTRIES: usize = 8191;
const ATTRIBUTE_VERSION: u32 = 2;
const DISK_VERSION: u32 = 1;
const HEADER_BYTES: usize = 4;
/// An id where none belongs.
const NO_ID: u32 = u32::MAX;

/// Whom an entry is about; the numbers are Linux's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
pub enum AclTag {
    /// The owner.
    Owner = 0x01,
    /// A user.
    User = 0x02,
    /// The group.
    OwningGroup = 0x04,
    /// A group.
    Group = 0x08,
    /// The most that users and groups may.
    Mask = 0x10,
    /// Everybody else.
    Other = 0x20,
}

impl AclTag {
    fn from_number(number: u16) -> Option<Self> {
        [Self::Owner, Self::User, Self::OwningGroup, Self::Group, Self::Mask, Self::Other]
            .into_iter()
            .find(|tag| *tag as u16 == number)
    }

    const fn has_id(self) -> bool {
        matches!(self, Self::User | Self::Group)
    }
}

/// One line of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry {
    /// Whom it is about.
    pub tag: AclTag,
    /// Which user or group, if it names one.
    pub id: u32,
    /// Three bits.
    pub permissions: u16,
}

/// Why bytes are no list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclError {
    /// They have another form (`EINVAL`, as far as a program wrote them).
    Malformed,
    /// A form that is not known (`EOPNOTSUPP`).
    Version,
    /// There is no memory for it.
    OutOfMemory,
}

/// A list: sound, and in the order in which it is looked through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl {
    entries: Vec<AclEntry>,
}

/// What a new object has from its directory's list ([`Acl::inherit`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inherited {
    /// Its permissions.
    pub permissions: u16,
    /// A list of its own, unless the permissions say the same.
    pub acl: Option<Acl>,
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(le16(bytes, at)?) | u32::from(le16(bytes, at.checked_add(2)?)?) << 16)
}

impl Acl {
    /// Reads an attribute's value. `None` is a list without entries, which stands for none.
    pub fn from_attribute(value: &[u8]) -> Result<Option<Self>, AclError> {
        Self::read(value, ATTRIBUTE_VERSION, |_| true)
    }

    /// Reads what ext4 has on its disk.
    pub fn from_disk(value: &[u8]) -> Result<Option<Self>, AclError> {
        Self::read(value, DISK_VERSION, AclTag::has_id)
    }

    fn read(value: &[u8], version: u32, has_id: impl Fn(AclTag) -> bool) -> Result<Option<Self>, AclError> {
        if le32(value, 0).ok_or(AclError::Malformed)? != version {
            return Err(AclError::Version);
        }
        let mut entries = Vec::new();
        let mut at = HEADER_BYTES;
        while at < value.len() {
            let tag = le16(value, at).and_then(AclTag::from_number).ok_or(AclError::Malformed)?;
            let permissions = le16(value, at + 2).ok_or(AclError::Malformed)?;
            let is_long = has_id(tag);
            let id = if is_long { le32(value, at + 4).ok_or(AclError::Malformed)? } else { NO_ID };
            let id = if tag.has_id() { id } else { NO_ID };
            if entries.len() == MOST_ENTRIES {
                return Err(AclError::Malformed);
            }
            entries.try_reserve(1).map_err(|_| AclError::OutOfMemory)?;
            entries.push(AclEntry { tag, id, permissions });
            at += if is_long { 8 } else { 4 };
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let acl = Self { entries };
        if acl.is_sound() { Ok(Some(acl)) } else { Err(AclError::Malformed) }
    }

    /// acl(5), "Valid ACLs": one entry each for owner, group and others, in order, and a mask if users or groups are named (Linux:
    /// `posix_acl_valid`).
    fn is_sound(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|entry| entry.tag == tag).count();
        let is_ordered = self.entries.is_sorted_by_key(|entry| entry.tag);
        let is_named = self.entries.iter().all(|entry| !entry.tag.has_id() || entry.id != NO_ID);
        let needs_mask = count(AclTag::User) + count(AclTag::Group) > 0;
        let has_three =
            [AclTag::Owner, AclTag::OwningGroup, AclTag::Other].iter().all(|tag| count(*tag) == 1);
        let has_bits = self.entries.iter().all(|entry| entry.permissions & !7 == 0);
        is_ordered
            && is_named
            && has_bits
            && has_three
            && count(AclTag::Mask) <= 1
            && (!needs_mask || count(AclTag::Mask) == 1)
    }

    /// The lines.
    pub fn entries(&self) -> &[AclEntry] {
        &self.entries
    }

    /// As an attribute's value.
    pub fn to_attribute(&self) -> Result<Vec<u8>, AclError> {
        self.write(ATTRIBUTE_VERSION, |_| true)
    }

    /// As ext4 has it on its disk.
    pub fn to_disk(&self) -> Result<Vec<u8>, AclError> {
        self.write(DISK_VERSION, AclTag::has_id)
    }

    fn write(&self, version: u32, has_id: impl Fn(AclTag) -> bool) -> Result<Vec<u8>, AclError> {
        let mut value = Vec::new();
        value.try_reserve(HEADER_BYTES + 8 * self.entries.len()).map_err(|_| AclError::OutOfMemory)?;
        value.extend_from_slice(&version.to_le_bytes());
        for entry in &self.entries {
            value.extend_from_slice(&(entry.tag as u16).to_le_bytes());
            value.extend_from_slice(&entry.permissions.to_le_bytes());
            if has_id(entry.tag) {
                value.extend_from_slice(&entry.id.to_le_bytes());
            }
        }
        Ok(value)
    }

    fn permissions_of(&self, tag: AclTag) -> Option<u16> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions)
    }

    /// acl(5), "Access check algorithm".
    pub(super) fn allows(&self, who: &Credentials, object: &Object<'_>, wanted: Wanted) -> bool {
        let has_all = |permissions: u16| wanted.bits() & !permissions == 0;
        let mask = self.permissions_of(AclTag::Mask).unwrap_or(7);
        let mut is_member = false;
        for entry in &self.entries {
            match entry.tag {
                AclTag::Owner if who.user_fs == object.user => return has_all(entry.permissions),
                AclTag::User if who.user_fs == entry.id => return has_all(entry.permissions & mask),
                AclTag::OwningGroup | AclTag::Group => {
                    let group = if entry.tag == AclTag::Group { entry.id } else { object.group };
                    if who.is_in_group(group) {
                        is_member = true;
                        if has_all(entry.permissions) {
                            return has_all(entry.permissions & mask);
                        }
                    }
                }
                AclTag::Other => return !is_member && has_all(entry.permissions),
                AclTag::Owner | AclTag::User | AclTag::Mask => {}
            }
        }
        false
    }

    /// True if a mode can say the same.
    pub fn is_equivalent_to_mode(&self) -> bool {
        self.entries.len() == 3
    }

    /// The mode's lower nine bits: those of owner, of the mask or the group, and of others.
    pub fn mode(&self) -> u16 {
        let of = |tag| self.permissions_of(tag);
        let group = of(AclTag::Mask).or_else(|| of(AclTag::OwningGroup)).unwrap_or(0);
        of(AclTag::Owner).unwrap_or(0) << 6 | group << 3 | of(AclTag::Other).unwrap_or(0)
    }

    /// The list as chmod(2) leaves it (acl(5), "Correspondence between ACL entries and file permission bits").
    pub fn with_mode(&self, permissions: u16) -> Result<Self, AclError> {
        let mut acl = self.try_clone()?;
        acl.change_mode_entries(permissions, |_, new| new);
        Ok(acl)
    }

    fn try_clone(&self) -> Result<Self, AclError> {
        let mut entries = Vec::new();
        entries.try_reserve_exact(self.entries.len()).map_err(|_| AclError::OutOfMemory)?;
        entries.extend_from_slice(&self.entries);
        Ok(Self { entries })
    }

    /// Sets the entries that a mode is made of to what `change` makes of their present bits and the mode's.
    fn change_mode_entries(&mut self, permissions: u16, change: impl Fn(u16, u16) -> u16) {
        let of_group =
            if self.permissions_of(AclTag::Mask).is_some() { AclTag::Mask } else { AclTag::OwningGroup };
        for entry in &mut self.entries {
            let bits = match entry.tag {
                AclTag::Owner => permissions >> 6,
                AclTag::Other => permissions,
                tag if tag == of_group => permissions >> 3,
                _ => continue,
            };
            entry.permissions = change(entry.permissions, bits & 7);
        }
    }

    /// What is made in a directory with this default list gets, if `wanted` is asked for (acl(5), "Object creation and default ACLs"; Linux:
    /// `posix_acl_create_masq`). The umask has no part in it.
    pub fn inherit(&self, wanted: u16) -> Result<Inherited, AclError> {
        let mut acl = self.try_clone()?;
        acl.change_mode_entries(wanted, |present, asked| present & asked);
        let permissions = wanted & !0o777 | acl.mode();
        let is_same = acl.is_equivalent_to_mode();
        Ok(Inherited { permissions, acl: (!is_same).then_some(acl) })
    }
}
