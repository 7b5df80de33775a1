//! Lists: their forms, and what becomes of them.

use super::*;

proptest! {
    #[test]
    fn both_forms_say_the_same(acl in list()) {
        let attribute = acl.to_attribute().unwrap();
        prop_assert_eq!(attribute.len(), 4 + 8 * acl.entries().len());
        prop_assert_eq!(Acl::from_attribute(&attribute), Ok(Some(acl.clone())));
        let disk = acl.to_disk().unwrap();
        prop_assert_eq!(Acl::from_disk(&disk), Ok(Some(acl)));
    }

    #[test]
    fn whatever_bytes_say_is_sound_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), version in 0..3_u32) {
        let value = [version.to_le_bytes().as_slice(), &bytes].concat();
        for acl in [Acl::from_attribute(&value), Acl::from_disk(&value)].into_iter().flatten().flatten() {
            prop_assert_eq!(Acl::from_attribute(&acl.to_attribute().unwrap()), Ok(Some(acl)));
        }
    }

    #[test]
    fn a_mode_and_its_list_agree(acl in list(), mode in 0..0o1000_u16) {
        let changed = acl.with_mode(mode).unwrap();
        prop_assert_eq!(changed.mode(), mode);
        prop_assert_eq!(changed.entries().len(), acl.entries().len());
        let inherited = acl.inherit(mode).unwrap();
        prop_assert_eq!(inherited.permissions, mode & acl.mode());
        prop_assert_eq!(inherited.acl.is_none(), acl.is_equivalent_to_mode());
        if let Some(inherited) = inherited.acl {
            prop_assert_eq!(inherited.mode(), mode & acl.mode());
        }
    }
}

#[test]
fn what_is_no_list_is_refused() {
    let entry = |tag: u16, bits: u16, id: u32| {
        [tag.to_le_bytes().as_slice(), &bits.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let value = |entries: &[Vec<u8>]| [2_u32.to_le_bytes().as_slice(), &entries.concat()].concat();
    let none = u32::MAX;
    let (owner, group, other) = (entry(1, 6, none), entry(4, 4, none), entry(0x20, 4, none));
    let sound = [owner.clone(), group.clone(), other.clone()];
    assert!(matches!(Acl::from_attribute(&value(&sound)), Ok(Some(acl)) if acl.is_equivalent_to_mode()));
    assert_eq!(Acl::from_attribute(&value(&[])), Ok(None));
    assert_eq!(Acl::from_attribute(&[1, 0, 0, 0]), Err(AclError::Version));
    for entries in [
        [owner.clone(), group.clone()].as_slice(),
        &[group.clone(), owner.clone(), other.clone()],
        &[owner.clone(), owner.clone(), group.clone(), other.clone()],
        &[owner.clone(), entry(2, 6, 7), group.clone(), other.clone()],
        &[owner.clone(), entry(2, 6, none), group.clone(), entry(0x10, 7, none), other.clone()],
        &[entry(1, 8, none), group.clone(), other.clone()],
        &[entry(3, 6, none), group, other],
    ] {
        assert_eq!(Acl::from_attribute(&value(entries)), Err(AclError::Malformed), "{entries:?}");
    }
}
