//! A region that a former version wrote opens, and its calls get receipts.

mod common;

use std::os::unix::fs::OpenOptionsExt as _;

use common::receipts::NEVER;
use landline_region::receipt::{Document, RecordingState, Trust, verify};
use landline_store::{CallFilter, Readable, Store, StoreConfig};
use sqlx::Connection as _;

const DUMP: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/store/region-0001.sql"));

const KEY_RING: &str = r#"{"version": 1, "region": "ie1",
    "master": "d37d3a19033ba62ecb91bd6cb7bb5ff14c3a6ec0d8e053386ccb60bd3bb000f5"}"#;

#[tokio::test]
async fn a_region_of_the_first_schema_opens_and_its_calls_get_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let (database, keys) = (dir.path().join("region.db"), dir.path().join("keys"));
    let url = format!("sqlite:{}?mode=rwc", database.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(DUMP).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut private = std::fs::OpenOptions::new();
    let mut file = private.write(true).create_new(true).mode(0o600).open(&keys).unwrap();
    std::io::Write::write_all(&mut file, KEY_RING.as_bytes()).unwrap();

    let config = StoreConfig::new(url, "ie1".parse().unwrap(), keys);
    let store = Store::open(&config).await.unwrap();
    let calls = store.call_list(&CallFilter::default()).await.unwrap();
    assert_eq!((calls.len(), calls[0].personal), (1, Readable::Yes));
    assert_eq!(store.call_chain_verify().await.unwrap().calls, 1, "hashed as it was then");

    assert_eq!(store.receipts_issue(NEVER).await.unwrap().issued, 1);
    let file = store.receipt_file(calls[0].sid).await.unwrap();
    let receipt = &file.evidence.receipt.body;
    assert_eq!(Some(receipt.record.hash.0), calls[0].hash);
    assert_eq!(receipt.recordings[0].state, RecordingState::Finished);
    let trust = Trust { keys: vec![store.verifying_key().await.unwrap()] };
    assert!(verify(&Document::Receipt(Box::new(file)), &trust).is_sound());
    let found = store.residency_check(&[]).await.unwrap();
    assert!(found.is_sound() && found.chunks > 0, "{found:?}");
    store.close().await;
}
