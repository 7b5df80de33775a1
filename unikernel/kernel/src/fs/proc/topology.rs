//! `/sys` as far as programs ask it about processors, memory and pages (Linux: Documentation/ABI).

use alloc::format;
use alloc::string::String;

use unikernel_fs::{Attributes, Node};

use super::{Entry, Text, machine};
use crate::arch::cpu;
use crate::fs::{FileTree, Special};

/// Bytes of a large page, which anonymous memory gets where it fits.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// What is there once.
pub(super) const TEXTS: &[Entry] = &[
    ("/sys/class/net/lo/ifindex", || "1\n".into()),
    ("/sys/devices/system/cpu/isolated", || "\n".into()),
    ("/sys/devices/system/cpu/kernel_max", || format!("{}\n", unikernel_sched::MAX_CORES - 1)),
    ("/sys/devices/system/cpu/offline", || "\n".into()),
    ("/sys/devices/system/cpu/online", machine::cores),
    ("/sys/devices/system/cpu/possible", machine::cores),
    ("/sys/devices/system/cpu/present", machine::cores),
    ("/sys/devices/system/node/has_cpu", || "0\n".into()),
    ("/sys/devices/system/node/has_memory", || "0\n".into()),
    ("/sys/devices/system/node/online", || "0\n".into()),
    ("/sys/devices/system/node/possible", || "0\n".into()),
    ("/sys/devices/system/node/node0/cpulist", machine::cores),
    ("/sys/devices/system/node/node0/cpumap", all_cores_mask),
    ("/sys/devices/system/node/node0/distance", || "10\n".into()),
    ("/sys/kernel/mm/transparent_hugepage/defrag", || "always defer defer+madvise madvise [never]\n".into()),
    ("/sys/kernel/mm/transparent_hugepage/enabled", || "[always] madvise never\n".into()),
    ("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", || format!("{LARGE_PAGE_BYTES}\n")),
    ("/sys/kernel/mm/transparent_hugepage/shmem_enabled", || {
        "always within_size advise [never] deny force\n".into()
    }),
];

/// A path below a core's directory and what makes its text.
type CoreFile = (&'static str, fn(usize) -> String);

/// Files of each core below `/sys/devices/system/cpu`: there is one thread in a core, and one package.
const CORE_TEXTS: &[CoreFile] = &[
    ("topology/core_cpus", mask_of),
    ("topology/core_cpus_list", |core| format!("{core}\n")),
    ("topology/core_id", |core| format!("{core}\n")),
    ("topology/core_siblings", |_| all_cores_mask()),
    ("topology/core_siblings_list", |_| machine::cores()),
    ("topology/die_id", |_| "0\n".into()),
    ("topology/package_cpus", |_| all_cores_mask()),
    ("topology/package_cpus_list", |_| machine::cores()),
    ("topology/physical_package_id", |_| "0\n".into()),
    ("topology/thread_siblings", mask_of),
    ("topology/thread_siblings_list", |core| format!("{core}\n")),
];

fn mask_of(core: usize) -> String {
    mask(1 << core)
}

fn all_cores_mask() -> String {
    mask(unikernel_sched::CoreSet::first(cpu::online()).0)
}

/// A set of cores in words of 32 bits, the highest first.
fn mask(set: u64) -> String {
    match set >> 32 {
        0 => format!("{set:08x}\n"),
        high => format!("{high:08x},{:08x}\n", set as u32),
    }
}

/// Adds the files of the cores, once all of them run.
pub(crate) fn add_cores(tree: &mut FileTree) {
    for core in 0..cpu::online() {
        for (file, make) in CORE_TEXTS {
            let path = format!("/sys/devices/system/cpu/cpu{core}/{file}");
            let text = Node::Special(Special::Text(Text::Core(*make, core)));
            if tree.add(path.as_bytes(), text, Attributes::with_permissions(0o444)).is_err() {
                log::warn!("{path} cannot be made, the initrd is in the way");
            }
        }
    }
}
