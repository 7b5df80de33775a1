//! Crates that look for a library of the system, where a static program for musl finds none: which they are, and how
//! each is compiled in.

use std::collections::BTreeSet;

use super::features::Features;
use super::selection::{PackageOptions, Selection};
use crate::project::{TARGET, cargo};

/// A crate and a feature of it.
type Way = (&'static str, &'static str);

/// The crate with the feature that compiles its library, and crates that hand this feature on by a name of theirs.
const CRATES: [(Way, &[Way]); 6] = [
    (
        ("openssl-sys", "vendored"),
        &[("openssl", "vendored"), ("native-tls", "vendored"), ("reqwest", "native-tls-vendored")],
    ),
    (("libsqlite3-sys", "bundled"), &[("rusqlite", "bundled")]),
    (("pq-sys", "bundled"), &[]),
    (("mysqlclient-sys", "bundled"), &[]),
    (("libdbus-sys", "vendored"), &[("dbus", "vendored")]),
    (("libusb1-sys", "vendored"), &[("rusb", "vendored")]),
];

/// What to do about those that the program needs; nothing, if it needs none.
pub(super) fn hint(options: &PackageOptions, selection: &Selection, is_example: bool) -> String {
    if options.target() != TARGET {
        return String::new();
    }
    let mut command = cargo();
    command.args(["tree", "--prefix", "depth", "--format", " {p}\t{f}", "--target", TARGET]);
    command.args(["--edges", if is_example { "normal,dev" } else { "normal" }]);
    command.arg("--manifest-path").arg(selection.package.manifest()).args(options.graph_arguments());
    // The package's own errors are above already.
    let Some(output) = command.output().ok().filter(|output| output.status.success()) else {
        return String::new();
    };
    advice(&String::from_utf8_lossy(&output.stdout), selection.package.features())
}

/// The same of a tree that is there, and the features of the package.
fn advice(tree: &str, features: &Features) -> String {
    let mut lines = BTreeSet::new();
    for line in tree.lines() {
        let Some((_, name, on)) = node(line) else { continue };
        let Some((own, others)) = CRATES.iter().find(|(own, _)| own.0 == name) else { continue };
        if !on.contains(&own.1) {
            let ways: Vec<Way> = [own].into_iter().chain(*others).copied().collect();
            lines.insert(format!(
                "\n`{name}` looks for a library of the system, and there is none for {TARGET}: {}",
                way_out(&ways, tree, features)
            ));
        }
    }
    lines.into_iter().collect()
}

/// How the package's user has the library compiled in without editing a file; `ways` are crates and features of theirs.
fn way_out(ways: &[Way], tree: &str, features: &Features) -> String {
    let hands_on = |(_, enabled): &(&String, &Vec<String>)| {
        enabled.iter().any(|it| {
            let found = it.split_once('/');
            found.is_some_and(|(name, feature)| ways.contains(&(name.trim_end_matches('?'), feature)))
        })
    };
    let is_direct =
        |(name, _): &&Way| tree.lines().filter_map(node).any(|(depth, it, _)| depth == 1 && it == *name);
    if let Some((feature, _)) = features.iter().find(hands_on) {
        format!("`--features {feature}` compiles it in")
    } else if let Some((name, feature)) = ways.iter().find(is_direct) {
        format!("`--features {name}/{feature}` compiles it in")
    } else {
        let (name, feature) = ways[0];
        format!(
            "its feature `{feature}` compiles it in, or a feature of the package does without it (rustls for OpenSSL); \
             `cargo tree -i {name} --target {TARGET}` says who wants it"
        )
    }
}

/// Depth, name and features of a line of the tree.
fn node(line: &str) -> Option<(usize, &str, Vec<&str>)> {
    let (depth, rest) = line.split_once(' ')?;
    let (package, features) = rest.split_once('\t')?;
    let features = features.split([',', ' ']).filter(|word| !word.is_empty()).collect();
    Some((depth.parse().ok()?, package.split(' ').next()?, features))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(name: &str, enabled: &str) -> Features {
        Features::from([("default".into(), vec!["ssl".into()]), (name.into(), vec![enabled.into()])])
    }

    #[test]
    fn feature_of_the_package_comes_first() {
        let tree = "0 app v1.0.0 (/app)\tdefault,ssl\n1 native-tls v0.2.11\t\n2 openssl v0.10.64\tdefault\n\
                    3 openssl-sys v0.9.104\t\n1 openssl-sys v0.9.104\t (*)\n";
        let text = advice(tree, &features("vendored_openssl", "openssl-sys/vendored"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.contains("`--features vendored_openssl` compiles it in"), "{text}");
        let text = advice(tree, &features("tls", "native-tls?/vendored"));
        assert!(text.contains("`--features tls` compiles it in"), "{text}");
        let text = advice(tree, &features("x", "native-tls/alpn"));
        assert!(text.contains("`--features openssl-sys/vendored`"), "{text}");
        let deeper = tree.replace("1 openssl-sys", "2 openssl-sys");
        let text = advice(&deeper, &Features::new());
        assert!(text.contains("`--features native-tls/vendored`"), "{text}");
        let text = advice(&deeper.replace("1 native-tls", "2 native-tls"), &Features::new());
        assert!(text.contains("`cargo tree -i openssl-sys"), "{text}");
    }

    #[test]
    fn nothing_is_said_of_what_is_compiled_in() {
        let tree =
            "0 app v1.0.0 (/app)\t\n1 openssl-sys v0.9.104\tdefault,vendored\n1 serde v1.0.0\tderive\n";
        assert_eq!(advice(tree, &Features::new()), "");
        assert_eq!(advice("odd\n\n1\n1 a\n1 openssl-sys-x v1\t\n", &Features::new()), "");
    }
}
