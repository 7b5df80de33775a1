//! Servers in languages with a runtime of their own: a garbage collector, threads and signals in its service, and machine
//! code that is made while the program runs (`wx=on`). Each is a source file in `qemu/programs`, booted on two processors, asked,
//! loaded by wrk for a few seconds, and stopped by the power button.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bench::wrk;
use crate::debian::{self, Program};
use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Kind, Machine, Net};
use crate::package_tests::{succeeds, unikernel};
use crate::vm::{Console, Vm, last_lines};
use crate::{http, project, qmp};

type Test = fn() -> Result<()>;

/// How long a runtime may take to start, and how long it may think, on a loaded host.
const BOOT_TIME_OUT: Duration = Duration::from_secs(90);
const TIME_OUT: Duration = Duration::from_secs(60);
const CONNECTIONS: u32 = 8;
const SECONDS: u64 = 3;
const LOADS: u64 = 10;
const PORT: u16 = 8080;
/// Where OpenJDK is, in its package and in the guest: it looks for its parts beside its own file.
const JAVA: &str = "usr/lib/jvm/java-17-openjdk-amd64/bin/java";

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let tests: [(&str, Test); 3] = [("runtime_go", go), ("runtime_node", node), ("runtime_java", java)];
    tests.into_iter().map(|(name, test)| (name.to_owned(), Box::new(test) as _)).collect()
}

/// How a server behaves.
struct Server {
    image: PathBuf,
    append: String,
    memory_mib: u64,
    /// Asked under load, too.
    answers: &'static [(&'static str, &'static str)],
    /// How the program ends after SIGTERM, and what it says then.
    exit: u8,
    last_words: &'static str,
}

impl Server {
    fn test(&self) -> Result<()> {
        let mut machine = Machine::new(Kind::Q35, &self.image);
        machine.cpus = 2;
        machine.memory_mib = self.memory_mib;
        machine.append.clone_from(&self.append);
        machine.add_rng();
        let port = free_port()?;
        machine.net = Net::User(port, PORT);
        let control = std::env::temp_dir().join(format!("qmp-runtime-{port}"));
        machine.extra.extend(qmp::arguments(&control));
        let mut guest = Vm::start(&machine, Console::Recorded)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        guest.wait_until(BOOT_TIME_OUT, || http::answers(address))?;
        let told = |guest: &Vm| last_lines(&guest.console(), 8);
        self.ask_all(address).with_context(|| told(&guest))?;
        thread::scope(|scope| {
            let load = scope.spawn(|| loaded(address));
            let asked = self.ask_all(address);
            load.join().expect("wrk's thread does not panic").and(asked)
        })
        .with_context(|| told(&guest))?;
        qmp::press_power_button(&control)?;
        let ending = guest.wait(Some(TIME_OUT))?.with_context(|| format!("no end: {}", told(&guest)))?;
        let is_right = ending.code == Some(self.exit) && ending.console.contains(self.last_words);
        ensure!(is_right && !ending.console.contains("ENOSYS"), "{:?}: {}", ending.code, told(&guest));
        Ok(fs::remove_file(&self.image)?)
    }

    fn ask_all(&self, address: SocketAddr) -> Result<()> {
        for (path, expected) in self.answers {
            let mut client = http::Client::connect(address)?;
            client.set_patience(TIME_OUT)?;
            let response = client.get(path).with_context(|| format!("GET {path}"))?;
            ensure!(response.status == 200 && response.body.contains(expected), "{path}: {response:?}");
        }
        Ok(())
    }
}

/// Loads a server; on a busy host it may take more than one time until it answers any of it.
fn loaded(address: SocketAddr) -> Result<()> {
    for _ in 0..LOADS {
        let report = wrk::run(address, CONNECTIONS, SECONDS)?;
        ensure!(report.errors.total() == 0, "{report:?}");
        if report.requests > 0 {
            return Ok(());
        }
    }
    bail!("no answer under load in {} s", LOADS * SECONDS)
}

fn source(name: &str) -> PathBuf {
    project::root().join("qemu/programs").join(name)
}

fn left_out(name: &str) -> Result<()> {
    println!("left out: {name}, for its packages cannot be downloaded here");
    Ok(())
}

