//! The flagship: an HTTP server without `std`, one thread, event-driven.
//!
//! | path | answer |
//! |---|---|
//! | `/` | `Hello, World!` |
//! | `/json` | a JSON object |
//! | `/static/...` | files from `/www` of the initrd |
//! | `/metrics` | the kernel's counters and the server's own, as Prometheus text |
//!
//! The life of a busy connection is one `read` and one `send` a request, and one `epoll_wait` for all
//! requests that came in together. Nothing is allocated for a request.
//!
//! - [`server`]: the event loop; [`connection`]: one client; [`request`]: parsing;
//! - [`response`]: what is answered; [`files`]: the static files; [`metrics`]: counters.

#![no_std]
#![no_main]

extern crate alloc;

mod connection;
mod files;
mod metrics;
mod request;
mod response;
mod server;

use core::net::{Ipv4Addr, SocketAddr};

use unikernel::net::TcpListener;
use unikernel::{eprintln, println};

unikernel::entry!(run);

/// Exit code when the server cannot start.
const CANNOT_SERVE: i32 = 1;

fn run() -> i32 {
    let port = unikernel::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let outcome = TcpListener::bind(address).and_then(|listener| {
        println!("listening on port {port}");
        server::serve(listener)
    });
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("cannot serve on {address}: {error}");
            CANNOT_SERVE
        }
    }
}
