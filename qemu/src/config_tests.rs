//! What machines are told at boot: by volumes that `mtools` and `genisoimage` make, and by metadata services.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;
use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine, Net};
use crate::namespace::{self, Queues, TAP};
use crate::project::{self, Profile};
use crate::tap_tests::TapTest;
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(60);
/// Where services are, and how late the first is.
const ADDRESS: &str = "169.254.169.254:80";
const LATE: Duration = Duration::from_secs(3);
const META_DATA: &str = "instance-id: i-1\nlocal-hostname: web-1\n";
const NETWORK: &str = "\
version: 2
ethernets:
  eth0:
    addresses: [10.0.2.20/24]
    gateway4: 10.0.2.2
    nameservers: {addresses: [10.0.2.77]}
";
const USER_DATA: &str = "\
#cloud-config
write_files:
  - path: /etc/app/app.toml
    permissions: '0640'
    content: |
      port = 80
      name = \"x\"
  - {path: /var/run/linked, encoding: b64, content: aGVsbG8=}
  - {path: relative}
environment:
  ONE: of the configuration
  TWO: of the configuration
packages: [nginx]
";

/// Those that need no tap device.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![("config_nocloud".into(), Box::new(nocloud)), ("config_nocloud_lies".into(), Box::new(nocloud_lies))]
}

/// Those with a service.
pub(crate) const TESTS: [TapTest; 1] = [TapTest::new("config_metadata", metadata).on_one()];

/// How a volume is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Fat,
    Iso,
}

/// A volume with files, called `label`.
pub(crate) fn volume(form: Form, label: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
    let folder = project::work_dir(&format!("config/{}", std::process::id()))?;
    for (name, content) in files {
        std::fs::write(folder.join(name), content)?;
    }
    let image = folder.join("image");
    let _ = std::fs::remove_file(&image);
    let names = files.iter().map(|(name, _)| folder.join(name));
    match form {
        Form::Fat => {
            run(Command::new("mformat").args(["-C", "-f", "1440", "-v", label, "-i"]).arg(&image).arg("::"))?;
            run(Command::new("mcopy").arg("-i").arg(&image).args(names).arg("::/"))?;
        }
        Form::Iso => {
            let mut command = Command::new("genisoimage");
            command.args(["-quiet", "-joliet", "-rock", "-volid", label, "-output"]).arg(&image);
            run(command.args(names))?;
        }
    }
    Ok(image)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}: run `make setup`"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Boots with a volume; answers the console.
fn boot(
    kind: Kind,
    image: Option<&Path>,
    words: &str,
    asked: &[&str],
    serial: Option<&str>,
) -> Result<String> {
    let mut machine = Machine::new(kind, &project::image("told"));
    machine.net = Net::Apart(2);
    machine.disks = image.map(Disk::new).into_iter().collect();
    machine.append = format!("{words} -- {}", asked.join(" "));
    machine.extra =
        serial.iter().flat_map(|serial| ["-smbios".into(), format!("type=1,serial={serial}")]).collect();
    end(&machine)
}

fn end(machine: &Machine) -> Result<String> {
    let mut guest = Vm::start(machine, Console::Recorded)?;
    let ending = guest.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("it does not end: {}", guest.console()))?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    Ok(ending.console)
}

fn shows(console: &str, expected: &[&str]) -> Result<()> {
    for text in expected {
        ensure!(console.contains(text), "no {text:?} in {console}");
    }
    Ok(())
}

