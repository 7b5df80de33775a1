//! Databases on a disk, for they ask most of a file system: SQLite with a log and with a journal, two connections,
//! a mapped file; and redb. Each boot (`BOOT` counts them) finds what the one before has left. Argument: the folder.

use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq, data_folder};
use redb::{ReadableDatabase, ReadableTableMetadata, TableDefinition};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

const ROWS: i64 = 300;
const WRITES: i64 = 60;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

fn main() {
    let folder = data_folder();
    let boot: i64 = std::env::var("BOOT").map_or(1, |boot| boot.parse().expect("a number"));
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        println!("sqlite, {mode}");
        sqlite(&folder.join(format!("{}.db", mode.to_lowercase())), mode, boot);
    }
    println!("sqlite, mapped");
    mapped(&folder.join("mapped.db"), boot);
    println!("sqlite, two connections");
    for mode in ["WAL", "DELETE"] {
        together(&folder.join(format!("together-{}.db", mode.to_lowercase())), mode, boot);
    }
    locks(&folder.join("locks.db"));
    println!("redb");
    redb(&folder.join("redb"), boot);
    println!("databases: all well");
}

fn open(path: &Path, mode: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    let set: String =
        connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0)).unwrap();
    check_eq!(set, mode.to_lowercase());
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let table = "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";
    connection.execute_batch(table).unwrap();
    connection
}

fn is_sound(connection: &Connection) {
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    check_eq!(verdict, "ok");
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap()
}

/// A transaction that stays and one that is taken back.
fn sqlite(path: &Path, mode: &str, boot: i64) {
    let mut connection = open(path, mode);
    check_eq!(count(&connection), (boot - 1) * ROWS);
    is_sound(&connection);
    let insert = |connection: &Connection| {
        let text = "INSERT INTO rows (text) VALUES (?1)";
        for row in 0..ROWS {
            connection.execute(text, ["x".repeat(row as usize * 7)]).unwrap();
        }
    };
    let transaction = connection.transaction().unwrap();
    insert(&transaction);
    transaction.commit().unwrap();
    let transaction = connection.transaction().unwrap();
    insert(&transaction);
    transaction.rollback().unwrap();
    check_eq!(count(&connection), boot * ROWS);
    connection.execute_batch("UPDATE rows SET text = text || 'y' WHERE id % 3 = 0; VACUUM").unwrap();
    is_sound(&connection);
}

/// Reads through a mapping, while the file grows below it.
fn mapped(path: &Path, boot: i64) {
    let connection = open(path, "WAL");
    let size: i64 = connection.query_row("PRAGMA mmap_size = 67108864", [], |row| row.get(0)).unwrap();
    check_eq!(size, 67_108_864);
    for round in 0..20 {
        let text = "INSERT INTO rows (text) VALUES (?1)";
        for _ in 0..20 {
            connection.execute(text, ["m".repeat(3000)]).unwrap();
        }
        check_eq!(count(&connection), (boot - 1) * 400 + (round + 1) * 20);
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let sum: i64 =
            connection.query_row("SELECT sum(length(text)) FROM rows", [], |row| row.get(0)).unwrap();
        check_eq!(sum, count(&connection) * 3000);
    }
    is_sound(&connection);
}

/// Two threads with a connection each add to one number.
fn together(path: &Path, mode: &str, boot: i64) {
    let connection = open(path, mode);
    connection.execute_batch("CREATE TABLE IF NOT EXISTS sum (value INTEGER)").unwrap();
    let rows: i64 = connection.query_row("SELECT count(*) FROM sum", [], |row| row.get(0)).unwrap();
    if rows == 0 {
        connection.execute_batch("INSERT INTO sum VALUES (0)").unwrap();
    }
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut connection = open(path, mode);
                start.wait();
                for _ in 0..WRITES {
                    let transaction =
                        connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
                    let value: i64 =
                        transaction.query_row("SELECT value FROM sum", [], |row| row.get(0)).unwrap();
                    transaction.execute("UPDATE sum SET value = ?1", [value + 1]).unwrap();
                    transaction.commit().unwrap();
                }
            });
        }
    });
    let value: i64 = connection.query_row("SELECT value FROM sum", [], |row| row.get(0)).unwrap();
    check_eq!(value, 2 * WRITES * boot);
    is_sound(&connection);
}

/// Who holds the database keeps the others out, until it lets go.
fn locks(path: &Path) {
    let (mut one, two) = (open(path, "DELETE"), open(path, "DELETE"));
    two.busy_timeout(Duration::ZERO).unwrap();
    let transaction = one.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    let refused = two.query_row("SELECT count(*) FROM rows", [], |row| row.get::<_, i64>(0));
    check_eq!(refused.unwrap_err().sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    transaction.commit().unwrap();
    count(&two);
}

fn redb(path: &Path, boot: i64) {
    let mut database = redb::Database::create(path).unwrap();
    check!(database.check_integrity().unwrap());
    for batch in 0..10 {
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for row in 0..100 {
                let key = (boot as u64 * 10 + batch) * 100 + row;
                table.insert(key, &vec![key as u8; 500][..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(TABLE).unwrap();
    check_eq!(table.len().unwrap(), 1000 * boot as u64);
    for key in 1000..1000 * (boot as u64 + 1) {
        let value = table.get(key).unwrap().expect("it was inserted");
        check!(value.value() == vec![key as u8; 500]);
    }
    drop((table, transaction));
    check!(database.check_integrity().unwrap());
}
