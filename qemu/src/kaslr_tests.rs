//! The kernel is at another place in each boot, whatever boots it; `kaslr=off` leaves it where it is linked; and what it says of
//! a place in its code is right wherever that is.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::boot_tests::{self, hello};
use crate::cli::ImageFormat;
use crate::disk::Disk;
use crate::disk_image_tests::TestDisk;
use crate::guest_tests::{NamedTest, free_port};
use crate::http;
use crate::machine::{Boot, Kind, Machine, Net};
use crate::pack_tests;
use crate::program_tests::{CANNOT_BOOT, FORMS, probe};
use crate::project::{self, Profile};
use crate::qmp;
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(60);
const PAGE_BYTES: u64 = 4096;
/// Where the kernel may be (`kmem::layout`), in pages 19 bits.
const AREA: Range<u64> = 0xffff_ffff_8040_0000..0xffff_ffff_ffc0_0000;
const PLACE_BITS: u32 = 19;
/// What its addresses as linked are from those at which it is loaded.
const KERNEL_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// A bit is the same in so many boots once in 32 times; seven of 19 are once in a million times.
const BOOTS: usize = 6;
const MOST_EQUAL_BITS: u32 = 6;
/// What the first core's task-state segment must be seen to have.
const REGISTER: &str = "TR =";
/// What the processor is to execute, which it may not.
const NO_CODE: u64 = 0xffff_8000_0000_0000;
const PANIC_CODE: u8 = 101;
/// A guest that nobody asks has nothing to do after this time.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let mut tests: Vec<NamedTest> = Vec::new();
    for kind in [Kind::Q35, Kind::Microvm, Kind::Pc] {
        tests.push((format!("kaslr_places [{kind}]"), Box::new(move || places(kind))));
    }
    let mut add = |name: &str, check: fn() -> Result<()>| tests.push((name.to_owned(), Box::new(check)));
    add("kaslr_places_packed", packed);
    add("kaslr_places_image [bios]", image);
    add("kaslr_without_random_instructions", without_random_instructions);
    add("kaslr_off", off);
    add("kaslr_panic", panic_report);
    add("kaslr_descriptor_tables", descriptor_tables);
    add("kaslr_damaged_table", damaged_table);
    tests
}

/// A guest, and where it can be asked.
struct Guest {
    vm: Vm,
    control: PathBuf,
}

impl Guest {
    /// Starts it, and waits until it is as far as that.
    fn start(mut machine: Machine, is_up: impl Fn(&Vm) -> bool) -> Result<Self> {
        let control = std::env::temp_dir().join(format!("qmp-kaslr-{}-{}", std::process::id(), free_port()?));
        machine.extra.extend(qmp::arguments(&control));
        let vm = Vm::start(&machine, Console::Recorded)?;
        vm.wait_until(TIME_OUT, || is_up(&vm))?;
        Ok(Self { vm, control })
    }

    /// Starts `http`, which must answer.
    fn serving(kind: Kind, words: &str, change: impl Fn(&mut Machine)) -> Result<Self> {
        let port = free_port()?;
        let mut machine = Machine::new(kind, &project::built("http")?);
        machine.net = Net::User(port, 8080);
        machine.append = words.to_owned();
        change(&mut machine);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let guest = Self::start(machine, |_| http::answers(address))?;
        let response = http::get(address, "/")?;
        ensure!(response.body == "Hello, World!", "it answers {response:?}");
        Ok(guest)
    }

    /// Starts a machine that stays when its app has ended.
    fn ended(mut machine: Machine) -> Result<Self> {
        machine.append = format!("exit=halt {}", machine.append);
        Self::start(machine, |vm| vm.console().contains("the app exited with code 0"))
    }

    /// Where the cores' task-state segments are, which are in the kernel's data.
    fn segments(&self) -> Result<Vec<u64>> {
        let command =
            r#"{"execute": "human-monitor-command", "arguments": {"command-line": "info registers -a"}}"#;
        let answer = qmp::execute(&self.control, &[command])?;
        let bases = answer.split(REGISTER).skip(1).map(|text| {
            let base = text.split_whitespace().nth(1).context("QEMU shows no base")?;
            Ok(u64::from_str_radix(base, 16)?)
        });
        bases.collect()
    }

    /// That of the first core.
    fn segment(&self) -> Result<u64> {
        self.segments()?.first().copied().context("QEMU shows no registers")
    }
}

