//! Attributes: what may change, and what changes with it.

use super::*;

fn file(user: u32, group: u32, permissions: u16) -> Object<'static> {
    Object { is_directory: false, user, group, permissions, acl: None }
}

fn directory(user: u32, group: u32, permissions: u16) -> Object<'static> {
    Object { is_directory: true, ..file(user, group, permissions) }
}

fn with(mut who: Credentials, capability: Capability) -> Credentials {
    who.capabilities.effective = capability.into();
    who
}

fn ann() -> Credentials {
    Credentials::of_user(1, 1, Vec::from([5]))
}

const NO: Result<(), Refusal> = Err(Refusal::NotPermitted);

#[test]
fn sticky_directories_keep_what_others_own() {
    let (open, sticky) = (directory(9, 9, 0o777), directory(9, 9, 0o1777));
    assert_eq!(check_removal(&ann(), &open, 2), Ok(()));
    assert_eq!(check_removal(&ann(), &sticky, 2), NO);
    assert_eq!(check_removal(&ann(), &sticky, 1), Ok(()));
    assert_eq!(check_removal(&ann(), &directory(1, 9, 0o1777), 2), Ok(()));
    assert_eq!(check_removal(&with(ann(), Capability::FileOwner), &sticky, 2), Ok(()));
}

#[test]
fn the_group_bit_is_for_members() {
    assert_eq!(change_mode(&ann(), &file(1, 5, 0), 0o2755), Ok(0o2755));
    assert_eq!(change_mode(&ann(), &file(1, 6, 0), 0o6755), Ok(0o4755));
    assert_eq!(change_mode(&with(ann(), Capability::FileSetId), &file(1, 6, 0), 0o2755), Ok(0o2755));
    assert_eq!(change_mode(&ann(), &file(2, 5, 0), 0o644), Err(Refusal::NotPermitted));
    assert_eq!(change_mode(&with(ann(), Capability::FileOwner), &file(2, 1, 0), 0o644), Ok(0o644));
}

#[test]
fn files_are_given_to_own_groups_only() {
    let own = file(1, 1, 0o644);
    assert_eq!(change_owner(&ann(), &own, None, Some(5)), Ok(None));
    assert_eq!(change_owner(&ann(), &own, Some(1), Some(1)), Ok(None));
    assert_eq!(change_owner(&ann(), &own, Some(2), None), Err(Refusal::NotPermitted));
    assert_eq!(change_owner(&ann(), &own, None, Some(6)), Err(Refusal::NotPermitted));
    // Nothing is asked for.
    assert_eq!(change_owner(&ann(), &file(2, 2, 0o644), None, None), Ok(None));
    assert_eq!(change_owner(&with(ann(), Capability::Chown), &file(2, 2, 0o644), Some(3), Some(4)), Ok(None));
}

#[test]
fn programs_that_change_hands_lose_their_privileges() {
    let root = Credentials::root();
    assert_eq!(change_owner(&root, &file(0, 0, 0o6755), Some(1), None), Ok(Some(0o755)));
    assert_eq!(change_owner(&root, &file(0, 0, 0o2745), Some(1), None), Ok(None));
    assert_eq!(change_owner(&root, &directory(0, 0, 0o6755), Some(1), None), Ok(None));
    // The mode is the owner's to change.
    let giver = with(ann(), Capability::Chown);
    assert_eq!(change_owner(&giver, &file(2, 2, 0o4755), Some(1), None), Err(Refusal::NotPermitted));
    assert_eq!(change_owner(&ann(), &file(1, 1, 0o4745), None, Some(5)), Ok(Some(0o745)));
}

#[test]
fn written_programs_lose_their_privileges() {
    assert_eq!(without_privileges(&ann(), 0o4644, 1), Some(0o644));
    assert_eq!(without_privileges(&ann(), 0o2755, 1), Some(0o755));
    assert_eq!(without_privileges(&ann(), 0o2745, 1), None);
    assert_eq!(without_privileges(&ann(), 0o2745, 9), Some(0o745));
    assert_eq!(without_privileges(&ann(), 0o755, 9), None);
    assert_eq!(without_privileges(&Credentials::root(), 0o6755, 1), None);
}

#[test]
fn group_and_bit_go_on_in_directories() {
    assert_eq!(new_permissions(&ann(), &directory(9, 9, 0o777), false, 0o644), (1, 0o644));
    assert_eq!(new_permissions(&ann(), &directory(9, 9, 0o2777), false, 0o644), (9, 0o644));
    assert_eq!(new_permissions(&ann(), &directory(9, 9, 0o2777), true, 0o755), (9, 0o2755));
    assert_eq!(new_permissions(&ann(), &directory(9, 9, 0o2777), false, 0o2755), (9, 0o755));
    assert_eq!(new_permissions(&ann(), &directory(9, 5, 0o2777), false, 0o2755), (5, 0o2755));
    assert_eq!(new_permissions(&ann(), &directory(9, 9, 0o777), false, 0o2755), (1, 0o2755));
}

