//! Message queues (mq_overview(7)): messages of bounded size by priority, under a name that the app finds again, which
//! is none of the file system's.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::{RLIMIT_MSGQUEUE, S_IFREG, SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD};
use unikernel_fs::{MessageQueue, QueueEnd, Sent, Turn};
use unikernel_vfs::access::{self, Object, Refusal, Wanted, check_removal};

pub(crate) use unikernel_fs::Message;

use crate::abi::{Errno, SysResult};
use crate::file::{File, FileFlags, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::UserSlice;
use crate::net::socket::Socket;
use crate::platform::time;
use crate::process::signal;
use crate::sync::SpinLock;
use crate::task::credentials::{self, Capability};
use crate::task::limits;
use crate::task::process::PROCESS_ID;
use crate::task::signal::SignalInfo;
use crate::task::wait::WaitError;

/// `/proc/sys/fs/mqueue`: what a queue has where its maker does not say, and what one who is not root may ask for.
pub(crate) const DEFAULT_MESSAGES: usize = 10;
/// The same, of bytes in a message.
pub(crate) const DEFAULT_MESSAGE_BYTES: usize = 8192;
/// The same, of queues.
pub(crate) const MAX_QUEUES: usize = 256;
/// What root may ask for.
pub(crate) const MAX_MESSAGES: usize = 65_536;
/// The same, of bytes in a message.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// What Linux counts besides the content of each message: its head, and for each priority a node.
const MESSAGE_HEAD_BYTES: usize = 48;
const PRIORITY_NODE_BYTES: usize = 48;
/// Priorities are below.
pub(crate) const PRIORITIES: u32 = 32_768;
/// The size that Linux shows.
const SHOWN_BYTES: u64 = 80;
/// What mq_notify(2) hands back for a thread; the last byte says what happened.
pub(crate) const COOKIE_BYTES: usize = 32;
/// A message has come.
const WOKEN: u8 = 1;
/// The registration has ended.
const REMOVED: u8 = 2;

/// Queues that have a name.
static NAMES: SpinLock<BTreeMap<Box<[u8]>, Arc<Queue>>> = SpinLock::new(BTreeMap::new());
/// What all queues together are.
static TOTAL: SpinLock<Total> = SpinLock::new(Total { queues: 0, promised_bytes: 0 });

struct Total {
    queues: usize,
    /// What they may come to hold, which `RLIMIT_MSGQUEUE` bounds.
    promised_bytes: u64,
}

/// What a queue is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Messages at once.
    pub max_messages: usize,
    /// Bytes in each.
    pub message_bytes: usize,
}

impl Shape {
    /// What a queue of this shape counts for; it cannot overflow, as both numbers are bounded.
    fn promised_bytes(self) -> u64 {
        let nodes = self.max_messages.min(PRIORITIES as usize) * PRIORITY_NODE_BYTES;
        (self.max_messages * (self.message_bytes + MESSAGE_HEAD_BYTES) + nodes) as u64
    }
}

/// Why there is no queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenError {
    /// There is none of that name.
    Absent,
    /// There is one.
    Exists,
    /// It is not for the caller.
    Denied,
    /// There are too many of others.
    TooMany,
    /// It would be too large, or nothing.
    Shape,
    /// The queues would hold more than `RLIMIT_MSGQUEUE`.
    Limit,
}

/// Somebody is told of messages already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AlreadyRegistered;

/// Who is told when a message comes to an empty queue (mq_notify(3)), once.
pub(crate) enum Registration {
    /// Nobody, which keeps others away.
    Nobody,
    /// The app, by a signal; none if its number is 0.
    Signal(SignalInfo),
    /// A netlink socket, on which a thread of the C library's waits.
    Socket(Arc<dyn File>, [u8; COOKIE_BYTES]),
}

impl Registration {
    fn tell(self) {
        match self {
            Self::Signal(info) if info.signal != 0 => _ = signal::send_to_process(info),
            Self::Nobody | Self::Signal(_) => {}
            Self::Socket(socket, cookie) => tell_socket(&*socket, cookie, WOKEN),
        }
    }

    fn remove(self) {
        if let Self::Socket(socket, cookie) = self {
            tell_socket(&*socket, cookie, REMOVED);
        }
    }
}

fn tell_socket(socket: &dyn File, mut cookie: [u8; COOKIE_BYTES], what: u8) {
    cookie[COOKIE_BYTES - 1] = what;
    let any: &dyn Any = socket;
    if let Some(socket) = any.downcast_ref::<Socket>() {
        // One whose queue is full has more than this to read.
        let _ = socket.push(&cookie);
    }
}

