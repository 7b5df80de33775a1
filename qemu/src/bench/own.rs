//! `bench` for a server of the user's: the same ELF in our image and as the only process of a Linux guest, in turn, and
//! what came of it as a table, a picture and JSON.
//!
//! The tool builds, and then measures in a process of its own inside a network namespace, which is told a [`Plan`].

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::measure::{BOOT_TIME_OUT, Guest, System, Target, median};
use super::{Failures, LoadResult, Pair, Series, Served, linux, report, svg};
use crate::cli::OwnBenchOptions;
use crate::machine::Machine;
use crate::namespace::{self, GUEST, Queues};
use crate::package::finds;
use crate::run;

/// The command that is told a plan; not for people.
pub(crate) const INSIDE: &str = "bench-inside";

/// What is measured, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    name: String,
    image: PathBuf,
    initrd: Option<PathBuf>,
    machine: String,
    memory_mib: u64,
    cpus: u32,
    /// Words for our kernel alone.
    append: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    port: u16,
    path: String,
    connections: Vec<u32>,
    rounds: usize,
    seconds: u64,
    output: PathBuf,
}

/// All that was found.
#[derive(Serialize)]
struct OwnResults<'a> {
    plan: &'a Plan,
    linux_command_line: String,
    loads: &'a [LoadResult],
    /// Medians of the milliseconds from the start of QEMU to the first response.
    boot_ms: Pair<f64>,
    image_bytes: u64,
    failures: &'a [String],
}

/// Builds and measures; answers the process's exit code.
pub(crate) fn run(options: &OwnBenchOptions) -> Result<u8> {
    check_host()?;
    let bootable = run::bootable(&options.run.what)?;
    linux::prepare().context("there is no Linux to compare with")?;
    let name = bootable.image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let whole = |path: &Path| std::path::absolute(path).context("the current folder is gone");
    let initrd = match &options.run.initrd {
        Some(path) => Some(run::initrd_file(path, &format!("bench-{name}"))?),
        None => bootable.initrd.clone(),
    };
    let plan = Plan {
        name,
        image: whole(&bootable.image)?,
        initrd: initrd.as_deref().map(whole).transpose()?,
        machine: options.run.machine.to_string(),
        memory_mib: options.run.memory_mib,
        cpus: options.run.cpus,
        append: options.run.append.clone(),
        environment: options.run.environment.clone(),
        arguments: options.run.app_arguments.clone(),
        port: options.port,
        path: options.path.clone(),
        connections: options.connections.clone(),
        rounds: options.rounds,
        seconds: options.seconds,
        output: whole(&options.output)?,
    };
    let mut command = namespace::command([INSIDE, &serde_json::to_string(&plan)?])?;
    let status = command.status().context("cannot run `unshare` (package util-linux)")?;
    Ok(status.code().map_or(1, |code| code as u8))
}

