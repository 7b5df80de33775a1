//! Random programs of classic BPF, judged by the kernel and by `unikernel-policy` here in ring 3: both refuse the same, and both say
//! the same of calls. On Linux this compares the crate with Linux.

use std::sync::Arc;
use std::thread;

use guest_tests::random::Random;
use guest_tests::{check, check_eq, raw_syscall};
use unikernel_policy::bpf::code::*;
use unikernel_policy::bpf::{Instruction, Program, Subject};
use unikernel_policy::seccomp::{Action, CallData, Chain, Filter};

const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;
/// A number that no call has: it answers ENOSYS where it is allowed.
const NUMBER: u32 = 0x1234;
const ROUNDS: u32 = 3000;

fn below(random: &mut Random, bound: usize) -> u32 {
    random.below(bound) as u32
}

fn chance(random: &mut Random, one_of: usize) -> bool {
    random.below(one_of) == 0
}

const CODES: [u16; 34] = [
    LD_W_ABS, LD_W_ABS, LD_W_ABS, LD_IMM, LD_LEN, LD_MEM, LDX_IMM, LDX_LEN, LDX_MEM, ST, STX, ADD_K, ADD_X,
    SUB_K, MUL_X, DIV_K, DIV_X, OR_K, OR_X, AND_K, AND_X, LSH_K, LSH_X, RSH_K, RSH_X, NEG, XOR_K, XOR_X, JA,
    JEQ_K, JGT_X, JGE_K, TAX, TXA,
];
/// Only for packets, or for nobody.
const OTHERS: [u16; 6] = [MOD_K, MOD_X, LD_H_ABS, LD_B_IND, 0x0e, 0xffff];

fn instruction(random: &mut Random) -> Instruction {
    let code = match random.below(60) {
        0 => *random.pick(&OTHERS),
        1..=3 => *random.pick(&[JSET_K, JSET_X, JEQ_X, JGE_X]),
        _ => *random.pick(&CODES),
    };
    let k = match code {
        LD_W_ABS if chance(random, 30) => below(random, 80),
        LD_W_ABS => below(random, 16) * 4,
        LD_MEM | LDX_MEM | ST | STX => {
            let words = if chance(random, 30) { 20 } else { 3 };
            below(random, words)
        }
        LSH_K | RSH_K => below(random, 33),
        JA => below(random, 3),
        _ if chance(random, 2) => below(random, 5),
        _ => random.number() as u32,
    };
    Instruction { code, jump_true: random.below(3) as u8, jump_false: random.below(3) as u8, k }
}

fn program(random: &mut Random) -> Vec<Instruction> {
    let mut program = Vec::new();
    // Memory that is written, so that not each reading of it is refused.
    if chance(random, 2) {
        program.extend([0, 1, 2].map(|word| Instruction::plain(ST, word)));
    }
    for _ in 0..random.below(14) {
        program.push(instruction(random));
    }
    // What was calculated decides which error number comes.
    program.extend([
        Instruction::plain(AND_K, 0xfff),
        Instruction::plain(OR_K, ERRNO),
        Instruction::plain(if chance(random, 40) { TAX } else { RET_A }, 0),
    ]);
    program
}

/// Has the kernel take a program for the calling thread, for calls of [`NUMBER`].
fn add(program: &[Instruction]) -> i64 {
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|one| {
            let ([a, b], [e, f, g, h]) = (one.code.to_le_bytes(), one.k.to_le_bytes());
            [a, b, one.jump_true, one.jump_false, e, f, g, h]
        })
        .collect();
    let head = [program.len() as u64, bytes.as_ptr() as u64];
    raw_syscall(libc::SYS_seccomp, [1, 0, head.as_ptr() as u64, 0, 0, 0])
}

/// The program behind a look at the number: the thread needs other calls.
fn guarded(program: &[Instruction]) -> Vec<Instruction> {
    let mut guarded = vec![
        Instruction::plain(LD_W_ABS, 0),
        Instruction { code: JEQ_K, jump_true: 1, jump_false: 0, k: NUMBER },
        Instruction::plain(RET_K, ALLOW),
        // As at the start.
        Instruction::plain(LD_IMM, 0),
    ];
    guarded.extend_from_slice(program);
    guarded
}

/// The call's answer, if it may be known: not where it ends the thread.
fn expected(chain: &Chain, arguments: [u64; 6]) -> Option<i64> {
    match chain.judge(&CallData { number: NUMBER, instruction_pointer: 0, arguments }).action {
        Action::Errno(number) => Some(-i64::from(number)),
        Action::Allow => Some(-i64::from(libc::ENOSYS)),
        _ => None,
    }
}

/// True if the program looks at where the call is made, of which nobody here knows.
fn looks_at_place(program: &[Instruction]) -> bool {
    program.iter().any(|one| one.code == LD_W_ABS && matches!(one.k, 8 | 12))
}

fn main() {
    check_eq!(raw_syscall(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0]), 0);
    let mut random = Random::new(0x2026_1130);
    let (mut accepted, mut refused, mut compared) = (0, 0, 0);
    for round in 0..ROUNDS {
        let program = guarded(&program(&mut random));
        let checked = Program::check(program.clone(), Subject::Call);
        let arguments: [[u64; 6]; 4] = std::array::from_fn(|_| {
            std::array::from_fn(|_| {
                u64::from(below(&mut random, 5)) << (random.below(2) * 32) | u64::from(below(&mut random, 3))
            })
        });
        let is_good = checked.is_ok();
        let is_known = !looks_at_place(&program);
        let chain = checked
            .ok()
            .map(|program| Chain::with(None, Arc::new(Filter::new(program, false, || ()))).unwrap());
        let outcome = thread::spawn(move || {
            let added = add(&program);
            if added != 0 {
                return (added, 0);
            }
            let mut count = 0;
            for arguments in arguments {
                if let Some(expected) =
                    chain.as_ref().filter(|_| is_known).and_then(|chain| expected(chain, arguments))
                {
                    let answer = raw_syscall(NUMBER.into(), arguments);
                    if answer != expected {
                        eprintln!(
                            "round {round}: {program:?} answers {answer} to {arguments:?}, not {expected}"
                        );
                        std::process::exit(1);
                    }
                    count += 1;
                }
            }
            (0, count)
        });
        let (added, count) = outcome.join().unwrap();
        check_eq!((round, added), (round, if is_good { 0 } else { -i64::from(libc::EINVAL) }));
        if is_good {
            accepted += 1;
        } else {
            refused += 1;
        }
        compared += count;
    }
    println!("| {accepted} programs are accepted, {refused} refused, {compared} calls compared");
    check!(accepted > 500 && refused > 200 && compared > 2000);
}
