//! Stacks as compilers lay them out, in a small made-up machine.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const CODE: u64 = 0x20_0000;
const STACK: u64 = 0x7fff_0000;
/// Each function takes this much code.
const FUNCTION: u64 = 0x80;
/// Where in a caller its call instruction ends.
const AFTER_CALL: u64 = 0x40;

struct Machine {
    code: Vec<u8>,
    stack: Vec<u64>,
}

impl View for Machine {
    fn word(&self, address: u64) -> Option<u64> {
        self.stack.get(usize::try_from(address.checked_sub(STACK)? / 8).ok()?).copied()
    }

    fn code<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let from = usize::try_from(address.checked_sub(CODE)?).ok()?;
        self.code.get(from..from.checked_add(N)?)?.try_into().ok()
    }

    fn function_start(&self, address: u64) -> Option<u64> {
        let end = CODE + self.code.len() as u64;
        (CODE..end).contains(&address).then(|| address - (address - CODE) % FUNCTION)
    }
}

fn function(index: u64) -> u64 {
    CODE + index * FUNCTION
}

/// The address to which function `index` is returned to.
fn after_call_in(index: u64) -> u64 {
    function(index) + AFTER_CALL
}

impl Machine {
    /// A machine with functions, which keep frame pointers or do not.
    fn new(are_framed: &[bool]) -> Self {
        let mut code = Vec::new();
        for &is_framed in are_framed {
            let mut body = vec![0x90; FUNCTION as usize];
            if is_framed {
                body[..4].copy_from_slice(&PROLOGUE);
            }
            code.extend(body);
        }
        Self { code, stack: vec![0; 64] }
    }

    /// Puts a direct call of `callee` into `caller`.
    fn calls(mut self, caller: u64, callee: u64) -> Self {
        let end = after_call_in(caller);
        let displacement = function(callee).wrapping_sub(end) as u32;
        let at = (end - CODE) as usize - 5;
        self.code[at] = 0xe8;
        self.code[at + 1..at + 5].copy_from_slice(&displacement.to_le_bytes());
        self
    }

    /// Puts an indirect call, `call [rax + 8]`, into `caller`.
    fn calls_indirectly(mut self, caller: u64) -> Self {
        let at = (after_call_in(caller) - CODE) as usize - 3;
        self.code[at..at + 3].copy_from_slice(&[0xff, 0x50, 0x08]);
        self
    }

    fn with_stack(mut self, words: &[(usize, u64)]) -> Self {
        for &(index, word) in words {
            self.stack[index] = word;
        }
        self
    }

    fn walk(&self, instruction: u64, stack_word: usize, frame_pointer: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let innermost = Frame { instruction, stack: slot(stack_word), frame_pointer };
        walk(self, innermost, |frame| found.push(frame.instruction));
        found
    }
}

fn slot(word: usize) -> u64 {
    STACK + 8 * word as u64
}

#[test]
fn framed_functions_are_followed_to_the_outermost() {
    let machine = Machine::new(&[true, true, true]).calls(0, 1).calls(1, 2);
    let machine = machine.with_stack(&[
        (4, slot(8)),
        (5, after_call_in(1)),
        (8, slot(12)),
        (9, after_call_in(0)),
        (12, 0),
    ]);
    let inside = function(2) + 0x20;
    assert_eq!(machine.walk(inside, 2, slot(4)), [inside, after_call_in(1), after_call_in(0)]);
}

#[test]
fn first_instruction_has_its_caller_on_top_of_the_stack() {
    let machine = Machine::new(&[true, true, true]).calls(0, 1).calls(1, 2);
    let machine = machine.with_stack(&[(4, after_call_in(1)), (8, 0), (9, after_call_in(0))]);
    assert_eq!(machine.walk(function(2), 4, slot(8)), [function(2), after_call_in(1), after_call_in(0)]);
    // Behind the push, one word further up.
    let pushed = machine.walk(function(2) + 1, 3, slot(8));
    assert_eq!(pushed, [function(2) + 1, after_call_in(1), after_call_in(0)]);
}

#[test]
fn call_through_bad_pointer_shows_the_caller() {
    let machine = Machine::new(&[true, true]).calls_indirectly(1).calls(0, 1);
    let machine = machine.with_stack(&[(4, after_call_in(1)), (6, 0), (7, after_call_in(0))]);
    assert_eq!(machine.walk(0x10, 4, slot(6)), [0x10, after_call_in(1), after_call_in(0)]);
}

#[test]
fn leaf_without_frame_pointer_is_looked_up() {
    let machine = Machine::new(&[true, true, false]).calls(0, 1).calls(1, 2);
    // Word 3 is a local that happens to point into code.
    let words = [(3, function(1) + 0x80), (4, after_call_in(1)), (8, 0), (9, after_call_in(0))];
    let inside = function(2) + 0x20;
    let found = machine.with_stack(&words).walk(inside, 2, slot(8));
    assert_eq!(found, [inside, after_call_in(1), after_call_in(0)]);
}

