//! Servers of Debian's, unmodified: the binaries of its packages are packed with their libraries (`cargo unikernel pack
//! --root`), booted, and asked as their clients ask.
//!
//! The packages are downloaded once, into the target folder, and nothing of them is installed on this host.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guest_tests::free_port;
use crate::machine::{Kind, Machine, Net};
use crate::package_tests::unikernel;
use crate::process::Console;
use crate::program_tests::put;
use crate::project;
use crate::vm::{Vm, last_lines};

/// A name and what it does.
type NamedTest = (String, Box<dyn Fn() -> Result<()>>);

/// How long a server may take to answer, on a loaded host.
const PATIENCE: Duration = Duration::from_secs(40);
/// Where a package's libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu:lib/x86_64-linux-gnu";

/// One program, and a conversation with it.
struct Server {
    name: &'static str,
    /// The packages that it is in, without those that they depend on.
    packages: &'static [&'static str],
    /// Where in them it is.
    program: &'static str,
    /// Folders of the packages that it wants to find.
    folders: &'static [&'static str],
    /// Files that it wants to find.
    files: &'static [(&'static str, &'static str)],
    memory_mib: u64,
    /// Words of the kernel's, `--`, arguments.
    append: &'static str,
    /// Where it listens; 0 if it does not, and says what is expected on its console.
    port: u16,
    question: &'static [u8],
    answer: &'static str,
}

const GET: &[u8] = b"GET /a.txt HTTP/1.0\r\nHost: test\r\n\r\n";
const PAGE: (&str, &str) = ("www/a.txt", "of Debian's\n");

