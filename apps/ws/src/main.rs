//! A WebSocket echo on `tokio-tungstenite`: what a client says comes back, texts and binaries alike.
//!
//! The first argument is the port (8080).

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A longer message ends the connection.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The pause after a connection that could not be accepted, so that a lack of descriptors does not
/// become a busy loop.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    println!("listening on port {port}");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream))),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Talks with one client until it leaves. What goes wrong concerns only that client.
async fn converse(stream: TcpStream) {
    if let Err(error) = echo(stream).await
        && !matches!(error, Error::ConnectionClosed | Error::Protocol(_))
    {
        eprintln!("a client was lost: {error}");
    }
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        // Pings and closes are answered by the library.
        let message = message?;
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await?;
        }
    }
    Ok(())
}