/// Where an image's kernel has its data if it does not move.
fn linked_data(image: &Path) -> Result<Range<u64>> {
    let file = std::fs::read(image)?;
    let address = |name| unikernel_build::symbol_address(&file, name).with_context(|| format!("no {name}"));
    Ok(address("__kernel_data_start")?..address("__kernel_bss_end")?)
}

/// All different, in the area, and so that many bits of the page's number change.
fn check_places(places: &[u64]) -> Result<()> {
    let shown: Vec<String> = places.iter().map(|place| format!("{place:#x}")).collect();
    ensure!(places.iter().all(|place| AREA.contains(place)), "outside of the area: {shown:?}");
    ensure!(places.iter().collect::<BTreeSet<_>>().len() == places.len(), "twice at one place: {shown:?}");
    let in_page = |place: u64| place % PAGE_BYTES;
    ensure!(places.iter().all(|place| in_page(*place) == in_page(places[0])), "not by pages: {shown:?}");
    let moved = places.iter().fold(0, |moved, place| moved | (place ^ places[0])) / PAGE_BYTES;
    let equal = PLACE_BITS - moved.count_ones();
    ensure!(places.len() < BOOTS || equal <= MOST_EQUAL_BITS, "{equal} bits are always the same: {shown:?}");
    Ok(())
}

/// It serves from each place; a `q35` on two cores, which lie at the same distance each time.
fn places(kind: Kind) -> Result<()> {
    let cpus = if kind == Kind::Q35 { 2 } else { 1 };
    let (mut places, mut distances) = (Vec::new(), BTreeSet::new());
    for _ in 0..BOOTS {
        let guest = Guest::serving(kind, "", |machine| machine.cpus = cpus)?;
        let segments = guest.segments()?;
        places.push(segments[0]);
        if let Some(second) = segments.get(1).filter(|second| **second != 0) {
            distances.insert(second.wrapping_sub(segments[0]));
        }
    }
    ensure!(distances.len() as u32 == cpus - 1, "the second core is at {distances:x?} from the first");
    check_places(&places)
}

/// Files that were packed, of a program and without one.
fn packed() -> Result<()> {
    let image = project::work_dir("programs")?.join("kaslr.unikernel");
    pack_tests::pack(&probe(FORMS[1])?, "probe", None, &image)?;
    let mut places = Vec::new();
    for kind in [Kind::Microvm, Kind::Q35, Kind::Microvm] {
        let mut machine = Machine::new(kind, &image);
        machine.append = "env.PROBE=yes -- relocatable static one \"two words\"".to_owned();
        places.push(Guest::ended(machine)?.segment()?);
    }
    std::fs::remove_file(&image)?;
    check_places(&places)
}

/// A disk that GRUB boots, with the words in a file on it.
fn image() -> Result<()> {
    let name = |number: u32| format!("kaslr-{}-{number}", std::process::id());
    let place = |number: u32, words: &str| -> Result<u64> {
        let hello = project::built("hello")?;
        let disk = TestDisk::of(&name(number), &hello, ImageFormat::Raw, words, &[])?;
        let mut machine = Machine::new(Kind::Q35, &hello);
        machine.boot = Boot::Bios;
        machine.disks = vec![Disk::new(disk.path())];
        Guest::start(machine, |vm| vm.console().contains("the app exited with code 0"))?.segment()
    };
    check_places(&[place(0, "exit=halt")?, place(1, "exit=halt")?])?;
    let (there, linked) = (place(2, "exit=halt kaslr=off")?, linked_data(&project::built("hello")?)?);
    ensure!(linked.contains(&there), "with `kaslr=off` in the file: {there:#x}, not in {linked:x?}");
    Ok(())
}

/// A processor without RDRAND and RDSEED.
fn without_random_instructions() -> Result<()> {
    let mut places = Vec::new();
    for _ in 0..BOOTS {
        let mut machine = hello(Kind::Microvm, "")?;
        machine.extra = ["-cpu", "max,-rdrand,-rdseed"].map(str::to_owned).into();
        places.push(Guest::ended(machine)?.segment()?);
    }
    check_places(&places)
}

