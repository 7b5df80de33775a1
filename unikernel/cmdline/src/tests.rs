//! Command lines as users and hypervisors write them.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

#[test]
fn empty_line_asks_for_dhcp_and_powers_off() {
    let options = parse("").unwrap();
    assert_eq!(options, Options::default());
    assert_eq!((options.card(0).address, options.exit_action), (Address::Dhcp, ExitAction::PowerOff));
}

#[test]
fn everything_at_once() {
    let line = "ip=10.0.2.15/24 gw=10.0.2.2 dns=1.1.1.1,8.8.8.8 dns=9.9.9.9 log=net:debug,info \
                trace=syscalls exit=debug-exit stop=30 cwd=/srv env.A=1 \"env.B=two words\" -- --port 80 \"a b\" \"\" ip=x";
    let options = parse(line).unwrap();
    let card = options.card(0);
    assert_eq!(card.address, Address::Static(Ipv4Addr::new(10, 0, 2, 15), 24));
    assert_eq!((card.gateway, card.dns_servers.len()), (Some(Ipv4Addr::new(10, 0, 2, 2)), 3));
    assert_eq!(options.log.as_deref(), Some("net:debug,info"));
    assert!(options.traces_syscalls);
    assert_eq!(options.exit_action, ExitAction::DebugExit);
    assert_eq!(options.stop_seconds, Some(30));
    assert_eq!(options.current_directory.as_deref(), Some("/srv"));
    assert_eq!(options.environment[1], ("B".to_owned(), "two words".to_owned()));
    assert_eq!(options.app_arguments, vec!["--port", "80", "a b", "", "ip=x"]);
}

#[test]
fn memory_is_promised_in_two_ways() {
    assert!(!parse("").unwrap().is_commit_strict);
    assert!(!parse("overcommit=heuristic").unwrap().is_commit_strict);
    assert!(parse("overcommit=strict").unwrap().is_commit_strict);
    for bad in ["overcommit=", "overcommit=2", "overcommit=Strict", "overcommit=always"] {
        assert!(matches!(parse(bad), Err(ParseError::BadValue("overcommit", ..))), "{bad}");
    }
    assert_eq!(parse("overcommit"), Err(ParseError::MissingValue("overcommit".to_owned())));
}

#[test]
fn host_names_and_ports_of_loopback() {
    let system =
        parse("hostname=web-1.example.org loopback=open forward=6379,80 forward=65535").unwrap().system;
    assert_eq!(system.host_name.as_deref(), Some("web-1.example.org"));
    assert!(system.opens_loopback);
    assert_eq!(system.forwarded_ports, [6379, 80, 65535]);
    assert!(!parse("loopback=open loopback=closed").unwrap().system.opens_loopback);
    let long = ["a"; 33].join(".");
    for bad in ["", "-a", "a-", "a..b", ".", "a b", "ü", "a/b", "a\n", &"a".repeat(64), &long] {
        assert!(message(&format!("\"hostname={bad}\"")).contains("a host name"), "{bad}");
    }
    for bad in ["", "0", "65536", "80,", "80-90", "+80", "tcp/80"] {
        assert!(message(&format!("forward={bad}")).contains("TCP ports"), "{bad}");
    }
    assert!(message("loopback=on").contains("`open` or `closed`"));
    assert_eq!(message("hostnam=a"), "unknown option `hostnam=a`; did you mean `hostname=`?");
}

#[test]
fn code_is_writable_only_if_that_is_said() {
    let is_writable = |line: &str| parse(line).unwrap().system.has_writable_code;
    assert!(is_writable("wx=on") && !is_writable("") && !is_writable("wx=on wx=off"));
    assert!(message("wx=yes").contains("`on` or `off`"));
    assert!(message("wx").contains("needs a value"));
}

