//! HTTP/3 with `quinn` and `h3`. `/bytes/N` answers so many bytes, a `POST` what was posted, everything else a greeting.
//!
//! `http3 [port [certificate.pem key.pem]]` serves (8443, UDP); without files it makes itself a certificate for `localhost`. The same
//! program is its own client: `http3 ask host:port PATH [TEXT]` on a Linux machine asks an appliance, whatever certificate it has.

mod client;
mod server;

use std::error::Error;

/// What went wrong, whatever it is.
type Failure = Box<dyn Error + Send + Sync>;

/// The name of the protocol in the handshake (RFC 9114 section 3.1).
const ALPN: &[u8] = b"h3";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ask", server, path] => client::ask(server, path, None).await,
        ["ask", server, path, text] => client::ask(server, path, Some((*text).to_owned())).await,
        [] => server::serve(8443, server::make_identity()?).await,
        [port] => server::serve(port.parse()?, server::make_identity()?).await,
        [port, certificate, key] => {
            server::serve(port.parse()?, server::read_identity(certificate, key)?).await
        }
        _ => Err("usage: http3 [port [certificate key]], or http3 ask host:port PATH [TEXT]".into()),
    }
}
