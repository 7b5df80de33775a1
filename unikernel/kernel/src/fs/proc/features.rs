//! `flags` of `/proc/cpuinfo`: what the processor says of itself, in Linux's words (Linux: arch/x86/include/asm/cpufeatures.h).

use alloc::string::String;

/// Names of bits, the lowest first; what has none here is not told.
type Names = [&'static str; 32];

/// Leaf 1, EDX.
const BASIC: Names = [
    "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca",
    "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht",
    "tm", "ia64", "pbe",
];
/// Leaf 1, ECX.
const MORE: Names = [
    "pni",
    "pclmulqdq",
    "dtes64",
    "monitor",
    "ds_cpl",
    "vmx",
    "smx",
    "est",
    "tm2",
    "ssse3",
    "cid",
    "sdbg",
    "fma",
    "cx16",
    "xtpr",
    "pdcm",
    "",
    "pcid",
    "dca",
    "sse4_1",
    "sse4_2",
    "x2apic",
    "movbe",
    "popcnt",
    "tsc_deadline_timer",
    "aes",
    "xsave",
    "",
    "avx",
    "f16c",
    "rdrand",
    "hypervisor",
];
/// Leaf 7, EBX.
const EXTENDED: Names = [
    "fsgsbase",
    "tsc_adjust",
    "sgx",
    "bmi1",
    "hle",
    "avx2",
    "",
    "smep",
    "bmi2",
    "erms",
    "invpcid",
    "rtm",
    "cqm",
    "",
    "mpx",
    "rdt_a",
    "avx512f",
    "avx512dq",
    "rdseed",
    "adx",
    "smap",
    "avx512ifma",
    "",
    "clflushopt",
    "clwb",
    "intel_pt",
    "avx512pf",
    "avx512er",
    "avx512cd",
    "sha_ni",
    "avx512bw",
    "avx512vl",
];
/// Leaf 0x8000_0001, EDX; what is in leaf 1, too, is told there.
const LONG: Names = [
    "", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "", "", "", "", "mp", "nx", "",
    "mmxext", "", "", "fxsr_opt", "pdpe1gb", "rdtscp", "", "lm", "3dnowext", "3dnow",
];
/// Leaf 0x8000_0001, ECX.
const LONG_MORE: Names = [
    "lahf_lm",
    "cmp_legacy",
    "svm",
    "extapic",
    "cr8_legacy",
    "abm",
    "sse4a",
    "misalignsse",
    "3dnowprefetch",
    "osvw",
    "ibs",
    "xop",
    "skinit",
    "wdt",
    "",
    "lwp",
    "fma4",
    "tce",
    "",
    "nodeid_msr",
    "",
    "tbm",
    "topoext",
    "perfctr_core",
    "perfctr_nb",
    "",
    "bpext",
    "ptsc",
    "perfctr_llc",
    "mwaitx",
    "",
    "",
];

/// The names of all features, a blank before each.
pub(super) fn names() -> String {
    let (basic, long) = (raw_cpuid::cpuid!(1), raw_cpuid::cpuid!(0x8000_0001));
    let extended = if raw_cpuid::cpuid!(0).eax >= 7 { raw_cpuid::cpuid!(7, 0).ebx } else { 0 };
    let mut text = String::new();
    for (bits, names) in [
        (basic.edx, &BASIC),
        (long.edx, &LONG),
        (basic.ecx, &MORE),
        (long.ecx, &LONG_MORE),
        (extended, &EXTENDED),
    ] {
        let has = |&(bit, name): &(usize, &&str)| bits >> bit & 1 != 0 && !name.is_empty();
        names.iter().enumerate().filter(has).for_each(|(_, name)| text.extend([" ", name]));
    }
    text
}