/// It serves from where it is linked, each time.
fn off() -> Result<()> {
    let mut places = BTreeSet::new();
    for kind in [Kind::Q35, Kind::Microvm] {
        let guest = Guest::serving(kind, "kaslr=off", |machine| machine.cpus = 2)?;
        places.extend(guest.segments()?.first());
    }
    let linked = linked_data(&project::built("http")?)?;
    ensure!(places.len() == 1 && places.iter().all(|place| linked.contains(place)), "it is at {places:x?}");
    // What the app is told is not for the kernel.
    let guest = Guest::ended(hello(Kind::Microvm, "-- kaslr=off")?)?;
    check_places(&[guest.segment()?])
}

/// A report of a panic: how far the kernel's addresses are from those in the file, and the calls, as addresses and names.
struct Report {
    distance: u64,
    calls: Vec<(u64, String)>,
}

/// The names are right wherever the kernel is: those that the file has for the addresses, less the distance.
fn panic_report() -> Result<()> {
    let file = std::fs::read(project::built("http")?)?;
    let mut functions = unikernel_build::functions(&file).context("no names in the image")?;
    functions.sort_unstable();
    for words in ["kaslr=off", ""] {
        let Report { distance, calls } = report(words)?;
        ensure!((distance == 0) == (words == "kaslr=off"), "with {words:?} it is {distance:#x} away");
        // The first is no code.
        ensure!(calls.len() > 3 && calls[0].0 == NO_CODE, "too few calls: {calls:x?}");
        for (address, name) in &calls[1..] {
            // The call before it.
            let linked = address.wrapping_sub(distance);
            let start = functions.partition_point(|(start, _)| *start < linked);
            let start = functions[..start].last().context("no function before it")?.0;
            let mut names = functions.iter().filter(|function| function.0 == start);
            let is_right =
                |(start, name): &(u64, String), shown: &str| shown == format!("{name}+{:#x}", linked - start);
            ensure!(
                names.any(|function| is_right(function, name)),
                "{address:#x} is called {name:?}, {distance:#x} away: {calls:x?}"
            );
        }
    }
    Ok(())
}

/// Has the kernel go on where no code is.
fn report(words: &str) -> Result<Report> {
    let (port, debugger) = (free_port()?, free_port()?);
    let mut machine = Machine::new(Kind::Q35, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.append = words.to_owned();
    machine.extra = ["-gdb".to_owned(), format!("tcp:127.0.0.1:{debugger}")].into();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut guest = Guest::start(machine, |_| http::answers(address))?;
    // Until it is idle, and its calls are always the same.
    std::thread::sleep(IDLE_AFTER);
    let mut stub = Stub::connect(debugger)?;
    while !stub.go_on_at(NO_CODE)? {}
    drop(stub);
    // What wakes it.
    drop(TcpStream::connect(address));
    let ending = guest.vm.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("it did not end: {}", guest.vm.console()))?;
    ensure!(ending.code == Some(PANIC_CODE), "ended with {:?}: {}", ending.code, ending.console);
    let (_, text) = ending.console.split_once("KERNEL PANIC").context("no panic")?;
    parse(text).with_context(|| ending.console.clone())
}

fn parse(text: &str) -> Result<Report> {
    let number = |text: &str| -> Result<u64> {
        let digits = text.strip_prefix("0x").context("a number without 0x")?;
        Ok(u64::from_str_radix(digits, 16)?)
    };
    let offset = text.lines().find_map(|line| line.strip_prefix("Kernel Offset: ")).context("no offset")?;
    let distance = match offset.split_once(" from ") {
        Some((distance, from)) => {
            ensure!(number(from)? >= KERNEL_OFFSET, "{offset}");
            number(distance)?
        }
        None if offset == "disabled" => 0,
        None => bail!("{offset}"),
    };
    let (_, trace) = text.split_once("kernel backtrace:").context("no backtrace")?;
    let calls = trace.lines().skip(1).map_while(|line| {
        let (_, call) = line.split_once(": ").filter(|_| line.starts_with("  "))?;
        let (address, name) = call.split_once(' ').unwrap_or((call, ""));
        Some(number(address).map(|address| (address, name.to_owned())))
    });
    Ok(Report { distance, calls: calls.collect::<Result<_>>()? })
}

/// QEMU's stub for debuggers (gdb's remote serial protocol).
struct Stub(TcpStream);

