//! A server of 9P2000.L over a [`Tree`]. It reads requests with code of its own, and strictly: what no client may send is a panic.

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

use super::bytes::{Builder, Parser};
use super::tree::{EINVAL, EIO, ENODATA, ENOSYS, ROOT, S_IFDIR, S_IFLNK, S_IFMT, Tree};
use super::{Transport, TransportError};

/// What a fid stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// A file.
    Ideal,
    /// A name, which follows renames. Attributes are those of the name, even if the fid is open (QEMU before 9.2).
    Qemu,
    /// A name, which stays as it is. Attributes are those of the file if the fid is open.
    Diod,
}

pub(super) struct Fid {
    /// Names from the root.
    pub(super) path: Vec<Vec<u8>>,
    pub(super) number: u64,
    pub(super) open: Option<Open>,
    pub(super) attribute: Option<Attribute>,
}

#[derive(Clone, Copy)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) flags: u32,
}

pub(super) struct Attribute {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// How much of it was written; `None` if it is read.
    pub(super) written: Option<usize>,
}

/// What the server does to one request, counted from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It refuses it with `EIO`.
    Refuse,
    /// It never got it.
    LoseRequest,
    /// It does it, and the reply is lost.
    LoseReply,
}

type Tamper = Box<dyn FnMut(&mut Vec<u8>) + Send>;

pub(super) struct Server {
    pub(super) tree: Tree,
    pub(super) style: Style,
    /// The longest message that it offers.
    pub(super) message_bytes: u32,
    /// What `Rlopen` says.
    pub(super) unit_bytes: u32,
    pub(super) version: &'static [u8],
    /// Panic on what no client may send. Not of use where replies are tampered with, as the client then believes other things.
    pub(super) is_strict: bool,
    /// Who attaches is not the administrator: permission bits of the owner count.
    pub(super) checks_permissions: bool,
    /// Nobody may change an owner.
    pub(super) refuses_chown: bool,
    /// Reads and writes do only so many bytes at a time.
    pub(super) most_content: usize,
    /// It knows neither `Trenameat` nor `Tunlinkat`.
    pub(super) is_old: bool,
    /// The last offset of a listing is 2^63 - 1.
    pub(super) ends_at_max: bool,
    /// Types of entries are not told.
    pub(super) hides_types: bool,
    /// Which request gets which fault.
    pub(super) fault: Option<(usize, Fault)>,
    /// It answers nothing any more.
    pub(super) is_gone: bool,
    /// Changes replies.
    pub(super) tamper: Option<Tamper>,
    /// How many requests there were, by their types.
    pub(super) seen: BTreeMap<u8, usize>,
    pub(super) synced: BTreeSet<u64>,
    pub(super) fids: BTreeMap<u32, Fid>,
    /// The longest message that was agreed on.
    pub(super) agreed: u32,
}

/// The body of a reply, or an error number.
pub(super) type Answer = Result<Builder, u32>;

impl Server {
    pub(super) fn new(style: Style) -> Self {
        Self {
            tree: Tree::new(),
            style,
            message_bytes: 64 << 10,
            unit_bytes: 0,
            version: b"9P2000.L",
            is_strict: true,
            checks_permissions: false,
            refuses_chown: false,
            most_content: usize::MAX,
            ends_at_max: false,
            hides_types: false,
            fault: None,
            is_old: false,
            is_gone: false,
            tamper: None,
            seen: BTreeMap::new(),
            synced: BTreeSet::new(),
            fids: BTreeMap::new(),
            agreed: 0,
        }
    }

    pub(super) fn fid_count(&self) -> usize {
        self.fids.len()
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.values().sum()
    }

