//! An HTTP server with `axum` on `tokio`'s multi-threaded runtime, as most Rust services are written.
//! Nothing here knows the kernel it will run on. `/` greets, `/json` answers JSON; `SIGTERM` (on an
//! appliance, the power button) ends it after the requests in progress.

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
    println!("listening on port {port}");
    axum::serve(listener, routes()).with_graceful_shutdown(terminated()).await
}

fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "Hello, World!" }))
        .route("/json", get(|| async { Json(serde_json::json!({ "message": "Hello, World!" })) }))
}

async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        // Without signals there is nobody to ask for an end.
        Err(_) => std::future::pending().await,
    }
}