#[test]
fn hard_links_lead_to_what_one_may_use() {
    assert_eq!(check_hard_link(&ann(), &file(1, 1, 0o4000), true), Ok(()));
    assert_eq!(check_hard_link(&ann(), &file(2, 2, 0o666), true), Ok(()));
    assert_eq!(check_hard_link(&ann(), &file(2, 2, 0o644), true), NO);
    assert_eq!(check_hard_link(&ann(), &file(2, 2, 0o4666), true), NO);
    assert_eq!(check_hard_link(&ann(), &file(2, 2, 0o2676), true), NO);
    assert_eq!(check_hard_link(&ann(), &file(2, 2, 0o666), false), NO);
}

#[test]
fn times_are_the_owners() {
    assert_eq!(check_times(&ann(), &file(1, 1, 0), false), Ok(()));
    assert_eq!(check_times(&ann(), &file(2, 2, 0o666), true), Ok(()));
    assert_eq!(check_times(&ann(), &file(2, 2, 0o666), false), NO);
    assert_eq!(check_times(&ann(), &file(2, 2, 0o644), true), Err(Refusal::Denied));
}

/// Linux's `cap_emulate_setxuid`, line by line, and the rules of the calls that lead there.
fn after_change(old: &Credentials, new: Ids) -> (CapabilitySet, CapabilitySet, CapabilitySet) {
    let Capabilities { mut effective, mut permitted, mut ambient, .. } = old.capabilities;
    if old.secure_bits.bits() & 4 != 0 {
        return (effective, permitted, ambient);
    }
    let was_root = old.user.real == 0 || old.user.effective == 0 || old.user.saved == 0;
    let is_nobody_root = new.real != 0 && new.effective != 0 && new.saved != 0;
    if was_root && is_nobody_root {
        if old.secure_bits.bits() & 16 == 0 {
            permitted = CapabilitySet::NONE;
            effective = CapabilitySet::NONE;
        }
        ambient = CapabilitySet::NONE;
    }
    if old.user.effective == 0 && new.effective != 0 {
        effective = CapabilitySet::NONE;
    }
    if old.user.effective != 0 && new.effective == 0 {
        effective = permitted;
    }
    (effective, permitted, ambient)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn capabilities_follow_the_user(who in somebody(), wanted in [id(), id(), id()], call in 0..3_u8) {
        let mut new = who.clone();
        let is_privileged = who.has(Capability::SetUid);
        let [real, effective, _] = wanted;
        let has = |id| [who.user.real, who.user.effective, who.user.saved].contains(&id);
        let (outcome, is_allowed) = match call {
            0 => (new.set_user_each(wanted), is_privileged || wanted.iter().all(|id| has(*id))),
            1 => (new.set_user(real), is_privileged || real == who.user.real || real == who.user.saved),
            _ => {
                let is_swap = real == who.user.real || real == who.user.effective;
                (new.set_user_pair(real, effective), is_privileged || is_swap && has(effective))
            }
        };
        prop_assert_eq!(outcome.is_ok(), is_allowed);
        if is_allowed {
            let Capabilities { effective, permitted, ambient, .. } = new.capabilities;
            prop_assert_eq!((effective, permitted, ambient), after_change(&who, new.user));
            prop_assert_eq!(new.user_fs, new.user.effective);
        } else {
            prop_assert_eq!(new, who);
        }
    }

    #[test]
    fn nobody_gets_more_than_is_permitted(who in somebody(), [e, p, i] in [set(), set(), set()], dropped in set()) {
        let mut new = who.clone();
        if new.set_capabilities(e, p, i).is_ok() {
            let held = who.capabilities;
            prop_assert!(held.permitted.contains(p) && p.contains(e));
            prop_assert!(held.inheritable.or(held.bounding).contains(i));
            prop_assert!(who.has(Capability::SetPcap) || held.inheritable.or(held.permitted).contains(i));
        } else {
            prop_assert_eq!(&new, &who);
        }
        let _ = new.change_ambient(Ambient::Raise, dropped);
        prop_assert!(new.capabilities.permitted.and(new.capabilities.inheritable).contains(new.capabilities.ambient));
        let before = new.capabilities.bounding;
        prop_assert_eq!(new.drop_bounding(dropped).is_ok(), new.has(Capability::SetPcap));
        prop_assert!(before.contains(new.capabilities.bounding));
    }

    #[test]
    fn locked_bits_stay(first in any::<u8>(), second in any::<u16>()) {
        let mut root = Credentials::root();
        prop_assert_eq!(root.set_secure_bits(first.into()), Ok(()));
        let outcome = root.set_secure_bits(second.into());
        let (old, new) = (u16::from(first), second);
        let is_unlocked = (0..8).step_by(2).all(|bit| old & 2 << bit == 0 || (old ^ new) & 3 << bit == 0);
        prop_assert_eq!(outcome.is_ok(), is_unlocked && new <= 0xff);
    }
}

#[test]
fn the_id_for_files_takes_their_capabilities_along() {
    let mut who = Credentials::root();
    who.set_user_fs(7);
    assert_eq!(who.capabilities.effective, CapabilitySet::ALL.without(CapabilitySet::OF_FILES));
    who.set_user_fs(8);
    assert_eq!(who.user_fs, 8);
    who.set_user_fs(0);
    assert_eq!(who.capabilities.effective, CapabilitySet::ALL);
    let mut ann = ann();
    ann.set_user_fs(9);
    assert_eq!(ann.user_fs, 1);
}
