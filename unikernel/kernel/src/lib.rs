//! The kernel: everything that runs in ring 0. It is linked into one image with the app it serves,
//! shares its address space, and is divided from it by the page tables' user bit and the `syscall`
//! instruction.
//!
//! The rooms, from the machine upwards (`docs/architecture.md` has them by layers, `docs/glossary.md` the words):
//!
//! - the machine is the crate `unikernel_hal`: [`arch`], the processor; [`platform`], clocks, interrupts, ACPI, console,
//!   randomness; [`kmem`], frames, page tables, heap;
//! - [`mem`]: the app's regions; [`task`]: threads, sleeping, signals; [`drivers`]: virtio; [`block`]: disks;
//! - [`net`], [`fs`], [`vfs`], [`file`]: what descriptors lead to;
//! - [`policy`]: what the app may do;
//! - [`ops`]: what is done with open files, sockets and paths, by system calls and rings alike;
//! - [`trust`]: who has signed what is used;
//! - [`exec`]: how a program starts; [`service`]: what the machine does beside running the app; [`modules`]: code that is loaded later;
//! - [`uring`]: calls that are handed over in shared memory;
//! - [`syscall`]: the table of calls; [`debug`]: reports and traces; `entry`: the way in from ring 3, and back.
//!
//! Two rules hold everywhere. The kernel runs with interrupts masked (see [`arch`]), and it touches
//! the app's memory only through [`mem::user`]. Policies that need no hardware live in the pure
//! crates beside this one, where they are tested on the host.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::missing_docs_in_private_items)]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

mod abi;
mod block;
mod debug;
mod drivers;
mod entry;
mod event;
mod exec;
mod file;
mod fs;
mod ipc;
mod mem;
mod modules;
mod net;
mod ops;
mod policy;
mod process;
mod service;
mod syscall;
mod task;
mod trust;
mod tty;
mod uring;
mod vfs;
#[cfg(test)]
mod workbench;

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Errno;
use boot_info::{BootInfo, NoStartInfo};
use drivers::DeviceType;
use drivers::virtio::VirtioDevice;
use exec::{ExecError, load, stack};
use kmem::page_table::OutOfFrames;
use linux_raw_sys::general::{RLIMIT_CPU, RLIMIT_NOFILE};
use platform::acpi::MmioDevice;
use process::out_of_memory::Holdings;
use service::config::{Told, metadata};
use syscall::watch::{self, Watchers};
use unikernel_cmdline::{MountPoint, Options, Shown};
use unikernel_fs::LastLink;
use unikernel_hal::{arch, boot_info, kmem, platform, sync};
use unikernel_policy::access::{Domain, FileAccess, PortAccess, Ruleset};
use unikernel_policy::paths::PathRule;
use unikernel_trust::Kind;
use x86_64::PhysAddr;

/// Exit code when the machine or the command line does not let the app start.
const CANNOT_BOOT: u8 = 125;

unikernel_hal::entry_points! {
    main: kernel_main,
    system_call: entry::system_call,
    trap: entry::trap_handler,
    fatal_trap: entry::paranoid_handler,
    switched: task::scheduler::finish_task_switch,
    first_exit: entry::exit::to_user,
}

