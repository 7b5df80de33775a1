//! What a machine with a TPM shows of it (`tpm_tests`): each register of each bank, and the log, in digits.

use std::fs;
use std::path::Path;

use guest_tests::{check, check_eq};

const TPM: &str = "/sys/class/tpm/tpm0";
const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

fn main() {
    check_eq!(fs::read_to_string(Path::new(TPM).join("tpm_version_major")).unwrap(), "2\n");
    let mut banks = 0;
    for bank in ["sha1", "sha256", "sha384", "sha512"] {
        let folder = Path::new(TPM).join(format!("pcr-{bank}"));
        if !folder.exists() {
            continue;
        }
        banks += 1;
        for register in 0..24 {
            let value = fs::read_to_string(folder.join(register.to_string())).unwrap();
            println!("pcr {bank} {register} {}", value.trim());
        }
    }
    check!(banks > 0);
    let log = fs::read(LOG).unwrap();
    // Lines that a console takes whole.
    for part in log.chunks(64) {
        println!("log {}", part.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    check!(fs::write(LOG, b"x").is_err());
    println!("measured: all well");
}
