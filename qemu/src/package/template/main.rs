//! A server: `cargo run` starts it on this host, `cargo unikernel run` as a machine of its own.

use axum::Router;
use axum::routing::get;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/", get(|| async { "Hello, World!\n" }));
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 8080)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(asked_to_end()).await
}

/// SIGTERM is what the power button of a machine sends, and `docker stop`.
async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => _ = terminate.recv().await,
        Err(_) => std::future::pending().await,
    }
}