/// The kernel's first code, on the boot stack, with the boot page tables.
fn kernel_main(info: Result<BootInfo, NoStartInfo>) -> ! {
    let info = info.unwrap_or_else(|problem| cannot_boot(format_args!("{problem}")));
    if arch::boot::has_lost_addresses() {
        cannot_boot(format_args!("the image is damaged: the kernel's table of addresses is none"));
    }
    kmem::init(&info);
    register_callbacks();
    arch::cpu::prepare_interrupt_stacks(0).expect("memory that nobody has taken from yet holds three stacks");
    arch::cpu::load_descriptors();
    arch::cpu::enable_features();
    #[cfg(debug_assertions)]
    arch::memory::check();
    arch::entry::init();

    let understood = understand(&info);
    let keeps_records = matches!(&understood, Ok((_, options)) if options.system.syslog.is_some());
    if keeps_records && platform::records::keep().is_err() {
        log::warn!("`syslog=`: there is no memory for it");
    }
    platform::init(info.rsdp());
    // Only now, because to end the machine takes the ACPI tables.
    let (command_line, mut options) =
        understood.unwrap_or_else(|error| cannot_boot(format_args!("bad command line: {error}")));
    if options.traces_events {
        debug::events::record_for_good();
    }
    for word in &options.ignored {
        log::info!("`{}`: a word for Linux, not used", Shown(word));
    }
    platform::interrupts::set_timer_handler(task::timer::interrupt);
    platform::interrupts::set_reschedule_handler(task::scheduler::reschedule);
    service::shutdown::set_exit_action(options.exit_action);
    if options.is_commit_strict {
        mem::space::be_strict();
    }
    if options.system.has_writable_code {
        log::warn!("`wx=on`: the app's memory may be writable and executable at once");
        mem::space::allow_writable_code();
    }
    options.stop_seconds.into_iter().for_each(service::shutdown::set_patience);
    let shows_linked = options.init.is_none() && kmem::layout::program_header().is_some();
    service::measure::start();
    service::measure::boot(
        &command_line,
        boot_info::packed_words().unwrap_or_default(),
        boot_info::packed_files(),
    );
    let initrd = check_initrd(&options, info.initrd.map(boot_info::Range::bytes));
    fs::init(boot_info::packed_files(), initrd, shows_linked);
    service::measure::show();
    tty::console::open_standard_streams();
    let mut devices = find_devices(&options);
    boot_phase(1);
    block::init(core::mem::take(&mut devices.disks));
    block::find_partitions();
    let macs: Vec<[u8; 6]> = devices.cards.iter().map(|card| card.mac()).collect();
    let told = service::config::read(&mut options, &macs)
        .unwrap_or_else(|problem| cannot_boot(format_args!("{problem}")));
    service::config::set_host_name(&options);
    let console = devices.take(DeviceType::Console);
    if options.captures && console.is_none() {
        cannot_boot(format_args!("`pcap=`: there is no virtio console for the capture"));
    }
    let (capture, console) = if options.captures { (console, None) } else { (None, console) };
    start_console(console);
    let balloon = devices.take(DeviceType::MemoryBalloon);
    net::init(&options, devices, capture);
    debug::events::go_on();
    boot_phase(2);
    platform::generation::set_handler(has_new_life);
    debug::init(&options);
    syscall::trace::turn_on(options.traces_syscalls);
    task::scheduler::prepare_core(0)
        .unwrap_or_else(|_| cannot_boot(format_args!("there is no memory for an idle thread")));
    arch::startup::start_others(prepare_core, run_core);
    debug::events::go_on();
    boot_phase(3);
    net::spread_interrupts();
    // Disks may be theirs.
    modules::boot::start_early(&options);
    mount_disks(&options);
    boot_phase(4);
    service::start(&options, balloon);
    debug::observe::start(&options);
    modules::boot::start(&options);
    boot_phase(5);
    start_when_told(&command_line, &options, told);
    platform::power::enable_power_button(service::shutdown::power_button);
    log::debug!("up after {} µs", platform::time::now_ns() / 1000);
    task::scheduler::start()
}

/// A part of the boot is done: [`Kind::Boot`](platform::events::Kind::Boot) says which.
fn boot_phase(phase: u32) {
    platform::events::note(platform::events::Kind::Boot, phase, 0, 0);
}

/// Tells the lower rooms whom above them they have to call.
fn register_callbacks() {
    kmem::room::set_reclaim(mem::reclaim::make_room);
    vfs::table::set_kinds(&fs::registry::FILESYSTEMS);
    mem::reclaim::set_page_cache(&vfs::flusher::Cache);
    task::limits::set_listener(|resource, limit| match resource {
        RLIMIT_NOFILE => file::table::set_limit(limit.soft as usize),
        RLIMIT_CPU => process::cpu_limit::set(limit),
        _ => {}
    });
    file::table::set_collector(net::unix::garbage::collect);
    fs::device::set_terminals(&tty::open::Terminals);
    net::unix::set_paths(&fs::socket_names::SocketNames);
    mem::fault::set_out_of_memory(process::out_of_memory::end_app);
    process::out_of_memory::set_holdings(|| Holdings {
        cached_pages: vfs::cache::pages(),
        network_bytes: net::counters().buffer_bytes as usize,
    });
    process::exit::set_end(service::shutdown::end);
    task::idle::set_work(&entry::IdleWork);
    process::signal::set_observer(event::signalfd::notify);
    modules::boot::set_judge(judge_module);
    net::set_address_observer(service::addresses_changed);
}

/// The part of a module's file that is the module, if it may be loaded: it is measured first, and one that could not be is none that may.
fn judge_module(file: &[u8]) -> Result<&[u8], modules::boot::Untrusted> {
    let refuse = |reason: core::fmt::Arguments<'_>| {
        log::error!("module: {reason}");
        modules::boot::Untrusted
    };
    service::measure::file(Kind::Module, file)
        .map_err(|problem| refuse(format_args!("it cannot be measured: {problem}")))?;
    trust::open(Kind::Module, file).map_err(|error| refuse(format_args!("{error}")))
}

/// Makes what another core needs to run threads.
fn prepare_core(index: usize) -> Result<(), OutOfFrames> {
    task::scheduler::prepare_core(index).map_err(|_| OutOfFrames)
}

