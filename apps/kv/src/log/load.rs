//! From a log to keys.
//!
//! A power cut may leave the last request unfinished, or zeros in its place: that is cut off, for nobody was
//! told that it was done. Anything else that is wrong is damage, which is not for a program to mend.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::commands;
use crate::database::Database;
use crate::resp::{Parsed, Parser};

/// What is read at a time, in bytes.
const PART_BYTES: usize = 256 << 10;
/// The longest string that a log may hold: what Redis allows.
const MAX_BULK: usize = 512 << 20;

/// Carries out all that the log holds; answers its length, which ends with a whole request.
///
/// # Errors
///
/// What is wrong with it, for people.
pub(super) fn load(file: &mut File, path: &Path, database: &mut Database) -> Result<u64, String> {
    let shown = path.display();
    let cannot_read = |error| format!("cannot read {shown}: {error}");
    let mut replay = Replay { database, parser: Parser::new(MAX_BULK), input: Vec::new(), done: 0 };
    loop {
        let start = replay.input.len();
        replay.input.resize(start + PART_BYTES, 0);
        let count = file.read(&mut replay.input[start..]).map_err(cannot_read)?;
        replay.input.truncate(start + count);
        if count == 0 {
            break;
        }
        if let Err(error) = replay.run() {
            file.read_to_end(&mut replay.input).map_err(cannot_read)?;
            if !replay.ends_in_zeros() {
                return Err(damaged(path, replay.done, &error));
            }
            break;
        }
    }
    let (done, rest) = (replay.done, replay.input.len());
    if rest > 0 {
        if replay.hides_requests() {
            return Err(damaged(path, done, "a request that is longer than the file, with others in it"));
        }
        println!("{shown}: its last {rest} bytes are an unfinished request, and are cut off");
        file.set_len(done).map_err(|error| format!("cannot cut {shown}: {error}"))?;
    }
    Ok(done)
}

fn damaged(path: &Path, at: u64, what: &str) -> String {
    let shown = path.display();
    format!(
        "{shown} is damaged at byte {at}: {what}. Nothing was changed. To go on without what follows: \
         keep a copy, then `truncate -s {at} {shown}`"
    )
}

/// A log being carried out.
struct Replay<'a> {
    database: &'a mut Database,
    parser: Parser,
    /// What has been read and not carried out.
    input: Vec<u8>,
    /// Bytes that have been carried out.
    done: u64,
}

impl Replay<'_> {
    /// Carries out the whole requests in the input.
    fn run(&mut self) -> Result<(), String> {
        let mut start = 0;
        let outcome = loop {
            let rest = &self.input[start..];
            if rest.first().is_some_and(|&first| first != b'*') {
                break Err("there is no request".to_owned());
            }
            match self.parser.parse(rest) {
                Ok(Parsed::Partial) => break Ok(()),
                Ok(Parsed::Request(bytes)) => {
                    if let Err(error) = one(self.database, &self.parser, rest) {
                        break Err(error);
                    }
                    self.parser.reset();
                    start += bytes;
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        self.done += start as u64;
        self.input.drain(..start);
        outcome
    }

    /// True if the rest is an unfinished request, perhaps none of it, and zeros: blocks that a file got
    /// before their content.
    fn ends_in_zeros(&self) -> bool {
        let zeros = self.input.iter().rev().take_while(|&&byte| byte == 0).count();
        let written = &self.input[..self.input.len() - zeros];
        zeros > 0 && Parser::new(MAX_BULK).parse(written) == Ok(Parsed::Partial)
    }

    /// True if whole requests follow in the rest, which an unfinished last one does not explain: a length
    /// in it is wrong.
    fn hides_requests(&self) -> bool {
        let starts = self.input.windows(3).enumerate().filter(|(_, window)| window == b"\r\n*");
        starts.map(|(at, _)| &self.input[at + 2..]).any(|rest| {
            let mut parser = Parser::new(MAX_BULK);
            matches!(parser.parse(rest), Ok(Parsed::Request(_)))
                && parser.arguments(rest).from(0).next().and_then(commands::find).is_some()
        })
    }
}

fn one(database: &mut Database, parser: &Parser, input: &[u8]) -> Result<(), String> {
    let arguments = parser.arguments(input);
    if !arguments.are_framed() {
        return Err("a string of a wrong length".into());
    }
    if arguments.len() == 0 { Err("an empty request".into()) } else { commands::apply(database, arguments) }
}