/// A static program: goroutines, the netpoller, a collector beside them, loops that only a signal interrupts.
fn go() -> Result<()> {
    let folder = project::work_dir("debian")?;
    let Some(program) = go_program(&folder)? else { return left_out("runtime_go") };
    let image = folder.join("go.unikernel");
    let mut pack = unikernel(&folder, ["pack", "-o"])?;
    pack.args([&image, &program]);
    succeeds(pack)?;
    let answers = &[("/", "hello from Go\n"), ("/spin", "came back\n"), ("/collect", "processors 2\n")];
    Server { image, append: String::new(), memory_mib: 256, answers, exit: 0, last_words: "served " }.test()
}

/// The server as Debian's Go compiles it, once: Go itself, half a gigabyte, is not kept.
fn go_program(folder: &Path) -> Result<Option<PathBuf>> {
    let (source, program) = (source("server.go"), folder.join("go-server"));
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if changed(&program) > changed(&source) {
        return Ok(Some(program));
    }
    let toolchain = project::work_dir("debian/go")?;
    if !debian::fetch(&toolchain, &debian::closure(&["golang-go"], "golang-")?, |_| true)? {
        return Ok(None);
    }
    let mut build = Command::new(toolchain.join("usr/lib/go/bin/go"));
    build.args(["build", "-o"]).args([&program, &source]);
    build.env("GOROOT", toolchain.join("usr/lib/go"));
    build.env("GOCACHE", toolchain.join("cache")).env("GOPATH", toolchain.join("path"));
    build.env("CGO_ENABLED", "0").env("GO111MODULE", "off").env("GOFLAGS", "");
    succeeds(build)?;
    fs::remove_dir_all(&toolchain)?;
    Ok(Some(program))
}

/// V8: code is compiled while it runs, by threads of its own.
fn node() -> Result<()> {
    let script = fs::read(source("server.js"))?;
    let program = Program {
        name: "node",
        packages: &["nodejs", "libnode108", "node-acorn", "node-cjs-module-lexer", "node-undici"],
        program: "usr/bin/node",
        folders: &["usr/share/nodejs"],
        files: &[("www/server.js", &script)],
    };
    let Some(image) = program.image()? else { return left_out("runtime_node") };
    let answers = &[
        ("/", "hello from node"),
        ("/compiled", "2999997 1499998.5"),
        ("/file", "kept here"),
        ("/hash", "9225b682723dea2c1963b95902d5ab07"),
        ("/worker", "42"),
    ];
    let append = "wx=on -- /www/server.js".to_owned();
    Server { image, append, memory_mib: 1024, answers, exit: 0, last_words: "closed" }.test()
}

/// HotSpot: two compilers, and a collector that stops threads by pages that it takes away.
fn java() -> Result<()> {
    let packages = ["openjdk-17-jre-headless"];
    let Some(folder) = debian::unpack(&packages)? else { return left_out("runtime_java") };
    let classes = project::work_dir("debian/classes")?;
    let mut compile = Command::new(folder.join(JAVA));
    compile
        .args(["-m", "jdk.compiler/com.sun.tools.javac.Main", "-d"])
        .args([&classes, &source("Server.java")]);
    succeeds(compile)?;
    let (launcher, class) = (fs::read(folder.join(JAVA))?, fs::read(classes.join("Server.class"))?);
    let program = Program {
        name: "java",
        packages: &packages,
        program: JAVA,
        folders: &[
            "usr/lib/jvm/java-17-openjdk-amd64/lib",
            "usr/lib/jvm/java-17-openjdk-amd64/conf",
            "etc/java-17-openjdk",
        ],
        files: &[("www/Server.class", &class), (JAVA, &launcher)],
    };
    let Some(image) = program.image()? else { return left_out("runtime_java") };
    let answers = &[
        ("/", "hello from Java"),
        ("/compiled", "8998200"),
        ("/collected", "252"),
        ("/caught", "1001"),
        ("/file", "kept here"),
    ];
    // What a shell shows for SIGTERM, as on Linux.
    let append = format!("wx=on init=/{JAVA} -- -XX:+UseG1GC -cp /www Server");
    Server { image, append, memory_mib: 1024, answers, exit: 128 + 15, last_words: "closed" }.test()
}
