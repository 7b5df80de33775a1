//! A 9P server that answers anything: as it should, with an error, with bytes changed, cut off, or with any bytes at all. Each
//! operation ends, and so does the connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use unikernel_p9::{MountOptions, P9, Transport, TransportError};

use crate::input::Input;
use crate::user::User;

const HEADER_BYTES: usize = 7;
/// Bytes of a file, of a value of an attribute.
const CONTENT_BYTES: u64 = 100;
const VALUE_BYTES: u64 = 5;
/// More than any of the operations here needs, whose longest listing has a million names.
const MOST_REQUESTS: usize = 100_000;

/// The input, of which the client's user and the server take turns.
#[derive(Clone)]
struct Shared(Arc<Mutex<(Vec<u8>, usize)>>);

impl Shared {
    fn read<R>(&self, read: impl FnOnce(&mut Input<'_>) -> R) -> R {
        let mut guard = self.0.lock().expect("nobody panics with it");
        let (bytes, at) = &mut *guard;
        let mut input = Input::new(&bytes[*at..]);
        let result = read(&mut input);
        *at = bytes.len() - input.rest().len();
        result
    }
}

/// A kind of file (`qid.type`) and its number.
type File = (u8, u64);
const DIRECTORY: u8 = 0x80;

struct Server {
    input: Shared,
    fids: BTreeMap<u32, File>,
    requests: usize,
}

/// The file of a name: the same for the same first letter.
fn named(name: &[u8]) -> File {
    let letter = name.first().copied().unwrap_or_default();
    (if letter == b'd' { DIRECTORY } else { 0 }, u64::from(letter) + 2)
}

fn qid((kind, path): File) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0][..], &path.to_le_bytes()].concat()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

/// The names of a directory from an offset on.
fn listing(offset: u64) -> Vec<u8> {
    let names = [&b"."[..], b"..", b"file", b"dir"];
    let rest = (1..).zip(names).skip(offset as usize);
    let data: Vec<u8> = rest
        .flat_map(|(next, name): (u64, _)| {
            [qid(named(name)), next.to_le_bytes().to_vec(), vec![8], text(name)].concat()
        })
        .collect();
    [&(data.len() as u32).to_le_bytes()[..], &data].concat()
}

impl Server {
    /// What the reply to a request holds if all is well.
    fn answer(&mut self, kind: u8, mut body: Input<'_>) -> Vec<u8> {
        let fid = body.word();
        let file = self.fids.get(&fid).copied().unwrap_or((0, 9));
        let string = |body: &mut Input<'_>| {
            let len = body.half().into();
            named(body.take(len))
        };
        match kind {
            100 => [&8192_u32.to_le_bytes()[..], &text(b"9P2000.L")].concat(),
            104 => {
                self.fids.insert(fid, (DIRECTORY, 1));
                qid((DIRECTORY, 1))
            }
            110 => {
                let (new_fid, count) = (body.word(), body.half());
                let to = if count == 0 { file } else { string(&mut body) };
                self.fids.insert(new_fid, to);
                [&count.to_le_bytes()[..], &qid(to).repeat(count.into())].concat()
            }
            8 => [&[0; 4][..], &4096_u32.to_le_bytes(), &[1; 52]].concat(),
            24 => {
                let mode: u32 = if file.0 == DIRECTORY { 0o40755 } else { 0o100_644 };
                let numbers = [1, 0, CONTENT_BYTES, 4096, 8, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0_u64];
                let head = [&0x3fff_u64.to_le_bytes()[..], &qid(file), &mode.to_le_bytes(), &[0; 8]].concat();
                [head, numbers.iter().flat_map(|number| number.to_le_bytes()).collect()].concat()
            }
            30 => {
                self.fids.insert(body.word(), (0, 0));
                VALUE_BYTES.to_le_bytes().to_vec()
            }
            12 => [qid(file), vec![0; 4]].concat(),
            14 => {
                let made = string(&mut body);
                self.fids.insert(fid, made);
                [qid(made), vec![0; 4]].concat()
            }
            16 | 18 | 72 => qid(string(&mut body)),
            116 => {
                let bytes = if file == (0, 0) { VALUE_BYTES } else { CONTENT_BYTES };
                let count = bytes.saturating_sub(body.long()).min(body.word().into());
                [&(count as u32).to_le_bytes()[..], &vec![7; count as usize]].concat()
            }
            118 => {
                let _offset = body.long();
                body.word().to_le_bytes().to_vec()
            }
            40 => listing(body.long()),
            22 => text(b"file"),
            120 | 122 => {
                self.fids.remove(&fid);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// What of it the input makes.
    fn spoil(&self, kind: &mut u8, body: &mut Vec<u8>) -> Result<(), TransportError> {
        self.input.read(|input| {
            match input.byte() & 15 {
                1 => {
                    *kind = 7;
                    *body = u32::from(input.byte()).to_le_bytes().to_vec();
                }
                2 if !body.is_empty() => {
                    let at = input.below(body.len());
                    body[at] = input.byte();
                }
                3 if !body.is_empty() => {
                    let at = input.below(body.len());
                    body[at..].iter_mut().zip(input.array::<8>()).for_each(|(old, new)| *old = new);
                }
                4 => body.truncate(input.below(body.len())),
                5 => *body = input.chunk().to_vec(),
                6 => body.resize(body.len() + usize::from(input.half()) % 9000, 1),
                7 => return Err(TransportError),
                8 => *kind = input.byte(),
                _ => {}
            }
            Ok(())
        })
    }
}

impl Transport for Server {
    fn exchange(&mut self, request: &[u8], reply: &mut [u8]) -> Result<usize, TransportError> {
        self.requests += 1;
        assert!(self.requests < MOST_REQUESTS, "requests without end");
        let mut kind = request[4] + 1;
        let mut body = self.answer(request[4], Input::new(&request[HEADER_BYTES..]));
        self.spoil(&mut kind, &mut body)?;
        let len = HEADER_BYTES + body.len();
        let message = [&(len as u32).to_le_bytes()[..], &[kind], &request[5..7], &body].concat();
        let count = len.min(reply.len());
        reply[..count].copy_from_slice(&message[..count]);
        Ok(len)
    }
}

pub(crate) fn run(data: &[u8]) {
    let shared = Shared(Arc::new(Mutex::new((data.to_vec(), 0))));
    let server = Server { input: shared.clone(), fids: BTreeMap::new(), requests: 0 };
    let options = MountOptions { message_bytes: 8192, idle_inodes: 8, ..MountOptions::default() };
    let Ok(mut fs) = P9::mount(server, &options) else { return };
    let mut user = User::new(&fs);
    while !shared.read(|input| input.is_over()) {
        let choice = shared.read(|input| input.array());
        user.act(&mut fs, choice);
    }
    user.end(&mut fs);
}
