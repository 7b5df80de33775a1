//! The start of a connection, and its refusals.

use std::string::ToString;

use super::server::{Fault, Link, Server, Style};
use crate::{MountError, MountOptions, P9};

fn failure(server: Server, options: &MountOptions<'_>) -> MountError {
    let link = Link::new(server);
    let error = P9::mount(link.clone(), options).err().expect("no mount");
    assert_eq!(link.server().fid_count(), 0);
    error
}

#[test]
fn the_shorter_limit_of_messages_holds() {
    for (offered, asked, agreed) in [(65536, 8192, 8192), (5000, 8192, 5000), (1 << 30, 1 << 20, 1 << 20)] {
        let link = Link::new(Server { message_bytes: offered, ..Server::new(Style::Qemu) });
        let options = MountOptions { message_bytes: asked, ..MountOptions::default() };
        assert_eq!(P9::mount(link, &options).expect("mount").message_bytes(), agreed);
    }
}

#[test]
fn refusals_say_why() {
    let options = MountOptions::default();
    let server = || Server::new(Style::Qemu);
    let cases = [
        (
            failure(Server { version: b"9P2000", ..server() }, &options),
            "the server speaks \"9P2000\", not 9P2000.L",
        ),
        (
            failure(Server { version: b"unknown", ..server() }, &options),
            "the server speaks \"unknown\", not 9P2000.L",
        ),
        (
            failure(Server { message_bytes: 4095, ..server() }, &options),
            "messages of 4095 bytes: the limit must be 4096 to 1048576",
        ),
        (
            failure(server(), &MountOptions { message_bytes: 100, ..options.clone() }),
            "messages of 100 bytes: the limit must be 4096 to 1048576",
        ),
        (
            failure(server(), &MountOptions { message_bytes: u32::MAX, ..options.clone() }),
            "messages of 4294967295 bytes: the limit must be 4096 to 1048576",
        ),
        (
            failure(server(), &MountOptions { tree: "/secret", ..options.clone() }),
            "the server refuses the tree to this user (error 13)",
        ),
        (
            failure(server(), &MountOptions { tree: "a\0b", ..options.clone() }),
            "the name of the user or the tree cannot be sent",
        ),
        (
            failure(Server { fault: Some((1, Fault::LoseRequest)), ..server() }, &options),
            "the server does not answer",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
    // It has given a fid for what is no directory, which is ended at once.
    let link = Link::new(Server { is_strict: false, ..server() });
    let options = MountOptions { tree: "file", ..options };
    assert_eq!(P9::mount(link.clone(), &options).err(), Some(MountError::NotADirectory));
    assert_eq!(link.server().seen.get(&120), Some(&1));
}

#[test]
fn a_server_that_wants_longer_messages_is_refused() {
    let link = Link::new(Server::new(Style::Qemu));
    link.server().tamper = Some(std::boxed::Box::new(|reply| {
        if reply[4] == 101 {
            reply[7..11].copy_from_slice(&(1u32 << 30).to_le_bytes());
        }
    }));
    let refused = P9::mount(link, &MountOptions::default()).err();
    assert_eq!(refused, Some(MountError::Malformed("9p: messages longer than offered")));
}