const SERVERS: &[Server] = &[
    Server {
        name: "redis",
        packages: &["redis-tools"],
        program: "usr/bin/redis-check-rdb",
        folders: &[],
        files: &[],
        memory_mib: 256,
        append: "-- --protected-mode no --save \"\"",
        port: 6379,
        question: b"SET k packed\r\nGET k\r\nLPUSH l 1 2 3\r\nQUIT\r\n",
        answer: "+OK\r\n$6\r\npacked\r\n:3\r\n+OK\r\n",
    },
    Server {
        name: "memcached",
        packages: &["memcached"],
        program: "usr/bin/memcached",
        folders: &[],
        files: &[],
        memory_mib: 256,
        append: "-- -u root -m 64",
        port: 11211,
        question: b"set k 0 0 6\r\npacked\r\nget k\r\nquit\r\n",
        answer: "STORED\r\nVALUE k 0 6\r\npacked\r\nEND\r\n",
    },
    Server {
        name: "nginx",
        packages: &["nginx"],
        program: "usr/sbin/nginx",
        folders: &[],
        files: &[
            PAGE,
            (
                "etc/n.conf",
                "daemon off; master_process off; error_log stderr; pid /tmp/pid;\n\
                 events {}\n\
                 http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;\n\
                 uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 8080; root /www; } }\n",
            ),
            ("var/log/nginx/error.log", ""),
        ],
        memory_mib: 256,
        append: "-- -c /etc/n.conf",
        port: 8080,
        question: GET,
        answer: PAGE.1,
    },
    Server {
        name: "lighttpd",
        packages: &["lighttpd"],
        program: "usr/sbin/lighttpd",
        folders: &["usr/lib/lighttpd"],
        files: &[PAGE, ("etc/l.conf", "server.document-root = \"/www\"\nserver.port = 8080\n")],
        memory_mib: 256,
        append: "-- -D -f /etc/l.conf",
        port: 8080,
        question: GET,
        answer: PAGE.1,
    },
    Server {
        name: "haproxy",
        packages: &["haproxy"],
        program: "usr/sbin/haproxy",
        folders: &[],
        files: &[(
            "etc/h.conf",
            "global\n maxconn 100\ndefaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n\
             frontend f\n bind :8080\n http-request return status 200 content-type text/plain string \"of Debian's\"\n",
        )],
        memory_mib: 256,
        append: "-- -db -f /etc/h.conf",
        port: 8080,
        question: GET,
        answer: "of Debian's",
    },
    Server {
        name: "mosquitto",
        packages: &["mosquitto"],
        program: "usr/sbin/mosquitto",
        folders: &[],
        files: &[("etc/m.conf", "listener 1883\nallow_anonymous true\n")],
        memory_mib: 256,
        append: "-- -c /etc/m.conf",
        port: 1883,
        // CONNECT of a client `t` (MQTT 3.1.1), a SUBSCRIBE to `a`, and a PUBLISH of `packed` to it.
        question: b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01t\x82\x06\x00\x01\x00\x01a\x00\x30\x09\x00\x01apacked",
        // CONNACK, SUBACK, and what was published.
        answer: "\x30\x09\x00\x01apacked",
    },
    Server {
        name: "caddy",
        packages: &["caddy"],
        program: "usr/bin/caddy",
        folders: &[],
        files: &[PAGE],
        memory_mib: 512,
        append: "-- file-server --root /www --listen :8080",
        port: 8080,
        question: GET,
        answer: PAGE.1,
    },
    Server {
        name: "python",
        packages: &["python3.11-minimal", "libpython3.11-stdlib"],
        program: "usr/bin/python3.11",
        folders: &["usr/lib/python3.11"],
        files: &[PAGE],
        memory_mib: 512,
        append: "env.PYTHONHOME=/usr -- -m http.server -d /www 8080",
        port: 8080,
        question: GET,
        answer: PAGE.1,
    },
    Server {
        name: "php",
        packages: &["php8.2-cli"],
        program: "usr/bin/php8.2",
        folders: &[],
        files: &[("www/a.txt", "<?php echo 6 * 7;\n"), ("www/index.php", "<?php echo 'six times ', 6 * 7;\n")],
        memory_mib: 256,
        append: "-- -S 0.0.0.0:8080 -t /www",
        port: 8080,
        question: b"GET / HTTP/1.0\r\nHost: test\r\n\r\n",
        answer: "six times 42",
    },
    Server {
        name: "sqlite",
        packages: &["sqlite3"],
        program: "usr/bin/sqlite3",
        folders: &[],
        files: &[],
        memory_mib: 128,
        append: "-- /tmp/db \"create table t(a); insert into t values(41); select 'it is', a + 1 from t;\"",
        port: 0,
        question: b"",
        answer: "it is|42",
    },
];

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        println!("left out: debian_*, for this host has no apt-get");
        return Vec::new();
    }
    SERVERS
        .iter()
        .map(|server| {
            let test: Box<dyn Fn() -> Result<()>> = Box::new(move || server.test());
            (format!("debian_{}", server.name), test)
        })
        .collect()
}

impl Server {
    fn test(&self) -> Result<()> {
        let Some(packages) = unpack(self.packages)? else {
            println!("left out: debian_{}, for its packages cannot be downloaded here", self.name);
            return Ok(());
        };
        let root = self.root(&packages)?;
        let image = project::work_dir("debian")?.join(format!("{}.unikernel", self.name));
        let output = unikernel(&packages, ["pack", "--name", self.name, "--root"])?
            .arg(&root)
            .arg("-o")
            .args([image.as_path(), Path::new(self.program)])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut machine = Machine::new(Kind::Microvm, &image);
        machine.memory_mib = self.memory_mib;
        machine.append = self.append.to_owned();
        machine.add_rng();
        let port = free_port()?;
        machine.net = Net::User(port, self.port.max(1));
        let mut guest = Vm::start(&machine, Console::Recorded)?;
        let told = |guest: &Vm| last_lines(&guest.console(), 6);
        if self.port == 0 {
            let ending = guest.wait(Some(PATIENCE))?.with_context(|| told(&guest))?;
            ensure!(ending.code == Some(0) && guest.console().contains(self.answer), "{}", told(&guest));
        } else {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            self.ask(address).with_context(|| told(&guest))?;
        }
        drop(guest);
        fs::remove_file(&image)?;
        Ok(fs::remove_dir_all(&root)?)
    }

