//! How the app starts: as `execve` would start it, except that the linked one is in memory already, because it is one
//! with the kernel's image. [`load`] brings another, [`stack`] writes what it is started with; [`replace`]
//! puts it in the place of one that runs; [`user`] finds whom it starts as.

mod executable;
pub(crate) mod load;
pub(crate) mod replace;
pub(crate) mod stack;
pub(crate) mod user;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use load::{LoadError, Loadable};
use stack::{StartedAs, Told};

use crate::arch::descriptor::{USER_CODE, USER_DATA};
use crate::arch::trap::TrapFrame;
use crate::kmem::room;
use crate::mem::space::{self, SpaceError};
use crate::mem::user::Fault;
use crate::process::{linked, program};
use crate::task::credentials;
use crate::task::process::process;
use crate::task::thread::{OutOfMemory, Thread};

/// Why the app could not be started.
#[derive(Debug)]
pub(crate) enum ExecError {
    /// The program cannot be loaded.
    Load(LoadError),
    /// There is none in the image.
    NoProgram,
    /// Memory is too small for the image's page tables, stack or first thread.
    OutOfMemory,
    /// Arguments and environment do not fit the stack.
    ArgumentsTooLong,
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "{error}"),
            Self::NoProgram => f.write_str(
                "there is no program in this kernel: `init=/bin/server` starts one from the initrd or a disk, `cargo unikernel pack` makes one file of both",
            ),
            Self::OutOfMemory => f.write_str("there is too little memory"),
            Self::ArgumentsTooLong => f.write_str("its arguments and environment do not fit its stack"),
        }
    }
}

impl From<LoadError> for ExecError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<SpaceError> for ExecError {
    fn from(_: SpaceError) -> Self {
        Self::OutOfMemory
    }
}

impl From<OutOfMemory> for ExecError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Fault> for ExecError {
    fn from(_: Fault) -> Self {
        Self::ArgumentsTooLong
    }
}

/// Makes the first thread of the app and lets it run; it is the linked program if no other is there.
pub(crate) fn start(program: Option<&Loadable>, told: &Told<'_>) -> Result<(), ExecError> {
    let thread = Thread::new(process().allocate_id(), &TrapFrame::default(), 0, false)?;
    let who = credentials::first();
    enter(&thread, program, told, &StartedAs { who: &who, is_secure: false })?;
    credentials::begin(&thread, who);
    process().start_thread(thread);
    Ok(())
}

/// Maps a program into the empty address space, for a thread that has not run yet.
pub(super) fn enter(
    thread: &Arc<Thread>,
    program: Option<&Loadable>,
    told: &Told<'_>,
    who: &StartedAs<'_>,
) -> Result<(), ExecError> {
    let stack_top = space::map_first_stack()?;
    let program = match program {
        Some(program) => program.map()?,
        None => load::load_linked(linked::path(), linked::linked().ok_or(ExecError::NoProgram)?)?,
    };
    log::debug!("{program:x?}");
    let vdso = space::map_vdso()?;
    let stack_pointer = stack::build(stack_top, vdso, &program, told, who)?;
    thread.set_user_frame(&TrapFrame {
        rip: program.start,
        cs: u64::from(USER_CODE.0),
        // IF, and the bit that is always one.
        rflags: 0x202,
        rsp: stack_pointer,
        ss: u64::from(USER_DATA.0),
        ..TrapFrame::default()
    });
    set_name(thread, told.file);
    program::set(program);
    Ok(())
}

fn set_name(thread: &Arc<Thread>, path: &[u8]) {
    let file = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let len = file.len().min(15);
    thread.name.lock()[..len].copy_from_slice(&file[..len]);
}

/// The arguments of a program, or of what reads it if it is a script.
pub(crate) fn with_script<'a>(
    words: &'a [Vec<u8>],
    arguments: &[&'a [u8]],
) -> Result<Vec<&'a [u8]>, OutOfMemory> {
    let rest = arguments.get(usize::from(!words.is_empty())..).unwrap_or_default();
    let mut all = room::with_capacity(words.len() + rest.len()).map_err(|_| OutOfMemory)?;
    all.extend(words.iter().map(Vec::as_slice));
    all.extend(rest);
    Ok(all)
}
