//! The command line of the runner.

mod background;
mod bench;
mod bom;
mod deploy;
mod fuzz;
mod help;
mod image;
mod init;
mod observe;
mod run;
mod sign;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;

use crate::background::LogsOptions;
use crate::bom::BomOptions;
use crate::debug::DebugOptions;
use crate::host_files::HostFiles;
use crate::machine::Kind;
use crate::module_file::ModuleOptions;
use crate::observe::{ObserveOptions, Page};
use crate::package::{InitOptions, PackOptions, PackageOptions, Packed, take_option};
use crate::pcap::PcapOptions;
use crate::project::did_you_mean;
use crate::tail::TailOptions;
use crate::tap_tests;
use crate::trace::TraceOptions;
pub(crate) use bench::{BenchOptions, OwnBenchOptions};
pub(crate) use deploy::DeployOptions;
pub(crate) use fuzz::{FuzzOptions, Subject};
pub(crate) use image::{ImageFormat, ImageOptions};
pub(crate) use run::{Network, RunOptions, What};
pub(crate) use sign::{SignOptions, Signed};
use words::{COMMANDS, OPTIONS};

/// What to do.
pub(crate) enum Command {
    /// Prints this.
    Help(String),
    New(PathBuf),
    Init(InitOptions),
    Debug(Box<DebugOptions>),
    Logs(LogsOptions),
    Observe(ObserveOptions),
    Trace(TraceOptions),
    Tail(TailOptions),
    Pcap(PcapOptions),
    Stop(String),
    Sbom(BomOptions),
    Licenses(BomOptions),
    CheckHost,
    Build(PackageOptions),
    Pack(PackOptions),
    Kernel(KernelOptions),
    Sign(SignOptions),
    Module(ModuleOptions),
    ModuleInfo(Vec<PathBuf>),
    ModuleList(Vec<PathBuf>),
    Deploy(Box<DeployOptions>),
    Oci(Box<DeployOptions>),
    Image(Box<ImageOptions>),
    Run(Box<RunOptions>),
    Test(TestOptions),
    /// A part of the tests that runs in a namespace; not for people.
    TapTest(String, Option<Kind>),
    Bench(BenchOptions),
    OwnBench(Box<OwnBenchOptions>),
    /// The part of it that runs in a namespace; not for people.
    OwnBenchInside(crate::bench::Plan),
    Conformance(ConformanceOptions),
    Disk(DiskOptions),
    Fuzz(FuzzOptions),
}

/// Where the kernel without a program goes, and the files of keys that it is to have.
#[derive(Clone, Debug)]
pub(crate) struct KernelOptions {
    pub(crate) output: PathBuf,
    pub(crate) keys: Vec<PathBuf>,
}

/// Which disk image to make.
#[derive(Clone, Debug)]
pub(crate) struct DiskOptions {
    pub(crate) file: PathBuf,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) size: Option<String>,
}

/// Which guest tests to run.
#[derive(Debug, Default)]
pub(crate) struct TestOptions {
    pub(crate) filter: Option<String>,
}

/// Which tests of which suites to run, and where.
#[derive(Clone, Debug)]
pub(crate) struct ConformanceOptions {
    pub(crate) suites: Vec<String>,
    pub(crate) test: Option<String>,
    /// Only what has not passed in an earlier run.
    pub(crate) keeps_results: bool,
    /// With the kernel that checks itself.
    pub(crate) is_checked: bool,
    pub(crate) cpus: u32,
    pub(crate) machine: Kind,
}

/// The page of the book about this.
#[cfg(test)]
pub(crate) fn reference() -> String {
    help::reference()
}

/// What of a command line in a text is not known.
#[cfg(test)]
pub(crate) fn unknown_words(line: &str) -> Vec<String> {
    help::unknown_words(line)
}

/// What `deploy` makes of its arguments.
#[cfg(test)]
pub(crate) fn deploy_options(words: &[&str]) -> Result<DeployOptions> {
    deploy::parse(&mut lexopt::Parser::from_args(words), None, Vec::new())
}

