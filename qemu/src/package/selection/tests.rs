//! Which package and which programs are meant.

use super::*;

fn package(name: &str, binaries: &[&str]) -> Package {
    let target = |name: &&str| Target {
        name: (*name).to_owned(),
        kind: vec!["bin".into()],
        src_path: format!("/w/{name}.rs").into(),
        required_features: Vec::new(),
    };
    Package {
        name: name.to_owned(),
        manifest_path: format!("/w/{name}/Cargo.toml").into(),
        targets: binaries.iter().map(target).collect(),
        default_run: None,
        features: Features::new(),
    }
}

fn chosen(packages: &[Package], options: &PackageOptions, here: &str) -> Result<String> {
    choose_package(packages, options, Path::new(here)).map(|package| package.name.clone())
}

#[test]
fn package_is_that_of_the_folder() {
    let packages = [package("a", &["a"]), package("ab", &["ab"])];
    let options = PackageOptions::default();
    assert_eq!(chosen(&packages, &options, "/w/a/src").unwrap(), "a");
    assert_eq!(chosen(&packages, &options, "/w/ab").unwrap(), "ab");
    let error = chosen(&packages, &options, "/w").unwrap_err().to_string();
    assert_eq!(error, "which package? Choose with -p: a, ab");
}

#[test]
fn only_package_with_a_program_needs_no_name() {
    let packages = [package("library", &[]), package("server", &["server", "tool"])];
    assert_eq!(chosen(&packages, &PackageOptions::default(), "/w").unwrap(), "server");
    let options = PackageOptions { package: Some("sever".into()), ..PackageOptions::default() };
    let error = chosen(&packages, &options, "/w").unwrap_err().to_string();
    assert_eq!(error, "the workspace has no package `sever` (did you mean `server`?)");
}

#[test]
fn run_means_one_program() {
    let mut package = package("server", &["server", "tool"]);
    let names = |package: &Package, options: &PackageOptions, one| {
        let programs = choose_programs(package, options, one).map_err(|error| error.to_string());
        programs.map(|programs| programs.into_iter().map(|program| program.name).collect::<Vec<_>>())
    };
    let options = PackageOptions::default();
    assert_eq!(names(&package, &options, false).unwrap(), ["server", "tool"]);
    assert_eq!(
        names(&package, &options, true).unwrap_err(),
        "which program? Choose with --bin: server, tool"
    );
    let named = PackageOptions { binaries: vec!["tool".into()], ..PackageOptions::default() };
    assert_eq!(names(&package, &named, true).unwrap(), ["tool"]);
    package.default_run = Some("tool".into());
    assert_eq!(names(&package, &options, true).unwrap(), ["tool"]);
    let wrong = PackageOptions { examples: vec!["demo".into()], ..PackageOptions::default() };
    assert_eq!(names(&package, &wrong, true).unwrap_err(), "`server` has no example `demo`: it has none");
}

#[test]
fn programs_without_their_features_are_not_meant() {
    let mut package = package("server", &["server", "client"]);
    package.features.insert("client".into(), Vec::new());
    package.targets[1].required_features.push("client".into());
    let names = |package: &Package, options: &PackageOptions| {
        let programs = choose_programs(package, options, false).map_err(|error| error.to_string());
        programs.map(|programs| programs.into_iter().map(|program| program.name).collect::<Vec<_>>())
    };
    let plain = PackageOptions::default();
    assert_eq!(names(&package, &plain).unwrap(), ["server"]);
    assert_eq!(choose_programs(&package, &plain, true).unwrap().len(), 1);
    let handed_on = vec![("features".into(), Some("client".into()))];
    let both = PackageOptions { handed_on, ..PackageOptions::default() };
    assert_eq!(names(&package, &both).unwrap(), ["server", "client"]);
    let named = PackageOptions { binaries: vec!["client".into()], ..PackageOptions::default() };
    assert_eq!(names(&package, &named).unwrap(), ["client"]);
    package.targets.remove(0);
    assert_eq!(
        names(&package, &plain).unwrap_err(),
        "the programs of `server` need features: build with `--features client`"
    );
}

#[test]
fn metadata_is_told_only_what_it_knows() {
    let options = PackageOptions {
        handed_on: vec![("offline".into(), None), ("features".into(), Some("tls".into()))],
        ..PackageOptions::default()
    };
    assert_eq!(options.arguments(true), ["--offline"]);
    assert_eq!(options.arguments(false), ["--offline", "--features", "tls"]);
}

#[test]
fn a_library_names_its_examples() {
    let mut package = package("library", &[]);
    let error = |package: &Package| {
        choose_programs(package, &PackageOptions::default(), true).map(|_| ()).unwrap_err().to_string()
    };
    let plain = "`library` is a library: an appliance needs a program (src/main.rs)";
    assert_eq!(error(&package), plain);
    for name in ["echo", "hello"] {
        package.targets.push(Target {
            name: name.into(),
            kind: vec!["example".into()],
            src_path: format!("/w/examples/{name}.rs").into(),
            required_features: Vec::new(),
        });
    }
    let hint = "or one of its examples (`cargo unikernel run --example NAME`: echo, hello)";
    assert_eq!(error(&package), format!("{plain}, {hint}"));
}
