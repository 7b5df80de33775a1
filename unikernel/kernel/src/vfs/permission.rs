//! Who may do what with inodes: `unikernel_vfs::access` decides, of what the inode and its extended attributes say. These are read when
//! they matter for the first time, and kept ([`AccessAttributes`]).

use alloc::sync::Arc;

use unikernel_vfs::access::{
    self, Acl, AclError, Credentials, FileCapabilities, Object, Wanted, check_removal, needs_acl,
};
use unikernel_vfs::{AttributeChange, Attributes, Error, FileKind, FileSystem, InodeNumber};

use super::inode::Inode;
use super::{errno, now};
use crate::abi::Errno;
use crate::task::credentials;

/// The attribute that holds an access control list (acl(5)).
pub(crate) const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// The one that holds what new files in a directory begin with.
pub(crate) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";
/// The one that holds what a program gets (capabilities(7)).
pub(crate) const CAPABILITIES: &[u8] = b"security.capability";

/// What extended attributes of an inode say of who may use it, and how.
#[derive(Default)]
pub(crate) struct AccessAttributes {
    /// Who may do what beside owner, group and others.
    pub(super) access: Option<Acl>,
    /// What new files in the directory begin with.
    pub(super) default: Option<Acl>,
    /// What the program gets.
    pub(crate) capabilities: Option<FileCapabilities>,
}

/// The value of an attribute, if there is one.
fn value_of(
    filesystem: &mut dyn FileSystem,
    inode: InodeNumber,
    name: &[u8],
) -> Result<Option<alloc::vec::Vec<u8>>, Error> {
    match filesystem.extended_attribute(inode, name) {
        Ok(value) => Ok(Some(value)),
        Err(Error::NoAttribute | Error::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn list_error(error: AclError) -> Error {
    match error {
        AclError::Malformed => Error::Corrupt("an access control list"),
        AclError::Version => Error::Unsupported,
        AclError::OutOfMemory => Error::NoMemory,
    }
}

impl AccessAttributes {
    fn read(filesystem: &mut dyn FileSystem, inode: InodeNumber, kind: FileKind) -> Result<Self, Error> {
        let mut list = |name| match value_of(filesystem, inode, name)? {
            Some(value) => Acl::from_attribute(&value).map_err(list_error),
            None => Ok(None),
        };
        let access = list(ACCESS_LIST)?;
        let default = if kind == FileKind::Directory { list(DEFAULT_LIST)? } else { None };
        let capabilities = match kind {
            FileKind::File => value_of(filesystem, inode, CAPABILITIES)?,
            _ => None,
        };
        let capabilities = capabilities.and_then(|value| FileCapabilities::parse(&value));
        Ok(Self { access, default, capabilities })
    }
}

pub(super) fn object<'a>(attributes: &Attributes, acl: Option<&'a Acl>) -> Object<'a> {
    Object {
        is_directory: attributes.kind == FileKind::Directory,
        user: attributes.user,
        group: attributes.group,
        permissions: attributes.permissions,
        acl,
    }
}

impl Inode {
    /// What its extended attributes say of who may use it. Whoever keeps a shared filesystem checks them itself.
    pub(crate) fn access_attributes(&self) -> Result<Arc<AccessAttributes>, Errno> {
        if let Some(known) = &*self.access_attributes.lock() {
            return Ok(Arc::clone(known));
        }
        let kind = self.kind();
        let keep = |read| {
            let read = Arc::new(read);
            *self.access_attributes.lock() = Some(Arc::clone(&read));
            read
        };
        if self.mount.is_shared || kind == FileKind::Symlink {
            return Ok(keep(AccessAttributes::default()));
        }
        // Kept while nobody can change them: who does has them forgotten after that.
        self.mount.with(|filesystem| AccessAttributes::read(filesystem, self.number, kind).map(keep))
    }

    /// They have changed.
    pub(crate) fn forget_access_attributes(&self) {
        let _before = self.access_attributes.lock().take();
    }

    /// Whether somebody may use it so.
    pub(crate) fn check_for(&self, who: &Credentials, wanted: Wanted) -> Result<(), Errno> {
        let attributes = *self.attributes.lock();
        if !needs_acl(who, attributes.user, attributes.permissions) {
            return Ok(access::check(who, &object(&attributes, None), wanted)?);
        }
        let known = self.access_attributes()?;
        Ok(access::check(who, &object(&attributes, known.access.as_ref()), wanted)?)
    }

    /// Whether the running thread may use it so.
    pub(crate) fn check(&self, wanted: Wanted) -> Result<(), Errno> {
        credentials::restricted().map_or(Ok(()), |who| self.check_for(&who, wanted))
    }

    /// Whether the running thread may take a name away from this directory that leads to `found`.
    pub(crate) fn check_removal(&self, found: &Self) -> Result<(), Errno> {
        let Some(who) = credentials::restricted() else { return Ok(()) };
        self.check_for(&who, Wanted::CHANGE_NAMES)?;
        let attributes = *self.attributes.lock();
        Ok(check_removal(&who, &object(&attributes, None), found.attributes().user)?)
    }

    /// Asks `rule` about it for somebody, with its list where that can matter.
    pub(crate) fn ask<T>(&self, who: &Credentials, rule: impl FnOnce(&Object<'_>) -> T) -> Result<T, Errno> {
        let attributes = self.attributes();
        if who.is_unrestricted() || !needs_acl(who, attributes.user, attributes.permissions) {
            return Ok(rule(&object(&attributes, None)));
        }
        let known = self.access_attributes()?;
        Ok(rule(&object(&attributes, known.access.as_ref())))
    }

    /// Has the permissions agree with its list, which chmod(2) has changed through them.
    pub(super) fn follow_mode(&self, permissions: u16) -> Result<(), Errno> {
        let known = self.access_attributes()?;
        let Some(list) = &known.access else { return Ok(()) };
        let list = list.with_mode(permissions);
        let value = list.and_then(|list| list.to_attribute()).map_err(list_error).map_err(errno)?;
        self.mount
            .with(|filesystem| filesystem.set_extended_attribute(self.number, ACCESS_LIST, &value, now()))?;
        self.forget_access_attributes();
        Ok(())
    }

    /// A program that is changed by who is not privileged loses its privileges: bits and capabilities.
    pub(super) fn drop_privileges(&self) -> Result<(), Errno> {
        let Some(who) = credentials::restricted() else { return Ok(()) };
        let Attributes { kind, permissions, group, .. } = *self.attributes.lock();
        if kind != FileKind::File {
            return Ok(());
        }
        if let Some(permissions) = access::without_privileges(&who, permissions, group) {
            let change = AttributeChange { permissions: Some(permissions), ..AttributeChange::default() };
            self.mount.with(|filesystem| {
                filesystem.set_attributes(self.number, change, now())?;
                self.refresh_in(filesystem)
            })?;
        }
        self.drop_capabilities()
    }

    /// A program that is changed or given away loses its capabilities, whoever does it.
    pub(crate) fn drop_capabilities(&self) -> Result<(), Errno> {
        if self.kind() != FileKind::File || self.access_attributes()?.capabilities.is_none() {
            return Ok(());
        }
        self.mount
            .with(|filesystem| filesystem.remove_extended_attribute(self.number, CAPABILITIES, now()))?;
        self.forget_access_attributes();
        Ok(())
    }
}