struct State {
    messages: MessageQueue,
    registration: Option<Registration>,
}

/// A queue.
pub(crate) struct Queue {
    /// What it was made for.
    pub shape: Shape,
    state: SpinLock<State>,
    source: PollSource,
    inode: u64,
    mode: u32,
    user: u32,
    group: u32,
    born_ns: i128,
}

impl Queue {
    /// Makes a queue, if there are not too many, and what all of them may come to hold stays within the limit.
    fn new(shape: Option<Shape>, mode: u32) -> Result<Arc<Self>, OpenError> {
        static NEXT_INODE: AtomicU64 = AtomicU64::new(2);
        let mut total = TOTAL.lock();
        if total.queues >= MAX_QUEUES && !credentials::has(Capability::SysResource) {
            return Err(OpenError::TooMany);
        }
        let shape = shape.ok_or(OpenError::Shape)?;
        let promised_bytes = total.promised_bytes.saturating_add(shape.promised_bytes());
        if promised_bytes > limits::soft(RLIMIT_MSGQUEUE) {
            return Err(OpenError::Limit);
        }
        *total = Total { queues: total.queues + 1, promised_bytes };
        drop(total);
        let (user, group) = credentials::owner();
        let state = State { messages: MessageQueue::new(shape.max_messages), registration: None };
        Ok(Arc::new(Self {
            shape,
            state: SpinLock::new(state),
            source: PollSource::new(),
            inode: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
            mode: S_IFREG | mode,
            user,
            group,
            born_ns: i128::from(time::wall_ns()),
        }))
    }

    /// Whether the running thread may use it so.
    fn check(&self, wanted: Wanted) -> Result<(), Refusal> {
        let Some(who) = credentials::restricted() else { return Ok(()) };
        access::check(&who, &object(self.user, self.group, self.mode), wanted)
    }

    /// Messages in it.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().messages.len()
    }

    /// Sends a message once there is room, or by the deadline.
    pub(crate) fn send(
        &self,
        message: Message,
        mode: WaitMode,
        deadline_ns: Option<u64>,
    ) -> Result<(), Errno> {
        let mut message = Some(message);
        let registration = self.take_turn(QueueEnd::Send, mode, deadline_ns, |state, turn| {
            let sent = state.messages.send(&mut message, turn)?;
            Some(if sent == Sent::ToEmpty { state.registration.take() } else { None })
        })?;
        self.source.notify(Readiness::READABLE);
        if let Some(registration) = registration {
            registration.tell();
        }
        Ok(())
    }

    /// Takes the first message once there is one, or by the deadline.
    pub(crate) fn receive(&self, mode: WaitMode, deadline_ns: Option<u64>) -> Result<Message, Errno> {
        let message =
            self.take_turn(QueueEnd::Receive, mode, deadline_ns, |state, turn| state.messages.receive(turn))?;
        self.source.notify(Readiness::WRITABLE);
        Ok(message)
    }

    /// Does something at one end of the queue, now or in turn.
    fn take_turn<T>(
        &self,
        end: QueueEnd,
        mode: WaitMode,
        deadline_ns: Option<u64>,
        mut attempt: impl FnMut(&mut State, Option<Turn>) -> Option<T>,
    ) -> Result<T, Errno> {
        let turn = {
            let mut state = self.state.lock();
            if let Some(done) = attempt(&mut state, None) {
                return Ok(done);
            }
            if mode == WaitMode::NonBlocking {
                return Err(Errno::EAGAIN);
            }
            state.messages.join(end)
        };
        let outcome = self.source.wait(deadline_ns, || attempt(&mut self.state.lock(), Some(turn)));
        outcome.map_err(|error| {
            self.state.lock().messages.leave(end, turn);
            // What was kept for this one may be another's now.
            self.source.notify(self.readiness());
            match error {
                WaitError::TimedOut => Errno::ETIMEDOUT,
                WaitError::Interrupted => Errno::RESTART,
            }
        })
    }

    /// Registers who is told, unless somebody is already.
    pub(crate) fn register(&self, registration: Registration) -> Result<(), AlreadyRegistered> {
        let mut state = self.state.lock();
        if state.registration.is_some() {
            return Err(AlreadyRegistered);
        }
        state.registration = Some(registration);
        Ok(())
    }

    /// Ends the registration.
    pub(crate) fn unregister(&self) {
        let registration = self.state.lock().registration.take();
        if let Some(registration) = registration {
            registration.remove();
        }
    }

    fn readiness(&self) -> Readiness {
        let messages = &self.state.lock().messages;
        let mut ready = Readiness::empty();
        ready.set(Readiness::READABLE, !messages.is_empty());
        ready.set(Readiness::WRITABLE, !messages.is_full());
        ready
    }

    /// What reading the file shows.
    fn text(&self) -> String {
        let state = self.state.lock();
        let (notify, signal, process) = match &state.registration {
            None => (0, 0, 0),
            Some(Registration::Nobody) => (SIGEV_NONE, 0, PROCESS_ID),
            Some(Registration::Signal(info)) => (SIGEV_SIGNAL, info.signal, PROCESS_ID),
            Some(Registration::Socket(..)) => (SIGEV_THREAD, 0, PROCESS_ID),
        };
        let bytes = state.messages.bytes();
        format!("QSIZE:{bytes:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{process:<6}\n")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut total = TOTAL.lock();
        total.queues -= 1;
        total.promised_bytes -= self.shape.promised_bytes();
    }
}