/// What measuring takes beside what `run` takes, all of which is named at once.
fn check_host() -> Result<()> {
    let needs =
        [("wrk", "wrk"), ("ip", "iproute2"), ("unshare", "util-linux"), ("busybox", "busybox-static")];
    let missing = needs.iter().filter(|(program, _)| !finds(program) && !is_in_sbin(program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    ensure!(packages.is_empty(), "to measure takes more: `apt-get install {}`", packages.join(" "));
    ensure!(namespace::is_possible(), "to measure takes a tap device, and /dev/net/tun cannot be opened");
    Ok(())
}

/// Folders that are not in everybody's `PATH`.
fn is_in_sbin(program: &str) -> bool {
    ["/sbin", "/usr/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

/// Measures, in the namespace that is there for it.
pub(crate) fn run_inside(plan: &Plan) -> Result<u8> {
    namespace::set_up(Queues::One)?;
    let mut failures = Failures::default();
    let Plan { name, connections, rounds, seconds, .. } = plan;
    let series = Series { app: name, connections, rounds: *rounds, seconds: *seconds };
    let Served { loads, boots } = series.in_turns(&mut failures, |system| plan.boot(system));
    let results = OwnResults {
        plan,
        linux_command_line: linux::command_line(),
        loads: &loads,
        boot_ms: Pair { ours: boots.ours.and_then(median), linux: boots.linux.and_then(median) },
        image_bytes: fs::metadata(&plan.image)?.len(),
        failures: &failures.0,
    };
    results.write()?;
    Ok(u8::from(!failures.0.is_empty()))
}

impl Plan {
    fn boot(&self, system: System) -> Result<Guest> {
        let kind = self.machine.parse()?;
        let mut machine = match system {
            System::Unikernel => Machine::new(kind, &self.image),
            System::Linux => Machine::new(kind, &linux::kernel()?),
        };
        match system {
            System::Unikernel => {
                let words = format!("ip=10.0.2.15/24 log=warn {}", self.append);
                machine.append = run::command_line(&words, &self.environment, &self.arguments);
                machine.initrd.clone_from(&self.initrd);
            }
            System::Linux => {
                let start = self.shell_line();
                let (file, files) = (&self.image, self.initrd.as_deref());
                let program = linux::Program { name: &self.name, file, files, start: &start };
                machine.initrd = Some(linux::initramfs_with(&program)?);
                machine.append = linux::command_line();
            }
        }
        (machine.memory_mib, machine.cpus) = (self.memory_mib, self.cpus);
        let target = Target { address: SocketAddr::from((GUEST.0, self.port)), path: self.path.clone() };
        let told = || format!("no 200 for {} on port {} ({system})", self.path, self.port);
        Guest::start_for(target, machine, BOOT_TIME_OUT).with_context(told)
    }

    /// What starts the program under Linux.
    fn shell_line(&self) -> String {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
        let mut line = String::from("exec /bin/busybox env");
        let variables = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let words = variables.chain(["/app".to_owned()]).chain(self.arguments.iter().cloned());
        words.for_each(|word| line.push_str(&format!(" {}", quoted(&word))));
        line
    }
}

impl OwnResults<'_> {
    fn write(&self) -> Result<()> {
        let Plan { name, output, .. } = self.plan;
        fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
        let page = self.page();
        println!("{page}");
        let texts =
            [("md", page), ("svg", svg::draw(self.loads)), ("json", serde_json::to_string_pretty(self)?)];
        for (extension, text) in texts {
            let path = output.join(format!("{name}.{extension}"));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}", path.display());
        }
        Ok(())
    }

    fn page(&self) -> String {
        let Plan { name, machine, memory_mib, cpus, rounds, seconds, path, .. } = self.plan;
        let mut page = format!(
            "# {name}, against a Linux guest\n\n\
             The same ELF as our image and as the only process of a minimal Linux guest (Debian's cloud kernel, `{}`), in the same\n\
             QEMU (`{machine}`, {cpus} processor(s), {memory_mib} MiB), in turn, over a tap device; medians of {rounds} round(s) of {seconds} s, \
             `GET {path}`.\n\n",
            self.linux_command_line
        );
        report::warn_if_busy(&mut page, self.loads);
        let _ = writeln!(page, "![requests per second and latency]({name}.svg)\n");
        report::load_table(&mut page, self.loads);
        page.push_str("## Start and size\n\n| what | ours | Linux | ratio |\n|---|---|---|---|\n");
        if let Some((ours, linux)) = self.boot_ms.both() {
            let ratio = linux / ours;
            let _ = writeln!(
                page,
                "| start of QEMU to first response | {ours:.0} ms | {linux:.0} ms | **{ratio:.1}×** |"
            );
        }
        let _ = writeln!(page, "| image | {:.1} MB | | |", self.image_bytes as f64 / 1e6);
        for failure in self.failures {
            let _ = writeln!(page, "\n**Failed:** {}", failure.lines().next().unwrap_or_default());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            name: "server".into(),
            image: "/a path/server".into(),
            initrd: None,
            machine: "q35".into(),
            memory_mib: 128,
            cpus: 1,
            append: String::new(),
            environment: vec![("A".into(), "it's b".into())],
            arguments: vec!["--x".into(), "$HOME `y`".into()],
            port: 8080,
            path: "/".into(),
            connections: vec![1, 64],
            rounds: 1,
            seconds: 1,
            output: "bench".into(),
        }
    }

    #[test]
    fn words_reach_the_program_under_linux_as_they_are() {
        assert_eq!(plan().shell_line(), r"exec /bin/busybox env 'A=it'\''s b' '/app' '--x' '$HOME `y`'");
    }

    #[test]
    fn plans_go_through_a_command_line() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan());
    }

    #[test]
    fn the_page_tells_of_what_failed() {
        let plan = plan();
        let failures = ["server on linux: no answer\nmore".to_owned()];
        let results = OwnResults {
            plan: &plan,
            linux_command_line: "quiet".into(),
            loads: &[],
            boot_ms: Pair { ours: Some(100.0), linux: Some(1200.0) },
            image_bytes: 2_000_000,
            failures: &failures,
        };
        let page = results.page();
        assert!(
            page.contains("| 100 ms | 1200 ms | **12.0×** |") && page.contains("| image | 2.0 MB"),
            "{page}"
        );
        assert!(page.contains("**Failed:** server on linux: no answer\n"), "{page}");
    }
}
