//! HTTPS with `rustls` and `hyper`. The client chooses by ALPN between HTTP/2 and HTTP/1.1.
//!
//! Arguments: a certificate and a key in PEM files (of the initrd, say) and the port (8443). Without
//! them, or with `-` for both, the server makes itself a certificate for `localhost`.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A chain of certificates and the key to the first.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chain, key) = match arguments.as_slice() {
        [certificate, key, ..] if certificate != "-" => read_identity(certificate, key)?,
        _ => make_identity()?,
    };
    let port = arguments.get(2).and_then(|port| port.parse().ok()).unwrap_or(8443);
    let acceptor = TlsAcceptor::from(Arc::new(configure(chain, key)?));
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    println!("listening on port {port}");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        // What goes wrong on one connection, from a bad handshake on, concerns only that one.
        tokio::spawn(async move { drop(serve(acceptor, stream).await) });
    }
}

fn read_identity(certificate: &str, key: &str) -> Result<Identity, Box<dyn Error>> {
    let pem = fs::read(certificate).map_err(|error| format!("{certificate}: {error}"))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?;
    let pem = fs::read(key).map_err(|error| format!("{key}: {error}"))?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&pem)?))
}

fn make_identity() -> Result<Identity, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    Ok((vec![made.cert.der().clone()], key))
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let connection = auto::Builder::new(TokioExecutor::new());
    connection.serve_connection(TokioIo::new(stream), service_fn(answer)).await
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("Hello over {:?}, {}!\n", request.version(), request.uri().path());
    Ok(Response::new(Full::new(text.into())))
}
