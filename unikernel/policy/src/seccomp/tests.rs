//! What filters say, alone and together.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::bpf::code::*;
use crate::bpf::{Instruction, Subject};

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

fn filter(instructions: &[Instruction]) -> Arc<Filter> {
    let program = Program::check(instructions.to_vec(), Subject::Call).unwrap();
    Arc::new(Filter::new(program, false, || ()))
}

fn call(number: u32) -> CallData {
    CallData { number, instruction_pointer: 0x1122_3344_5566_7788, arguments: [1, 2, 3, 4, 5, 6 << 32 | 7] }
}

/// A filter with this answer for call 1, allowing others.
fn for_first(answer: u32) -> Arc<Filter> {
    filter(&[
        Instruction::plain(LD_W_ABS, 0),
        Instruction { code: JEQ_K, jump_true: 0, jump_false: 1, k: 1 },
        Instruction::plain(RET_K, answer),
        Instruction::plain(RET_K, ALLOW),
    ])
}

#[test]
fn the_strictest_answer_counts() {
    let chain = Chain::with(None, for_first(ERRNO | 5)).unwrap();
    assert_eq!(chain.judge(&call(1)).action, Action::Errno(5));
    assert_eq!(chain.judge(&call(2)).action, Action::Allow);
    assert!(!chain.allows_any(1) && chain.allows_any(2));
    let chain = Chain::with(Some(&chain), for_first(ERRNO | 9)).unwrap();
    assert_eq!(chain.judge(&call(1)).action, Action::Errno(9), "of equals the newest");
    let chain = Chain::with(Some(&chain), for_first(0x7ffc_0000)).unwrap();
    assert_eq!(chain.judge(&call(1)).action, Action::Errno(9));
    let chain = Chain::with(Some(&chain), for_first(KILL_PROCESS)).unwrap();
    assert_eq!((chain.judge(&call(1)).action, chain.count()), (Action::KillProcess, 4));
}

#[test]
fn data_are_where_linux_has_them() {
    let at = |offset| {
        let filter = filter(&[Instruction::plain(LD_W_ABS, offset), Instruction::plain(RET_A, 0)]);
        filter.program.run(&call(39)).unwrap()
    };
    let expected = [39, ARCHITECTURE, 0x5566_7788, 0x1122_3344, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 7, 6];
    assert_eq!((0..16).map(|index| at(index * 4)).collect::<Vec<_>>(), expected);
}

#[test]
fn answers_are_read_as_linux_reads_them() {
    assert_eq!(Action::from_value(7), Action::KillThread);
    assert_eq!(Action::from_value(ERRNO | 0xffff), Action::Errno(4095));
    assert_eq!(Action::from_value(0x1234_0000), Action::KillProcess);
    let known = [KILL_PROCESS, 0, 0x0003_0000, ERRNO, 0x7ff0_0000, 0x7ffc_0000, ALLOW];
    assert!(known.into_iter().all(Action::is_available));
    assert!(
        [0x7fc0_0000, ERRNO | 1, KILL_PROCESS | 1, 1].into_iter().all(|value| !Action::is_available(value))
    );
}

#[test]
fn chains_have_a_bound() {
    let long = filter(&vec![Instruction::plain(RET_K, ALLOW); 4096]);
    let mut chain = Chain::with(None, Arc::clone(&long)).unwrap();
    while let Ok(next) = Chain::with(Some(&chain), Arc::clone(&long)) {
        chain = next;
    }
    assert_eq!(chain.count(), 7);
    assert_eq!(Chain::with(Some(&chain), long).err(), Some(CannotAdd::TooLong));
}

#[test]
fn a_chain_extends_what_it_came_from() {
    let first = Chain::with(None, for_first(0)).unwrap();
    let second = Chain::with(Some(&first), for_first(0)).unwrap();
    assert!(second.extends(&first) && second.extends(&second) && !first.extends(&second));
    assert!(!second.extends(&Chain::with(None, for_first(0)).unwrap()));
}

fn any_instruction() -> impl Strategy<Value = Instruction> {
    let jump = (prop::sample::select(vec![JEQ_K, JGT_K, JSET_K]), 0_u8..4, 0_u8..4, 0_u32..8)
        .prop_map(|(code, jump_true, jump_false, k)| Instruction { code, jump_true, jump_false, k });
    let load = (0_u32..16).prop_map(|word| Instruction::plain(LD_W_ABS, word * 4));
    let end =
        prop::sample::select(vec![ALLOW, ERRNO, 0, KILL_PROCESS]).prop_map(|k| Instruction::plain(RET_K, k));
    prop_oneof![jump, load, end, Just(Instruction::plain(AND_K, 3))]
}

proptest! {
    #[test]
    fn what_is_known_by_the_number_is_what_a_run_says(
        mut program in prop::collection::vec(any_instruction(), 0..12),
        number in 0_u32..20,
        arguments in any::<[u64; 6]>(),
    ) {
        program.push(Instruction::plain(RET_K, ALLOW));
        if let Ok(program) = Program::check(program, Subject::Call) {
            let chain = Chain::with(None, Arc::new(Filter::new(program, false, || ()))).unwrap();
            if chain.allows_any(number) {
                let data = CallData { number, instruction_pointer: 1, arguments };
                prop_assert_eq!(chain.judge(&data).action, Action::Allow);
            }
        }
    }
}