/// A machine has its name, address, files and variables from a volume; the command line counts before it.
fn nocloud() -> Result<()> {
    project::build("guest-tests", &["told"], Profile::Release)?;
    let files: &[(&str, &[u8])] = &[
        ("meta-data", META_DATA.as_bytes()),
        ("network-config", NETWORK.as_bytes()),
        ("user-data", USER_DATA.as_bytes()),
    ];
    let asked = [
        "host",
        "ip",
        "env:ONE",
        "env:TWO",
        "/etc/app/app.toml",
        "mode:/etc/app/app.toml",
        "/run/linked",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/run/meta-data",
        "mode:/run/user-data",
    ];
    for (form, kind) in [(Form::Fat, Kind::Q35), (Form::Iso, Kind::Microvm)] {
        let image = volume(form, "cidata", files)?;
        let told = boot(kind, Some(&image), "config=nocloud \"env.TWO=of the line\"", &asked, None)?;
        shows(
            &told,
            &[
                "host is web-1;",
                "ip is 10.0.2.20;",
                "env:ONE is of the configuration;",
                "env:TWO is of the line;",
                "app.toml is port = 80|name = \"x\";",
                "mode:/etc/app/app.toml is 640;",
                "/run/linked is hello;",
                "/etc/hostname is web-1;",
                "/etc/resolv.conf is nameserver 10.0.2.77;",
                "/run/meta-data is instance-id: i-1|local-hostname: web-1;",
                "mode:/run/user-data is 600;",
                "write_files, number 3: `path` is not the absolute path of a file",
                "not used: packages",
            ],
        )
        .with_context(|| format!("{form:?}"))?;
    }
    let image = volume(Form::Fat, "CIDATA", files)?;
    let own =
        boot(Kind::Q35, Some(&image), "config=nocloud hostname=own ip=10.0.2.30/24", &["host", "ip"], None)?;
    shows(&own, &["host is own;", "ip is 10.0.2.30;", "eth0: the command line counts"])?;
    let serial = Some("ds=nocloud;h=web-9");
    let told = boot(Kind::Q35, Some(&image), "", &["host", "ip"], serial)?;
    shows(&told, &["host is web-9;", "ip is 10.0.2.20;"])?;
    for (words, serial) in [("", None), ("config=none", serial)] {
        let untold = boot(Kind::Q35, Some(&image), words, &["host", "/run/user-data"], serial)?;
        shows(&untold, &["host is unikernel;", "/run/user-data is NotFound;"])?;
    }
    Ok(())
}

/// What cannot be understood is told, and the app starts without it.
fn nocloud_lies() -> Result<()> {
    project::build("guest-tests", &["told"], Profile::Release)?;
    let none = boot(Kind::Q35, None, "config=nocloud", &["host"], None)?;
    shows(&none, &["there is no volume called `cidata`", "host is unikernel;"])?;
    let script = volume(Form::Iso, "cidata", &[("meta-data", b""), ("user-data", b"#!/bin/sh\n: {\n")])?;
    let told = boot(Kind::Q35, Some(&script), "config=nocloud", &["/run/user-data"], None)?;
    shows(&told, &["/run/user-data is #!/bin/sh|: {;"])?;
    let bad: &[(&str, &[u8])] = &[
        ("meta-data", b"a: b\na: [c"),
        ("network-config", b"\xff\xfe"),
        ("user-data", b"#cloud-config\nhostname: no_host..name\nwrite_files: [{path: /proc/version}, {path: /dev/null/x}]\n"),
    ];
    let told = boot(Kind::Q35, Some(&volume(Form::Fat, "cidata", bad)?), "config=nocloud", &["host"], None)?;
    shows(
        &told,
        &[
            "meta-data: not used: line 2: a key comes twice",
            "network-config: not used: line 1: it is no text",
            "`no_host..name` is no host name",
            "/proc/version cannot be written",
            "/dev/null/x cannot be written",
            "host is unikernel;",
        ],
    )?;
    let huge = vec![b'#'; 1_200_000];
    let image = volume(Form::Fat, "cidata", &[("meta-data", b""), ("user-data", &huge)])?;
    let told = boot(Kind::Q35, Some(&image), "config=nocloud", &["host"], None)?;
    shows(&told, &["a file on it has more than 1024 KiB", "host is unikernel;"])?;
    // A volume that ends in the middle of its files.
    let whole = std::fs::read(volume(Form::Iso, "cidata", &[("meta-data", &[b'#'; 100_000])])?)?;
    let cut = project::work_dir("config")?.join("cut");
    std::fs::write(&cut, &whole[..100 * 512])?;
    let told = boot(Kind::Q35, Some(&cut), "config=nocloud", &["host"], None)?;
    shows(&told, &["its filesystem is damaged", "host is unikernel;"])
}

/// What a service does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    /// Wants a token, and these headers for it.
    WithToken { ttl: &'static str, token: &'static str },
    /// Knows of no tokens.
    Old,
    /// Sends something else.
    Garbage,
    /// Has nothing.
    Empty,
}

