//! Images judged by tools of others': mtools, e2fsck.

use std::process::Command;

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("unikernel-image-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn content(data_bytes: Option<u64>) -> Content {
    Content {
        kernel: vec![0x7f; 3 << 20],
        initrd: Some(b"an archive".to_vec()),
        command_line: "ip=dhcp -- \"a b\"".into(),
        data_bytes,
    }
}

/// Where a partition begins, as its entry of the first table says.
fn start_of(disk: &[u8], number: usize) -> u64 {
    let entry = &disk[1024 + 128 * (number - 1)..];
    u64::from_le_bytes(entry[32..40].try_into().unwrap()) * BLOCK_BYTES
}

#[test]
fn same_input_makes_same_bytes_and_tools_read_them() {
    let scratch = Scratch::new("same");
    let (first, second) = (scratch.0.join("first"), scratch.0.join("second"));
    write(&content(Some(16 << 20)), &first).unwrap();
    // Whatever is written with a resolution of seconds is another one now.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    write(&content(Some(16 << 20)), &second).unwrap();
    let disk = fs::read(&first).unwrap();
    let other = fs::read(&second).unwrap();
    let difference = disk.iter().zip(&other).position(|(a, b)| a != b);
    assert_eq!((difference, disk.len()), (None, other.len()), "data begins at {}", start_of(&disk, 3));
    disk::check_within(&first, start_of(&disk, 3)).unwrap();

    let volume = format!("{}@@{}", first.display(), start_of(&disk, 2));
    let show = |name: &str| {
        let output = Command::new("mtype").args(["-i", &volume, &format!("::/{name}")]).output();
        output.expect("mtools are installed: `make setup`").stdout
    };
    let words = show("cmdline.txt");
    assert!(words.ends_with(b"\nip=dhcp -- \"a b\"\n"), "{}", String::from_utf8_lossy(&words));
    assert_eq!(unikernel_cmdline::of_file(&words).unwrap(), "ip=dhcp -- \"a b\"");
    assert_eq!(show("initrd"), b"an archive");
    assert!(show("EFI/BOOT/BOOTX64.EFI").starts_with(b"MZ"));
    assert_eq!(show("kernel"), vec![0x7f; 3 << 20]);
}

#[test]
fn disks_of_two_programs_have_nothing_in_common_by_which_they_are_found() {
    let (one, mut other) = (content(None), content(None));
    other.kernel.push(0);
    for purpose in ["disk", "volume", DATA] {
        assert_ne!(one.guid(purpose), other.guid(purpose));
    }
    assert_ne!(one.guid("disk"), one.guid("volume"));
    let uuid = uuid_text(&one.identifier("disk"));
    assert_eq!(uuid, one.guid("disk").to_string());
    assert_eq!((&uuid[14..15], uuid.len()), ("8", 36));
}

#[test]
fn nothing_is_left_of_what_cannot_be_made() {
    let scratch = Scratch::new("partly");
    let image = scratch.0.join("program");
    fs::write(&image, b"no program").unwrap();
    let run = crate::cli::RunOptions::of_image(&image);
    let options = ImageOptions {
        output: Some(scratch.0.join("disk.img")),
        format: ImageFormat::Raw,
        data_bytes: None,
        run,
    };
    assert!(make(&options).is_err());
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
}
