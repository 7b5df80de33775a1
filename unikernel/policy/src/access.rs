//! What may be done with files and ports (landlock(7)): rights, rules that give them, and domains of rules that bind a thread.
//!
//! A [`Ruleset`] names the rights that it is about, and gives some of them back below some directories, or at some ports. A
//! [`Domain`] is a stack of rulesets: each has to allow. A file's rights are those of its own rule and of all directories above it:
//! a [`Walk`] is shown each, from the file upwards, and knows what no rule has given so far.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use crate::flags::flags;

flags! {
    /// Rights over files; the bits are Linux's own (`LANDLOCK_ACCESS_FS_*`).
    pub struct FileAccess: u64 {
        /// Run a file.
        const EXECUTE = 1;
        /// Open a file to write.
        const WRITE_FILE = 1 << 1;
        /// Open a file to read.
        const READ_FILE = 1 << 2;
        /// Open a directory.
        const READ_DIR = 1 << 3;
        /// Remove a directory.
        const REMOVE_DIR = 1 << 4;
        /// Remove a file.
        const REMOVE_FILE = 1 << 5;
        /// Make a character device.
        const MAKE_CHAR = 1 << 6;
        /// Make a directory.
        const MAKE_DIR = 1 << 7;
        /// Make a file, or another name for one.
        const MAKE_REG = 1 << 8;
        /// Make a socket's name.
        const MAKE_SOCK = 1 << 9;
        /// Make a named pipe.
        const MAKE_FIFO = 1 << 10;
        /// Make a block device.
        const MAKE_BLOCK = 1 << 11;
        /// Make a symbolic link.
        const MAKE_SYM = 1 << 12;
        /// Link or move from one directory to another.
        const REFER = 1 << 13;
        /// Cut a file off.
        const TRUNCATE = 1 << 14;
    }
}

impl FileAccess {
    /// Those that a file can have that is no directory.
    pub const OF_FILES: Self =
        Self::EXECUTE.union(Self::WRITE_FILE).union(Self::READ_FILE).union(Self::TRUNCATE);

    /// Making and removing what has a name.
    pub const NAMES: Self = Self::all().difference(Self::OF_FILES).difference(Self::READ_DIR);
}

flags! {
    /// Rights over TCP ports; the bits are Linux's own (`LANDLOCK_ACCESS_NET_*`).
    pub struct PortAccess: u64 {
        /// Bind a socket.
        const BIND_TCP = 1;
        /// Connect to it.
        const CONNECT_TCP = 1 << 1;
    }
}

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileKey {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// Rulesets that bind a thread at most (Linux: `LANDLOCK_MAX_NUM_LAYERS`).
pub const MAX_LAYERS: usize = 16;
/// Rules of a ruleset at most; Linux has no bound but memory.
const MAX_RULES: usize = 4096;

/// Why a rule or a ruleset cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CannotAdd {
    /// There are too many.
    TooMany,
    /// There is no memory.
    OutOfMemory,
}

/// Rules that belong together.
#[derive(Debug, Default)]
pub struct Ruleset {
    files: FileAccess,
    ports: PortAccess,
    file_rules: Vec<(FileKey, FileAccess)>,
    port_rules: Vec<(u16, PortAccess)>,
    /// What keeps the files of the rules, so that no others get their numbers.
    pins: Vec<Pin>,
}

/// Keeps a file.
pub type Pin = Arc<dyn Any + Send + Sync>;

/// Gives a key rights beside those that it has.
fn insert<K: Ord + Copy, A: core::ops::BitOr<Output = A> + Copy>(
    rules: &mut Vec<(K, A)>,
    key: K,
    access: A,
) -> Result<(), CannotAdd> {
    match rules.binary_search_by_key(&key, |rule| rule.0) {
        Ok(index) => rules[index].1 = rules[index].1 | access,
        Err(_) if rules.len() == MAX_RULES => return Err(CannotAdd::TooMany),
        Err(index) => {
            rules.try_reserve(1).map_err(|_| CannotAdd::OutOfMemory)?;
            rules.insert(index, (key, access));
        }
    }
    Ok(())
}

