//! A controller: reset, told of its admin queue, enabled, asked what it is (base specification, section 3.5.1), and shut down (3.6.1).

use alloc::vec::Vec;

use crate::command::{Command, operation};
use crate::identify::{ANSWER_BYTES, Geometry, Identity};
use crate::namespace::{Namespace, lists_bytes};
use crate::queue::Queue;
use crate::registers::{self, Capabilities};
use crate::{Machine, Memory, StartError};

/// Namespaces of a controller that are used.
pub const MOST_NAMESPACES: usize = 8;
/// Entries of the admin queue: one command at a time.
const ADMIN_ENTRIES: u16 = 4;
/// Entries of an I/O queue at most: a command more than are in flight.
const IO_ENTRIES: u16 = 64;
/// How long a command for the controller may take.
const ANSWER_PATIENCE_NS: u64 = 10_000_000_000;
/// The shutdown of one that has much in its cache (`RTD3E` may be more; then what was flushed is safe anyway).
const SHUTDOWN_PATIENCE_NS: u64 = 5_000_000_000;

/// `CNS`: what is to be told.
const OF_NAMESPACE: u32 = 0;
const OF_CONTROLLER: u32 = 1;
const NAMESPACES: u32 = 2;
/// Feature 07h: how many queues there are.
const NUMBER_OF_QUEUES: u32 = 7;
/// Queues are one run of memory; completions raise interrupts.
const CONTIGUOUS: u32 = 1;
const INTERRUPTS: u32 = 1 << 1;

/// A controller that runs.
pub struct Controller<M: Machine> {
    machine: M,
    capabilities: Capabilities,
    admin: Queue<M>,
    /// Where it answers at length.
    answer: M::Memory,
    identity: Identity,
    has_lists: bool,
    /// I/O queues that it gives, and how many are taken.
    queues: u16,
    taken: u16,
    /// Queues that it has not taken, or has by half: it may know of their memory.
    lost: Option<(Queue<M>, M::Memory)>,
}

impl<M: Machine> Controller<M> {
    /// Starts a controller, whatever it was at before.
    ///
    /// # Errors
    ///
    /// If it is none that can be used; then it has been stopped, or cut off from memory.
    pub fn start(machine: M) -> Result<Self, StartError> {
        let capabilities = Capabilities::read(&machine)?;
        reset(&machine, &capabilities)?;
        let admin = Queue::new(&machine, &capabilities, 0, ADMIN_ENTRIES)?;
        let answer = machine.allocate(ANSWER_BYTES).ok_or(StartError::OutOfMemory)?;
        let identity = Identity { model: alloc::string::String::new(), max_bytes: 0, has_cache: false };
        let mut controller = Self {
            machine,
            capabilities,
            admin,
            answer,
            identity,
            has_lists: false,
            queues: 0,
            taken: 0,
            lost: None,
        };
        match controller.enable() {
            Ok(()) => Ok(controller),
            Err(error) => {
                // Its queues are about to go.
                controller.stop();
                Err(error)
            }
        }
    }

    fn enable(&mut self) -> Result<(), StartError> {
        let machine = &self.machine;
        let last = u32::from(self.admin.entries() - 1);
        machine.write(registers::ADMIN_SIZES, last << 16 | last);
        let places = [registers::ADMIN_SUBMISSIONS, registers::ADMIN_COMPLETIONS];
        for (register, address) in places.into_iter().zip(self.admin.addresses()) {
            machine.write(register, address as u32);
            machine.write(register + 4, (address >> 32) as u32);
        }
        machine.write(registers::CONFIGURATION, registers::ENTRY_SIZES | registers::ENABLE);
        let patience_ns = self.capabilities.timeout_ns;
        registers::wait_for(machine, registers::IS_READY, registers::IS_READY, patience_ns)?;
        self.has_lists = self.machine.read(registers::VERSION) >= registers::HAS_LISTS;
        self.identify(OF_CONTROLLER, 0)?;
        self.identity = Identity::read(&self.answer)?;
        let wanted = MOST_NAMESPACES as u32 - 1;
        let given = self.command(Command {
            operation: operation::SET_FEATURES,
            namespace: 0,
            memory: [0; 2],
            words: [NUMBER_OF_QUEUES, wanted << 16 | wanted, 0],
        })?;
        // Both numbers count from 0.
        self.queues = (given as u16).min((given >> 16) as u16).saturating_add(1);
        Ok(())
    }

    /// Its model.
    pub fn model(&self) -> &str {
        &self.identity.model
    }

