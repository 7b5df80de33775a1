//! `metrics`, `threads` and `ss`: what the kernel of a running guest tells of it (`run --observe`, `observe=`).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http;

/// Where the channel is if nobody says anything else.
pub(crate) const PORT: u16 = 9100;

/// How long a guest may take to send what it has made, beside the time of making it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    Metrics,
    Threads,
    Sockets,
}

/// What to ask whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObserveOptions {
    pub(crate) page: Page,
    pub(crate) at: SocketAddr,
}

/// Shows a page.
pub(crate) fn show(options: &ObserveOptions) -> Result<u8> {
    let path = match options.page {
        Page::Metrics => "/metrics",
        Page::Threads => "/threads",
        Page::Sockets => "/sockets",
    };
    let answer = http::get(options.at, path).with_context(|| no_answer(options.at))?;
    ensure!(answer.status == 200, "{}: {} {path}: {}", options.at, answer.status, answer.body);
    print(&answer.body)
}

/// Writes a text for people, who may have seen enough before its end.
pub(crate) fn print(text: &str) -> Result<u8> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        outcome => Ok(outcome.map(|()| 0)?),
    }
}

/// What a page answers that the guest makes for so many seconds.
pub(crate) fn fetch(at: SocketAddr, path: &str, seconds: u64) -> Result<Vec<u8>> {
    let answer = http::get_bytes(at, path, PATIENCE + Duration::from_secs(seconds));
    let (status, bytes) = answer.with_context(|| no_answer(at))?;
    ensure!(status == 200, "{at}: {status} {path}: {}", String::from_utf8_lossy(&bytes));
    Ok(bytes)
}

/// What to say when nobody answers.
fn no_answer(at: SocketAddr) -> String {
    format!(
        "{at} does not answer: is a guest there that was started with `run --observe`, or with `observe=`? \
         --at PORT or --at ADDRESS[:PORT] asks elsewhere"
    )
}
