//! Names, in the log, who listens on the loopback address alone: many servers do so unless told otherwise, and nobody
//! outside reaches them.

use arrayvec::ArrayVec;
use unikernel_net::{ListenerId, Stack};

use crate::sync::SpinLock;

/// Ports named at most, so that an app cannot fill the log.
const MOST_NAMED: usize = 8;
/// Ports from here on are mostly chosen by the kernel, for connections that a program makes to itself.
const FIRST_CHOSEN: u16 = 32768;

static NAMED: SpinLock<ArrayVec<u16, MOST_NAMED>> = SpinLock::new(ArrayVec::new_const());

/// Names a listener, once for each port, if nobody outside reaches it.
pub(super) fn report(stack: &Stack, id: ListenerId) {
    let Some(local) = stack.listener_local(id) else { return };
    let port = local.port();
    if !local.ip().to_canonical().is_loopback() || port >= FIRST_CHOSEN || stack.opens_loopback(port) {
        return;
    }
    let mut named = NAMED.lock();
    let is_new = !named.contains(&port) && named.try_push(port).is_ok();
    drop(named);
    if is_new {
        log::warn!(
            "the app listens on {local}, which nobody outside reaches; have it listen on 0.0.0.0, or boot with \
             `forward={port}` or `loopback=open`"
        );
    }
}
