//! Metadata and user data.

use alloc::string::ToString;

use crate::{MetaData, UserData};

#[test]
fn metadata_says_who_the_machine_is() {
    let data = MetaData::parse(b"instance-id: iid-1\nlocal-hostname: web-1\n").unwrap();
    assert_eq!((data.instance.as_deref(), data.host_name.as_deref()), (Some("iid-1"), Some("web-1")));
    let data = MetaData::parse(b"{\"hostname\": \"web-2\", \"network\": {\"version\": 2}}").unwrap();
    assert_eq!((data.host_name.as_deref(), data.network.is_some()), (Some("web-2"), true));
    assert_eq!(MetaData::parse(b"").unwrap(), MetaData::default());
    assert!(MetaData::parse(b"no yaml: at: all").is_err());
}

#[test]
fn cloud_config_brings_files_and_variables() {
    let source = "\
#cloud-config
fqdn: web-1.example.org
write_files:
  - path: /etc/app.toml
    permissions: '0600'
    content: |
      port = 80
  - {path: /etc/key, encoding: b64, content: \"aGVs\\nbG8=\"}
  - path: etc/relative
  - path: /a/../b
  - path: /etc/zipped
    encoding: gz
    content: x
  - path: /log
    append: true
  - path: /mode
    permissions: '999'
environment:
  RUST_LOG: debug
  EMPTY: ''
  A=B: x
packages: [nginx]
runcmd:
  - ls
";
    let data = UserData::parse(source.as_bytes()).unwrap();
    assert_eq!(data.host_name.as_deref(), Some("web-1"));
    let files: alloc::vec::Vec<_> =
        data.files.iter().map(|file| (&*file.path, file.permissions, &*file.content)).collect();
    assert_eq!(files, [("/etc/app.toml", 0o600, &b"port = 80\n"[..]), ("/etc/key", 0o644, b"hello")]);
    let variables = [("RUST_LOG", "debug"), ("EMPTY", "")];
    assert_eq!(data.environment, variables.map(|(name, value)| (name.to_string(), value.to_string())));
    let complaints = data.complaints.join("; ");
    for expected in ["number 3", "number 4", "number 5", "number 6", "number 7", "`A=B`", "packages, runcmd"]
    {
        assert!(complaints.contains(expected), "{expected}: {complaints}");
    }
}

#[test]
fn other_user_data_is_the_programs() {
    for source in [&b""[..], b"#!/bin/sh\n: {", b"\xff\xfe\x00", b"key: [", b"#cloud-configuration\n: {"] {
        assert_eq!(UserData::parse(source).unwrap(), UserData::default());
    }
    assert!(UserData::parse(b"#cloud-config\nkey: [").is_err());
}