#[test]
fn servers_have_addresses_and_perhaps_ports() {
    let system = parse("ntp=10.0.0.1,10.0.0.2:1123 ntp=[2001:db8::1]:123,fd00::1").unwrap().system;
    let expected = ["10.0.0.1:123", "10.0.0.2:1123", "[2001:db8::1]:123", "[fd00::1]:123"];
    assert_eq!(system.time_servers, TimeServers::Given(expected.map(|at| at.parse().unwrap()).to_vec()));
    let syslog = |value: &str| parse(&format!("syslog={value}")).unwrap().system.syslog.unwrap().to_string();
    assert_eq!(syslog("10.0.0.2"), "10.0.0.2:514");
    assert_eq!(syslog("[fd00::1]:5514"), "[fd00::1]:5514");
    assert_eq!(parse("ntp=10.0.0.1 ntp=off").unwrap().system.time_servers, TimeServers::None);
    for bad in ["", "pool.ntp.org", "10.0.0.1,", "10.0.0.1:0", "10.0.0.1:65536", "0.0.0.0", "224.0.0.1", "on"]
    {
        assert!(message(&format!("ntp={bad}")).contains("IP addresses such as"), "{bad}");
        assert!(message(&format!("syslog={bad}")).contains("an IP address such as"), "{bad}");
    }
}

#[test]
fn configuration_has_one_source() {
    let source = |line| parse(line).unwrap().system.config;
    assert_eq!(source(""), ConfigSource::Unsaid);
    assert_eq!(source("config=nocloud"), ConfigSource::NoCloud);
    assert_eq!((source("config=mmds"), source("config=ec2")), (ConfigSource::Mmds, ConfigSource::Ec2));
    assert_eq!(source("config=ec2 config=none"), ConfigSource::None);
    assert!(message("config=azure").contains("`nocloud`, `mmds`, `ec2` or `none`"));
}

