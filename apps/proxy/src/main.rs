//! A reverse proxy on `hyper`: every request goes on to an upstream, and its answer back. The upstream
//! is found by name, with the C library's resolver, so `/etc/hosts` and the name servers of `dns=` or of
//! the DHCP lease count.
//!
//! Arguments: the upstream (`http://name:port`) and the port to listen on (8080). An upstream that
//! cannot be reached makes a 502, one that is silent for too long a 504.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, TE, TRAILER, UPGRADE};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long the upstream may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection attempt may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Headers that are for the next station only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, UPGRADE];

type Body = BoxBody<Bytes, hyper::Error>;

/// Where requests go.
#[derive(Clone)]
struct Upstream {
    authority: Authority,
    client: Client<HttpConnector, Incoming>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().and_then(|uri| uri.parse::<Uri>().ok());
    let Some(authority) = uri.as_ref().and_then(|uri| uri.authority().cloned()) else {
        eprintln!("usage: proxy http://upstream:port [port]");
        std::process::exit(2);
    };
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    println!("listening on port {port}, upstream {authority}");
    let upstream = Upstream { authority, client: make_client() };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(upstream.clone(), request));
            // A client that leaves in the middle of a request is no news.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn make_client() -> Client<HttpConnector, Incoming> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_PATIENCE));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn serve(upstream: Upstream, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match timeout(PATIENCE, upstream.client.request(forward(&upstream.authority, request))).await {
        Ok(Ok(response)) => without_hop_headers(response).map(BodyExt::boxed),
        Ok(Err(error)) => {
            failure(StatusCode::BAD_GATEWAY, &format!("the upstream cannot be reached: {error}\n"))
        }
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "the upstream does not answer\n"),
    })
}

/// The request as the upstream gets it.
fn forward(authority: &Authority, mut request: Request<Incoming>) -> Request<Incoming> {
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let mut parts = request.uri().clone().into_parts();
    (parts.scheme, parts.authority, parts.path_and_query) =
        (Some(Scheme::HTTP), Some(authority.clone()), Some(path));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    let headers = request.headers_mut();
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove(HOST);
    request
}

fn without_hop_headers<B>(mut response: Response<B>) -> Response<B> {
    HOP_BY_HOP.iter().for_each(|name| drop(response.headers_mut().remove(name)));
    response
}

fn failure(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