impl Service {
    fn answer(self, question: &str) -> Vec<u8> {
        let text = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let has = |header: &str, value: &str| {
            question.lines().any(|line| line.eq_ignore_ascii_case(&format!("{header}: {value}")))
        };
        match self {
            Self::Garbage => return b"\x00\x01SSH-2.0".to_vec(),
            Self::Empty => return text("404 Not Found", "none"),
            Self::WithToken { ttl, .. } if question.starts_with("PUT /latest/api/token ") => {
                return if has(ttl, "300") {
                    text("200 OK", "se-cret==")
                } else {
                    text("400 Bad Request", "")
                };
            }
            Self::WithToken { token, .. } if !has(token, "se-cret==") => return text("401 Unauthorized", ""),
            Self::Old if !question.starts_with("GET ") => return text("405 Method Not Allowed", ""),
            Self::WithToken { .. } | Self::Old => {}
        }
        match question.split(' ').nth(1).unwrap_or_default() {
            "/latest/meta-data/instance-id" => text("200 OK", "i-7"),
            "/latest/meta-data/hostname" => text("200 OK", "web-7\n"),
            "/latest/user-data" => text("200 OK", USER_DATA),
            _ => text("404 Not Found", ""),
        }
    }

    fn serve_one(self, stream: &mut TcpStream) -> Result<()> {
        let (mut question, mut piece) = (Vec::new(), [0; 1024]);
        while !question.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut piece)?;
            ensure!(count > 0, "cut short");
            question.extend(&piece[..count]);
        }
        let answer = self.answer(std::str::from_utf8(&question)?);
        // In two pieces.
        let (head, tail) = answer.split_at(answer.len() / 2);
        stream.write_all(head)?;
        thread::sleep(Duration::from_millis(20));
        Ok(stream.write_all(tail)?)
    }
}

/// Answers as the service does that is in force, after a while in which nobody answers.
fn serve(service: Arc<Mutex<Service>>) {
    thread::spawn(move || -> Result<()> {
        thread::sleep(LATE);
        let listener = TcpListener::bind(ADDRESS)?;
        loop {
            let (mut stream, _) = listener.accept()?;
            let service = *service.lock().unwrap_or_else(PoisonError::into_inner);
            // Who goes away is the guest's affair.
            let _ = service.serve_one(&mut stream);
        }
    });
}

/// Firecracker's service and Amazon's, with tokens and without; one that comes late, one that has nothing, one that is none.
fn metadata(kind: Kind) -> Result<()> {
    let image = project::built("told")?;
    namespace::set_up(Queues::One)?;
    namespace::add_address("169.254.169.254/32", "lo")?;
    let token = "X-aws-ec2-metadata-token";
    let ec2 = Service::WithToken { ttl: "X-aws-ec2-metadata-token-ttl-seconds", token };
    let mmds = Service::WithToken { ttl: "X-metadata-token-ttl-seconds", token: "X-metadata-token" };
    let good = [
        "host is web-7;",
        "env:ONE is of the configuration;",
        "port = 80|",
        "meta-data is instance-id: i-7|",
    ];
    let current = Arc::new(Mutex::new(mmds));
    serve(Arc::clone(&current));
    for (source, service, expected) in [
        ("mmds", mmds, &good[..]),
        ("ec2", ec2, &good),
        ("ec2", Service::Old, &good),
        ("ec2", Service::Empty, &["host is unikernel;", "env:ONE is none;"]),
        ("mmds", Service::Garbage, &["the machine's configuration cannot be had", "host is unikernel;"]),
    ] {
        *current.lock().unwrap_or_else(PoisonError::into_inner) = service;
        namespace::renew_tap(Queues::One)?;
        let mut machine = Machine::new(kind, &image);
        machine.net = Net::Tap { name: TAP.into(), queues: 1 };
        let asked = "host env:ONE /etc/app/app.toml /run/meta-data";
        machine.append = format!("ip=10.0.2.15/24 gw=10.0.2.1 config={source} -- {asked}");
        shows(&end(&machine)?, expected)?;
    }
    Ok(())
}
