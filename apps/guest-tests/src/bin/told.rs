//! Prints what the machine was told at boot, for `qemu/src/config_tests.rs`: `host`, `ip` (the address towards a neighbour), `env:NAME`,
//! `mode:PATH`, or the lines of a file.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

fn main() {
    for what in std::env::args().skip(1) {
        let told = match what.split_once(':') {
            Some(("env", name)) => std::env::var(name).unwrap_or_else(|_| "none".into()),
            Some(("mode", path)) => {
                let metadata = std::fs::metadata(path).expect("the file");
                format!("{:o}", metadata.permissions().mode() & 0o7777)
            }
            _ if what == "host" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            _ if what == "ip" => {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
                socket.connect("10.0.2.1:9").expect("a way");
                socket.local_addr().expect("an address").ip().to_string()
            }
            _ => match std::fs::read(&what) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().replace('\n', "|"),
                Err(error) => format!("{:?}", error.kind()),
            },
        };
        println!("{what} is {told};");
    }
}
