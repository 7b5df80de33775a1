//! The example appliances, each booted and used as its users would: what they are for is what is tested.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::http::{Client, Response};
use crate::machine::{Kind, Machine, Net};
use crate::project;
use crate::vm::{Console, Vm};

type Test = fn() -> Result<()>;

const BOOT_TIME_OUT: Duration = Duration::from_secs(30);
/// How long a peer may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let tests: [(&str, Test); 9] = [
        ("app_axum_rest", axum_rest),
        ("app_ws", ws),
        ("app_proxy", proxy),
        ("app_sqlite", sqlite),
        ("app_tls", tls),
        ("app_grpc", grpc),
        ("app_http3", http3),
        ("app_sqlite_disk", sqlite_disk),
        ("app_files", files),
    ];
    tests.into_iter().map(|(name, test)| (name.to_owned(), Box::new(test) as _)).collect()
}

/// A booted appliance.
struct Appliance {
    guest: Vm,
    address: SocketAddr,
}

impl Appliance {
    /// Boots an app on two processors and waits until it says that it listens.
    fn boot(app: &str, arguments: &str, guest_port: u16) -> Result<Self> {
        Self::boot_with(app, arguments, guest_port, &[])
    }

    /// The same with disks, the first of them at `/data`.
    fn boot_with(app: &str, arguments: &str, guest_port: u16, disks: &[Disk]) -> Result<Self> {
        let port = free_port()?;
        let mut machine = Machine::new(Kind::Q35, &project::built(app)?);
        machine.net = Net::User(port, guest_port);
        machine.cpus = 2;
        machine.disks = disks.to_vec();
        let flag = if disks.first().is_some_and(|disk| disk.is_read_only) { ":ro" } else { "" };
        let mount = if disks.is_empty() { String::new() } else { format!("mount=/data:blk0:ext4{flag} ") };
        machine.append = format!("{mount}-- {arguments}");
        let guest = Vm::start(&machine, Console::Recorded)?;
        let started = Instant::now();
        while !guest.console().contains("listening") {
            ensure!(started.elapsed() < BOOT_TIME_OUT, "it does not listen: {}", guest.console());
            ensure!(guest.try_wait()?.is_none(), "it ended: {}", guest.console());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { guest, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        let mut client = Client::connect(self.address)?;
        let len = body.len();
        client.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: appliance\r\nContent-Type: application/json\r\n\
                 Content-Length: {len}\r\n\r\n{body}"
            )
            .as_bytes(),
        )?;
        client.response()
    }

    /// Asks, and compares status and body.
    fn expect(&self, (method, path, body): (&str, &str, &str), status: u16, answer: &str) -> Result<()> {
        let response = self.ask(method, path, body).with_context(|| format!("{method} {path}"))?;
        ensure!(
            response.status == status && response.body == answer,
            "{method} {path}: {response:?}, not {status} {answer}; console: {}",
            self.guest.console()
        );
        Ok(())
    }
}