fn copied<T: Clone>(rules: &[T]) -> Result<Vec<T>, CannotAdd> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(rules.len()).map_err(|_| CannotAdd::OutOfMemory)?;
    copy.extend_from_slice(rules);
    Ok(copy)
}

impl Ruleset {
    /// A ruleset about these rights, which gives none of them.
    pub const fn new(files: FileAccess, ports: PortAccess) -> Self {
        Self { files, ports, file_rules: Vec::new(), port_rules: Vec::new(), pins: Vec::new() }
    }

    /// The rights over files that it is about.
    pub const fn files(&self) -> FileAccess {
        self.files
    }

    /// The rights over ports that it is about.
    pub const fn ports(&self) -> PortAccess {
        self.ports
    }

    /// Gives rights over a file, or over all that is below a directory. `pin` is kept as long as the rule.
    ///
    /// # Errors
    ///
    /// See [`CannotAdd`].
    pub fn allow_file(&mut self, file: FileKey, access: FileAccess, pin: Pin) -> Result<(), CannotAdd> {
        self.pins.try_reserve(1).map_err(|_| CannotAdd::OutOfMemory)?;
        insert(&mut self.file_rules, file, access)?;
        if self.pins.len() < self.file_rules.len() {
            self.pins.push(pin);
        }
        Ok(())
    }

    /// Gives rights over a port.
    ///
    /// # Errors
    ///
    /// See [`CannotAdd`].
    pub fn allow_port(&mut self, port: u16, access: PortAccess) -> Result<(), CannotAdd> {
        insert(&mut self.port_rules, port, access)
    }

    /// The same once more: what is added to one is not in the other.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    pub fn copy(&self) -> Result<Self, CannotAdd> {
        let (file_rules, port_rules) = (copied(&self.file_rules)?, copied(&self.port_rules)?);
        Ok(Self { files: self.files, ports: self.ports, file_rules, port_rules, pins: copied(&self.pins)? })
    }

    fn of_file(&self, file: FileKey) -> FileAccess {
        let found = self.file_rules.binary_search_by_key(&file, |rule| rule.0);
        found.map_or(FileAccess::empty(), |index| self.file_rules[index].1)
    }

    /// True if it lets a port be used so.
    fn allows_port(&self, port: u16, access: PortAccess) -> bool {
        let found = self.port_rules.binary_search_by_key(&port, |rule| rule.0);
        let given = found.map_or(PortAccess::empty(), |index| self.port_rules[index].1);
        given.contains(access & self.ports)
    }
}

/// Rulesets that all have to allow.
#[derive(Debug, Default)]
pub struct Domain {
    layers: Vec<Arc<Ruleset>>,
}

impl Domain {
    /// A domain with one ruleset more.
    ///
    /// # Errors
    ///
    /// See [`CannotAdd`].
    pub fn with(older: Option<&Self>, ruleset: Ruleset) -> Result<Self, CannotAdd> {
        let known = older.map_or(&[][..], |older| &older.layers);
        if known.len() == MAX_LAYERS {
            return Err(CannotAdd::TooMany);
        }
        let mut layers = Vec::new();
        layers.try_reserve_exact(known.len() + 1).map_err(|_| CannotAdd::OutOfMemory)?;
        layers.extend(known.iter().cloned());
        layers.push(Arc::new(ruleset));
        Ok(Self { layers })
    }

    /// True if any ruleset is about files.
    pub fn is_about_files(&self) -> bool {
        self.layers.iter().any(|layer| !layer.files.is_empty())
    }

    /// True if the port may be used so.
    pub fn allows_port(&self, port: u16, access: PortAccess) -> bool {
        self.layers.iter().all(|layer| layer.allows_port(port, access))
    }

    /// Begins to look for these rights.
    pub fn look_for(&self, wanted: FileAccess) -> Walk<'_> {
        let mut missing = [FileAccess::empty(); MAX_LAYERS];
        for (missing, layer) in missing.iter_mut().zip(&self.layers) {
            // Moves between directories are refused unless they are allowed, even by rulesets that know nothing of them.
            let handled = if layer.files.is_empty() { layer.files } else { layer.files | FileAccess::REFER };
            *missing = wanted & handled;
        }
        Walk { domain: self, missing }
    }
}

