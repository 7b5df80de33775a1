//! The host side: builds appliances, boots them under QEMU, tests and measures them.
//!
//! - [`cli`]: the command line; [`project`]: where things are, and building them;
//! - [`machine`]: QEMU's arguments; [`process`] and [`vm`]: one guest from start to end, cleaned up whatever happens;
//! - [`package`]: packages of users as appliances; [`bom`]: what they are made of; [`run`]: boots one; [`background`]: without a terminal; [`debug`]: under gdb; [`deploy`], [`oci`] and [`image`]: files that start one elsewhere; [`container`]: container images, read; with [`run_tests`]; [`guest_tests`] (with [`disk_tests`]), [`http_tests`], [`app_tests`], [`boot_tests`], [`device_tests`], [`balloon_tests`], [`tail_tests`], [`module_tests`] (with [`nvme_tests`]), [`share_tests`], [`vfat_tests`], [`verity_tests`], [`sign_tests`], [`tpm_tests`] (with [`tpm`]), [`disk_image_tests`], [`like_vmm_tests`] (of [`like_vmm`]), [`libvirt_tests`], [`capture_tests`], [`loopback_tests`], [`ntp_tests`], [`syslog_tests`], [`config_tests`], [`frame_tests`], [`package_tests`], [`program_tests`], [`pack_tests`], [`container_tests`], [`exec_tests`], [`debian_tests`], [`mariadb_tests`] and [`runtime_tests`] (with [`debian`]), [`init_tests`], [`background_tests`], [`kv`],
//!   [`tap_tests`] (with [`load_tests`], [`offload_tests`]), [`tcp_tests`] and [`vsock_tests`]: `make test`; [`bench`]: `make bench`; [`conformance`]: `make conformance`;
//! - [`attacks`] and [`storm`]: hostile clients and many clients, for tests and benchmark; [`liar`]: a disk that lies, with [`liar_tests`];
//! - `book_tests`: what the pages say is so;
//! - [`messages`]: what cargo tells; [`module_file`]: modules of the kernel; [`cpio`]: folders as initrd archives; [`unfinished`]: what is made under another name first; [`host_files`]: what an image gets of this host; [`disk`]: disk images; [`share`]: folders of this host; [`sign`]: signatures; [`qmp`]: QEMU's control socket; [`random`]: numbers for tests; [`icmpv6`]: a
//!   router and a `ping` for tests; [`impairment`]: a bad network; [`pcap`], [`trace`], [`tail`], [`observe`]: what a guest tells of itself; [`bulk`]: the other end of bulk transfers.

#![forbid(unsafe_code)]

mod app_tests;
mod attacks;
mod background;
mod background_tests;
mod balloon_tests;
mod bench;
mod bom;
#[cfg(test)]
mod book_tests;
mod boot_tests;
mod bulk;
mod capture_tests;
mod cli;
mod config_tests;
mod conformance;
mod container;
mod container_tests;
mod cpio;
mod debian;
mod debian_tests;
mod debug;
mod deploy;
mod device_tests;
mod disk;
mod disk_image_tests;
mod disk_tests;
mod exec_tests;
mod frame_tests;
mod fuzz;
mod guest_tests;
mod host_files;
mod http;
mod http_tests;
mod icmpv6;
mod image;
mod impairment;
mod init_tests;
mod interrupt;
mod kaslr_tests;
mod kv;
mod learn;
mod liar;
mod liar_tests;
mod libvirt_tests;
mod like_vmm;
mod like_vmm_tests;
mod load_tests;
mod loopback_tests;
mod machine;
mod mariadb_tests;
mod messages;
mod module_file;
mod module_tests;
mod namespace;
mod ntp_tests;
mod nvme_tests;
mod observe;
mod observe_tests;
mod oci;
mod offload_tests;
mod our_stack;
mod pack_tests;
mod package;
mod package_tests;
mod partition_table;
mod partitioned;
mod pcap;
mod process;
mod program_tests;
mod project;
mod qmp;
mod random;
mod readiness;
mod run;
mod run_tests;
mod runtime_tests;
mod saved_state_tests;
mod share;
mod share_tests;
mod sign;
mod sign_tests;
mod stop_tests;
mod storm;
mod syslog_tests;
mod tail;
mod tail_tests;
mod tap_tests;
mod tcp_tests;
mod tpm;
mod tpm_tests;
mod trace;
mod unfinished;
mod verity_tests;
mod vfat_tests;
mod vm;
mod vsock_tests;

use std::process::ExitCode;

use cli::Command;

fn main() -> ExitCode {
    let outcome = interrupt::install().and_then(|()| cli::parse()).and_then(|command| match command {
        Command::Help(text) => {
            print!("{text}");
            Ok(0)
        }
        Command::New(path) => package::create(&path),
        Command::Debug(options) => debug::run(&options),
        Command::Logs(options) => background::logs(&options),
        Command::Observe(options) => observe::show(&options),
        Command::Trace(options) => trace::run(&options),
        Command::Tail(options) => tail::run(&options),
        Command::Pcap(options) => pcap::run(&options),
        Command::Stop(name) => background::stop(&name),
        Command::Sbom(options) => bom::sbom(&options),
        Command::Licenses(options) => bom::licenses(&options),
        Command::Init(options) => package::init(&options),
        Command::CheckHost => package::check_host(),
        Command::Build(options) => build(&options),
        Command::Kernel(options) => package::write_kernel(&options),
        Command::Sign(options) => sign::run(&options),
        Command::Module(options) => module_file::build(&options),
        Command::ModuleInfo(files) => module_file::modinfo(&files),
        Command::ModuleList(places) => module_file::list(&places),
        Command::Pack(options) => package::pack(&options),
        Command::Deploy(options) => deploy::run(&options),
        Command::Oci(options) => oci::run(&options),
        Command::Image(options) => image::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Test(options) => guest_tests::run(&options),
        Command::TapTest(name, kind) => tap_tests::inside(&name, kind),
        Command::Bench(options) => bench::run(&options),
        Command::OwnBench(options) => bench::run_own(&options),
        Command::OwnBenchInside(plan) => bench::run_own_inside(&plan),
        Command::Conformance(options) => conformance::run(&options),
        Command::Disk(options) => disk::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn build(options: &package::PackageOptions) -> anyhow::Result<u8> {
    for image in package::build(options, false)? {
        println!("{}", image.path.display());
    }
    Ok(0)
}