/// What another core does once it is up.
fn run_core() -> ! {
    arch::entry::init();
    task::scheduler::start()
}

/// The machine goes on from a saved state. Called with no lock held.
fn has_new_life() {
    net::renew_secrets();
    fs::generation::changed();
}

/// Finds and starts the devices.
fn find_devices(options: &Options) -> drivers::Devices {
    let listed: Vec<MmioDevice> = options
        .mmio_devices
        .iter()
        .map(|device| {
            MmioDevice::listed(PhysAddr::new_truncate(device.base), device.size as usize, device.irq)
        })
        .collect();
    let settings = drivers::Settings {
        offloads: options.offloads,
        on_network: net::interrupt,
        on_disk: block::interrupt,
    };
    drivers::probe(&listed, &settings)
}

/// Shows what is written on a virtio console, too.
fn start_console(device: Option<VirtioDevice>) {
    let place = device.as_ref().map(|device| device.place.clone());
    match device.map(drivers::virtio::terminal::start) {
        Some(Ok(())) => log::debug!("{}: the console", place.unwrap_or_default()),
        Some(Err(error)) => log::warn!("{}: not used: {error}", place.unwrap_or_default()),
        None => platform::console::forget_early(),
    }
}

/// Mounts the filesystems that the options name; the tree is finished then.
fn mount_disks(options: &Options) {
    let mut mounts = options.mounts.clone();
    if let Some(root) = options.root_for_linux().filter(|root| !vfs::table::has(&root.disk)) {
        log::warn!("`root=` in Linux's form: there is no `{}` here; not used", Shown(&root.disk));
        mounts.retain(|point| point != root);
    }
    let (in_memory, mounts): (Vec<_>, Vec<_>) = mounts.into_iter().partition(MountPoint::is_in_memory);
    let is_root_on_disk = mounts.iter().any(|point| point.path == "/");
    let in_memory: Vec<&MountPoint> = in_memory.iter().collect();
    if let Err(error) = fs::mounts::add_in_memory(&in_memory, is_root_on_disk) {
        cannot_boot(format_args!("bad command line: {error}"));
    }
    if let Err(error) = vfs::table::mount_all(&mounts, &options.formatted, fs::mounts::mount_point) {
        cannot_boot(format_args!("{}", Shown(&error.to_string())));
    }
    fs::finish();
}

/// The command line, and what it says; the log is set up as it says. An error is a text for people.
fn understand(info: &BootInfo) -> Result<(String, Options), String> {
    let line = info.command_line().map_err(|error| error.to_string())?;
    let packed = boot_info::packed_words().map_err(|error| error.to_string())?;
    let options = unikernel_cmdline::parse_for_image(packed, &line).map_err(|error| error.to_string())?;
    if let Some(text) = &options.log {
        let levels = platform::logger::Levels::parse(text);
        platform::logger::set_levels(
            levels.map_err(|error| alloc::format!("`log={}`: {}", Shown(text), Shown(&error.to_string())))?,
        );
    }
    Ok((line, options))
}