/// How a queue is made that is not there yet.
pub(crate) struct Making {
    /// `None` if what was asked for makes no queue.
    pub shape: Option<Shape>,
    /// Permissions.
    pub mode: u32,
    /// One that is there will not do.
    pub is_exclusive: bool,
}

/// Finds the queue of a name, or makes it. True with a queue that is new.
pub(crate) fn open(
    name: &[u8],
    making: Option<Making>,
    wanted: Wanted,
) -> Result<(Arc<Queue>, bool), OpenError> {
    let mut names = NAMES.lock();
    match (names.get(name), making) {
        (Some(_), Some(Making { is_exclusive: true, .. })) => Err(OpenError::Exists),
        (Some(queue), _) => {
            queue.check(wanted).map_err(|_| OpenError::Denied)?;
            Ok((Arc::clone(queue), false))
        }
        (None, None) => Err(OpenError::Absent),
        (None, Some(Making { shape, mode, .. })) => {
            let queue = Queue::new(shape, mode)?;
            names.insert(name.into(), Arc::clone(&queue));
            Ok((queue, true))
        }
    }
}

/// Takes a name away. The queue stays for those who have it open.
pub(crate) fn unlink(name: &[u8]) -> Result<(), Errno> {
    let mut names = NAMES.lock();
    let owner = names.get(name).ok_or(Errno::ENOENT)?.user;
    if let Some(who) = credentials::restricted() {
        // The names are in a directory of root's in which everybody may make some.
        check_removal(&who, &object(0, 0, 0o1777), owner)?;
    }
    let queue = names.remove(name);
    drop(names);
    // Let go of without the lock: it may be the last reference.
    drop(queue);
    Ok(())
}

fn object(user: u32, group: u32, mode: u32) -> Object<'static> {
    Object { is_directory: false, user, group, permissions: (mode & 0o7777) as u16, acl: None }
}

/// A queue as opened.
pub(crate) struct QueueFile {
    /// What was opened.
    pub queue: Arc<Queue>,
}

impl File for QueueFile {
    fn is_seekable(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, into: UserSlice) -> SysResult {
        let text = self.queue.text();
        let rest = text.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into.write(&rest[..count])?;
        Ok(count)
    }

    fn write_at(&self, _: u64, _: UserSlice) -> SysResult {
        Err(Errno::EINVAL)
    }

    fn readiness(&self) -> Readiness {
        self.queue.readiness()
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.queue.source)
    }

    fn metadata(&self) -> Metadata {
        let queue = &self.queue;
        let (accessed_ns, modified_ns, changed_ns) = (queue.born_ns, queue.born_ns, queue.born_ns);
        let anonymous = Metadata::anonymous(S_IFREG, queue.inode);
        let size = SHOWN_BYTES;
        let (user, group) = (queue.user, queue.group);
        Metadata { mode: queue.mode, user, group, size, accessed_ns, modified_ns, changed_ns, ..anonymous }
    }

    fn reopen(&self, _: FileFlags) -> Result<Arc<dyn File>, Errno> {
        Ok(Arc::new(Self { queue: Arc::clone(&self.queue) }))
    }

    /// Whoever closes a queue is not told of its messages any more (mq_close(3)).
    fn close(&self) {
        self.queue.unregister();
    }

    fn name(&self) -> String {
        "/dev/mqueue".into()
    }
}
