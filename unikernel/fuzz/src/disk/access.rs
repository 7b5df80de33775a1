//! What extended attributes of a disk say of who may use a file, and what an image's `/etc/passwd` says of its users: lists are
//! sound or refused, both of their forms say the same, and nobody gets a capability that he must not have.

use unikernel_cmdline::User;
use unikernel_vfs::access::{
    Acl, CapabilitySet, Credentials, FileCapabilities, Object, ProgramFile, Wanted, check,
};

use crate::input::Input;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (user, group, mode) = (input.word(), input.word(), input.half() & 0o7777);
    let who = Credentials::of_user(user % 4, group % 4, vec![1, 3]);
    let rest = input.rest();
    for acl in [Acl::from_disk(rest), Acl::from_attribute(rest)].into_iter().flatten().flatten() {
        let (disk, attribute) = (acl.to_disk().expect("memory"), acl.to_attribute().expect("memory"));
        assert_eq!(Acl::from_disk(&disk), Ok(Some(acl.clone())));
        assert_eq!(Acl::from_attribute(&attribute), Ok(Some(acl.clone())));
        let inherited = acl.inherit(mode).expect("memory");
        assert_eq!(inherited.permissions & !mode, 0);
        let permissions = mode & !0o777 | acl.mode();
        let object = Object { is_directory: false, user, group, permissions, acl: Some(&acl) };
        // Who may do both may do each.
        if check(&who, &object, Wanted::READ.and(Wanted::WRITE)).is_ok() {
            assert!(
                check(&who, &object, Wanted::READ).is_ok() && check(&who, &object, Wanted::WRITE).is_ok()
            );
        }
    }
    let capabilities = FileCapabilities::parse(rest);
    let file = ProgramFile { user, group, permissions: mode, capabilities, is_on_nosuid: mode & 1 != 0 };
    if let Ok(executed) = who.execute(&file, true) {
        let (before, after) = (who.capabilities.permitted, executed.credentials.capabilities.permitted);
        assert!(before.contains(after), "{after:?}");
    }
    if let Ok(executed) = who.execute(&file, false) {
        let sets = executed.credentials.capabilities;
        assert!(sets.permitted.contains(sets.effective) && CapabilitySet::ALL.contains(sets.permitted));
    }
    let (passwd, groups) = rest.split_at(rest.len() / 2);
    for name in ["a", "root", "www-data"] {
        let _ = User::Named(name.into(), None).find(passwd, groups);
    }
}
