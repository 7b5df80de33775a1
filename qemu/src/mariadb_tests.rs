//! MariaDB on a disk: Debian's server, unmodified, with tables that its own bootstrap made on Linux, and Debian's client. What
//! was written is there after the power button and another boot.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::getuid;

use crate::debian::{self, Program};
use crate::disk::{self, Disk};
use crate::guest_tests::{NamedTest, free_port};
use crate::machine::{Kind, Machine, Net};
use crate::package_tests::{succeeds, text_of};
use crate::vm::{Console, Vm, last_lines};
use crate::{project, qmp};

const PACKAGES: &[&str] = &["mariadb-server-core", "mariadb-server", "mariadb-client-core"];
const SERVER: &str = "usr/sbin/mariadbd";
const CLIENT: &str = "usr/bin/mariadb";
const MESSAGES: &str = "usr/share/mysql";
const PORT: u16 = 3306;
/// How long a start or a stop may take on a loaded host.
const TIME_OUT: Duration = Duration::from_secs(120);
/// Who the server is on Linux, where it refuses to be root.
const NOBODY: u32 = 65_534;

/// Somebody who may come in over the network, and a place for tables.
const ACCOUNT: &str = "flush privileges;
create user test@'%' identified by 'secret';
grant all on *.* to test@'%';
create database test;
";
const WRITE: &str =
    "create table words (id int primary key auto_increment, word varchar(40), key (word)) engine=innodb;
    insert into words (word) values ('one'), ('two'), ('three');
    start transaction; insert into words (word) values ('never'); rollback;
    insert into words (word) select concat(a.word, ' ', b.word) from words a, words b;
    create table numbers (number int) engine=aria; insert into numbers select seq from seq_1_to_1000;
    select count(*), min(word), max(id) from words; select sum(number) from numbers;";
const READ: &str = "select count(*), min(word), max(id) from words; select sum(number) from numbers; check table words, numbers;";

/// The one.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![("debian_mariadb_on_disk".to_owned(), Box::new(rows_stay))]
}

fn rows_stay() -> Result<()> {
    let Some(packages) = debian::unpack(PACKAGES)? else {
        println!("left out: debian_mariadb_on_disk, for its packages cannot be downloaded here");
        return Ok(());
    };
    let (folder, disk) = (data(&packages)?, project::work_dir("disks")?.join("mariadb.img"));
    let _ = fs::remove_file(&disk);
    disk::make(&disk, Some(&folder), "256M", &[])?;
    fs::remove_dir_all(&folder)?;
    let program = Program {
        name: "mariadb",
        packages: PACKAGES,
        program: SERVER,
        folders: &["usr/share/mysql/english", "usr/share/mysql/charsets"],
        files: &[],
    };
    let image = program.image()?.context("the packages were there a moment ago")?;
    let written = session(&packages, &image, &disk, WRITE)?;
    ensure!(written.contains("500500"), "{written}");
    let read = session(&packages, &image, &disk, READ)?;
    let (rows, state) = read.split_at(written.len().min(read.len()));
    ensure!(rows == written, "{written} before, {rows} now");
    ensure!(state.matches("status\tOK").count() == 2, "{state}");
    fs::remove_file(&image)?;
    Ok(fs::remove_file(&disk)?)
}

/// A folder with the system's tables, as `mariadb-install-db` makes it.
fn data(packages: &Path) -> Result<PathBuf> {
    let folder = project::work_dir("debian/mariadb-data")?;
    fs::remove_dir_all(&folder)?;
    fs::create_dir(&folder)?;
    let scripts = ["mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data"];
    let mut text = "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n".to_owned();
    for script in scripts {
        text += &fs::read_to_string(packages.join(MESSAGES).join(format!("{script}.sql")))?;
    }
    let input = folder.with_extension("sql");
    fs::write(&input, text + ACCOUNT)?;
    let mut command = debian::command(packages, SERVER);
    let path = |name: &str, path: &Path| format!("--{name}={}", path.display());
    command.args(["--no-defaults", "--bootstrap", "--innodb-log-file-size=8M"]);
    command.args([path("datadir", &folder), path("tmpdir", &std::env::temp_dir())]);
    command.arg(path("lc-messages-dir", &packages.join(MESSAGES)));
    command.arg(path("character-sets-dir", &packages.join(MESSAGES).join("charsets")));
    if getuid().is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdin(File::open(&input)?);
    succeeds(command)?;
    Ok(folder)
}

/// Boots, has the client say something as soon as the server listens, and presses the power button; answers the answer.
fn session(packages: &Path, image: &Path, disk: &Path, statements: &str) -> Result<String> {
    let mut machine = Machine::new(Kind::Q35, image);
    machine.cpus = 2;
    machine.memory_mib = 512;
    machine.disks.push(Disk::new(disk));
    machine.append = "mount=/data:blk0:ext4 stop=60 -- --no-defaults --user=root --datadir=/data --tmpdir=/tmp \
        --socket=/tmp/socket --lc-messages-dir=/usr/share/mysql --character-sets-dir=/usr/share/mysql/charsets \
        --innodb-log-file-size=8M --skip-name-resolve"
        .to_owned();
    machine.add_rng();
    let port = free_port()?;
    machine.net = Net::User(port, PORT);
    let control = std::env::temp_dir().join(format!("qmp-mariadb-{port}"));
    machine.extra.extend(qmp::arguments(&control));
    let mut guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || guest.console().contains("ready for connections"))?;
    let mut client = debian::command(packages, CLIENT);
    client.args(["--no-defaults", "--batch", "--host=127.0.0.1", "--user=test", "--password=secret", "test"]);
    let output = client.arg(format!("--port={port}")).args(["--execute", statements]).output()?;
    let told = last_lines(&guest.console(), 8);
    ensure!(output.status.success(), "{}; console: {told}", text_of(&output));
    qmp::press_power_button(&control)?;
    let ending = guest.wait(Some(TIME_OUT))?;
    let ending = ending.with_context(|| format!("no end: {}", last_lines(&guest.console(), 8)))?;
    ensure!(ending.code == Some(0), "{:?}: {}", ending.code, last_lines(&ending.console, 8));
    disk::check(disk)?;
    Ok(String::from_utf8(output.stdout)?)
}