/// What is missing of the rights that are looked for, ruleset by ruleset.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    domain: &'a Domain,
    missing: [FileAccess; MAX_LAYERS],
}

/// Why a file may not be moved or linked to another directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CannotMove {
    /// What is made there, or removed here, may not be.
    Denied,
    /// The file could be used there in ways in which it cannot be used here, or nothing may be moved.
    Elsewhere,
}

impl Walk<'_> {
    /// Takes the rules of a file or directory into account.
    pub fn visit(&mut self, file: FileKey) {
        for (missing, layer) in self.missing.iter_mut().zip(&self.domain.layers) {
            if !missing.is_empty() {
                *missing = missing.difference(layer.of_file(file));
            }
        }
    }

    /// True if nothing is missing.
    pub fn is_allowed(&self) -> bool {
        self.missing.iter().all(FileAccess::is_empty)
    }

    /// The rights that are missing in any ruleset.
    pub fn missing(&self) -> FileAccess {
        self.missing.iter().fold(FileAccess::empty(), |all, missing| all | *missing)
    }

    /// True if a file that may be used as `self` and its own rules say would gain rights where it may be used as `to` says.
    fn gains(&self, own: &Self, is_directory: bool, to: &Self) -> bool {
        let scope = if is_directory { FileAccess::all() } else { FileAccess::OF_FILES };
        let mut layers = self.missing.iter().zip(&own.missing).zip(&to.missing);
        layers.any(|((here, own), there)| !(*here & *own & scope).difference(*there).is_empty())
    }
}

/// A directory from or to which something is moved, with all rights looked for.
#[derive(Debug)]
pub struct Side<'a> {
    /// What is missing in the directory.
    pub directory: Walk<'a>,
    /// What is needed there.
    pub needed: FileAccess,
    /// What the moved file's own rules leave missing, and whether it is a directory; `None` if nothing leaves this one.
    pub moved: Option<(Walk<'a>, bool)>,
}

