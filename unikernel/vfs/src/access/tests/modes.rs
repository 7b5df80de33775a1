//! Who may read, write, execute.

use std::println;

use super::*;

/// All that somebody may do with an object without capabilities, as a set of bits: acl(5) in the words of its page, entry kind by
/// entry kind.
fn bits_by_mode(who: &Credentials, object: &Object<'_>) -> Vec<u16> {
    let owner = object.permissions >> 6 & 7;
    let group = object.permissions >> 3 & 7;
    let other = object.permissions & 7;
    let is_member = |id: u32| who.group_fs == id || who.groups.contains(&id);
    if who.user_fs == object.user {
        return Vec::from([owner]);
    }
    let Some(acl) = object.acl.filter(|_| group != 0) else {
        return Vec::from([if is_member(object.group) { group } else { other }]);
    };
    let of = |tag: AclTag| acl.entries().iter().filter(move |entry| entry.tag == tag);
    let mask = of(AclTag::Mask).next().map_or(7, |entry| entry.permissions);
    if let Some(user) = of(AclTag::User).find(|entry| entry.id == who.user_fs) {
        return Vec::from([user.permissions & mask]);
    }
    let owning = of(AclTag::OwningGroup).filter(|_| is_member(object.group));
    let named = of(AclTag::Group).filter(|entry| is_member(entry.id));
    // One entry has to allow all that is wanted.
    let groups: Vec<u16> = owning.chain(named).map(|entry| entry.permissions & mask).collect();
    if groups.is_empty() {
        return of(AclTag::Other).map(|entry| entry.permissions).collect();
    }
    groups
}

/// capabilities(7): `CAP_DAC_READ_SEARCH` and `CAP_DAC_OVERRIDE`, wish by wish.
fn may(who: &Credentials, object: &Object<'_>, wanted: u16) -> bool {
    if bits_by_mode(who, object).iter().any(|bits| bits & wanted == wanted) {
        return true;
    }
    let (overrides, searches) = (who.has(Capability::DacOverride), who.has(Capability::DacReadSearch));
    let (reads, writes, executes) = (wanted & 4 != 0, wanted & 2 != 0, wanted & 1 != 0);
    if object.is_directory {
        return overrides || searches && !writes;
    }
    if executes {
        return overrides && object.permissions & 0o111 != 0;
    }
    overrides || searches && reads && !writes || wanted == 0
}

fn object() -> impl Strategy<Value = (bool, u32, u32, u16)> {
    (any::<bool>(), id(), id(), 0..0o10000_u16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_model_says_the_same(who in somebody(), parts in object(), acl in proptest::option::of(list()), wanted in 0..8_u32) {
        let (is_directory, user, group, permissions) = parts;
        // The group's bits are the list's mask.
        let permissions = acl.as_ref().map_or(permissions, |acl| permissions & !0o777 | acl.mode());
        let object = Object { is_directory, user, group, permissions, acl: acl.as_ref() };
        let answer = check(&who, &object, Wanted::from_bits(wanted));
        prop_assert_eq!(answer.is_ok(), may(&who, &object, wanted as u16));
        if !needs_acl(&who, user, permissions) {
            let without = Object { acl: None, ..object };
            prop_assert_eq!(answer, check(&who, &without, Wanted::from_bits(wanted)));
        }
    }
}

#[test]
fn every_mode_for_every_kind_of_user() {
    let users = [(1, 1, [].as_slice()), (2, 1, &[]), (2, 2, &[1, 7]), (2, 2, &[3]), (0, 0, &[])];
    let mut asked = 0;
    for (user, group, groups) in users {
        for held in [CapabilitySet::NONE, Capability::DacOverride.into(), Capability::DacReadSearch.into()] {
            let mut who = Credentials::of_user(user, group, groups.to_vec());
            who.capabilities.effective = held;
            for permissions in 0..0o1000 {
                for (wanted, is_directory) in (0..8).flat_map(|wanted| [(wanted, false), (wanted, true)]) {
                    let object = Object { is_directory, user: 1, group: 1, permissions, acl: None };
                    let answer = check(&who, &object, Wanted::from_bits(wanted));
                    assert_eq!(answer.is_ok(), may(&who, &object, wanted as u16), "{object:?} {wanted}");
                    asked += 1;
                }
            }
        }
    }
    println!("{asked} questions");
}

#[test]
fn root_executes_what_somebody_could() {
    let root = Credentials::root();
    let file = |permissions| Object { is_directory: false, user: 1, group: 1, permissions, acl: None };
    assert!(root.is_unrestricted());
    assert_eq!(check(&root, &file(0o666), Wanted::EXECUTE), Err(Refusal::Denied));
    assert_eq!(check(&root, &file(0o001), Wanted::EXECUTE), Ok(()));
    assert_eq!(check(&root, &file(0), Wanted::READ.and(Wanted::WRITE)), Ok(()));
}