    /// The numbers of its namespaces, as many as can be used.
    ///
    /// # Errors
    ///
    /// If it does not say.
    pub fn namespaces(&mut self) -> Result<Vec<u32>, StartError> {
        let mut found = Vec::new();
        found.try_reserve_exact(MOST_NAMESPACES).map_err(|_| StartError::OutOfMemory)?;
        if !self.has_lists {
            // Version 1.0 numbers them from 1 on; what is not there is told by its size.
            found.extend(1..=MOST_NAMESPACES as u32);
            return Ok(found);
        }
        self.identify(NAMESPACES, 0)?;
        // By ascending numbers (figure 284): one that does not ascend is the end, as 0 is.
        for index in 0..MOST_NAMESPACES {
            match self.answer.load(4 * index) {
                id if found.last().is_none_or(|last| id > *last) && id != 0 && id < u32::MAX - 1 => {
                    found.push(id);
                }
                _ => break,
            }
        }
        Ok(found)
    }

    /// Opens a namespace. Its answers raise the interrupt with number `vector` in the controller's table.
    ///
    /// # Errors
    ///
    /// If it is none that can be used.
    pub fn open(&mut self, id: u32, vector: u16) -> Result<Namespace<M>, StartError> {
        self.identify(OF_NAMESPACE, id)?;
        let geometry = Geometry::read(&self.answer)?;
        if self.taken >= self.queues {
            return Err(StartError::NoQueue);
        }
        let number = self.taken + 1;
        let entries = self.capabilities.queue_entries.min(IO_ENTRIES.into()) as u16;
        let queue = Queue::new(&self.machine, &self.capabilities, number, entries)?;
        let lists = self.machine.allocate(lists_bytes(queue.numbers())).ok_or(StartError::OutOfMemory)?;
        let [submissions, completions] = queue.addresses();
        let size = u32::from(entries - 1) << 16 | u32::from(number);
        let create = |operation, address, flags| Command {
            operation,
            namespace: 0,
            memory: [address, 0],
            words: [size, flags, 0],
        };
        let flags = u32::from(vector) << 16 | INTERRUPTS | CONTIGUOUS;
        let made = self.command(create(operation::CREATE_COMPLETIONS, completions, flags)).and_then(|_| {
            // The submission queue's answers go to that one.
            let flags = u32::from(number) << 16 | CONTIGUOUS;
            self.command(create(operation::CREATE_SUBMISSIONS, submissions, flags))
        });
        self.taken = number;
        if let Err(error) = made {
            // The memory stays until the controller is stopped, and nothing more is asked of one that does not do this.
            self.queues = 0;
            self.lost = Some((queue, lists));
            return Err(error);
        }
        let limits = (self.identity.max_bytes, self.identity.has_cache);
        Ok(Namespace::new(id, geometry, limits, queue, lists))
    }

    fn identify(&mut self, what: u32, namespace: u32) -> Result<(), StartError> {
        let memory = [self.answer.address(), 0];
        self.command(Command { operation: operation::IDENTIFY, namespace, memory, words: [what, 0, 0] })
            .map(|_| ())
    }

    /// Has a command done; answers its result.
    fn command(&mut self, command: Command) -> Result<u32, StartError> {
        self.admin.submit(0, &command).map_err(|_| StartError::NoAnswer)?;
        self.admin.ring();
        let deadline_ns = self.machine.now_ns().saturating_add(ANSWER_PATIENCE_NS);
        loop {
            if let Some(completion) = self.admin.take() {
                self.admin.release();
                let status = completion.status;
                return if status.is_success() {
                    Ok(completion.result)
                } else {
                    Err(StartError::Refused(status))
                };
            }
            registers::status(&self.machine)?;
            if self.machine.now_ns() >= deadline_ns {
                return Err(StartError::NoAnswer);
            }
            self.machine.pause();
        }
    }

    /// Shuts it down; it does not touch memory any more when this returns.
    pub fn stop(&mut self) {
        let machine = &self.machine;
        let configuration = machine.read(registers::CONFIGURATION);
        if configuration & registers::ENABLE != 0 && configuration != u32::MAX {
            machine.write(registers::CONFIGURATION, configuration | registers::SHUT_DOWN);
            // Whether it has or not, the reset comes.
            let _ = registers::wait_for(
                machine,
                registers::SHUTDOWN_MASK,
                registers::IS_SHUT_DOWN,
                SHUTDOWN_PATIENCE_NS,
            );
        }
        if reset(machine, &self.capabilities).is_err() {
            machine.cut_off();
        }
    }
}

/// Disables a controller, and waits until it is; one that has failed gets out of that only so.
fn reset(machine: &impl Machine, capabilities: &Capabilities) -> Result<(), StartError> {
    machine.write(registers::CONFIGURATION, 0);
    let deadline_ns = machine.now_ns().saturating_add(capabilities.timeout_ns);
    loop {
        match machine.read(registers::STATUS) {
            u32::MAX => return Err(StartError::Gone),
            status if status & registers::IS_READY == 0 => return Ok(()),
            _ if machine.now_ns() >= deadline_ns => return Err(StartError::NotReady),
            _ => machine.pause(),
        }
    }
}
