//! Running a program.

use super::code::*;
use super::{Instruction, MEMORY_WORDS, Program};

/// How much of the subject is loaded at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
}

/// What the subject has at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// This.
    Value(u32),
    /// Nothing: the program ends with 0.
    Outside,
    /// Something of which it is not known what it is.
    Unknown,
}

/// What a program looks at.
pub trait Source {
    /// What stands at an offset.
    fn load(&self, offset: u32, width: Width) -> Loaded;

    /// How many bytes there are.
    fn len(&self) -> u32;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The program has asked for something that is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unknown;

/// The registers and the memory.
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_WORDS],
}

/// How it goes on.
enum Next {
    /// With the instruction behind as many others.
    Skip(usize),
    /// Not at all.
    End(u32),
}

impl Program {
    /// Runs the program; answers what it ends with.
    ///
    /// # Errors
    ///
    /// If it asks for something that the source does not know.
    pub fn run(&self, source: &impl Source) -> Result<u32, Unknown> {
        let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY_WORDS] };
        let mut at = 0;
        // A program that was checked ends with an instruction that ends it.
        while let Some(instruction) = self.0.get(at) {
            match machine.step(instruction, source)? {
                Next::Skip(count) => at += 1 + count,
                Next::End(value) => return Ok(value),
            }
        }
        Ok(0)
    }
}

impl Machine {
    fn step(&mut self, instruction: &Instruction, source: &impl Source) -> Result<Next, Unknown> {
        let Instruction { code, k, .. } = *instruction;
        let word = k as usize % MEMORY_WORDS;
        match code {
            RET_K => return Ok(Next::End(k)),
            RET_A => return Ok(Next::End(self.a)),
            JA => return Ok(Next::Skip(k as usize)),
            LD_IMM => self.a = k,
            LDX_IMM => self.x = k,
            LD_LEN => self.a = source.len(),
            LDX_LEN => self.x = source.len(),
            LD_MEM => self.a = self.memory[word],
            LDX_MEM => self.x = self.memory[word],
            ST => self.memory[word] = self.a,
            STX => self.memory[word] = self.x,
            TAX => self.x = self.a,
            TXA => self.a = self.x,
            NEG => self.a = self.a.wrapping_neg(),
            _ => {
                if let Some((offset, width)) = self.place(code, k) {
                    return self.load(code, source.load(offset, width));
                }
                let operand = if code & SOURCE_X != 0 { self.x } else { k };
                return Ok(match self.holds(code, operand) {
                    Some(true) => Next::Skip(instruction.jump_true.into()),
                    Some(false) => Next::Skip(instruction.jump_false.into()),
                    None => self.calculate(code, operand),
                });
            }
        }
        Ok(Next::Skip(0))
    }

    /// Where an instruction loads from, if it is one that does.
    fn place(&self, code: u16, k: u32) -> Option<(u32, Width)> {
        Some(match code {
            LD_W_ABS => (k, Width::Word),
            LD_H_ABS => (k, Width::Half),
            LD_B_ABS | LDX_MSH => (k, Width::Byte),
            LD_W_IND => (self.x.wrapping_add(k), Width::Word),
            LD_H_IND => (self.x.wrapping_add(k), Width::Half),
            LD_B_IND => (self.x.wrapping_add(k), Width::Byte),
            _ => return None,
        })
    }

    fn load(&mut self, code: u16, loaded: Loaded) -> Result<Next, Unknown> {
        match loaded {
            Loaded::Value(value) if code == LDX_MSH => self.x = (value & 0xf) * 4,
            Loaded::Value(value) => self.a = value,
            Loaded::Outside => return Ok(Next::End(0)),
            Loaded::Unknown => return Err(Unknown),
        }
        Ok(Next::Skip(0))
    }

    /// Whether the condition of a jump holds; `None` for an instruction without one.
    fn holds(&self, code: u16, operand: u32) -> Option<bool> {
        Some(match code {
            JEQ_K | JEQ_X => self.a == operand,
            JGT_K | JGT_X => self.a > operand,
            JGE_K | JGE_X => self.a >= operand,
            JSET_K | JSET_X => self.a & operand != 0,
            _ => return None,
        })
    }

    fn calculate(&mut self, code: u16, operand: u32) -> Next {
        let a = self.a;
        let result = match code {
            ADD_K | ADD_X => Some(a.wrapping_add(operand)),
            SUB_K | SUB_X => Some(a.wrapping_sub(operand)),
            MUL_K | MUL_X => Some(a.wrapping_mul(operand)),
            DIV_K | DIV_X => a.checked_div(operand),
            MOD_K | MOD_X => a.checked_rem(operand),
            OR_K | OR_X => Some(a | operand),
            AND_K | AND_X => Some(a & operand),
            XOR_K | XOR_X => Some(a ^ operand),
            // As Linux's 32-bit shifts: the count modulo 32.
            LSH_K | LSH_X => Some(a.wrapping_shl(operand)),
            RSH_K | RSH_X => Some(a.wrapping_shr(operand)),
            _ => None,
        };
        match result {
            Some(result) => {
                self.a = result;
                Next::Skip(0)
            }
            // A division by zero; an instruction that is none was refused.
            None => Next::End(0),
        }
    }
}

/// The operand is X, not k.
const SOURCE_X: u16 = 0x08;
