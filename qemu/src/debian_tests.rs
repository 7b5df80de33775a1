//! Servers of Debian's, unmodified: the binaries of its packages are packed with their libraries (`cargo unikernel pack
//! --root`), booted, and asked as their clients ask.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::debian::Program;
use crate::guest_tests::{NamedTest, Test, free_port};
use crate::machine::{Kind, Machine, Net};
use crate::process::Console;
use crate::vm::{Vm, last_lines};
use crate::{mariadb_tests, runtime_tests};

/// How long a server may take to answer, on a loaded host.
const PATIENCE: Duration = Duration::from_secs(40);

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
        name: "etcd",
        packages: &["etcd-server"],
        program: "usr/bin/etcd",
        folders: &[],
        files: &[],
        memory_mib: 512,
        append: "-- --data-dir /tmp/etcd --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://0.0.0.0:2379",
        port: 2379,
        // A key and a value in base64, and the question for them.
        question: b"POST /v3/kv/put HTTP/1.1\r\nHost: test\r\nContent-Length: 33\r\n\r\n{\"key\":\"a2V5\",\"value\":\"cGFja2Vk\"}\
            POST /v3/kv/range HTTP/1.1\r\nHost: test\r\nContent-Length: 14\r\n\r\n{\"key\":\"a2V5\"}",
        answer: "\"value\":\"cGFja2Vk\"",
    },
    Server {
        name: "prometheus",
        packages: &["prometheus"],
        program: "usr/bin/prometheus",
        folders: &[],
        // It watches itself.
        files: &[(
            "etc/prometheus.yml",
            "scrape_configs: [{ job_name: own, scrape_interval: 1s, static_configs: [{ targets: ['127.0.0.1:9090'] }] }]\n",
        )],
        memory_mib: 768,
        append: "-- --config.file=/etc/prometheus.yml --storage.tsdb.path=/tmp/prometheus --web.listen-address=0.0.0.0:9090",
        port: 9090,
        question: b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: test\r\n\r\n",
        answer: ",\"1\"]}]}}",
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

/// All of them, and the others that need its packages.
pub(crate) fn all() -> Vec<NamedTest> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        println!("left out: debian_*, for this host has no apt-get");
        return Vec::new();
    }
    let servers = SERVERS.iter().map(|server| {
        let test: Test = Box::new(move || server.test());
        (format!("debian_{}", server.name), test)
    });
    servers.chain(mariadb_tests::all()).chain(runtime_tests::all()).collect()
}

impl Server {
    fn test(&self) -> Result<()> {
        let program = Program {
            name: self.name,
            packages: self.packages,
            program: self.program,
            folders: self.folders,
            files: &self.files.iter().map(|(path, text)| (*path, text.as_bytes())).collect::<Vec<_>>(),
        };
        let Some(image) = program.image()? else {
            println!("left out: debian_{}, for its packages cannot be downloaded here", self.name);
            return Ok(());
        };
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
        Ok(fs::remove_file(&image)?)
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
}
