//! Serves HTTP on port 8080 of the address that is the argument, one connection after another, until the power button is
//! pressed; the runner looks who reaches it.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};

fn main() {
    let address: IpAddr = std::env::args().nth(1).expect("an address").parse().expect("an address");
    let listener = TcpListener::bind((address, 8080)).expect("bound");
    println!("listening on {}", listener.local_addr().expect("an address"));
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.read(&mut [0; 1024]);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(format!("{head}Hello, World!").as_bytes());
    }
}