fn axum_rest() -> Result<()> {
    let app = Appliance::boot("axum-rest", "", 8080)?;
    app.expect(("GET", "/", ""), 200, r#"{"notes":0}"#)?;
    app.expect(("POST", "/notes", r#"{"text":"one"}"#), 201, r#"{"id":1,"text":"one"}"#)?;
    app.expect(("POST", "/notes", r#"{"text":"two"}"#), 201, r#"{"id":2,"text":"two"}"#)?;
    app.expect(("PUT", "/notes/2", r#"{"text":"2"}"#), 200, r#"{"id":2,"text":"2"}"#)?;
    app.expect(("DELETE", "/notes/1", ""), 204, "")?;
    app.expect(("GET", "/notes/1", ""), 404, "")?;
    app.expect(("GET", "/notes", ""), 200, r#"[{"id":2,"text":"2"}]"#)?;
    let bad = app.ask("POST", "/notes", "{")?;
    ensure!(bad.status == 400, "nonsense is answered by {bad:?}");
    Ok(())
}

/// The handshake with the example key of RFC 6455, section 1.3, and frames made by hand.
fn ws() -> Result<()> {
    let app = Appliance::boot("ws", "", 8080)?;
    let mut stream = TcpStream::connect_timeout(&app.address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: appliance\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // A text of five bytes, masked with zeros; the echo is not masked.
    stream.write_all(b"\x81\x85\0\0\0\0hello")?;
    let mut echo = [0; 7];
    stream.read_exact(&mut echo)?;
    ensure!(&echo == b"\x81\x05hello", "{echo:?}");
    // A close is answered by a close.
    stream.write_all(b"\x88\x80\0\0\0\0")?;
    stream.read_exact(&mut echo[..2])?;
    ensure!(echo[0] == 0x88, "{echo:?}");
    Ok(())
}

/// The host as QEMU's user network shows it.
const HOST: &str = "10.0.2.2";

/// Answers every request with its first line, as the proxy passed it on.
fn mirror(listener: &TcpListener) -> Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut head = Vec::new();
        let mut part = [0; 1024];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part)? {
                0 => break,
                count => head.extend_from_slice(&part[..count]),
            }
        }
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        let len = line.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{line}")?;
    }
    Ok(())
}

fn proxy() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let upstream = listener.local_addr()?.port();
    // It ends with the test's process.
    thread::spawn(move || mirror(&listener));
    let app = Appliance::boot("proxy", &format!("http://{HOST}:{upstream}"), 8080)?;
    for _ in 0..3 {
        app.expect(("GET", "/some/path?x=1", ""), 200, "GET /some/path?x=1 HTTP/1.1")?;
    }
    drop(app);
    let nobody = Appliance::boot("proxy", &format!("http://{HOST}:{}", free_port()?), 8080)?;
    let failed = nobody.ask("GET", "/", "")?;
    ensure!(failed.status == 502, "without an upstream: {failed:?}");
    Ok(())
}

fn sqlite() -> Result<()> {
    let app = Appliance::boot("sqlite", "", 8080)?;
    for id in 1..=20 {
        app.expect(("POST", "/entries", r#"{"name":"a","text":"b"}"#), 201, &id.to_string())?;
    }
    let entries = app.ask("GET", "/entries", "")?.body;
    ensure!(entries.starts_with(r#"[{"id":20,"name":"a","text":"b"}"#), "{entries}");
    app.expect(("GET", "/check", ""), 200, "ok")
}

/// Killed in between, without a warning: what was answered is there again.
fn sqlite_disk() -> Result<()> {
    let path = project::work_dir("disks")?.join("app-sqlite.img");
    let _ = std::fs::remove_file(&path);
    disk::make(&path, None, "64M", &[])?;
    let disks = [Disk::new(&path)];
    for boot in 0..3 {
        let app = Appliance::boot_with("sqlite", "", 8080, &disks)?;
        app.expect(("GET", "/check", ""), 200, "ok")?;
        for id in boot * 10 + 1..=boot * 10 + 10 {
            app.expect(("POST", "/entries", r#"{"name":"a","text":"b"}"#), 201, &id.to_string())?;
        }
        drop(app);
        disk::replay(&path)?;
        disk::check(&path)?;
    }
    Ok(std::fs::remove_file(&path)?)
}

/// Paths, options of curl, and the status that is due.
const FILE_STATUSES: [(&str, &[&str], &str); 10] = [
    ("/sub/", &[], "200"),
    ("/sub", &[], "301"),
    ("/", &[], "200"),
    ("/nothing", &[], "404"),
    ("/../etc/passwd", &[], "404"),
    ("/%2e%2e/%2e%2e/proc/cmdline", &[], "404"),
    ("/big.bin", &["--range", "0-1"], "206"),
    ("/big.bin", &["--range", "3000000-"], "416"),
    ("/big.bin", &["--request", "DELETE"], "405"),
    ("/big.bin", &["--header", "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT"], "304"),
];

/// A disk with a folder and a file, whose content is the second part.
fn files_disk() -> Result<(PathBuf, Vec<u8>)> {
    let folder = project::work_dir("app-files")?;
    std::fs::create_dir_all(folder.join("sub"))?;
    let big: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(folder.join("big.bin"), &big)?;
    std::fs::write(folder.join("sub/index.html"), "<p>index</p>")?;
    let path = project::work_dir("disks")?.join("app-files.img");
    let _ = std::fs::remove_file(&path);
    disk::make(&path, Some(&folder), "64M", &[])?;
    Ok((path, big))
}

/// A folder on a read-only disk, asked by curl as by a browser and a download.
fn files() -> Result<()> {
    let (path, big) = files_disk()?;
    let app = Appliance::boot_with("files", "", 8080, &[Disk { is_read_only: true, ..Disk::new(&path) }])?;
    let ask = |path: &str, options: &[&str]| -> Result<Vec<u8>> {
        let url = format!("http://{}{path}", app.address);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--path-as-is", "--max-time", "20"])
            .args(options)
            .arg(&url)
            .output()
            .context("cannot run curl: `make setup` installs it")?;
        ensure!(output.status.success(), "curl {path}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    ensure!(ask("/big.bin", &[])? == big, "the file is not what it was");
    ensure!(ask("/big.bin", &["--range", "1000000-1999999"])? == big[1_000_000..2_000_000], "a range is not");
    ensure!(ask("/big.bin", &["--range", "-7"])? == big[big.len() - 7..], "the last range is not");
    let status = |path: &str, options: &[&str]| -> Result<String> {
        let options = [options, &["--output", "/dev/null", "--write-out", "%{http_code}"]].concat();
        Ok(String::from_utf8_lossy(&ask(path, &options)?).into_owned())
    };
    let several = ask("/big.bin", &["--range", "0-9,20-29"])?;
    ensure!(several.windows(10).any(|window| window == &big[20..30]), "two ranges are not both there");
    for (path, options, wanted) in FILE_STATUSES {
        let found = status(path, options)?;
        ensure!(
            found == wanted,
            "{path} {options:?}: {found}, not {wanted}; console: {}",
            app.guest.console()
        );
    }
    drop(app);
    disk::check(&path)?;
    Ok(std::fs::remove_file(&path)?)
}

/// Asks with curl, over the version of HTTP that an option names.
fn curl(address: SocketAddr, option: &str) -> Result<String> {
    let url = format!("https://{address}/path");
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "10", option, &url])
        .output()
        .context("cannot run curl: `make setup` installs it")?;
    ensure!(output.status.success(), "curl {option}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tls() -> Result<()> {
    let app = Appliance::boot("tls", "", 8443)?;
    let old = curl(app.address, "--http1.1")?;
    ensure!(old == "Hello over HTTP/1.1, /path!\n", "{old}");
    let new = curl(app.address, "--http2")?;
    ensure!(new == "Hello over HTTP/2.0, /path!\n", "{new}");
    // Who does not speak TLS is turned away, and the others are served.
    let mut stream = TcpStream::connect_timeout(&app.address, PATIENCE)?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    drop(stream);
    ensure!(curl(app.address, "--http2")? == new, "after nonsense it answers something else");
    Ok(())
}

/// The same ELF asks, run on Linux.
fn grpc() -> Result<()> {
    let app = Appliance::boot("grpc", "", 8080)?;
    let client = project::built("grpc")?;
    let server = format!("http://{}", app.address);
    let ask = |text: &str| Command::new(&client).args(["ask", &server, text]).output();
    let output = ask("why?").context("cannot run the client")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said == "why?\n1: why?\n2: why?\n3: why?\n", "{said}{}", String::from_utf8_lossy(&output.stderr));
    let refused = ask("").context("cannot run the client")?;
    ensure!(!refused.status.success(), "an empty question is answered");
    Ok(())
}

/// QUIC needs more of UDP than other protocols: the same ELF asks, run on Linux.
fn http3() -> Result<()> {
    let app = Appliance::boot("http3", "", 8443)?;
    let client = project::built("http3")?;
    let server = app.address.to_string();
    let ask = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .arg(&client)
            .args(["ask", &server])
            .args(arguments)
            .output()
            .context("cannot run the client")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments:?}: {said}; console: {}", app.guest.console());
        Ok(output.stdout)
    };
    ensure!(ask(&["/path"])? == b"Hello over HTTP/3.0, /path!\n", "it greets otherwise");
    ensure!(ask(&["/", "why?"])? == b"why?", "it does not answer what was posted");
    // Datagrams leave and arrive in batches.
    ensure!(ask(&["/bytes/1000000"])? == vec![b'x'; 1_000_000], "a megabyte arrives otherwise");
    ensure!(ask(&["/bytes/many"]).is_err(), "nonsense is answered");
    Ok(())
}
