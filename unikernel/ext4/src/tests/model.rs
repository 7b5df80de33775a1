//! Random operations against the model: the filesystem holds the same after each mount, and `e2fsck` is content.

use proptest::prelude::*;

use super::check::check;
use super::found::assert_same;
use super::workload::Workload;
use super::*;

/// Runs `steps` operations with syncs and remounts between them.
fn run_against_model(seed: u64, steps: u32, kib: usize, block_bytes: u32) {
    let device = formatted(kib, block_bytes);
    let mut workload = Workload::new(seed);
    let mut fs = mounted(&device);
    for step in 0..steps {
        workload.step(&mut fs);
        if workload.random.below(12) == 0 {
            workload.sync(&mut fs);
        }
        if workload.random.below(60) == 0 {
            // Now all that is free is rubbish.
            fs.trim(0..u64::MAX, 1, at(workload.now)).expect("trim");
        }
        if step % 97 == 96 {
            assert_same(&mut fs, &workload.model);
            workload.let_all_go(&mut fs);
            fs.unmount(at(workload.now)).expect("unmount");
            fs = mounted(&device);
            check_all(&mut fs, &workload);
        }
    }
    workload.let_all_go(&mut fs);
    fs.unmount(at(workload.now)).expect("unmount");
    assert_clean(&device.image());
}

fn check_all<D: crate::BlockDevice>(fs: &mut crate::Ext4<D>, workload: &Workload) {
    check(fs);
    assert_same(fs, &workload.model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_match_the_model(seed in any::<u64>(), is_large in any::<bool>()) {
        let (kib, block_bytes) = if is_large { (9 << 10, 4096) } else { (2500, 1024) };
        run_against_model(seed, 600, kib, block_bytes);
    }
}
