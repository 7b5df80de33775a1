//! What can be asked for: a line for each page, from which the list of pages is made, too.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Result, Write};

use unikernel_trace::request::Request;

use super::{frames, recording, threads};
use crate::file::long_text::LongText;
use crate::fs::metrics;
use crate::kmem::room::OutOfMemory;
use crate::net::socket_list;

/// Of pages for people.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// Of what Prometheus reads (prometheus.io/docs/instrumenting/exposition_formats).
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Of what a program is to read.
const BYTES: &str = "application/octet-stream";

/// Of a capture (the type that tcpdump.org's formats are registered under, with a number for pcapng).
const CAPTURE: &str = "application/x-pcapng";

/// A page.
pub(super) struct Page {
    path: &'static str,
    /// What it tells.
    title: &'static str,
    pub(super) content_type: &'static str,
    pub(super) content: Content,
}

/// Who makes a page; an error of a text is a lack of memory.
pub(super) enum Content {
    Text(fn(&mut LongText, &Request<'_>) -> Result),
    /// In pieces.
    Bytes(fn(&Request<'_>) -> core::result::Result<Vec<Vec<u8>>, Refusal>),
}

/// Why there is no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    OutOfMemory,
    /// Another client has it.
    Busy,
    BadFilter,
}

impl From<OutOfMemory> for Refusal {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

const PAGES: &[Page] = &[
    Page {
        path: "/",
        title: "this list",
        content_type: TEXT,
        content: Content::Text(|out, _| out.write_str(&index())),
    },
    Page {
        path: "/metrics",
        title: "counters, in Prometheus' text format",
        content_type: METRICS,
        content: Content::Text(|out, _| out.write_str(&metrics::render())),
    },
    Page {
        path: "/threads",
        title: "the app's threads: what each does, and who called whom; ?stacks=off without the latter",
        content_type: TEXT,
        content: Content::Text(threads::write),
    },
    Page {
        path: "/sockets",
        title: "listeners and connections, as `ss -tni` shows them",
        content_type: TEXT,
        content: Content::Text(|out, _| socket_list::write(out)),
    },
    Page {
        path: "/trace",
        title: "what happens in the next ?seconds=, event by event, for `cargo unikernel trace`; 0: what `trace=events` has kept",
        content_type: BYTES,
        content: Content::Bytes(|request| Ok(recording::record(request)?)),
    },
    Page {
        path: "/pcap",
        title: "the frames of the next ?seconds= for Wireshark; &filter=tcp+and+port+8080 takes some, &snap=96 their beginnings",
        content_type: CAPTURE,
        content: Content::Bytes(frames::gather),
    },
];

/// The page of a path.
pub(super) fn find(path: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.path == path)
}

/// The list of pages.
pub(super) fn index() -> String {
    let lines = PAGES.iter().map(|page| alloc::format!("{:<10} {}\n", page.path, page.title));
    lines.collect()
}
