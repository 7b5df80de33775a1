//! Programs of classic BPF, as seccomp(2) and `SO_ATTACH_FILTER` take them, and the words of a policy: whatever is accepted ends, within
//! its subject, and what is known of a call by its number is what a run says of it.

use std::cell::Cell;
use std::sync::Arc;

use unikernel_policy::bpf::{Instruction, Loaded, MAX_INSTRUCTIONS, Program, Source, Subject, Width};
use unikernel_policy::calls::CallRule;
use unikernel_policy::seccomp::{Action, CallData, Chain, Filter};
use unikernel_policy::{net, paths};

use crate::input::Input;

/// A packet that counts how often it is asked.
struct Packet<'a> {
    bytes: &'a [u8],
    loads: Cell<usize>,
}

impl Source for Packet<'_> {
    fn load(&self, offset: u32, width: Width) -> Loaded {
        self.loads.set(self.loads.get() + 1);
        let count = match width {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        };
        let bytes = self.bytes.get(offset as usize..).and_then(|rest| rest.get(..count));
        bytes.map_or(Loaded::Outside, |bytes| {
            Loaded::Value(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
        })
    }

    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }
}

pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data) {
        words(text);
    }
    let mut input = Input::new(data);
    let call = CallData {
        number: u32::from(input.byte()),
        instruction_pointer: u64::from(input.half()),
        arguments: core::array::from_fn(|_| u64::from(input.byte())),
    };
    let subject = input.rest();
    let (instructions, _) = subject.as_chunks();
    let instructions: Vec<_> = instructions.iter().copied().map(Instruction::from_bytes).collect();
    if let Ok(program) = Program::check(instructions.clone(), Subject::Packet) {
        let packet = Packet { bytes: data, loads: Cell::new(0) };
        assert!(program.run(&packet).is_ok());
        assert!(packet.loads.get() <= program.len() && program.len() <= MAX_INSTRUCTIONS);
    }
    if let Ok(program) = Program::check(instructions.clone(), Subject::Call) {
        assert!(
            Program::check(instructions, Subject::Packet).is_ok(),
            "packets may be asked whatever calls may be"
        );
        let chain = Chain::with(None, Arc::new(Filter::new(program, false, || ()))).expect("it is short");
        let verdict = chain.judge(&call);
        assert!(!chain.allows_any(call.number) || verdict.action == Action::Allow);
    }
}

fn words(text: &str) {
    if let Some(rule) = CallRule::parse(text) {
        assert!(rule.allowed.numbers().count() >= 4, "an app can always end");
        assert_eq!(rule.both(rule), rule);
    }
    assert!(paths::parse(text).is_none_or(|rules| rules.iter().all(|rule| rule.path.starts_with('/'))));
    let _ = net::parse(text);
}
