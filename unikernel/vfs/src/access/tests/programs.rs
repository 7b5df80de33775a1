//! Executing programs, against Linux's text (`security/commoncap.c`, `fs/exec.c`).

use super::*;

struct Bprm {
    new: Credentials,
    secureexec: bool,
}

/// `bprm_fill_uid` and `cap_bprm_creds_from_file`, as they stand there.
fn linux(old: &Credentials, file: &ProgramFile, nnp: bool) -> Option<Bprm> {
    let mut new = old.clone();
    let may_suid = !file.is_on_nosuid;
    if may_suid && !nnp {
        if file.permissions & 0o4000 != 0 {
            new.user.effective = file.user;
        }
        if file.permissions & 0o2010 == 0o2010 {
            new.group.effective = file.group;
        }
    }
    let (mut effective, mut has_fcap) = (false, false);
    new.capabilities.permitted = CapabilitySet::NONE;
    if let (Some(caps), true) = (file.capabilities, may_suid) {
        if caps.is_effective {
            effective = true;
        }
        has_fcap = true;
        let from_bounding = new.capabilities.bounding.and(caps.permitted);
        let from_inherited = new.capabilities.inheritable.and(caps.inheritable);
        new.capabilities.permitted = from_bounding.or(from_inherited);
        if !new.capabilities.permitted.contains(caps.permitted) && effective {
            return None;
        }
    }
    // handle_privileged_root
    if old.secure_bits.bits() & 1 == 0 {
        let is_suid_root = new.user.real != 0 && new.user.effective == 0;
        if !(has_fcap && is_suid_root) {
            if new.user.effective == 0 || new.user.real == 0 {
                new.capabilities.permitted = old.capabilities.bounding.or(old.capabilities.inheritable);
            }
            if new.user.effective == 0 {
                effective = true;
            }
        }
    }
    let in_group = |id: u32| old.group_fs == id || old.groups.contains(&id);
    let id_changed = new.user.effective != old.user.effective || !in_group(new.group.effective);
    let gained = !new.capabilities.permitted.without(old.capabilities.permitted).is_empty();
    if (id_changed || gained) && nnp {
        new.user.effective = new.user.real;
        new.group.effective = new.group.real;
        new.capabilities.permitted = new.capabilities.permitted.and(old.capabilities.permitted);
    }
    new.user.saved = new.user.effective;
    new.user_fs = new.user.effective;
    new.group.saved = new.group.effective;
    new.group_fs = new.group.effective;
    if has_fcap || id_changed {
        new.capabilities.ambient = CapabilitySet::NONE;
    }
    new.capabilities.permitted = new.capabilities.permitted.or(new.capabilities.ambient);
    new.capabilities.effective =
        if effective { new.capabilities.permitted } else { new.capabilities.ambient };
    new.set_keeps_capabilities(false).ok()?;
    let grew = !new.capabilities.permitted.without(new.capabilities.ambient).is_empty();
    let secureexec = id_changed
        || new.user.effective != old.user.real
        || new.group.effective != old.group.real
        || new.user.real != 0 && (effective || grew);
    Some(Bprm { new, secureexec })
}

fn capabilities() -> impl Strategy<Value = Option<FileCapabilities>> {
    let of_file = (set(), set(), any::<bool>()).prop_map(|(permitted, inheritable, is_effective)| {
        FileCapabilities { permitted, inheritable, is_effective }
    });
    proptest::option::of(of_file)
}

fn program() -> impl Strategy<Value = ProgramFile> {
    (id(), id(), 0..0o10000_u16, capabilities(), any::<bool>()).prop_map(
        |(user, group, permissions, capabilities, is_on_nosuid)| ProgramFile {
            user,
            group,
            permissions,
            capabilities,
            is_on_nosuid,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn programs_get_what_linux_gives(who in somebody(), file in program(), nnp in any::<bool>()) {
        match (who.execute(&file, nnp), linux(&who, &file, nnp)) {
            (Ok(Execution { credentials, is_secure }), Some(Bprm { new, secureexec })) => {
                prop_assert_eq!(&credentials, &new);
                prop_assert_eq!(is_secure, secureexec);
                let sets = credentials.capabilities;
                prop_assert!(sets.permitted.contains(sets.effective));
                prop_assert!(!nnp || who.capabilities.permitted.or(sets.ambient).contains(sets.permitted));
            }
            (Err(Refusal::NotPermitted), None) => {}
            other => prop_assert!(false, "{:?}", other.0),
        }
    }

    #[test]
    fn any_bytes_are_capabilities_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
        if let Some(found) = FileCapabilities::parse(&bytes) {
            prop_assert!(CapabilitySet::ALL.contains(found.permitted));
            prop_assert!([12, 20, 24].contains(&bytes.len()));
        }
    }
}

#[test]
fn capabilities_of_files_are_read() {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let of = |permitted: u64, inheritable: u64, is_effective| {
        let set = CapabilitySet::from_bits;
        Some(FileCapabilities { permitted: set(permitted), inheritable: set(inheritable), is_effective })
    };
    assert_eq!(
        FileCapabilities::parse(&words(&[0x0200_0001, 1 << 10, 2, 1, 0])),
        of(1 << 10 | 1 << 32, 2, true)
    );
    assert_eq!(FileCapabilities::parse(&words(&[0x0100_0000, 8, 0])), of(8, 0, false));
    assert_eq!(FileCapabilities::parse(&words(&[0x0300_0000, 8, 0, 0, 0, 0])), of(8, 0, false));
    assert_eq!(FileCapabilities::parse(&words(&[0x0300_0000, 8, 0, 0, 0, 1000])), None);
    assert_eq!(FileCapabilities::parse(&words(&[0x0200_0000, 8, 0])), None);
    assert_eq!(FileCapabilities::parse(&[]), None);
}
