//! A key-value store that speaks the Redis protocol and keeps its data: what a client was told is done
//! survives a power cut. One thread has the keys and serves all clients.
//!
//! - [`resp`], [`inline`], [`reply`]: the protocol;
//! - [`commands`], [`error`], [`glob`]: what clients may ask;
//! - [`database`] over [`keyspace`]: the keys, and the log of their changes;
//! - [`log`]: the log on the disk; [`server`], [`client`]: the event loop.
//!
//! Nothing here knows the kernel it will run on.

mod client;
mod commands;
mod database;
mod error;
mod glob;
mod inline;
mod keyspace;
mod log;
mod options;
mod reply;
mod resp;
mod server;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use database::{Database, Limits};
use log::Log;
use options::{HELP, Options};
use server::Server;

/// The longest string that Redis allows, in bytes.
const MAX_BULK: usize = 512 << 20;

fn main() -> ExitCode {
    let outcome = match options::parse(std::env::args_os()) {
        Ok(Some(options)) => run(&options),
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Err(error) => Err(format!("{error}; `kv --help` lists the options")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let limits = limits(options);
    let mut database = Database::new(limits);
    let log = Log::open(options, &mut database)?;
    database.status.settings = settings(options, limits);
    let (port, folder, policy) = (options.port, options.folder.display(), options.policy.name());
    let count = database.keys.len();
    let server = Server::new(options, database, log, limits.max_memory / 2);
    let server = server.map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("listening on port {port}, {count} keys in {folder}, appendfsync {policy}");
    server.run()?;
    println!("ended; everything is on the disk");
    Ok(())
}

/// Half of the memory is for the keys, a quarter for clients' buffers; the rest is the kernel's and the
/// allocator's.
fn limits(options: &Options) -> Limits {
    let system = rustix::system::sysinfo();
    let all = usize::try_from(system.totalram.saturating_mul(system.mem_unit.into())).unwrap_or(usize::MAX);
    let max_memory = options.max_memory.unwrap_or(all / 2);
    let max_bulk = MAX_BULK.min(max_memory / 8);
    Limits { max_memory, max_bulk, max_reply: max_memory / 4 }
}

/// What `CONFIG GET` tells.
fn settings(options: &Options, limits: Limits) -> Vec<(&'static str, String)> {
    vec![
        ("appendfsync", options.policy.name().into()),
        ("appendonly", "yes".into()),
        ("auto-aof-rewrite-min-size", options.least_rewrite.to_string()),
        ("auto-aof-rewrite-percentage", "100".into()),
        ("bind", options.address.to_string()),
        ("databases", "1".into()),
        ("dir", options.folder.display().to_string()),
        ("maxclients", options.max_clients.to_string()),
        ("maxmemory", limits.max_memory.to_string()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", options.port.to_string()),
        ("proto-max-bulk-len", limits.max_bulk.to_string()),
        ("save", String::new()),
    ]
}
