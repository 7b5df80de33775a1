//! A guest book in SQLite. The database engine is C, compiled into the image like everything else. With a disk
//! at `/data` its file lies there, and what a guest was told is kept survives a power cut; else it lies in memory and
//! lasts as long as the appliance runs.
//!
//! | request | answer |
//! |---|---|
//! | `GET /entries` | the newest entries |
//! | `POST /entries` with `{"name": "...", "text": "..."}` | 201 and the entry's id |
//! | `GET /check` | what `PRAGMA integrity_check` says |
//!
//! Arguments: the database file (`/data/guestbook.db`, or `/tmp/guestbook.db` if there is no `/data`) and the port
//! (8080).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// Entries that one answer lists.
const NEWEST: u32 = 100;

/// One entry.
#[derive(Serialize)]
struct Entry {
    id: i64,
    name: String,
    text: String,
}

/// What a guest writes.
#[derive(Deserialize)]
struct Draft {
    name: String,
    text: String,
}

/// The connection, which one thread at a time may use.
type Book = Arc<Mutex<Connection>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(usual_path);
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let book = Arc::new(Mutex::new(open(&path)?));
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
    println!("listening on port {port}, {path}");
    let routes = Router::new().route("/entries", get(list).post(add)).route("/check", get(check));
    axum::serve(listener, routes.with_state(book)).await?;
    Ok(())
}

/// On the disk, if there is one.
fn usual_path() -> String {
    let folder = if std::path::Path::new("/data").is_dir() { "/data" } else { "/tmp" };
    format!("{folder}/guestbook.db")
}

fn open(path: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // The write-ahead log, with its shared memory, asks more of a file system than the default does.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every transaction is on the disk before it is answered.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL)",
    )?;
    Ok(connection)
}

/// Runs a query where it may block, away from the threads that serve connections.
async fn query<T: Send + 'static>(
    book: Book,
    run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, (StatusCode, String)> {
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
    let outcome = tokio::task::spawn_blocking(move || {
        // A panic while it was held would have ended the program.
        run(&book.lock().expect("nobody panics with the lock held"))
    });
    outcome.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

async fn list(State(book): State<Book>) -> Result<Json<Vec<Entry>>, (StatusCode, String)> {
    let entries = query(book, |connection| {
        let mut statement =
            connection.prepare_cached("SELECT id, name, text FROM entries ORDER BY id DESC LIMIT ?1")?;
        let rows = statement
            .query_map([NEWEST], |row| Ok(Entry { id: row.get(0)?, name: row.get(1)?, text: row.get(2)? }))?;
        rows.collect()
    });
    entries.await.map(Json)
}

async fn add(
    State(book): State<Book>,
    Json(draft): Json<Draft>,
) -> Result<(StatusCode, Json<i64>), (StatusCode, String)> {
    let id = query(book, move |connection| {
        let insert = "INSERT INTO entries (name, text) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute((&draft.name, &draft.text))?;
        Ok(connection.last_insert_rowid())
    });
    Ok((StatusCode::CREATED, Json(id.await?)))
}

async fn check(State(book): State<Book>) -> Result<String, (StatusCode, String)> {
    query(book, |connection| connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))).await
}