    /// Does a request; answers the reply, whole.
    fn serve(&mut self, request: &[u8]) -> Vec<u8> {
        let mut parser = Parser(request);
        assert_eq!(parser.u32() as usize, request.len(), "the size of a request");
        let kind = parser.bytes(1)[0];
        let tag = parser.u16();
        assert_eq!(tag == u16::MAX, kind == 100, "the tag of a request");
        assert!(kind == 100 || request.len() <= self.agreed as usize, "a request that is too long");
        *self.seen.entry(kind).or_default() += 1;
        let answer = match (self.takes_fault(Fault::Refuse), kind) {
            // A fid ends even if what it was to do at its end fails.
            (true, 120) => {
                self.fids.values_mut().for_each(|fid| fid.attribute = None);
                self.answer(kind, &mut parser).and(Err(EIO))
            }
            (true, 122) => self.drop_fid(parser.u32()).and(Err(EIO)),
            (true, _) => Err(EIO),
            (false, _) => self.answer(kind, &mut parser),
        };
        if self.is_strict && answer.is_ok() {
            assert!(parser.0.is_empty(), "request {kind} has {} bytes too many", parser.0.len());
        }
        let (kind, body) = match answer {
            Ok(body) => (kind + 1, body.0),
            Err(number) => (7, number.to_le_bytes().to_vec()),
        };
        let mut reply = Builder::default().u32(body.len() as u32 + 7).u8(kind).u16(tag).0;
        reply.extend(body);
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut reply);
        }
        reply
    }

    /// True if it is this request's turn to have this fault.
    fn takes_fault(&self, fault: Fault) -> bool {
        self.fault == Some((self.requests(), fault))
    }

    pub(super) fn misuse(&self, text: &str) -> u32 {
        assert!(!self.is_strict, "{text}");
        EINVAL
    }

    pub(super) fn fid(&self, number: u32) -> Result<&Fid, u32> {
        self.fids.get(&number).ok_or_else(|| self.misuse(&format!("fid {number} is not known")))
    }

    /// The file of a fid that is not open, or as a name.
    pub(super) fn file(&self, fid: u32) -> Result<u64, u32> {
        let fid = self.fid(fid)?;
        if self.style == Style::Ideal {
            return self.tree.get(fid.number).map(|_| fid.number);
        }
        fid.path.iter().try_fold(ROOT, |at, name| self.tree.lookup(at, name))
    }

    /// The file of a fid for `Tgetattr` and `Tsetattr`.
    pub(super) fn file_of_attributes(&self, fid: u32) -> Result<u64, u32> {
        match self.fid(fid)?.open {
            Some(open) if self.style != Style::Qemu => Ok(open.number),
            _ => self.file(fid),
        }
    }

    pub(super) fn opened(&self, fid: u32) -> Result<Open, u32> {
        self.fid(fid)?.open.ok_or_else(|| self.misuse("a fid that is not open"))
    }

    /// A directory by a fid that is not open.
    pub(super) fn directory(&self, fid: u32) -> Result<u64, u32> {
        if self.fid(fid)?.open.is_some() {
            return Err(self.misuse("a name by a fid that is open"));
        }
        self.file(fid)
    }

    pub(super) fn add_fid(&mut self, number: u32, fid: Fid) -> Result<(), u32> {
        if number == u32::MAX || self.fids.contains_key(&number) {
            return Err(self.misuse("a new fid that is none"));
        }
        if self.style == Style::Ideal {
            self.tree.hold(fid.number)?;
        }
        self.fids.insert(number, fid);
        Ok(())
    }

    pub(super) fn drop_fid(&mut self, number: u32) -> Answer {
        let Some(fid) = self.fids.remove(&number) else { return Err(self.misuse("the end of no fid")) };
        let file = if self.style == Style::Ideal {
            Ok(fid.number)
        } else {
            fid.path.iter().try_fold(ROOT, |at, name| self.tree.lookup(at, name))
        };
        let result = match fid.attribute {
            Some(Attribute { name, value, written: Some(written) }) => {
                file.and_then(|file| self.set_attribute(file, name, value, written))
            }
            _ => Ok(()),
        };
        if let Some(open) = fid.open {
            self.tree.release(open.number);
        }
        if self.style == Style::Ideal {
            self.tree.release(fid.number);
        }
        result.map(|()| Builder::default())
    }

    fn set_attribute(&mut self, file: u64, name: Vec<u8>, value: Vec<u8>, written: usize) -> Result<(), u32> {
        let attributes = &mut self.tree.get_mut(file)?.attributes;
        if written != value.len() {
            return Err(EINVAL);
        }
        if value.is_empty() {
            return attributes.remove(&name).map(drop).ok_or(ENODATA);
        }
        attributes.insert(name, value);
        Ok(())
    }

    pub(super) fn qid(&self, builder: Builder, number: u64) -> Result<Builder, u32> {
        let sort = match self.tree.get(number)?.mode & S_IFMT {
            S_IFDIR => 0x80,
            S_IFLNK => 0x02,
            _ => 0,
        };
        Ok(builder.u8(sort).u32(0).u64(number))
    }

    pub(super) fn qid_reply(&self, number: u64) -> Answer {
        self.qid(Builder::default(), number)
    }

    fn answer(&mut self, kind: u8, parser: &mut Parser<'_>) -> Answer {
        match kind {
            100 => self.version(parser),
            104 => self.attach(parser),
            110 => self.walk(parser),
            120 => self.drop_fid(parser.u32()),
            8 => self.statfs(parser.u32()),
            24 => self.getattr(parser),
            26 => self.setattr(parser),
            30 => self.xattrwalk(parser),
            32 => self.xattrcreate(parser),
            12 => self.lopen(parser),
            116 => self.read(parser),
            118 => self.write(parser),
            40 => self.readdir(parser),
            22 => self.readlink(parser.u32()),
            50 => self.fsync(parser),
            14 => self.lcreate(parser),
            72 => self.mkdir(parser),
            16 => self.symlink(parser),
            18 => self.mknod(parser),
            70 => self.link(parser),
            74 | 76 if self.is_old => Err(ENOSYS),
            20 if self.is_old => self.rename(parser),
            122 if self.is_old => self.remove(parser.u32()),
            74 => self.renameat(parser),
            76 => self.unlinkat(parser),
            _ => panic!("a request of type {kind}"),
        }
    }
}

/// The client's end.
#[derive(Clone)]
pub(super) struct Link(Arc<Mutex<Server>>);

impl Link {
    pub(super) fn new(server: Server) -> Self {
        Self(Arc::new(Mutex::new(server)))
    }

    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().expect("a server that did not panic")
    }
}

impl Transport for Link {
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, TransportError> {
        let mut server = self.server();
        if server.is_gone {
            return Err(TransportError);
        }
        let next = server.requests() + 1;
        if server.fault == Some((next, Fault::LoseRequest)) {
            *server.seen.entry(0).or_default() += 1;
            return Err(TransportError);
        }
        let answer = server.serve(request);
        if server.takes_fault(Fault::LoseReply) {
            return Err(TransportError);
        }
        let count = answer.len().min(reply.len());
        reply[..count].copy_from_slice(&answer[..count]);
        // A reply that does not fit is told by its length, as a device would.
        Ok(answer.len())
    }
}