#[test]
fn frame_pointer_that_c_code_saved_is_found_again() {
    // Like `raise`, function 2 saves the frame pointer and uses the register for something else.
    let machine = Machine::new(&[true, true, false, false]).calls(0, 1).calls(1, 2).calls(2, 3);
    let words = [(3, after_call_in(2)), (5, slot(9)), (6, after_call_in(1)), (9, 0), (10, after_call_in(0))];
    let inside = function(3) + 0x20;
    let found = machine.with_stack(&words).walk(inside, 2, 0x1234);
    assert_eq!(found, [inside, after_call_in(2), after_call_in(1), after_call_in(0)]);
}

#[test]
fn stale_return_address_of_another_callee_is_passed_over() {
    let machine = Machine::new(&[true, true, true, false]).calls(1, 0).calls(2, 3);
    // Function 1 called function 0 before, and left the address on the stack.
    let words = [(3, after_call_in(1)), (5, after_call_in(2))];
    let inside = function(3) + 0x20;
    assert_eq!(machine.with_stack(&words).walk(inside, 2, 0), [inside, after_call_in(2)]);
}

#[test]
fn direct_call_goes_before_a_nearer_indirect_one() {
    let machine = Machine::new(&[true, true, false]).calls_indirectly(0).calls(1, 2);
    let words = [(3, after_call_in(0)), (5, after_call_in(1))];
    let inside = function(2) + 0x20;
    assert_eq!(machine.with_stack(&words).walk(inside, 2, 0), [inside, after_call_in(1)]);
}

#[test]
fn label_inside_of_a_function_finds_the_caller_too() {
    // Function 3 is a label in 2, which runs on into it; nobody calls it.
    let machine = Machine::new(&[true, true, false, false]).calls(1, 2);
    let inside = function(3) + 0x10;
    assert_eq!(machine.with_stack(&[(3, after_call_in(1))]).walk(inside, 2, 0), [inside, after_call_in(1)]);
}

#[test]
fn loop_of_frames_ends() {
    let machine = Machine::new(&[true]).calls(0, 0).with_stack(&[(4, slot(4)), (5, after_call_in(0))]);
    let inside = function(0) + 0x20;
    assert_eq!(machine.walk(inside, 2, slot(4)), [inside, after_call_in(0)]);
}

#[test]
fn all_forms_of_indirect_calls_are_known() {
    for call in [
        &[0xff, 0xd0][..],               // call rax
        &[0x41, 0xff, 0xd3],             // call r11
        &[0xff, 0x10],                   // call [rax]
        &[0xff, 0x14, 0xc8],             // call [rax + rcx * 8]
        &[0xff, 0x50, 0x18],             // call [rax + 0x18]
        &[0xff, 0x54, 0x24, 0x08],       // call [rsp + 8]
        &[0xff, 0x15, 1, 2, 3, 4],       // call [rip + ...]
        &[0xff, 0x90, 1, 2, 3, 4],       // call [rax + ...]
        &[0xff, 0x94, 0x24, 1, 2, 3, 4], // call [rsp + ...]
    ] {
        let mut machine = Machine::new(&[false]);
        machine.code[0x40 - call.len()..0x40].copy_from_slice(call);
        assert_eq!(call_before(&machine, CODE + 0x40), Some(Call::Indirect), "{call:x?}");
    }
    // `jmp rax` is not a call.
    let mut machine = Machine::new(&[false]);
    machine.code[0x3e..0x40].copy_from_slice(&[0xff, 0xe0]);
    assert_eq!(call_before(&machine, CODE + 0x40), None);
}

proptest! {
    #[test]
    fn no_stack_and_no_code_lead_astray(
        code in prop::collection::vec(prop_oneof![Just(0xe8), Just(0xff), Just(0xd0), any::<u8>()], 1..600),
        stack in prop::collection::vec(prop_oneof![any::<u64>(), STACK..STACK + 512, CODE..CODE + 600], 0..64),
        instruction in prop_oneof![any::<u64>(), CODE..CODE + 600],
        stack_pointer in prop_oneof![any::<u64>(), STACK..STACK + 512],
        frame_pointer in prop_oneof![any::<u64>(), STACK..STACK + 512],
    ) {
        let machine = Machine { code, stack };
        let mut frames = Vec::new();
        walk(&machine, Frame { instruction, stack: stack_pointer, frame_pointer }, |frame| frames.push(frame));
        prop_assert!(frames.len() <= MAX_FRAMES);
        prop_assert!(frames.windows(2).all(|pair| pair[0].stack < pair[1].stack));
    }
}