/// Takes the keys with which what is used must be signed; the files of the loader's initrd, if that is so.
fn check_initrd(options: &Options, initrd: Option<&'static [u8]>) -> Option<&'static [u8]> {
    trust::init(&options.trust)
        .unwrap_or_else(|problem| cannot_boot(format_args!("bad command line: {problem}")));
    let open = |file| {
        service::measure::file_at_boot(Kind::Initrd, "the initrd", file);
        let content = trust::open(Kind::Initrd, file);
        content.unwrap_or_else(|error| cannot_boot(format_args!("initrd: {error}")))
    };
    initrd.map(open)
}

/// The app starts in the folder that `cwd=` names, as if a shell had changed to it.
fn set_current_directory(options: &Options) {
    let Some(path) = &options.current_directory else { return };
    if let Err(error) = fs::enter(path.as_bytes()) {
        let reason = if error == Errno::ENOENT { "there is none" } else { "this is none" };
        cannot_boot(format_args!("bad command line: `cwd={}`: expected a directory; {reason}", Shown(path)));
    }
}

/// Starts the app, now or when a service in the network has told the rest.
fn start_when_told(words: &str, options: &Options, told: Told) {
    if !metadata::is_wanted(options) {
        return start_told(words, options, told);
    }
    if trust::is_required() {
        cannot_boot(format_args!(
            "`config=`: what a service in the network tells is not signed, and `trust=` is set; `config=nocloud` can be"
        ));
    }
    if !metadata::start_after(words, options, start_told) {
        cannot_boot(format_args!("`config=`: there is no memory for its thread"));
    }
}

/// Starts the app with what it was told.
fn start_told(words: &str, options: &Options, told: Told) {
    service::config::set_host_name(options);
    told.put_files();
    fs::add_identity();
    set_current_directory(options);
    start_app(words, options);
}

/// Starts the app: the linked program, or the one that `init=` names.
fn start_app(words: &str, options: &Options) {
    let file = options.init.clone().unwrap_or_else(process::linked::path);
    let name = options.app_name.as_ref().unwrap_or(&file);
    let arguments: Vec<&[u8]> =
        core::iter::once(name.as_bytes()).chain(options.app_arguments.iter().map(String::as_bytes)).collect();
    let environment = environment(options);
    let environment: Vec<&[u8]> = environment.iter().map(String::as_bytes).collect();
    if let Some(user) = &options.user {
        match exec::user::find(user) {
            Ok(found) => task::credentials::become_user(found.user, found.group, found.groups),
            Err(reason) => cannot_boot(format_args!("bad command line: `user=`: {reason}")),
        }
    }
    fs::proc::set_words(words);
    let domain = allowed_paths(options);
    let confine = || confine(options, domain);
    if let Err(error) = start_program(options.init.as_deref(), &file, &arguments, &environment, confine) {
        cannot_boot(format_args!("cannot start the app: {error}"));
    }
}

/// Binds the app to what the image and the command line allow it.
fn confine(options: &Options, domain: Option<Domain>) {
    let both = [&options.image_policy, &options.policy];
    let calls: Vec<_> = both.iter().filter_map(|policy| policy.calls.clone()).collect();
    if !calls.is_empty() {
        policy::calls::set(calls);
        watch::add(Watchers::RULES);
    }
    let addresses: Vec<_> = both.iter().filter_map(|policy| policy.net.clone()).collect();
    if !addresses.is_empty() {
        policy::net::set(addresses);
    }
    if let Some(domain) = domain {
        policy::access::set_domain(domain);
    }
    if options.records_policy {
        policy::learn::turn_on();
        watch::add(Watchers::RECORDER);
    }
}

/// What `allow-paths=` allows, now that the files are there.
fn allowed_paths(options: &Options) -> Option<Domain> {
    let mut domain = None;
    for rules in
        [&options.image_policy, &options.policy].into_iter().filter_map(|policy| policy.paths.as_ref())
    {
        let mut ruleset = Ruleset::new(FileAccess::all(), PortAccess::empty());
        for PathRule { access, path } in rules {
            let Ok(located) = fs::find(&fs::current_directory(), path.as_bytes(), LastLink::Follow) else {
                cannot_boot(format_args!("bad command line: `allow-paths=`: there is no `{}`", Shown(path)));
            };
            let access = if located.is_directory() { *access } else { *access & FileAccess::OF_FILES };
            let added = ruleset.allow_file(fs::confine::key_of(&located), access, Arc::new(located));
            added.unwrap_or_else(|_| cannot_boot(format_args!("`allow-paths=`: too many rules")));
        }
        domain =
            Some(Domain::with(domain.as_ref(), ruleset).expect("there are two at most, and memory at boot"));
    }
    domain
}

/// Starts the program of the tree that `init` names, or the one that is linked in. `file` is how it is called.
fn start_program(
    init: Option<&str>,
    file: &str,
    arguments: &[&[u8]],
    environment: &[&[u8]],
    confine: impl FnOnce(),
) -> Result<(), ExecError> {
    let open = |path: &str| load::open_program(load::open_file(path.as_bytes())?, path.as_bytes());
    let program = init.map(open).transpose()?;
    let script_words = program.as_ref().map_or(&[][..], |program| &program.script_words);
    let arguments = &exec::with_script(script_words, arguments)?[..];
    let texts = fs::proc::texts_of(arguments, environment).map_err(|_| ExecError::OutOfMemory)?;
    fs::proc::set_texts(texts);
    // From here on the program may run, on another core.
    confine();
    exec::start(program.as_ref(), &stack::Told { file: file.as_bytes(), arguments, environment })
}

/// The app's environment: what programs expect, and what the command line says.
fn environment(options: &Options) -> Vec<String> {
    const DEFAULTS: [(&str, &str); 2] =
        [("HOME", "/root"), ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];
    let is_given = |name: &str| options.environment.iter().any(|(given, _)| given == name);
    let defaults = DEFAULTS.into_iter().filter(|(name, _)| !is_given(name));
    let given = options.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    defaults.chain(given).map(|(name, value)| alloc::format!("{name}={value}")).collect()
}

/// Says why there is nothing to run, and ends with a code of its own.
fn cannot_boot(reason: core::fmt::Arguments<'_>) -> ! {
    log::error!("{reason}");
    service::shutdown::end_machine(unikernel_cmdline::ExitAction::PowerOff, CANNOT_BOOT)
}