    /// Asks until there is an answer: the forwarded port takes connections before the server does.
    fn ask(&self, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = self.converse(address).unwrap_or_default();
            if answer.windows(self.answer.len()).any(|part| part == self.answer.as_bytes()) {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&answer);
            ensure!(started.elapsed() < PATIENCE, "no {:?} in {text:?}", self.answer);
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What comes until the connection ends, or a second without a word.
    fn converse(&self, address: SocketAddr) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(self.question)?;
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut part) {
            answer.extend_from_slice(&part[..count]);
        }
        Ok(answer)
    }

    /// What the program shall find at `/`.
    fn root(&self, packages: &Path) -> Result<PathBuf> {
        let root = project::work_dir("debian")?.join(format!("root-{}", self.name));
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        for folder in self.folders {
            copy(&packages.join(folder), &root.join(folder))?;
        }
        for (path, content) in self.files {
            put(&root.join(path), content.as_bytes())?;
        }
        let mut programs = vec![packages.join(self.program)];
        shared_objects(&root, &mut programs)?;
        for library in programs.iter().map(|program| needed(packages, program)).collect::<Result<Vec<_>>>()? {
            for path in library {
                let is_interpreter = path.to_string_lossy().contains("/ld-linux");
                let folder = if is_interpreter { "lib64" } else { "lib/x86_64-linux-gnu" };
                let name = path.file_name().context("a library has a name")?;
                put(&root.join(folder).join(name), &fs::read(&path)?)?;
            }
        }
        Ok(root)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("it is in a folder")?)?;
    let status = Command::new("cp").arg("-r").args([from, to]).status()?;
    ensure!(status.success(), "cannot copy {}", from.display());
    Ok(())
}

/// Modules below a folder that have libraries of their own.
fn shared_objects(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            shared_objects(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "so") {
            found.push(path);
        }
    }
    Ok(())
}

/// The libraries and the interpreter of a program, where `ld.so` finds them.
fn needed(packages: &Path, program: &Path) -> Result<BTreeSet<PathBuf>> {
    let folders: Vec<String> =
        LIBRARIES.split(':').map(|folder| packages.join(folder).display().to_string()).collect();
    let output = Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", folders.join(":")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), missing.trim());
    }
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(|word| PathBuf::from(word.trim_end_matches(':'))).filter(|path| path != program).collect())
}

/// The folder with the content of these packages and of the libraries that they depend on; `None` if there is no way to get one.
fn unpack(packages: &[&str]) -> Result<Option<PathBuf>> {
    let folder = project::work_dir("debian/packages")?;
    for package in closure(packages)? {
        let done = folder.join(format!("{package}.unpacked"));
        if done.exists() {
            continue;
        }
        let downloads = project::work_dir("debian/download")?;
        let fetched = Command::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "download", &package])
            .current_dir(&downloads)
            .output()?;
        if fetched.status.success() {
            for file in fs::read_dir(&downloads)? {
                let path = file?.path();
                let status = Command::new("dpkg-deb").arg("-x").args([&path, &folder]).status()?;
                ensure!(status.success(), "cannot unpack {}", path.display());
                fs::remove_file(&path)?;
            }
        } else if packages.contains(&package.as_str()) {
            return Ok(None);
        }
        // A library that is not to be had is this host's, if it is one at all.
        fs::write(&done, "")?;
    }
    Ok(Some(folder))
}

/// The packages, and the libraries among what they depend on.
fn closure(packages: &[&str]) -> Result<BTreeSet<String>> {
    let no = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
        .map(|what| format!("--no-{what}"));
    let output = Command::new("apt-cache").args(["depends", "--recurse"]).args(no).args(packages).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = text.lines().filter(|line| line.starts_with("lib")).map(str::to_owned);
    Ok(packages.iter().map(|&package| package.to_owned()).chain(libraries).collect())
}