#[test]
fn configured_cards_do_not_count_before_the_line() {
    let words = [("ip", "10.0.0.2/24"), ("gw", "10.0.0.1"), ("dns", "10.0.0.3")];
    let words = words.map(|(key, value)| (key, value.to_owned()));
    let mut options = parse("eth1.ip=10.9.9.9/24").unwrap();
    assert_eq!(options.configure_card(1, &words), Ok(false));
    assert_eq!(options.configure_card(2, &words), Ok(true));
    assert_eq!(options.card(2).gateway, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(options.card(1).gateway, None);
    let alone = [("gw", "10.0.0.1".to_owned())];
    assert_eq!(options.configure_card(0, &alone), Err(ParseError::NeedsStaticAddress("gw")));
    assert_eq!(options.card(0), CardOptions::default());
}

#[test]
fn offloads_are_switched_off_by_name() {
    let everything = Offloads::default();
    assert_eq!(parse("").unwrap().offloads, everything);
    let nothing = parse("offload=none").unwrap().offloads;
    let some = parse("offload=no-csum,no-mq").unwrap().offloads;
    assert_eq!(some, Offloads { checksums_sent: false, queue_pairs: false, ..everything });
    let each = "no-csum,no-guest-csum,no-tso,no-guest-tso,no-mrg-rxbuf,no-event-idx,no-mq";
    assert_eq!(parse(&format!("offload={each}")).unwrap().offloads, nothing);
    for word in each.split(',') {
        let one = parse(&format!("offload={word}")).unwrap().offloads;
        assert!(one != everything && one != nothing, "{word}");
    }
    for bad in ["offload=csum", "offload=", "offload=no-csum,", "offload=no-tso4"] {
        assert!(matches!(parse(bad), Err(ParseError::BadValue("offload", ..))), "{bad}");
    }
    assert_eq!(
        parse("offlaod=none"),
        Err(ParseError::UnknownWord("offlaod=none".to_owned(), Some("offload")))
    );
}

#[test]
fn devices_are_collected_wherever_the_hypervisor_puts_them() {
    let expected = [
        MmioDevice { base: 0xfeb0_0e00, size: 512, irq: 5 },
        MmioDevice { base: 0xd000_0000, size: 4096, irq: 6 },
    ];
    let devices = "virtio_mmio.device=512@0xfeb00e00:5 virtio_mmio.device=4K@0xd0000000:6:0";
    // Without arguments for the app, as QEMU's microvm appends them, and split over both.
    for line in [
        devices.to_owned(),
        alloc::format!("log=info -- a b=1 {devices}"),
        devices.replacen(' ', " -- a b=1 ", 1),
    ] {
        let options = parse(&line).unwrap();
        assert_eq!(options.mmio_devices, expected, "{line}");
        let arguments = if line.contains("--") { &["a", "b=1"][..] } else { &[] };
        assert_eq!(options.app_arguments, arguments, "{line}");
    }
}

#[test]
fn app_keeps_what_only_resembles_a_device() {
    let options = parse("-- virtio_mmio.device=512@0xfeb00e00:5 x virtio_mmio.device=none").unwrap();
    assert_eq!(options.mmio_devices, []);
    assert_eq!(options.app_arguments.len(), 3);
}

fn message(line: &str) -> String {
    parse(line).unwrap_err().to_string()
}

#[test]
fn unknown_word_names_itself_and_the_nearest() {
    assert_eq!(message("lgo=debug"), "unknown option `lgo=debug`; did you mean `log=`?");
    assert_eq!(message("silent"), "unknown option `silent`; the app's own arguments come after `--`");
    assert_eq!(message("env=A"), "unknown option `env=A`; did you mean `env.NAME=`?");
    assert_eq!(message("ip"), "option `ip` needs a value: `ip=...`");
}

#[test]
fn bad_values_say_what_is_expected() {
    assert!(message("ip=10.0.2.15").contains("10.0.2.15/24"));
    assert!(message("ip=10.0.2.15/33").contains("expected"));
    assert!(message("gw=router").contains("an IP address"));
    assert!(message("exit=never").contains("`halt`"));
    assert!(message("stop=soon").contains("seconds"));
    assert!(message("stop=-1").contains("seconds"));
    assert!(message("stop=").contains("seconds"));
    assert!(message("stop=4294967296").contains("seconds"));
    assert!(message("trace=all").contains("`syscalls`"));
    assert!(message("root=vda").contains("`blk0`"));
    assert!(message("mount=blk0").contains("`/data:blk0`"));
    assert!(message("mount=/data:blk0 format=blk1").contains("`mount=/data:blk1`"));
    assert!(message("virtio_mmio.device=512").contains("size@base:irq"));
    assert!(message("gw=10.0.2.2").contains("static address"));
    assert!(message("dns=10.0.2.3 ip=dhcp").contains("static address"));
    assert!(message("log=\"open").contains("quote"));
}

#[test]
fn words_for_linux_are_ignored_by_name() {
    // What Firecracker appends, and a user to be like it.
    let line = "console=ttyS0 reboot=k panic=1 pci=off nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux \
                i8042.dumbkbd random.trust_cpu=on quiet loglevel=1 rootfstype=ext4 ip=none";
    let options = parse(line).unwrap();
    assert_eq!(options.ignored.len(), line.split_ascii_whitespace().count() - 1);
    assert_eq!((options.ignored[3].as_str(), options.card(0).address), ("pci=off", Address::None));
    // Words of ours that resemble them, and slips of the pen, are what they were.
    assert!(message("consle=ttyS0").contains("unknown option"));
    assert!(message("random.=1").contains("unknown option"));
    assert!(message("virtio_mmio.device=x").contains("size@base:irq"));
    assert_eq!(parse("-- pci=off quiet").unwrap().app_arguments, ["pci=off", "quiet"]);
}

#[test]
fn root_of_linux_is_the_disk_of_that_number() {
    let root = |line| parse(line).unwrap().mounts;
    let of_kind = |disk: &str, kind: Option<&str>, is_read_only| {
        let (path, disk, kind) = ("/".to_owned(), disk.to_owned(), kind.map(str::to_owned));
        vec![MountPoint { path, disk, kind, is_read_only, options: MountOptions::default(), verity: None }]
    };
    let point = |disk: &str, is_read_only| of_kind(disk, None, is_read_only);
    assert_eq!(root("root=/dev/vda ro"), point("blk0", true));
    assert_eq!(root("rw pci=off root=/dev/vdc"), point("blk2", false));
    assert_eq!(root("root=/dev/vda"), point("blk0", false));
    // `ro` without it says nothing, and ours have flags of their own.
    assert_eq!(root("root=blk1 ro"), point("blk1", false));
    assert_eq!(root("root=/dev/vdb12 ro"), point("blk1p12", true));
    assert_eq!(root("root=PARTUUID=1-2 ro"), point("PARTUUID=1-2", true));
    assert_eq!(root("root=LABEL=x:ext4:ro"), of_kind("LABEL=x", Some("ext4"), true));
    let is_for_linux = |line| parse(line).unwrap().root_for_linux().is_some();
    assert_eq!(root("root=/dev/nvme0n1p1 ro"), point("nvme0n1p1", true));
    assert!(is_for_linux("root=/dev/nvme0n1") && !is_for_linux("root=nvme0n1"));
    assert!(is_for_linux("root=PARTUUID=1-2") && !is_for_linux("mount=/data:PARTUUID=1-2"));
    assert!(!is_for_linux("root=/dev/vda") && !is_for_linux("root=blk0") && !is_for_linux("root=LABEL=x"));
    for other in ["root=/dev/sda", "root=/dev/vd", "root=/dev/vdap1", "root=/dev/nvme0n", "root=/dev/nvme0"] {
        let options = parse(other).unwrap();
        assert_eq!((options.mounts.len(), options.ignored.len()), (0, 1), "{other}");
    }
}

#[test]
fn one_root_counts_and_a_disk_has_one_place() {
    let roots = |line: &str| -> Vec<(String, bool)> {
        let mounts = parse(line).unwrap().mounts;
        mounts.into_iter().map(|point| (point.disk, point.is_read_only)).collect()
    };
    let is = |disk: &str, is_read_only| vec![(disk.to_owned(), is_read_only)];
    assert_eq!(roots("root=blk0 root=blk1:ext4:ro"), is("blk1", true));
    assert_eq!(roots("root=/dev/vdb root=/dev/vda ro"), is("blk0", true));
    // A hypervisor's, before ours or behind it.
    assert_eq!(roots("root=/dev/vda ro root=blk0"), is("blk0", false));
    assert_eq!(roots("root=blk0 root=/dev/vda ro"), is("blk0", false));
    assert_eq!(
        message("mount=/a:blk0 mount=/b:blk0"),
        "disk `blk0` is mounted at `/a` and at `/b`: expected one place for it"
    );
    assert!(message("root=blk3 mount=/b:blk3").contains("disk `blk3`"));
    assert!(message("mount=/a:blk0 mount=/a/:blk1").contains("disks `blk0` and `blk1` are mounted at `/a`"));
}

#[test]
fn word_that_is_no_text_is_named() {
    assert_eq!(text("log=info ü".as_bytes()), Ok("log=info ü"));
    let bad = |line: &[u8]| text(line).unwrap_err().0;
    assert_eq!(bad(b"log=info env.A=\xff\x1b -- x"), "env.A=\\xff\\x1b");
    assert_eq!(bad(b"\xc3"), "\\xc3");
    assert_eq!(bad(b"a b\xc3 \xff"), "b\\xc3");
}

#[test]
fn control_characters_are_not_shown() {
    assert_eq!(
        message("\"lgo=\x1b[2J\nINFO all is well\""),
        "unknown option `lgo=\\u{1b}[2J\\nINFO all is well`; did you mean `log=`?"
    );
    assert!(message("exit=\x07\u{9b}x").contains("`exit=\\u{7}\\u{9b}x`"));
}

#[test]
fn filter_words_keep_their_order() {
    let options = parse("deny=tcp/22 filter=deny allow=tcp:10.0.0.0/8 allow=icmp").unwrap();
    assert!(options.denies_by_default);
    let verdicts: Vec<bool> = options.filter_rules.iter().map(|rule| rule.is_allowed).collect();
    assert_eq!(verdicts, [false, true, true]);
    assert!(message("filter=on").contains("`allow` or `deny`"));
    assert!(message("allow=http").contains("tcp/80"));
    assert_eq!(message("alow=tcp/80"), "unknown option `alow=tcp/80`; did you mean `allow=`?");
    assert_eq!(message("fliter=deny"), "unknown option `fliter=deny`; did you mean `filter=`?");
}

#[test]
fn addresses_of_both_families_and_routes() {
    let line = "ip=10.0.2.15/24 ip=2001:db8::15/64 ip=fd00::1/8 gw=10.0.2.2 gw=2001:db8::1 slaac=off \
                route=10.1.0.0/16:10.0.2.1 route=::/0:fe80::1@7";
    let card = parse(line).unwrap().card(0);
    assert_eq!(card.address, Address::Static(Ipv4Addr::new(10, 0, 2, 15), 24));
    assert_eq!(card.ipv6_addresses.len(), 2);
    assert_eq!(card.ipv6_gateway, Some("2001:db8::1".parse().unwrap()));
    assert!(card.ignores_advertisements);
    assert_eq!(card.routes[1].metric, 7);
    assert_eq!(parse("ip=2001:db8::15/64").unwrap().card(0).address, Address::Dhcp);
    assert_eq!(parse("ip=none").unwrap().card(0).address, Address::None);
    assert!(message("ip=2001:db8::15").contains("2001:db8::15/64"));
    assert!(message("ip=none gw=10.0.2.2").contains("static address"));
    assert!(message("route=10.1.0.0/16").contains("router"));
    assert!(message("slaac=never").contains("`on` or `off`"));
}

#[test]
fn each_card_has_words_of_its_own() {
    let options = parse(
        "eth2.ip=10.2.0.1/24 ip=none eth2.gw=10.2.0.254 eth0.slaac=off eth2.route=10.3.0.0/16:10.2.0.9",
    );
    let options = options.unwrap();
    let addresses = [0, 1, 2, 3].map(|number| options.card(number).address);
    let given = Address::Static(Ipv4Addr::new(10, 2, 0, 1), 24);
    assert_eq!(addresses, [Address::None, Address::Dhcp, given, Address::Dhcp]);
    assert!(options.card(0).ignores_advertisements && !options.card(2).ignores_advertisements);
    assert_eq!((options.card(2).gateway.is_some(), options.card(2).routes.len()), (true, 1));
    assert!(message("eth1.gw=10.0.2.2").contains("`eth1.gw=` goes with a static address"));
    assert_eq!(message("eth1.gw=router"), "`eth1.gw=router`: expected an IP address");
    assert_eq!(message("eth1.slac=on"), "unknown option `eth1.slac=on`; did you mean `slaac=`?");
    assert_eq!(message("eth1.rout=x"), "unknown option `eth1.rout=x`; did you mean `route=`?");
    assert!(message("eth9.ip=dhcp").contains("unknown option"));
    assert!(message("eth1.log=info").contains("unknown option"));
}

#[test]
fn captures_are_on_off_or_cut() {
    let captures = |line| parse(line).map(|options| (options.captures, options.snap_len)).unwrap();
    assert_eq!(captures(""), (false, None));
    assert_eq!(captures("pcap=on"), (true, None));
    assert_eq!(captures("pcap=on pcap=off"), (false, None));
    assert_eq!(captures("pcap=96"), (true, Some(96)));
    assert!(message("pcap=0").contains("number of bytes"));
    assert!(message("pcap=file").contains("number of bytes"));
    assert_eq!(message("pacp=on"), "unknown option `pacp=on`; did you mean `pcap=`?");
}

/// Keys and values that an attacker would try.
const ATTACKS: [&[&str]; 2] = [
    &[
        "ip",
        "gw",
        "dns",
        "route",
        "slaac",
        "eth0.ip",
        "eth7.gw",
        "eth8.ip",
        "eth-1.ip",
        "eth1.",
        "filter",
        "allow",
        "deny",
        "pcap",
        "log",
        "trace",
        "exit",
        "stop",
        "env.A",
        "env.",
        "cwd",
        "root",
        "mount",
        "format",
        "overcommit",
        "hostname",
        "loopback",
        "forward",
        "ntp",
        "syslog",
        "config",
        "wx",
        "observe",
        "offload",
        "virtio_mmio.device",
        "console",
        "ro",
        "--",
        "lgo",
        "",
    ],
    &[
        "",
        "=",
        "0",
        "-1",
        "+1",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "0x",
        "1e9",
        "on",
        "none",
        "dhcp",
        "10.0.2.15/24",
        "10.0.2.15/33",
        "::/0",
        "::1/129",
        "tcp/80",
        "tcp/65536",
        "blk0",
        "blk18446744073709551616",
        "/:blk0",
        "/a:blk0:ext4:ro:x",
        "/dev/vda",
        "/dev/vdz9",
        "512@0xffffffffffffffff:5",
        "\"",
        "\"\"",
        "\u{1b}[2J",
        "ü",
        "\u{fffd}",
    ],
];

/// Lines of such words, of up to some 10,000 bytes, among them words that are repeated and long.
fn attack() -> impl Strategy<Value = String> {
    let key = prop::sample::select(ATTACKS[0]);
    let value = prop::sample::select(ATTACKS[1]);
    let word = (key, prop::option::of(value), 1usize..3).prop_map(|(key, value, times)| {
        format!("{key}{}", value.map(|value| format!("={}", value.repeat(times))).unwrap_or_default())
    });
    let noise = "\\PC{0,40}";
    let words = prop::collection::vec(prop_oneof![8 => word, 1 => noise], 0..12);
    (words, 1usize..50).prop_map(|(words, times)| vec![words.join(" "); times].join(" "))
}

proptest! {
    #[test]
    fn no_bytes_panic(line: Vec<u8>) {
        let _ = text(&line).map(parse);
    }

    #[test]
    fn no_line_panics(line in "\\PC{0,80}") {
        let _ = parse(&line).map_err(|error| error.to_string());
    }

    /// What is wrong is said with the key or the disk that it is about, and shown without control characters.
    #[test]
    fn attacks_are_answered_by_name(line in attack()) {
        if let Err(error) = parse(&line) {
            let text = error.to_string();
            let named = text.split('`').nth(1).unwrap_or("\"").split('=').next().unwrap_or_default();
            let plain = Shown(&line.replace('"', "")).to_string();
            prop_assert!(plain.contains(named) || text.contains("double quote"), "{text}");
            let says_what_to_do = ["expected", "did you mean", "needs a value", "goes with", "come after", "words are", "not closed"];
            prop_assert!(says_what_to_do.iter().any(|words| text.contains(words)), "{text}");
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn app_arguments_come_through_unchanged(arguments in prop::collection::vec("[a-z =\\-]{0,12}", 0..6)) {
        let quoted: String = arguments.iter().map(|argument| alloc::format!(" \"{argument}\"")).collect();
        let options = parse(&alloc::format!("log=info --{quoted}")).unwrap();
        prop_assert_eq!(options.app_arguments, arguments);
    }
}
