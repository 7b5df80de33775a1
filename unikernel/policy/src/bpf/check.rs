//! What is found out about a program before it runs.

use alloc::vec::Vec;

use super::code::*;
use super::{ANCILLARY, BadProgram, Instruction, MAX_INSTRUCTIONS, MEMORY_WORDS, Subject};
use crate::seccomp::CALL_DATA_BYTES;

/// Refuses a program that could do what it must not.
pub(super) fn check(program: &[Instruction], subject: Subject) -> Result<(), BadProgram> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(BadProgram::Length);
    }
    for (index, instruction) in program.iter().enumerate() {
        check_one(instruction, program.len() - index - 1, subject)?;
    }
    match program[program.len() - 1].code {
        RET_K | RET_A => check_memory(program),
        _ => Err(BadProgram::End),
    }
}

/// Checks an instruction, behind which there are `rest` others.
fn check_one(instruction: &Instruction, rest: usize, subject: Subject) -> Result<(), BadProgram> {
    let Instruction { code, jump_true, jump_false, k } = *instruction;
    let is_known = COMMON.contains(&code) || subject == Subject::Packet && OF_PACKETS.contains(&code);
    if !is_known {
        return Err(BadProgram::Code);
    }
    let problem = match code {
        DIV_K | MOD_K if k == 0 => BadProgram::Constant,
        LSH_K | RSH_K if k >= 32 => BadProgram::Constant,
        LD_MEM | LDX_MEM | ST | STX if k as usize >= MEMORY_WORDS => BadProgram::Memory,
        JA if k as usize >= rest => BadProgram::Jump,
        _ if branches(code) && usize::from(jump_true.max(jump_false)) >= rest => BadProgram::Jump,
        LD_W_ABS if subject == Subject::Call && (k >= CALL_DATA_BYTES || k % 4 != 0) => BadProgram::Offset,
        LD_W_ABS | LD_H_ABS | LD_B_ABS if k >= ANCILLARY => BadProgram::Offset,
        _ => return Ok(()),
    };
    Err(problem)
}

/// True for a jump with a condition.
fn branches(code: u16) -> bool {
    matches!(code, JEQ_K | JEQ_X | JGT_K | JGT_X | JGE_K | JGE_X | JSET_K | JSET_X)
}

/// Refuses a program that may read a word of memory before it has written it, on whatever way it comes there (Linux:
/// `check_load_and_stores`).
fn check_memory(program: &[Instruction]) -> Result<(), BadProgram> {
    // For each instruction the words that are written on all jumps that lead to it. A bit is a word.
    let mut on_jumps = Vec::new();
    on_jumps.try_reserve_exact(program.len()).map_err(|_| BadProgram::OutOfMemory)?;
    on_jumps.resize(program.len(), u16::MAX);
    // The words that are written when the one before is done; all if it does not lead here.
    let mut written = 0_u16;
    for (index, instruction) in program.iter().enumerate() {
        written &= on_jumps[index];
        let mut jump = |distance: usize| {
            if let Some(mask) = on_jumps.get_mut(index + 1 + distance) {
                *mask &= written;
            }
        };
        match instruction.code {
            ST | STX => written |= 1 << (instruction.k % 16),
            LD_MEM | LDX_MEM if written & 1 << (instruction.k % 16) == 0 => return Err(BadProgram::Memory),
            JA => {
                jump(instruction.k as usize);
                written = u16::MAX;
            }
            code if branches(code) => {
                jump(instruction.jump_true.into());
                jump(instruction.jump_false.into());
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}
