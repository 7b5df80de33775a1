//! Settings of the user's, in the environment or in files of cargo's, under which no image can be made: better a line
//! that says so than the linker's or the compiler's view of what follows.

use std::path::Path;

/// What an image can be built for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"];
/// The compiler's wrapper, as cargo names it.
const WRAPPER: &str = "unikernel/build/rustc";

/// What has to be changed, if anything has. `variable` is the environment of a build script, and the app's programs are without
/// `std` or not.
pub(crate) fn problem(variable: impl Fn(&str) -> Option<String>, is_no_std: bool) -> Option<String> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let target = set("TARGET")?;
    if !TARGETS.contains(&&*target) {
        let known = TARGETS.join(" or ");
        return Some(format!(
            "an image is built for {known}, not for {target}: take `--target`, CARGO_BUILD_TARGET or `build.target` away"
        ));
    }
    let wrappers = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].map(set);
    let is_ours = |wrapper: &Option<String>| {
        wrapper.as_deref().is_some_and(|path| Path::new(path).ends_with(WRAPPER) || path.contains("clippy"))
    };
    if wrappers.iter().any(is_ours) {
        return None;
    }
    let has_flags =
        set("CARGO_ENCODED_RUSTFLAGS").is_some_and(|flags| flags.contains("relocation-model=static"));
    let missing = match (has_flags, is_no_std) {
        (true, false) => return None,
        (false, _) => "-Crelocation-model=static",
        (true, true) => "-Cpanic=abort",
    };
    Some(format!(
        "nobody gives the compiler `{missing}`, without which there is no image: {WRAPPER} would, but RUSTC_WRAPPER and \
         RUSTC_WORKSPACE_WRAPPER (or cargo's settings of these names) both say something else. Unset one of them."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUSL: (&str, &str) = ("TARGET", TARGETS[0]);
    const OURS: &str = "/a path/ünïkernel/unikernel/build/rustc";
    const FLAGS: (&str, &str) = ("CARGO_ENCODED_RUSTFLAGS", "-C\u{1f}relocation-model=static");

    fn told(variables: &[(&str, &str)], is_no_std: bool) -> String {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        problem(variable, is_no_std).unwrap_or_default()
    }

    #[test]
    fn settings_that_work_are_not_complained_of() {
        let other = ("RUSTC_WRAPPER", "/usr/bin/sccache");
        for is_no_std in [false, true] {
            assert_eq!(told(&[MUSL, FLAGS, ("RUSTC_WRAPPER", OURS)], is_no_std), "");
            assert_eq!(told(&[MUSL, ("RUSTC_WRAPPER", OURS)], is_no_std), "", "it adds what is missing");
            assert_eq!(told(&[MUSL, other, ("RUSTC_WORKSPACE_WRAPPER", OURS)], is_no_std), "");
            let clippy = ("RUSTC_WORKSPACE_WRAPPER", "/toolchain/bin/clippy-driver");
            assert_eq!(told(&[MUSL, other, clippy], is_no_std), "", "nothing is linked");
        }
        assert_eq!(told(&[MUSL, FLAGS, other], false), "");
        assert_eq!(told(&[("TARGET", TARGETS[1]), FLAGS], false), "");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert!(told(&[("TARGET", "aarch64-apple-darwin"), FLAGS], false).contains("CARGO_BUILD_TARGET"));
        let others = [("RUSTC_WRAPPER", "/x"), ("RUSTC_WORKSPACE_WRAPPER", "/y")];
        assert!(told(&[&[MUSL], &others[..]].concat(), false).contains("relocation-model=static"));
        assert!(told(&[&[MUSL, FLAGS], &others[..]].concat(), true).contains("panic=abort"));
    }
}
