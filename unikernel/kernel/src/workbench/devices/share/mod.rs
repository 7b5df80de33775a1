//! Folders of the host (9P): the server in memory of `unikernel-p9`'s tests behind the device.

#[path = "../../../../../p9/src/tests/bytes.rs"]
mod bytes;
mod folder_tests;
#[path = "../../../../../p9/src/tests/requests.rs"]
mod requests;
#[expect(dead_code, reason = "the crate's own tests use the rest")]
#[path = "../../../../../p9/src/tests/server.rs"]
mod server;
#[path = "../../../../../p9/src/tests/tree.rs"]
mod tree;

use std::boxed::Box;

use unikernel_hal::sim::plain::{Plain, Use};
use unikernel_p9::{Transport, TransportError};

use crate::workbench::app::{Machine, Outcome};
use server::{Link, Server, Style};

/// The share's name.
const TAG: &[u8] = b"share";

/// A device that leads to a server.
fn device(mut link: Link) -> Plain {
    const MOST_REPLY: usize = 64 << 10;
    let serve = move |request: &[u8]| {
        let mut reply = alloc::vec![0; MOST_REPLY];
        let len = link.exchange(request, &mut reply).ok()?;
        reply.truncate(len);
        Some((reply, len as u32))
    };
    let config = [&(TAG.len() as u16).to_le_bytes()[..], TAG].concat();
    Plain { device_type: 9, features: 1, config, queues: [Use::Server(Box::new(serve))].into() }
}

/// Runs the app with the share at `/tmp`, on one core; it has the host's side in hand.
fn run_with(server: Server, app: impl FnOnce(Link) + 'static) -> Outcome {
    let machine = Machine { command_line: "mount=/tmp:share:9p".into(), ..Machine::default() };
    let link = Link::new(server);
    let same = link.clone();
    machine.run_with(
        || device(link).plug_in(),
        || {
            app(same);
            0
        },
    )
}

#[track_caller]
fn run(app: impl FnOnce(Link) + 'static) {
    let outcome = run_with(Server::new(Style::Qemu), app);
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}
