//! A store of notes behind a JSON interface, on `axum` and `tokio`'s multi-threaded runtime: what a
//! small service of many companies looks like. Nothing here knows the kernel it will run on.
//!
//! | request | answer |
//! |---|---|
//! | `GET /notes` | all notes |
//! | `POST /notes` with `{"text": "..."}` | 201 and the new note |
//! | `GET /notes/1` | the note, or 404 |
//! | `PUT /notes/1` with `{"text": "..."}` | the changed note, or 404 |
//! | `DELETE /notes/1` | 204, or 404 |
//! | `GET /` | how many notes there are |
//!
//! The first argument is the port (8080); `SIGTERM` ends it after the requests in progress.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// One note.
#[derive(Clone, Serialize)]
struct Note {
    id: u64,
    text: String,
}

/// What a client sends.
#[derive(Deserialize)]
struct Draft {
    text: String,
}

/// How many notes there are.
#[derive(Serialize)]
struct Summary {
    notes: usize,
}

/// All notes. The lock is held for a look or a change, never across an `await`.
#[derive(Default)]
struct Notes {
    by_id: BTreeMap<u64, Note>,
    last_id: u64,
}

type Store = Arc<RwLock<Notes>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
    println!("listening on port {port}");
    axum::serve(listener, routes()).with_graceful_shutdown(terminated()).await
}

fn routes() -> Router {
    Router::new()
        .route("/", get(summary))
        .route("/notes", get(list).post(create))
        .route("/notes/{id}", get(read).put(update).delete(remove))
        .with_state(Store::default())
}

async fn summary(State(store): State<Store>) -> Json<Summary> {
    Json(Summary { notes: look(&store, |notes| notes.by_id.len()) })
}

async fn list(State(store): State<Store>) -> Json<Vec<Note>> {
    Json(look(&store, |notes| notes.by_id.values().cloned().collect()))
}

async fn create(State(store): State<Store>, Json(draft): Json<Draft>) -> (StatusCode, Json<Note>) {
    let note = change(&store, |notes| {
        notes.last_id += 1;
        let note = Note { id: notes.last_id, text: draft.text };
        notes.by_id.insert(note.id, note.clone());
        note
    });
    (StatusCode::CREATED, Json(note))
}

async fn read(State(store): State<Store>, Path(id): Path<u64>) -> Result<Json<Note>, StatusCode> {
    look(&store, |notes| notes.by_id.get(&id).cloned()).map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn update(
    State(store): State<Store>,
    Path(id): Path<u64>,
    Json(draft): Json<Draft>,
) -> Result<Json<Note>, StatusCode> {
    let changed = change(&store, |notes| {
        let note = notes.by_id.get_mut(&id)?;
        note.text = draft.text;
        Some(note.clone())
    });
    changed.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn remove(State(store): State<Store>, Path(id): Path<u64>) -> StatusCode {
    match change(&store, |notes| notes.by_id.remove(&id)) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

fn look<T>(store: &Store, look: impl FnOnce(&Notes) -> T) -> T {
    // A panic while the lock was held would have ended the program.
    look(&store.read().expect("nobody panics with the lock held"))
}

fn change<T>(store: &Store, change: impl FnOnce(&mut Notes) -> T) -> T {
    change(&mut store.write().expect("nobody panics with the lock held"))
}

async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        // Without signals there is nobody to ask for an end.
        Err(_) => std::future::pending().await,
    }
}