/// Reads the process's arguments.
pub(crate) fn parse() -> Result<Command> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // `cargo unikernel run` is `cargo-unikernel unikernel run`.
    if words.first().is_some_and(|word| word == "unikernel") {
        words.remove(0);
    }
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let behind = words.split_off(end).into_iter().skip(1);
    let behind: Vec<String> = behind.map(|word| word.string()).collect::<Result<_, _>>()?;
    // Wherever it stands, but for what is the app's.
    if words.iter().any(|word| word == "--help" || word == "-h") {
        let command = words.first().and_then(|word| word.to_str());
        return Ok(Command::Help(help::on(command)));
    }
    let mut parser = lexopt::Parser::from_args(words);
    let command = match parser.next()? {
        None => return Ok(Command::Help(help::on(None))),
        Some(Value(command)) => command.string()?,
        Some(other) => return Err(unexpected(&shown(&other))),
    };
    match command.as_str() {
        "run" => return run::parse(&mut parser, behind).map(|options| Command::Run(Box::new(options))),
        "learn" => {
            return run::parse_learn(&mut parser, behind).map(|options| Command::Run(Box::new(options)));
        }
        "debug" => {
            return run::parse_debug(&mut parser, behind).map(|options| Command::Debug(Box::new(options)));
        }
        "deploy" => {
            return deploy::parse(&mut parser, None, behind)
                .map(|options| Command::Deploy(Box::new(options)));
        }
        "oci" => {
            return deploy::parse(&mut parser, Some("oci"), behind)
                .map(|options| Command::Oci(Box::new(options)));
        }
        "image" => {
            return image::parse(&mut parser, behind).map(|options| Command::Image(Box::new(options)));
        }
        "bench" => return bench::parse(&mut parser, behind),
        _ => {}
    }
    if !behind.is_empty() {
        bail!("`{command}` takes nothing behind `--`");
    }
    match command.as_str() {
        "new" => parse_new(&mut parser).map(Command::New),
        "metrics" => observe::parse(Page::Metrics, &mut parser).map(Command::Observe),
        "threads" => observe::parse(Page::Threads, &mut parser).map(Command::Observe),
        "ss" => observe::parse(Page::Sockets, &mut parser).map(Command::Observe),
        "trace" => observe::parse_trace(&mut parser).map(Command::Trace),
        "pcap" => observe::parse_pcap(&mut parser).map(Command::Pcap),
        "tail" => observe::parse_tail(&mut parser).map(Command::Tail),
        "logs" => background::parse_logs(&mut parser).map(Command::Logs),
        "stop" => background::parse_stop(&mut parser).map(Command::Stop),
        "sbom" => bom::parse(&mut parser).map(Command::Sbom),
        "licenses" => bom::parse(&mut parser).map(Command::Licenses),
        "init" => init::parse(&mut parser).map(Command::Init),
        "check-host" => nothing_more(&mut parser).map(|()| Command::CheckHost),
        "build" => parse_build(&mut parser).map(Command::Build),
        "pack" => parse_pack(&mut parser).map(Command::Pack),
        "kernel" => parse_kernel(&mut parser).map(Command::Kernel),
        "sign" => sign::parse(&mut parser).map(Command::Sign),
        "module" => parse_module(&mut parser).map(Command::Module),
        "modinfo" => paths(&mut parser, "modinfo hello.ko").map(Command::ModuleInfo),
        "lsmod" => paths(&mut parser, "lsmod initrd/lib/modules").map(Command::ModuleList),
        "test" => parse_test(&mut parser).map(Command::Test),

        "conformance" => parse_conformance(&mut parser).map(Command::Conformance),
        "disk" => parse_disk(&mut parser).map(Command::Disk),
        "fuzz" => fuzz::parse(&mut parser).map(Command::Fuzz),
        "help" => help::parse(&mut parser).map(Command::Help),
        crate::bench::INSIDE => {
            let plan = parser.value()?.string()?;
            Ok(Command::OwnBenchInside(serde_json::from_str(&plan).context("no plan")?))
        }
        tap_tests::COMMAND => {
            let name = parser.value()?.string()?;
            let kind = parser.next()?.map(|argument| match argument {
                Value(kind) => kind.string()?.parse(),
                other => Err(unexpected(&shown(&other))),
            });
            Ok(Command::TapTest(name, kind.transpose()?))
        }
        _ => bail!(
            "no command `{command}`{}: there are {}",
            did_you_mean(&command, COMMANDS),
            COMMANDS.join(", ")
        ),
    }
}

fn parse_kernel(parser: &mut lexopt::Parser) -> Result<KernelOptions> {
    let mut options = KernelOptions { output: PathBuf::from("unikernel.elf"), keys: Vec::new() };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('o') | Long("output") => options.output = parser.value()?.into(),
            Long("trust") => options.keys.push(parser.value()?.into()),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

fn parse_module(parser: &mut lexopt::Parser) -> Result<ModuleOptions> {
    let (mut folder, mut output) = (None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) if folder.is_none() => folder = Some(path.into()),
            Short('o') | Long("output") => output = Some(parser.value()?.into()),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(ModuleOptions { folder: folder.unwrap_or_else(|| ".".into()), output })
}

/// One path at least; `example` is how it is done.
fn paths(parser: &mut lexopt::Parser, example: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) => paths.push(path.into()),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    if paths.is_empty() {
        bail!("which file? For example: `cargo unikernel {example}`");
    }
    Ok(paths)
}