/// Whether something may be moved or linked from one directory to another (Linux: `current_check_refer_path`).
///
/// # Errors
///
/// See [`CannotMove`].
pub fn may_move(from: &Side<'_>, to: &Side<'_>) -> Result<(), CannotMove> {
    let lacks = |side: &Side<'_>| side.directory.missing().intersects(side.needed - FileAccess::REFER);
    if lacks(from) || lacks(to) {
        return Err(CannotMove::Denied);
    }
    let keeps = |side: &Side<'_>| side.directory.missing().contains(FileAccess::REFER);
    let gains = |side: &Side<'_>, other: &Side<'_>| {
        side.moved
            .as_ref()
            .is_some_and(|(own, is_directory)| side.directory.gains(own, *is_directory, &other.directory))
    };
    if keeps(from) || keeps(to) || gains(from, to) || gains(to, from) {
        return Err(CannotMove::Elsewhere);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: FileKey = FileKey { device: 1, inode: 1 };
    const DIRECTORY: FileKey = FileKey { device: 1, inode: 2 };
    const OTHER: FileKey = FileKey { device: 1, inode: 3 };
    const FILE: FileKey = FileKey { device: 1, inode: 9 };

    fn domain(older: Option<&Domain>, handled: FileAccess, rules: &[(FileKey, FileAccess)]) -> Domain {
        let mut ruleset = Ruleset::new(handled, PortAccess::empty());
        rules.iter().for_each(|(file, access)| ruleset.allow_file(*file, *access, Arc::new(())).unwrap());
        Domain::with(older, ruleset).unwrap()
    }

    fn walk<'a>(domain: &'a Domain, wanted: FileAccess, way: &[FileKey]) -> Walk<'a> {
        let mut walk = domain.look_for(wanted);
        way.iter().for_each(|file| walk.visit(*file));
        walk
    }

    #[test]
    fn rights_add_up_on_the_way_and_each_layer_has_to_give_them() {
        let both = FileAccess::READ_FILE | FileAccess::WRITE_FILE;
        let rules = [(ROOT, FileAccess::READ_FILE), (DIRECTORY, FileAccess::WRITE_FILE)];
        let first = domain(None, both, &rules);
        assert!(walk(&first, both, &[FILE, DIRECTORY, ROOT]).is_allowed());
        assert!(!walk(&first, both, &[FILE, OTHER, ROOT]).is_allowed());
        assert!(walk(&first, FileAccess::EXECUTE, &[]).is_allowed(), "it is not about that");
        let second = domain(Some(&first), both, &[(OTHER, both)]);
        assert!(!walk(&second, FileAccess::READ_FILE, &[FILE, DIRECTORY, ROOT]).is_allowed());
        assert!(walk(&second, FileAccess::READ_FILE, &[FILE, OTHER, ROOT]).is_allowed());
    }

    #[test]
    fn layers_and_rules_have_a_bound() {
        let mut last = domain(None, FileAccess::EXECUTE, &[]);
        for _ in 1..MAX_LAYERS {
            last = domain(Some(&last), FileAccess::EXECUTE, &[]);
        }
        let more = Domain::with(Some(&last), Ruleset::default());
        assert_eq!(more.err(), Some(CannotAdd::TooMany));
        let mut ruleset = Ruleset::new(FileAccess::EXECUTE, PortAccess::all());
        for inode in 0..MAX_RULES as u64 {
            ruleset.allow_file(FileKey { device: 0, inode }, FileAccess::EXECUTE, Arc::new(())).unwrap();
        }
        assert_eq!(ruleset.allow_file(FILE, FileAccess::EXECUTE, Arc::new(())), Err(CannotAdd::TooMany));
    }

    #[test]
    fn ports_are_allowed_one_by_one() {
        let mut ruleset = Ruleset::new(FileAccess::empty(), PortAccess::BIND_TCP);
        ruleset.allow_port(80, PortAccess::BIND_TCP).unwrap();
        let domain = Domain::with(None, ruleset).unwrap();
        assert!(
            domain.allows_port(80, PortAccess::BIND_TCP) && !domain.allows_port(81, PortAccess::BIND_TCP)
        );
        assert!(domain.allows_port(81, PortAccess::CONNECT_TCP) && !domain.is_about_files());
    }

    /// Moves a file from one directory below the root to another.
    fn moves(domain: &Domain, is_directory: bool) -> Result<(), CannotMove> {
        let side = |directory, needed, moved| Side {
            directory: walk(domain, FileAccess::all(), &[directory, ROOT]),
            needed,
            moved,
        };
        let own = walk(domain, FileAccess::all(), &[FILE]);
        let from = side(DIRECTORY, FileAccess::REFER | FileAccess::REMOVE_FILE, Some((own, is_directory)));
        may_move(&from, &side(OTHER, FileAccess::REFER | FileAccess::MAKE_REG, None))
    }

    #[test]
    fn who_moves_a_file_gains_nothing() {
        use FileAccess as A;
        let refer = A::REFER | A::MAKE_REG | A::REMOVE_FILE;
        assert_eq!(moves(&domain(None, A::EXECUTE, &[]), false), Err(CannotMove::Elsewhere));
        assert_eq!(moves(&domain(None, refer, &[(ROOT, refer)]), false), Ok(()));
        assert_eq!(moves(&domain(None, refer, &[(ROOT, A::REFER)]), false), Err(CannotMove::Denied));
        let about = refer | A::WRITE_FILE;
        let widens = [(ROOT, refer), (OTHER, A::WRITE_FILE)];
        assert_eq!(moves(&domain(None, about, &widens), false), Err(CannotMove::Elsewhere));
        let narrows = [(ROOT, refer), (DIRECTORY, A::WRITE_FILE)];
        assert_eq!(moves(&domain(None, about, &narrows), false), Ok(()));
        let own = [(ROOT, refer), (OTHER, A::WRITE_FILE), (FILE, A::WRITE_FILE)];
        assert_eq!(moves(&domain(None, about, &own), false), Ok(()), "it could be written already");
        let of_directories = [(ROOT, refer), (OTHER, A::READ_DIR)];
        let about = refer | A::READ_DIR;
        assert_eq!(moves(&domain(None, about, &of_directories), false), Ok(()));
        assert_eq!(moves(&domain(None, about, &of_directories), true), Err(CannotMove::Elsewhere));
    }
}
