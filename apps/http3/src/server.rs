//! The server.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use h3::server::{Connection, RequestStream};
use h3_quinn::BidiStream;
use http::{Method, Response, StatusCode};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, ServerConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{ALPN, Failure};

/// Longer answers, and longer bodies of requests, are refused.
const MOST_BYTES: usize = 64 << 20;
/// Bytes of an answer that are written at once.
const PIECE_BYTES: usize = 16 << 10;

/// A chain of certificates and the key to the first.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads a certificate and its key out of PEM files.
pub(crate) fn read_identity(certificate: &str, key: &str) -> Result<Identity, Failure> {
    let pem = fs::read(certificate).map_err(|error| format!("{certificate}: {error}"))?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?;
    let pem = fs::read(key).map_err(|error| format!("{key}: {error}"))?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&pem)?))
}

/// Makes a certificate that nobody has signed.
pub(crate) fn make_identity() -> Result<Identity, Failure> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    Ok((vec![made.cert.der().clone()], key))
}

/// Serves on a port of all addresses, for ever.
pub(crate) async fn serve(port: u16, (chain, key): Identity) -> Result<(), Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let endpoint = Endpoint::server(config, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    println!("listening on port {port}");
    while let Some(incoming) = endpoint.accept().await {
        // What goes wrong on one connection, from a bad handshake on, concerns only that one.
        tokio::spawn(async move { drop(serve_connection(incoming).await) });
    }
    Ok(())
}

async fn serve_connection(incoming: Incoming) -> Result<(), Failure> {
    let quic = h3_quinn::Connection::new(incoming.await?);
    let mut connection: Connection<_, Bytes> = Connection::new(quic).await?;
    while let Some(resolver) = connection.accept().await? {
        tokio::spawn(async move {
            let Ok((request, stream)) = resolver.resolve_request().await else { return };
            drop(answer(request.method().clone(), request.uri().path().to_owned(), stream).await);
        });
    }
    Ok(())
}

async fn answer(
    method: Method,
    path: String,
    mut stream: RequestStream<BidiStream<Bytes>, Bytes>,
) -> Result<(), Failure> {
    let body = match path.strip_prefix("/bytes/").map(str::parse::<usize>) {
        _ if method == Method::POST => receive(&mut stream).await?,
        Some(Ok(count @ ..=MOST_BYTES)) => Some(Bytes::from(vec![b'x'; count])),
        Some(_) => None,
        None => Some(format!("Hello over HTTP/3.0, {path}!\n").into()),
    };
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    stream.send_response(Response::builder().status(status).body(())?).await?;
    let mut body = body.unwrap_or_default();
    while body.has_remaining() {
        stream.send_data(body.split_to(body.len().min(PIECE_BYTES))).await?;
    }
    stream.finish().await?;
    Ok(())
}

/// The body of a request; none if it is too long.
async fn receive(stream: &mut RequestStream<BidiStream<Bytes>, Bytes>) -> Result<Option<Bytes>, Failure> {
    let mut body = BytesMut::new();
    while let Some(piece) = stream.recv_data().await? {
        if body.len() + piece.remaining() > MOST_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(piece.chunk());
    }
    Ok(Some(body.freeze()))
}