fn parse_pack(parser: &mut lexopt::Parser) -> Result<PackOptions> {
    let (mut program, mut output, mut root, mut name, mut from) = (None, None, None, None, None);
    let mut host_files = HostFiles::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) if program.is_none() => program = Some(PathBuf::from(path)),
            Short('o') | Long("output") => output = Some(parser.value()?.into()),
            Long("root") => root = Some(parser.value()?.into()),
            Long("name") => name = Some(parser.value()?.string()?),
            Long("from") => from = Some(PathBuf::from(parser.value()?)),
            other => {
                let option = shown(&other);
                if !run::take_host_files(&option, &mut host_files, parser)? {
                    return Err(unexpected(&option));
                }
            }
        }
    }
    let what = match (program, from) {
        (Some(program), None) => Packed::Program(program, root),
        (None, Some(image)) if root.is_none() => Packed::Container(image),
        (None, None) => bail!("pack which program? `cargo unikernel pack ./server`"),
        _ => bail!("--from takes program and files from the image: leave the others away"),
    };
    Ok(PackOptions { what, output, name, host_files })
}

fn shown(argument: &lexopt::Arg<'_>) -> String {
    match argument {
        Short(letter) => format!("-{letter}"),
        Long(name) => format!("--{name}"),
        Value(value) => value.to_string_lossy().into_owned(),
    }
}

fn unexpected(shown: &str) -> anyhow::Error {
    if OPTIONS.contains(&shown) {
        return anyhow!("`{shown}` is an option of other commands; with `--help`, this one lists its own");
    }
    anyhow!(
        "unknown option `{shown}`{}: `cargo unikernel --help` lists what there is",
        did_you_mean(shown, OPTIONS)
    )
}

fn nothing_more(parser: &mut lexopt::Parser) -> Result<()> {
    parser.next()?.map_or(Ok(()), |argument| Err(unexpected(&shown(&argument))))
}

fn value<T: FromStr>(parser: &mut lexopt::Parser, name: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    let text = parser.value()?.string()?;
    text.parse().map_err(|error| anyhow!("--{name} {text}: {error}"))
}

fn cpus(count: u32) -> Result<u32> {
    if count == 0 {
        bail!("--smp 0: a guest has one processor at least");
    }
    Ok(count)
}

fn parse_new(parser: &mut lexopt::Parser) -> Result<PathBuf> {
    let mut path = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if path.is_none() => path = Some(name.into()),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    path.context("which name? For example: `cargo unikernel new server`")
}

fn parse_build(parser: &mut lexopt::Parser) -> Result<PackageOptions> {
    let mut options = PackageOptions::default();
    while let Some(argument) = parser.next()? {
        let option = shown(&argument);
        let is_value = matches!(argument, Value(_));
        if is_value || !take_option(&option, &mut options, parser)? {
            return Err(unexpected(&option));
        }
    }
    Ok(options)
}

fn parse_test(parser: &mut lexopt::Parser) -> Result<TestOptions> {
    let mut options = TestOptions::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(filter) => options.filter = Some(filter.string()?),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

fn parse_disk(parser: &mut lexopt::Parser) -> Result<DiskOptions> {
    let (mut file, mut folder, mut size) = (None, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(path) if file.is_none() => file = Some(path.into()),
            Long("dir") => folder = Some(parser.value()?.into()),
            Long("size") => size = Some(parser.value()?.string()?),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    let file =
        file.ok_or_else(|| anyhow!("which file? For example: `cargo unikernel disk data.img --size 64M`"))?;
    Ok(DiskOptions { file, folder, size })
}

fn list(text: String) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn parse_conformance(parser: &mut lexopt::Parser) -> Result<ConformanceOptions> {
    let mut options = ConformanceOptions {
        suites: Vec::new(),
        test: None,
        keeps_results: false,
        is_checked: false,
        cpus: 2,
        machine: Kind::Microvm,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("suite") => options.suites.extend(list(parser.value()?.string()?)),
            Long("test") => options.test = Some(parser.value()?.string()?),
            Long("keep") => options.keeps_results = true,
            Long("checked") => options.is_checked = true,
            Long("smp") => options.cpus = cpus(value(parser, "smp")?)?,
            Long("machine") => options.machine = value(parser, "machine")?,
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_options_get_a_hint() {
        assert_eq!(did_you_mean("--memroy", OPTIONS), " (did you mean `--memory`?)");
        assert_eq!(did_you_mean("--xyzzy", OPTIONS), "");
        let of_another = unexpected("--memory").to_string();
        assert!(of_another.starts_with("`--memory` is an option of other commands"), "{of_another}");
    }
}
