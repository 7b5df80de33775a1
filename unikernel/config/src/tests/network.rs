//! Network configuration as words.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::network::{Card, read};
use crate::yaml::parse;

fn words(card: &Card) -> String {
    let words: Vec<String> = card.words.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.join(" ")
}

#[test]
fn version_2_has_addresses_routes_and_names() {
    let source = "\
network:
  version: 2
  renderer: networkd
  ethernets:
    id0:
      match: {macaddress: '52:54:00:12:34:56'}
      set-name: eth0
      addresses: [10.0.2.20/24, '2001:db8::2/64']
      gateway4: 10.0.2.2
      nameservers:
        addresses: [10.0.2.3, '2001:db8::53']
      routes:
        - {to: 10.1.0.0/16, via: 10.0.2.9, metric: 5}
        - to: default
          via: fe80::1
    eth1:
      dhcp4: true
      accept-ra: false
      gateway4: 10.9.9.9
  bonds: {}
";
    let network = read(&parse(source.as_bytes()).unwrap());
    let [first, second] = &network.cards[..] else { panic!("{network:?}") };
    assert_eq!((first.mac, &*first.name), (Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]), "eth0"));
    let expected =
        "ip=10.0.2.20/24 ip=2001:db8::2/64 gw=10.0.2.2 gw=fe80::1 dns=10.0.2.3 route=10.1.0.0/16:10.0.2.9@5";
    assert_eq!(words(first), expected);
    assert_eq!((&*second.name, words(second).as_str()), ("eth1", "ip=dhcp slaac=off"));
    assert_eq!(network.complaints, ["`bonds` is not understood"]);
}

#[test]
fn version_1_has_subnets() {
    let source = "\
version: 1
config:
  - type: physical
    name: eth0
    mac_address: '52:54:00:12:34:56'
    subnets:
      - type: static
        address: 192.168.1.10
        netmask: 255.255.255.0
        gateway: 192.168.1.1
        dns_nameservers: [192.168.1.53]
        routes:
          - {network: 10.0.0.0, netmask: 255.0.0.0, gateway: 192.168.1.2}
  - type: nameserver
    address: 8.8.8.8
  - type: vlan
";
    let network = read(&parse(source.as_bytes()).unwrap());
    let expected =
        "ip=192.168.1.10/24 gw=192.168.1.1 dns=192.168.1.53 route=10.0.0.0/8:192.168.1.2 dns=8.8.8.8";
    assert_eq!(words(&network.cards[0]), expected);
    assert_eq!(network.complaints, ["type `vlan` is not understood"]);
}

#[test]
fn nonsense_is_told() {
    let complaints = |source: &str| read(&parse(source.as_bytes()).unwrap()).complaints.join("; ");
    assert!(complaints("version: 3").contains("neither 1 nor 2"));
    assert!(complaints("just a text").contains("neither 1 nor 2"));
    let bad = "version: 2\nethernets: {eth0: {addresses: [x, 10.0.0.1], gateway4: y, routes: [{to: z}]}}";
    for expected in ["`x`", "`10.0.0.1`", "`y`", "`z`"] {
        assert!(complaints(bad).contains(expected), "{expected}");
    }
    let mac = "version: 2\nethernets: {eth0: {match: {macaddress: '52:54'}}}";
    assert!(complaints(mac).contains("hardware address"));
    let mask = "version: 1\nconfig: [{type: physical, subnets: [{type: static, address: 10.0.0.1, netmask: 255.0.255.0}]}]";
    assert!(complaints(mask).contains("netmask"));
}