impl Stub {
    /// The machine stops for it.
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("no stub for debuggers")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stub = Self(stream);
        // Who asks for single registers has to know them.
        stub.ask("qXfer:features:read:target.xml:0,ffb")?;
        Ok(stub)
    }

    /// Has the core go on at `address` if it is in the kernel; else as it was, to be asked again.
    fn go_on_at(&mut self, address: u64) -> Result<bool> {
        const RIP: &str = "10";
        let place = self.ask(&format!("p{RIP}"))?;
        let bytes = (0..8).map(|index| u8::from_str_radix(place.get(index * 2..index * 2 + 2)?, 16).ok());
        let bytes = bytes.collect::<Option<Vec<u8>>>().with_context(|| place.clone())?;
        let is_kernels = bytes.last().is_some_and(|byte| *byte != 0);
        if is_kernels {
            let text: String = address.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            let answer = self.ask(&format!("P{RIP}={text}"))?;
            ensure!(answer == "OK", "the stub answers {answer:?}");
            self.ask("D")?;
        } else {
            self.send("c")?;
            std::thread::sleep(Duration::from_millis(50));
            self.0.write_all(&[3])?;
        }
        Ok(is_kernels)
    }

    /// What is answered; that the machine has stopped is told unasked.
    fn ask(&mut self, words: &str) -> Result<String> {
        self.send(words)?;
        loop {
            let answer = self.receive()?;
            if !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    fn send(&mut self, words: &str) -> Result<()> {
        let sum = words.bytes().fold(0, u8::wrapping_add);
        Ok(self.0.write_all(format!("${words}#{sum:02x}").as_bytes())?)
    }

    /// What stands between `$` and `#`.
    fn receive(&mut self) -> Result<String> {
        let mut next = || -> Result<u8> {
            let mut byte = [0];
            self.0.read_exact(&mut byte).context("the stub does not answer")?;
            Ok(byte[0])
        };
        while next()? != b'$' {}
        let mut text = String::new();
        loop {
            match next()? {
                b'#' => break,
                byte => text.push(char::from(byte)),
            }
        }
        // The sum.
        next()?;
        next()?;
        self.0.write_all(b"+")?;
        Ok(text)
    }
}

/// Without UMIP, ring 3 may ask the processor where its tables are.
fn descriptor_tables() -> Result<()> {
    project::build("guest-tests", &["kernel_addresses"], Profile::Release)?;
    let mut machine = Machine::new(Kind::Microvm, &project::image("kernel_addresses"));
    machine.append = "-- tables".to_owned();
    machine.extra = ["-cpu", "max,-umip"].map(str::to_owned).into();
    let ending = boot_tests::run(&machine)?;
    ensure!(ending.code == Some(0), "ended with {:?}: {}", ending.code, ending.console);
    ensure!(ending.console.contains("sgdt at 0x"), "{}", ending.console);
    Ok(())
}

/// An image whose list of addresses was changed does not boot, and says why.
fn damaged_table() -> Result<()> {
    let image = project::built("hello")?;
    let mut file = std::fs::read(&image)?;
    let at = in_file(&file, "__kernel_relocations_start").context("no table in the image")?;
    // There are fewer addresses than this.
    file[at..at + 2].copy_from_slice(&[0xff, 0x7f]);
    let damaged = project::work_dir("boot")?.join("damaged-table");
    std::fs::write(&damaged, file)?;
    for (words, code, said) in
        [("", CANNOT_BOOT, "the image is damaged"), ("kaslr=off", 0, "Hello from ring 3")]
    {
        let machine = Machine { kernel: damaged.clone(), ..hello(Kind::Microvm, words)? };
        let ending = boot_tests::run(&machine)?;
        let is_right = ending.code == Some(code) && ending.console.contains(said);
        ensure!(is_right, "with {words:?} ended with {:?}: {}", ending.code, ending.console);
    }
    Ok(std::fs::remove_file(&damaged)?)
}

/// Where a name of the kernel's is in an image's file.
fn in_file(file: &[u8], name: &str) -> Option<usize> {
    let loaded_at = unikernel_build::symbol_address(file, name)?.checked_sub(KERNEL_OFFSET)?;
    let word = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let (table, count) = (word(32)? as usize, usize::from(half(56)?));
    (0..count).find_map(|index| {
        let entry = table + index * 56;
        let (offset, address, bytes) = (word(entry + 8)?, word(entry + 24)?, word(entry + 32)?);
        let is_load = file.get(entry..)?.first_chunk() == Some(&1_u32.to_le_bytes());
        let within = loaded_at.checked_sub(address).filter(|within| *within < bytes && is_load)?;
        Some((offset + within) as usize)
    })
}
