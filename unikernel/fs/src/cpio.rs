//! The cpio "newc" format (Linux: `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! An entry is a header of ASCII digits, a name and the content, each padded to four bytes. An
//! archive ends with an entry of a special name; zeros and further archives may follow, since a
//! boot loader may concatenate several.

use core::fmt;

/// Bytes of a header: a magic and 13 fields of eight hexadecimal digits.
const HEADER_BYTES: usize = 110;
const MAGIC_BYTES: usize = 6;
const FIELD_BYTES: usize = 8;
/// Without and with checksum; the checksum is not looked at, as Linux does not either.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z'];
const END_NAME: &[u8] = b"TRAILER!!!";
/// Everything is padded to this.
const ALIGN: usize = 4;
/// The longest name that is believed (Linux: `PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;

/// What is wrong with an archive, and at which byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArchiveError {
    /// Where the entry in question starts.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The archive is compressed.
    Compressed,
    /// There is no "newc" header.
    NoHeader,
    /// A number is not hexadecimal.
    BadNumber,
    /// The archive ends within an entry.
    CutShort,
    /// The name is empty, too long, not terminated, or leads upwards.
    BadName,
    /// The name goes through something that is not a directory, or would replace a directory.
    Conflict,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Compressed => "it is compressed; only plain cpio can be used",
            Problem::NoHeader => "no cpio header (format \"newc\")",
            Problem::BadNumber => "a number in the header is not hexadecimal",
            Problem::CutShort => "it ends in the middle of an entry",
            Problem::BadName => "an unusable file name",
            Problem::Conflict => "a file and a directory of the same name",
        };
        write!(f, "damaged archive at byte {}: {problem}", self.offset)
    }
}

/// One entry of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArchiveEntry<'a> {
    /// Where its header starts.
    pub offset: usize,
    /// Path, relative to the root.
    pub name: &'a [u8],
    /// Content of a file, or target of a symbolic link.
    pub content: &'a [u8],
    /// Identity, for hard links: device and inode.
    pub identity: (u32, u32, u32),
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// How many names the file has.
    pub links: u32,
    /// Last change, in seconds since 1970.
    pub modified_s: u32,
}

/// The entries of one or several concatenated archives.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    offset: usize,
    has_failed: bool,
}

impl<'a> Entries<'a> {
    /// Reads `bytes` from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, has_failed: false }
    }

    /// Reads the entry at the offset, which is not at the end.
    fn read(&mut self) -> Result<ArchiveEntry<'a>, Problem> {
        let rest = &self.bytes[self.offset..];
        let header = Header::read(rest)?;
        let name_end = HEADER_BYTES.checked_add(header.name_len()).ok_or(Problem::BadName)?;
        let name = rest.get(HEADER_BYTES..name_end).ok_or(Problem::CutShort)?;
        let [name @ .., 0] = name else { return Err(Problem::BadName) };
        let content_start = name_end.next_multiple_of(ALIGN);
        let content_end = content_start.checked_add(header.content_len()).ok_or(Problem::CutShort)?;
        let content = rest.get(content_start..content_end).ok_or(Problem::CutShort)?;
        let entry = header.entry(self.offset, name, content);
        // The padding of the last entry may be missing.
        self.offset += content_end.next_multiple_of(ALIGN).min(rest.len());
        Ok(entry)
    }

    fn skip_zeros(&mut self) {
        let rest = &self.bytes[self.offset..];
        self.offset += rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len());
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<ArchiveEntry<'a>, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.skip_zeros();
            if self.has_failed || self.offset == self.bytes.len() {
                return None;
            }
            let offset = self.offset;
            match self.read() {
                Ok(entry) if entry.name == END_NAME => {}
                Ok(entry) => return Some(Ok(entry)),
                Err(problem) => {
                    self.has_failed = true;
                    return Some(Err(ArchiveError { offset, problem }));
                }
            }
        }
    }
}

/// The numbers of a header, in their order.
struct Header([u32; 13]);

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Problem> {
        if [GZIP_MAGIC, ZSTD_MAGIC, XZ_MAGIC].iter().any(|magic| bytes.starts_with(magic)) {
            return Err(Problem::Compressed);
        }
        if !MAGICS.iter().any(|magic| bytes.starts_with(magic)) {
            return Err(Problem::NoHeader);
        }
        let fields = bytes.get(MAGIC_BYTES..HEADER_BYTES).ok_or(Problem::CutShort)?;
        let mut numbers = [0; 13];
        for (number, digits) in numbers.iter_mut().zip(fields.chunks_exact(FIELD_BYTES)) {
            *number = parse_hex(digits).ok_or(Problem::BadNumber)?;
        }
        let header = Self(numbers);
        let is_name_good = (1..=MAX_PATH_BYTES).contains(&header.name_len());
        if is_name_good { Ok(header) } else { Err(Problem::BadName) }
    }

    fn name_len(&self) -> usize {
        self.0[11] as usize
    }

    fn content_len(&self) -> usize {
        self.0[6] as usize
    }

    fn entry<'a>(&self, offset: usize, name: &'a [u8], content: &'a [u8]) -> ArchiveEntry<'a> {
        let [inode, mode, user, group, links, modified_s, _, major, minor, ..] = self.0;
        let identity = (major, minor, inode);
        ArchiveEntry { offset, name, content, identity, mode, user, group, links, modified_s }
    }
}

/// A number of exactly these hexadecimal digits.
fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number: u32, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(number << 4 | value)
    })
}
