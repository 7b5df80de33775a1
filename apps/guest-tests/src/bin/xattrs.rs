//! Extended attributes in numbers and sizes that nobody needs (xattr(7)): whatever does not fit is refused, all that was taken is
//! listed, and what is removed leaves its room.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use guest_tests::{check, check_eq, errno};

/// More names than a block has room for.
const MOST: usize = 5000;

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn answer(result: isize) -> Result<usize, i32> {
    usize::try_from(result).map_err(|_| errno())
}

fn set(path: &Path, name: &str, value: &[u8]) -> Result<usize, i32> {
    let (path, name) = (text(path), CString::new(name).unwrap());
    let bytes = value.as_ptr().cast();
    // SAFETY: all is alive.
    answer(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), bytes, value.len(), 0) } as isize)
}

fn get(path: &Path, name: &str, room: usize) -> Result<Vec<u8>, i32> {
    let (path, name) = (text(path), CString::new(name).unwrap());
    let mut value = vec![0_u8; room];
    // SAFETY: there is room for so many bytes.
    let len =
        answer(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), room) })?;
    value.truncate(len.min(room));
    Ok(value)
}

fn list(path: &Path, room: usize) -> Result<Vec<u8>, i32> {
    let path = text(path);
    let mut names = vec![0_u8; room];
    // SAFETY: there is room for so many bytes.
    let len = answer(unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), room) })?;
    names.truncate(len.min(room));
    Ok(names)
}

fn remove(path: &Path, name: &str) -> Result<usize, i32> {
    let (path, name) = (text(path), CString::new(name).unwrap());
    // SAFETY: all is alive.
    answer(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } as isize)
}

fn sizes(path: &Path) {
    for len in [0, 1, 2, 3, 4, 255, 256, 500] {
        check_eq!(set(path, "user.a", &vec![7; len]), Ok(0));
        check_eq!(get(path, "user.a", 1000), Ok(vec![7; len]));
        check_eq!(get(path, "user.a", 0).map(|_| ()), Ok(()));
        check!(len < 2 || get(path, "user.a", len - 1) == Err(libc::ERANGE));
    }
    // What does not fit changes nothing.
    for (len, error) in [(65_535, libc::ENOSPC), (65_536, libc::ENOSPC), (65_537, libc::E2BIG)] {
        check_eq!(set(path, "user.a", &vec![1; len]), Err(error));
        check_eq!(set(path, "user.b", &vec![1; len]), Err(error));
    }
    check_eq!((get(path, "user.a", 65_536), get(path, "user.b", 9)), (Ok(vec![7; 500]), Err(libc::ENODATA)));
    check_eq!(remove(path, "user.a"), Ok(0));
    check_eq!(remove(path, "user.a"), Err(libc::ENODATA));
    let long = |len| format!("user.{}", "n".repeat(len));
    check_eq!((set(path, &long(250), b"1"), set(path, &long(251), b"1")), (Ok(0), Err(libc::ERANGE)));
    check_eq!((set(path, "user.", b"1"), set(path, "", b"1")), (Err(libc::EINVAL), Err(libc::ERANGE)));
    check_eq!(set(path, "other.x", b"1"), Err(libc::EOPNOTSUPP));
    check_eq!(remove(path, &long(250)), Ok(0));
}

fn numbers(path: &Path) {
    let name = |index: usize| format!("user.n{index:05}");
    let mut first = None;
    for _ in 0..10 {
        let count = (0..MOST).take_while(|&index| set(path, &name(index), b"").is_ok()).count();
        check!((20..MOST).contains(&count));
        check_eq!(set(path, &name(count), b""), Err(libc::ENOSPC));
        check_eq!(*first.get_or_insert(count), count);
        let names = list(path, 1 << 16).expect("there is room");
        let mut seen: Vec<_> =
            names.split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.")).collect();
        seen.sort_unstable();
        check!((0..count).map(name).eq(seen.iter().map(|name| String::from_utf8_lossy(name).into_owned())));
        check_eq!(list(path, names.len() - 1), Err(libc::ERANGE));
        // Every second first, so that there are holes.
        for index in (0..count).step_by(2).chain((1..count).step_by(2)) {
            check_eq!(remove(path, &name(index)), Ok(0));
        }
    }
}

/// A tree in memory may have none: then it says so.
fn in_memory() {
    let path = Path::new("/tmp/xattrs");
    std::fs::write(path, b"x").expect("/tmp can be written");
    for len in [0, 65_536] {
        let outcome = set(path, "user.a", &vec![1; len]);
        check!(matches!(outcome, Ok(0) | Err(libc::EOPNOTSUPP | libc::ENOSPC)));
    }
    check_eq!(
        set(path, "user.a", &[1; 65_537]).err().filter(|error| *error != libc::EOPNOTSUPP),
        Some(libc::E2BIG)
    );
    check!(list(path, 65_536).is_ok());
    std::fs::remove_file(path).expect("it is there");
}

fn main() {
    let folder = guest_tests::data_folder();
    let path = folder.join(format!("xattrs-{}", std::process::id()));
    std::fs::write(&path, b"content").expect("the folder can be written");
    in_memory();
    if set(&path, "user.a", b"") == Err(libc::EOPNOTSUPP) {
        return println!("no extended attributes here");
    }
    sizes(&path);
    numbers(&path);
    check_eq!(std::fs::read(&path).ok(), Some(b"content".to_vec()));
    std::fs::remove_file(&path).expect("it is there");
}
