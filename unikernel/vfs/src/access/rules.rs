//! Decisions about attributes and names, as Linux makes them in `fs/attr.c`, `fs/inode.c` and `fs/namei.c`.

use super::{Capability, Credentials, Object, Refusal, Wanted, check};

/// The program runs as the file's owner (inode(7)).
pub const SET_USER_ID: u16 = 0o4000;
/// The program runs as the file's group; what is made in the directory gets its group.
pub const SET_GROUP_ID: u16 = 0o2000;
/// Names in the directory go only by the owner of either.
pub const STICKY: u16 = 0o1000;
const GROUP_EXECUTES: u16 = 0o010;

fn permitted(is_permitted: bool) -> Result<(), Refusal> {
    if is_permitted { Ok(()) } else { Err(Refusal::NotPermitted) }
}

fn is_owner(who: &Credentials, user: u32) -> bool {
    who.user_fs == user || who.has(Capability::FileOwner)
}

/// Members of a group may set and keep the set-group-ID bit.
fn may_set_group_id(who: &Credentials, group: u32) -> bool {
    who.is_in_group(group) || who.has(Capability::FileSetId)
}

/// Whether somebody may do what is the owner's to do.
pub fn check_owner(who: &Credentials, user: u32) -> Result<(), Refusal> {
    permitted(is_owner(who, user))
}

/// Whether a name that leads to an object of `user` may go from a directory in which somebody may change names: a sticky one
/// keeps what others own.
pub fn check_removal(who: &Credentials, directory: &Object<'_>, user: u32) -> Result<(), Refusal> {
    let is_free = directory.permissions & STICKY == 0 || who.user_fs == directory.user;
    permitted(is_free || is_owner(who, user))
}

/// Whether somebody may give an object one more name (`fs.protected_hardlinks`, proc_sys_fs(5)): its owner, and who may read and write
/// it anyway, if it is a regular file that gives nobody privileges.
pub fn check_hard_link(who: &Credentials, object: &Object<'_>, is_regular: bool) -> Result<(), Refusal> {
    let is_group_program =
        object.permissions & (SET_GROUP_ID | GROUP_EXECUTES) == SET_GROUP_ID | GROUP_EXECUTES;
    let is_safe = is_regular && object.permissions & SET_USER_ID == 0 && !is_group_program;
    let may_use = || check(who, object, Wanted::READ.and(Wanted::WRITE)).is_ok();
    permitted(is_owner(who, object.user) || is_safe && may_use())
}

/// Whether somebody may set an object's times (utimensat(2)): to the present one whoever may write it, to others its owner.
pub fn check_times(who: &Credentials, object: &Object<'_>, is_now: bool) -> Result<(), Refusal> {
    match is_owner(who, object.user) {
        true => Ok(()),
        false if is_now => check(who, object, Wanted::WRITE),
        false => Err(Refusal::NotPermitted),
    }
}

/// The permissions that chmod(2) sets when `wanted` are asked for.
pub fn change_mode(who: &Credentials, object: &Object<'_>, wanted: u16) -> Result<u16, Refusal> {
    check_owner(who, object.user)?;
    let dropped = if may_set_group_id(who, object.group) { 0 } else { SET_GROUP_ID };
    Ok(wanted & !dropped)
}

/// Whether chown(2) may give an object to `user` and `group`, and the permissions that it has then if they change: a program
/// does not keep its privileges.
pub fn change_owner(
    who: &Credentials,
    object: &Object<'_>,
    user: Option<u32>,
    group: Option<u32>,
) -> Result<Option<u16>, Refusal> {
    let (is_own, may_give) = (who.user_fs == object.user, who.has(Capability::Chown));
    let may_be_user = |user| may_give || is_own && user == object.user;
    let may_be_group = |group| may_give || is_own && (group == object.group || who.is_in_group(group));
    permitted(user.is_none_or(may_be_user) && group.is_none_or(may_be_group))?;
    let dropped = if object.is_directory { 0 } else { privileges(who, object.permissions, object.group) };
    if dropped == 0 {
        return Ok(None);
    }
    // The mode changes, too, which Linux asks about as if it was wanted.
    check_owner(who, object.user)?;
    let is_lost = !may_set_group_id(who, group.unwrap_or(object.group));
    Ok(Some(object.permissions & !dropped & !if is_lost { SET_GROUP_ID } else { 0 }))
}

/// The bits by which a program has privileges. Without the group's permission to execute, the set-group-ID bit is one for locks
/// that once were, and stays for members of the group.
fn privileges(who: &Credentials, permissions: u16, group: u32) -> u16 {
    let of_group = permissions & SET_GROUP_ID != 0
        && (permissions & GROUP_EXECUTES != 0 || !may_set_group_id(who, group));
    permissions & SET_USER_ID | if of_group { SET_GROUP_ID } else { 0 }
}

/// The permissions of a regular file after somebody has changed its content, if that changes them (Linux: `file_remove_privs`).
pub fn without_privileges(who: &Credentials, permissions: u16, group: u32) -> Option<u16> {
    let dropped = privileges(who, permissions, group);
    (dropped != 0 && !who.has(Capability::FileSetId)).then_some(permissions & !dropped)
}

/// Group and permissions of what somebody makes in a directory (Linux: `inode_init_owner`): if that has its set-group-ID bit set,
/// its group goes on, and to directories the bit, too.
pub fn new_permissions(
    who: &Credentials,
    directory: &Object<'_>,
    is_directory: bool,
    permissions: u16,
) -> (u32, u16) {
    const GROUP_PROGRAM: u16 = SET_GROUP_ID | GROUP_EXECUTES;
    if directory.permissions & SET_GROUP_ID == 0 {
        return (who.group_fs, permissions);
    }
    let permissions = match is_directory {
        true => permissions | SET_GROUP_ID,
        // Nobody makes a program of a group's who is not in it.
        false if permissions & GROUP_PROGRAM == GROUP_PROGRAM && !may_set_group_id(who, directory.group) => {
            permissions & !SET_GROUP_ID
        }
        false => permissions,
    };
    (directory.group, permissions)
}
