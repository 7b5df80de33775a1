//! A filesystem that does not begin where the disk does: it is filled to the end, thinned out, given back to the disk and
//! written again. Its neighbours on the disk are looked at afterwards, by who made the disk. `BOOT` counts the boots.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use guest_tests::{check, check_eq};

/// `struct fstrim_range`, and what takes it (ioctl_fs(2): `_IOWR('X', 121, struct fstrim_range)`).
type TrimRange = [u64; 3];
const FITRIM: u64 = 0xc018_5879;
const PIECE_BYTES: usize = 1 << 20;
/// On Linux the folder is on no disk of ours.
const MOST_PIECES: usize = 60;

fn main() {
    let data = PathBuf::from(std::env::var("DATA").expect("DATA names a folder"));
    // On Linux it is a folder elsewhere.
    let boot = std::env::var("BOOT").ok().filter(|_| data == Path::new("/data"));
    fill(&data);
    thin_out(&data);
    if let Some(boot) = boot {
        listed(&data, &boot);
        trim(&data);
        if boot == "2" {
            check_eq!(fs::read_to_string(data.join("note")).unwrap(), "from the first boot");
        }
    }
    fill(&data);
    thin_out(&data);
    fs::write(data.join("note"), "from the first boot").unwrap();
    println!("partitions: all well");
}

fn piece(number: usize) -> Vec<u8> {
    (0..PIECE_BYTES).map(|at| (number * 31 + at / 512) as u8).collect()
}

/// Writes until there is no room, and reads it again.
fn fill(data: &Path) {
    let mut written = 0;
    for number in 0..MOST_PIECES {
        let mut file = File::create(data.join(format!("piece{number}"))).unwrap();
        let whole = file.write_all(&piece(number));
        file.sync_all().unwrap();
        if whole.is_err() {
            break;
        }
        written += 1;
    }
    check!(written > 20);
    for number in 0..written {
        check!(fs::read(data.join(format!("piece{number}"))).unwrap() == piece(number));
    }
}

/// Makes holes everywhere.
fn thin_out(data: &Path) {
    for number in 0..MOST_PIECES {
        let path = data.join(format!("piece{number}"));
        match File::options().write(true).open(&path) {
            Ok(file) if number % 2 == 0 => file.set_len(5000).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
    }
}

/// All free blocks go back to the disk.
fn trim(data: &Path) {
    let directory = File::open(data).unwrap();
    let mut range: TrimRange = [0, u64::MAX, 0];
    // SAFETY: the range is our own.
    let outcome = unsafe { libc::ioctl(directory.as_raw_fd(), FITRIM as _, &raw mut range) };
    check_eq!(outcome, 0);
    check!(range[1] > 1 << 20);
}

/// What the kernel tells of the disk: its number is that of the files on it.
fn listed(data: &Path, boot: &str) {
    let device = fs::metadata(data).unwrap().dev();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff);
    let table = fs::read_to_string("/proc/partitions").unwrap();
    let mut lines = table.lines().skip(2).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.find(|line| line[..2] == [major.to_string(), minor.to_string()]).expect("it is listed");
    check_eq!(ours[2], (40 << 10).to_string());
    check!(ours[3].starts_with("blk0p"));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    check!(mounts.contains(&format!("/dev/{} /data ext4", ours[3])));
    println!("boot {boot} from {}", ours[3]);
}
