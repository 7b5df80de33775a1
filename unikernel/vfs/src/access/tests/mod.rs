//! The decisions against models that are as plain as can be: sets of bits that somebody has, and Linux's own text, line by line.

mod changes;
mod lists;
mod modes;
mod programs;

use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Few ids, so that they meet.
pub(super) fn id() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0_u32), 1..5_u32]
}

pub(super) fn set() -> impl Strategy<Value = CapabilitySet> {
    prop_oneof![
        Just(CapabilitySet::NONE),
        Just(CapabilitySet::ALL),
        (0..1_u64 << 12).prop_map(CapabilitySet::from_bits),
        any::<u64>().prop_map(CapabilitySet::from_bits),
    ]
}

pub(super) fn ids() -> impl Strategy<Value = Ids> {
    (id(), id(), id()).prop_map(|(real, effective, saved)| Ids { real, effective, saved })
}

/// Somebody as a thread could be: what is in force is permitted, and so on.
pub(super) fn somebody() -> impl Strategy<Value = Credentials> {
    let groups = proptest::collection::vec(id(), 0..4);
    (ids(), ids(), id(), id(), groups, [set(), set(), set(), set(), set()], any::<u8>()).prop_map(
        |(
            user,
            group,
            user_fs,
            group_fs,
            mut groups,
            [effective, permitted, inheritable, bounding, ambient],
            bits,
        )| {
            groups.sort_unstable();
            let mut who = Credentials::root();
            let _ = who.set_secure_bits(u64::from(bits & 0x55));
            let capabilities = Capabilities {
                effective: effective.and(permitted),
                permitted,
                inheritable,
                bounding,
                ambient: ambient.and(permitted).and(inheritable),
            };
            Credentials { user, group, user_fs, group_fs, groups: Arc::new(groups), capabilities, ..who }
        },
    )
}

/// What a list may be made of; `None` if it would be none.
pub(super) fn list() -> impl Strategy<Value = Acl> {
    let three = || 0..8_u16;
    let named = || proptest::collection::vec((1..5_u32, 0..8_u16), 0..3);
    (three(), named(), three(), named(), proptest::option::of(three()), three()).prop_map(
        |(owner, users, group, groups, mask, other)| {
            let mut value = Vec::from(2_u32.to_le_bytes());
            let mut put = |tag: AclTag, permissions: u16, id: u32| {
                value.extend_from_slice(&(tag as u16).to_le_bytes());
                value.extend_from_slice(&permissions.to_le_bytes());
                value.extend_from_slice(&id.to_le_bytes());
            };
            put(AclTag::Owner, owner, u32::MAX);
            users.iter().for_each(|(id, bits)| put(AclTag::User, *bits, *id));
            put(AclTag::OwningGroup, group, u32::MAX);
            groups.iter().for_each(|(id, bits)| put(AclTag::Group, *bits, *id));
            let mask = mask.or((!users.is_empty() || !groups.is_empty()).then_some(5));
            if let Some(mask) = mask {
                put(AclTag::Mask, mask, u32::MAX);
            }
            put(AclTag::Other, other, u32::MAX);
            Acl::from_attribute(&value).expect("it is sound").expect("it has entries")
        },
    )
}
