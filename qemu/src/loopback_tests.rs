//! Servers that listen on the loopback address alone: who reaches them, and what the log says of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest_tests::{NamedTest, free_port};
use crate::http;
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(30);
const NOTICE: &str = "which nobody outside reaches";

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![("loopback_words".into(), Box::new(words))]
}

fn words() -> Result<()> {
    project::build("guest-tests", &["local_server"], Profile::Release)?;
    for (append, address, is_reached) in [
        ("", "0.0.0.0", true),
        ("", "127.0.0.1", false),
        ("loopback=closed forward=80", "127.0.0.1", false),
        ("loopback=open", "127.0.0.1", true),
        ("forward=80,8080", "127.0.0.1", true),
        ("loopback=open", "::1", true),
        // The filter judges who comes from outside before.
        ("loopback=open filter=deny", "127.0.0.1", false),
    ] {
        let is_told = !is_reached && !append.contains("filter");
        check(append, address, is_reached, is_told)
            .map_err(|error| error.context(format!("with {append:?} at {address}")))?;
    }
    Ok(())
}

fn check(append: &str, address: &str, is_reached: bool, is_told: bool) -> Result<()> {
    let port = free_port()?;
    let mut machine = Machine::new(Kind::Microvm, &project::image("local_server"));
    machine.net = Net::User(port, 8080);
    machine.append = format!("{append} -- {address}");
    let guest = Vm::start(&machine, Console::Recorded)?;
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    guest.wait_until(TIME_OUT, || {
        let console = guest.console();
        console.contains("listening on") && console.contains("lease of")
    })?;
    if is_reached {
        guest.wait_until(TIME_OUT, || http::answers(server))?;
    } else {
        ensure!(http::get(server, "/").is_err(), "it answers");
    }
    ensure!(guest.console().matches(NOTICE).count() == usize::from(is_told), "{}", guest.console());
    Ok(())
}
