//! What is refused, what programs calculate, and that whatever is accepted ends.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::code::*;
use super::*;

struct Packet(&'static [u8]);

impl Source for Packet {
    fn load(&self, offset: u32, width: Width) -> Loaded {
        let count = match width {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        };
        let end = (offset as usize).saturating_add(count);
        let bytes = self.0.get(offset as usize..end);
        bytes.map_or(Loaded::Outside, |bytes| {
            Loaded::Value(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
        })
    }

    fn len(&self) -> u32 {
        self.0.len() as u32
    }
}

const END: Instruction = Instruction::plain(RET_A, 0);

fn plain(code: u16, k: u32) -> Instruction {
    Instruction::plain(code, k)
}

fn branch(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

/// Runs a program about a packet of bytes 1 to 8.
fn run(program: &[Instruction]) -> u32 {
    let program = Program::check(program.to_vec(), Subject::Packet).unwrap();
    program.run(&Packet(&[1, 2, 3, 4, 5, 6, 7, 8])).unwrap()
}

#[test]
fn programs_that_could_do_harm_are_refused() {
    let refused = |program: &[Instruction], subject| Program::check(program.to_vec(), subject).err();
    for subject in [Subject::Packet, Subject::Call] {
        let refused = |program: &[Instruction]| refused(program, subject);
        assert_eq!(refused(&[]), Some(BadProgram::Length));
        assert_eq!(refused(&vec![END; MAX_INSTRUCTIONS]), None);
        assert_eq!(refused(&vec![END; MAX_INSTRUCTIONS + 1]), Some(BadProgram::Length));
        assert_eq!(refused(&[plain(0xff, 0), END]), Some(BadProgram::Code));
        assert_eq!(refused(&[plain(LD_IMM, 0)]), Some(BadProgram::End));
        assert_eq!(refused(&[plain(DIV_K, 0), END]), Some(BadProgram::Constant));
        assert_eq!(refused(&[plain(LSH_K, 32), END]), Some(BadProgram::Constant));
        assert_eq!(refused(&[plain(RSH_K, 31), END]), None);
        assert_eq!(refused(&[plain(ST, 16), END]), Some(BadProgram::Memory));
        assert_eq!(refused(&[plain(JA, 1), END]), Some(BadProgram::Jump));
        assert_eq!(refused(&[plain(JA, u32::MAX), END]), Some(BadProgram::Jump));
        assert_eq!(refused(&[plain(JA, 0), END]), None);
        assert_eq!(refused(&[branch(JEQ_K, 0, 0, 1), END]), Some(BadProgram::Jump));
        assert_eq!(refused(&[branch(JSET_X, 0, 1, 0), END, END]), None);
    }
    assert_eq!(refused(&[plain(LD_W_ABS, 64), END], Subject::Call), Some(BadProgram::Offset));
    assert_eq!(refused(&[plain(LD_W_ABS, 2), END], Subject::Call), Some(BadProgram::Offset));
    assert_eq!(refused(&[plain(LD_W_ABS, 60), END], Subject::Call), None);
    assert_eq!(refused(&[plain(MOD_K, 3), END], Subject::Call), Some(BadProgram::Code));
    assert_eq!(refused(&[plain(LD_H_ABS, 0), END], Subject::Call), Some(BadProgram::Code));
    assert_eq!(refused(&[plain(MOD_K, 0), END], Subject::Packet), Some(BadProgram::Constant));
    assert_eq!(refused(&[plain(LD_B_ABS, ANCILLARY), END], Subject::Packet), Some(BadProgram::Offset));
}

#[test]
fn memory_is_written_before_it_is_read() {
    let refused = |program: &[Instruction]| Program::check(program.to_vec(), Subject::Call).err();
    assert_eq!(refused(&[plain(LD_MEM, 0), END]), Some(BadProgram::Memory));
    assert_eq!(refused(&[plain(ST, 0), plain(LD_MEM, 0), END]), None);
    assert_eq!(refused(&[plain(ST, 0), plain(LDX_MEM, 1), END]), Some(BadProgram::Memory));
    // On one of two ways only.
    let one_way = [branch(JEQ_K, 0, 0, 1), plain(ST, 3), plain(LD_MEM, 3), END];
    assert_eq!(refused(&one_way), Some(BadProgram::Memory));
    let both_ways =
        [branch(JEQ_K, 0, 0, 2), plain(ST, 3), plain(JA, 1), plain(STX, 3), plain(LD_MEM, 3), END];
    assert_eq!(refused(&both_ways), None);
    // Behind a jump that leads past it, nothing is read.
    assert_eq!(refused(&[plain(JA, 1), plain(LD_MEM, 9), END]), None);
}

#[test]
fn arithmetic_is_that_of_32_bits() {
    let of = |first: u32, code: u16, second: u32| run(&[plain(LD_IMM, first), plain(code, second), END]);
    assert_eq!(of(u32::MAX, ADD_K, 2), 1);
    assert_eq!(of(1, SUB_K, 2), u32::MAX);
    assert_eq!(of(0x1_0001, MUL_K, 0x1_0001), 0x2_0001);
    assert_eq!((of(7, DIV_K, 2), of(7, MOD_K, 4)), (3, 3));
    assert_eq!((of(6, XOR_K, 3), of(6, OR_K, 1), of(6, AND_K, 3)), (5, 7, 2));
    assert_eq!((of(1, LSH_K, 31), of(1 << 31, RSH_K, 31)), (1 << 31, 1));
    assert_eq!(run(&[plain(LD_IMM, 5), plain(NEG, 0), END]), (-5_i32) as u32);
    let by_x =
        |first: u32, code: u16, x: u32| run(&[plain(LDX_IMM, x), plain(LD_IMM, first), plain(code, 0), END]);
    assert_eq!((by_x(7, DIV_X, 0), by_x(7, MOD_X, 0)), (0, 0));
    assert_eq!((by_x(1, LSH_X, 33), by_x(4, RSH_X, 33)), (2, 2));
    assert_eq!((by_x(7, DIV_X, 2), by_x(7, SUB_X, 9)), (3, (-2_i32) as u32));
}

#[test]
fn packets_are_read_within_their_bounds() {
    assert_eq!(run(&[plain(LD_W_ABS, 1), END]), 0x0203_0405);
    assert_eq!(run(&[plain(LD_H_ABS, 6), END]), 0x0708);
    assert_eq!(run(&[plain(LD_IMM, 9), plain(LD_W_ABS, 5), plain(RET_K, 1)]), 0, "beyond the end");
    assert_eq!(run(&[plain(LDX_MSH, 3), plain(LD_B_IND, u32::MAX - 8), END]), 8);
    assert_eq!(run(&[plain(LD_LEN, 0), END]), 8);
    assert_eq!(run(&[plain(LDX_LEN, 0), plain(LD_B_IND, 0), plain(RET_K, 1)]), 0);
}

#[test]
fn branches_go_where_they_say() {
    let of = |a: u32, code: u16, k: u32| {
        run(&[plain(LD_IMM, a), branch(code, k, 1, 0), plain(RET_K, 0), plain(RET_K, 1)]) == 1
    };
    assert!(of(3, JEQ_K, 3) && !of(3, JEQ_K, 4) && of(4, JGT_K, 3) && !of(3, JGT_K, 3));
    assert!(of(3, JGE_K, 3) && !of(2, JGE_K, 3) && of(6, JSET_K, 2) && !of(6, JSET_K, 1));
}

fn any_instruction() -> impl Strategy<Value = Instruction> {
    let codes: Vec<u16> = COMMON.iter().chain(OF_PACKETS).copied().collect();
    let code = prop_oneof![9 => prop::sample::select(codes), 1 => any::<u16>()];
    let k = prop_oneof![0_u32..20, any::<u32>()];
    (code, 0_u8..6, 0_u8..6, k)
        .prop_map(|(code, jump_true, jump_false, k)| branch(code, k, jump_true, jump_false))
}

/// Counts loads, which a program that does not go back makes once each at most.
struct Counted(core::cell::Cell<usize>);

impl Source for Counted {
    fn load(&self, offset: u32, _: Width) -> Loaded {
        self.0.set(self.0.get() + 1);
        if offset > 100 { Loaded::Outside } else { Loaded::Value(offset) }
    }

    fn len(&self) -> u32 {
        100
    }
}

proptest! {
    #[test]
    fn what_is_accepted_ends(mut program in prop::collection::vec(any_instruction(), 0..40), last in any::<bool>()) {
        if last {
            program.push(END);
        }
        for subject in [Subject::Packet, Subject::Call] {
            if let Ok(checked) = Program::check(program.clone(), subject) {
                let source = Counted(core::cell::Cell::new(0));
                prop_assert!(checked.run(&source).is_ok());
                prop_assert!(source.0.get() <= checked.len());
            }
        }
    }
}
