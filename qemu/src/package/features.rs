//! Which features of a package its user's options switch on. Programs that need others are none that were meant, unless they are
//! named (Cargo's `required-features`).

use std::collections::{BTreeMap, BTreeSet};

use super::selection::PackageOptions;

/// What each feature of a package switches on, as `cargo metadata` tells it.
pub(super) type Features = BTreeMap<String, Vec<String>>;

/// The features that are on.
pub(super) fn enabled(features: &Features, options: &PackageOptions) -> BTreeSet<String> {
    let has = |flag: &str| options.handed_on.iter().any(|(name, _)| name == flag);
    if has("all-features") {
        return features.keys().cloned().collect();
    }
    let mut waiting: Vec<String> = Vec::new();
    waiting.extend((!has("no-default-features")).then(|| "default".to_owned()));
    for (_, value) in options.handed_on.iter().filter(|(name, _)| name == "features") {
        let value = value.as_ref().map(|value| value.to_string_lossy()).unwrap_or_default();
        waiting.extend(value.split([',', ' ']).map(str::to_owned));
    }
    let mut enabled = BTreeSet::new();
    while let Some(feature) = waiting.pop() {
        let Some(others) = features.get(&feature) else { continue };
        if enabled.insert(feature) {
            waiting.extend(others.iter().cloned());
        }
    }
    enabled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_switch_on_others() {
        let on = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let features = Features::from([
            ("default".into(), on(&["server"])),
            ("server".into(), on(&["log", "dep:tokio", "tokio/net"])),
            ("client".into(), on(&["log", "client"])),
            ("log".into(), Vec::new()),
        ]);
        let enabled = |handed: &[(&str, Option<&str>)]| {
            let handed_on =
                handed.iter().map(|(name, value)| ((*name).to_owned(), value.map(Into::into))).collect();
            let set = enabled(&features, &PackageOptions { handed_on, ..PackageOptions::default() });
            set.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(enabled(&[]), "default log server");
        assert_eq!(enabled(&[("no-default-features", None)]), "");
        assert_eq!(
            enabled(&[("no-default-features", None), ("features", Some("client,other/x"))]),
            "client log"
        );
        assert_eq!(enabled(&[("features", Some("client log"))]), "client default log server");
        assert_eq!(enabled(&[("all-features", None)]), "client default log server");
    }
}
