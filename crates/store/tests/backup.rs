//! A region's backup: what is restored is what there was, on both engines and
//! from one into the other; what is damaged is found; what was erased is dead.

mod common;

use std::path::{Path, PathBuf};

use common::receipts::{NEVER, closed, events, recorded, recording, sid};
use common::{Region, files, new_user, personal};
use landline_call::tenancy::Account;
use landline_region::UnixMillis;
use landline_region::receipt::DeletionReason;
use landline_store::backup::{self, Made, Restored, drill, list, prune, restore, verify};
use landline_store::{
    DeletedBy, KeyRing, Ledger, LedgerConfig, NewUser, Readable, Store, StoreConfig, StoreError,
};

async fn made(region: &Region) -> Made {
    let (dir, ledger) = (region.path("backup"), region.path("ledger"));
    region.store.backup(&dir, None, &ledger, &mut |_| {}).await.unwrap()
}

/// People, calls, recordings and receipts.
async fn lived_in(region: &Region) -> Account {
    let account = region.account().await;
    region.user(&account, "alice").await;
    closed(region, &account, 1..=40).await;
    for call in 41..=43 {
        recorded(region, &account, call).await;
    }
    region.store.receipts_issue(NEVER).await.unwrap();
    // One waits for its receipt, and one is open.
    closed(region, &account, 44..=44).await;
    region.store.apply_events(&events(&account, 45, false)[..5]).await.unwrap();
    account
}

/// An empty SQLite database for the region's keys.
fn elsewhere(region: &Region) -> StoreConfig {
    let url = format!("sqlite:{}", region.path("restored.db").display());
    StoreConfig { url, ..region.config.clone() }
}

async fn restored(config: &StoreConfig, file: &Path) -> Restored {
    let restored = restore(config, file, &mut |_| {}).await.unwrap();
    assert!(restored.compared.is_sound(), "{:?}", restored.compared);
    restored
}

async fn refused(config: &StoreConfig, file: &Path) -> StoreError {
    restore(config, file, &mut |_| {}).await.unwrap_err()
}

fn problem(config: &StoreConfig, file: &Path) -> String {
    verify(config, file, &mut |_| {}).unwrap_err().to_string()
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().unwrap().mode() & 0o777
}

on_both_engines! {
    async fn what_is_restored_is_what_there_was(region: Region) {
        let account = lived_in(&region).await;
        let made = made(&region).await;
        assert_eq!((mode(&made.records), mode(&made.living)), (0o600, 0o600));
        let pair = verify(&region.config, &made.records, &mut |_| {}).unwrap();
        assert_eq!(pair.records.rows + pair.living.rows, made.rows);
        let held = |name| pair.records.tables.iter().find(|held| held.table == name);
        assert!(!held("call_key").unwrap().columns.contains(&"wrapped".to_owned()));
        assert!(held("account_key").is_none() && held("account_user").is_none());

        let config = elsewhere(&region);
        let restored = restored(&config, &made.records).await;
        assert_eq!((restored.erased, restored.compared.chained), (0, 44));
        assert_eq!((restored.compared.receipts, restored.compared.recordings), (43, 3));
        let store = Store::open(&config).await.unwrap();
        for call in 1..=45 {
            let (was, is) = (region.store.call_show(sid(call)).await, store.call_show(sid(call)).await);
            assert_eq!(format!("{:?}", was.unwrap()), format!("{:?}", is.unwrap()));
        }
        let shown = store.call_show(sid(1)).await.unwrap();
        assert_eq!(shown.from.unwrap().expose(), "alice.murphy");
        let users = store.user_list(account.sid).await.unwrap();
        assert_eq!(users[0].name.expose(), "alice");
        assert_eq!(store.revision().await.unwrap(), region.store.revision().await.unwrap());
        // It lives on: the chain and the log go on where they were.
        store.apply_events(&events(&account, 45, false)).await.unwrap();
        store.receipts_issue(NEVER).await.unwrap();
        let found = store.residency_check(&[]).await.unwrap();
        assert!(found.is_sound() && found.receipts == 45, "{found:?}");
        store.close().await;
    }

    async fn a_drill_compares_every_record_and_leaves_nothing(region: Region) {
        let account = lived_in(&region).await;
        let made = made(&region).await;
        let scratch = region.path("scratch");
        let before = region.texts(schemas(&region)).await;
        closed(&region, &account, 50..=52).await;
        let drilled = drill(&region.config, &made.records, &scratch, &mut |_| {}).await.unwrap();
        assert!(drilled.compared.is_sound(), "{:?}", drilled.compared);
        // 44 closed records, 43 receipts, and the chunks of three recordings.
        let chunks = drilled.compared.chunks;
        assert!(chunks >= 3);
        assert_eq!(drilled.compared.same_in_region, 44 + 43 + chunks);
        assert_eq!(std::fs::read_dir(&scratch).map_or(0, Iterator::count), 0);
        assert_eq!(region.texts(schemas(&region)).await, before);

        // The region's record was changed behind its back: the copy is the witness.
        region.tamper("UPDATE call SET hash = previous_hash WHERE chain_position = 7").await;
        region.tamper("DELETE FROM receipt WHERE log_index = 3").await;
        let drilled = drill(&region.config, &made.records, &scratch, &mut |_| {}).await.unwrap();
        let faults = drilled.compared.faults.join("\n");
        assert_eq!(drilled.compared.faults_found, 2, "{faults}");
        assert!(faults.contains("the region has another") && faults.contains("no deletion"));
    }

    async fn what_was_erased_is_dead_in_every_backup(region: Region) {
        let account = lived_in(&region).await;
        let bob = NewUser { number: Some(personal("+353155501")), ..new_user("bob") };
        region.store.user_add(account.sid, &bob).await.unwrap();
        let old = made(&region).await;

        // Since then: a user, a recording and the records of old calls are gone.
        region.store.user_remove(account.sid, "bob", "operator").await.unwrap();
        let by = DeletedBy { reason: DeletionReason::Erasure, actor: "operator".to_owned() };
        region.store.recording_delete(account.sid, recording(41), &by).await.unwrap();
        let until = region.store.call_show(sid(3)).await.unwrap().retention_until.unwrap();
        let swept = region.store.retention_sweep(UnixMillis(until.0 + 1)).await.unwrap();
        assert_eq!(swept.calls, 3);
        let new = made(&region).await;
        assert_ne!(old.records, new.records);
        assert_eq!(old.living, new.living, "there is one, and it was replaced");

        let config = elsewhere(&region);
        let from_old = restored(&config, &old.records).await;
        // The keys of three calls and of one recording.
        assert_eq!(from_old.erased, 4);
        let store = Store::open(&config).await.unwrap();
        let dead = store.call_show(sid(2)).await.unwrap();
        assert_eq!((dead.personal, dead.from), (Readable::Erased, None));
        assert_eq!(store.call_show(sid(4)).await.unwrap().personal, Readable::Yes);
        let names: Vec<_> = store.user_list(account.sid).await.unwrap();
        assert_eq!(names.len(), 1, "bob stays removed");
        assert!(store.recording_frames(recording(41)).await.is_err(), "its key is gone");
        assert!(store.recording_frames(recording(42)).await.is_ok());
        let found = store.residency_check(&[]).await.unwrap();
        assert!(found.is_sound() && found.erased >= 3, "{found:?}");
        store.close().await;

        let drilled =
            drill(&region.config, &old.records, &region.path("s"), &mut |_| {}).await.unwrap();
        assert!(drilled.compared.is_sound(), "{:?}", drilled.compared);
        assert!(drilled.compared.deleted_since >= 4, "{:?}", drilled.compared);
        // The new one has the deletions, and their statements.
        drill(&region.config, &new.records, &region.path("s"), &mut |_| {}).await.unwrap();
    }

    async fn what_the_ledger_holds_is_in_the_backup(region: Region) {
        let account = lived_in(&region).await;
        // A ledger that could not be shipped: its events are on disk alone.
        let other = Region::sqlite("ie1").await;
        let config = StoreConfig { key_ring: region.config.key_ring.clone(), ..other.config.clone() };
        let config =
            StoreConfig { url: format!("sqlite:{}", other.path("away.db").display()), ..config };
        let away = Store::open(&config).await.unwrap();
        away.close().await;
        let ledger = Ledger::open(LedgerConfig::new(region.path("ledger")), away).await.unwrap();
        ledger.append(events(&account, 60, false)).await.unwrap().unwrap();
        ledger.append(events(&account, 45, false)).await.unwrap().unwrap();
        ledger.close().await;
        let made = made(&region).await;
        assert_eq!(made.events, 16);
        let config = elsewhere(&region);
        // Of the open call all but what the database had.
        assert_eq!(restored(&config, &made.records).await.events, 8 + 3);
        let store = Store::open(&config).await.unwrap();
        assert!(store.call_show(sid(60)).await.unwrap().closed_at.is_some());
        assert!(store.call_show(sid(45)).await.unwrap().closed_at.is_some());
        store.close().await;
    }

    async fn a_backup_is_of_one_moment_while_calls_are_written(region: Region) {
        let account = lived_in(&region).await;
        let writing = async {
            for call in 100..160 {
                region.store.apply_events(&events(&account, call, false)).await.unwrap();
                region.store.receipts_issue(NEVER).await.unwrap();
            }
        };
        let backing = async {
            let mut backups = Vec::new();
            for _ in 0..4 {
                backups.push(made(&region).await);
            }
            backups
        };
        let ((), backups) = tokio::join!(writing, backing);
        for (nth, made) in backups.iter().enumerate() {
            let drilled =
                drill(&region.config, &made.records, &region.path("s"), &mut |_| {}).await.unwrap();
            assert!(drilled.compared.is_sound(), "{nth}: {:?}", drilled.compared);
        }
    }

    async fn a_database_that_is_not_empty_is_not_touched(region: Region) {
        lived_in(&region).await;
        let made = made(&region).await;
        let before = region.store.call_counts().await.unwrap();
        let error = refused(&region.config, &made.records).await.to_string();
        assert!(error.contains("empty database"), "{error}");
        assert_eq!(region.store.call_counts().await.unwrap(), before);
    }
}

fn schemas(region: &Region) -> &'static str {
    match region.config.url.starts_with("sqlite") {
        true => "SELECT name FROM pragma_database_list",
        false => "SELECT nspname::text FROM pg_namespace ORDER BY 1",
    }
}

#[tokio::test]
async fn a_backup_of_one_engine_is_restored_into_the_other() {
    let sqlite = Region::sqlite("ie1").await;
    let Some(postgres) = Region::postgres("ie1").await else { return };
    let Some(empty) = common::database::TestDatabase::create().await else { return };
    lived_in(&sqlite).await;
    let from_sqlite = made(&sqlite).await;
    let config = StoreConfig { url: empty.url.clone(), ..sqlite.config.clone() };
    assert_eq!(restored(&config, &from_sqlite.records).await.compared.chained, 44);
    lived_in(&postgres).await;
    let from_postgres = made(&postgres).await;
    let there = restored(&elsewhere(&postgres), &from_postgres.records).await;
    assert_eq!(there.compared.chained, 44);
}

#[tokio::test]
async fn a_changed_octet_is_found_wherever_it_is() {
    let region = Region::sqlite("ie1").await;
    lived_in(&region).await;
    let made = made(&region).await;
    for file in [&made.records, &made.living] {
        let whole = std::fs::read(file).unwrap();
        // Every octet of the head and the first blocks, then one in each 97.
        let places = (0..600).chain((600..whole.len()).step_by(97)).chain([whole.len() - 1]);
        for at in places {
            let mut octets = whole.clone();
            octets[at] ^= 1 << (at % 8);
            std::fs::write(file, &octets).unwrap();
            let found = verify(&region.config, &made.records, &mut |_| {});
            assert!(found.is_err(), "octet {at} of {} was changed", file.display());
        }
        std::fs::write(file, &whole).unwrap();
    }
    // The first block that is damaged is named by its place.
    let whole = std::fs::read(&made.records).unwrap();
    let mut octets = whole.clone();
    let middle = octets.len() / 2;
    octets[middle] ^= 4;
    std::fs::write(&made.records, &octets).unwrap();
    let error = verify(&region.config, &made.records, &mut |_| {}).unwrap_err();
    let StoreError::Backup { offset, .. } = error else { panic!("{error}") };
    assert!(offset > 0 && offset <= middle as u64, "{offset} of {middle}");
    assert!(refused(&elsewhere(&region), &made.records).await.to_string().contains("octet"));
    assert!(!region.path("restored.db").exists(), "nothing was begun");
}

#[tokio::test]
async fn a_torn_file_is_found_wherever_it_ends() {
    let region = Region::sqlite("ie1").await;
    lived_in(&region).await;
    let made = made(&region).await;
    for file in [&made.records, &made.living] {
        let whole = std::fs::read(file).unwrap();
        for length in (0..whole.len()).step_by(131) {
            std::fs::write(file, &whole[..length]).unwrap();
            let error = problem(&region.config, &made.records);
            assert!(error.contains("octet"), "{length}: {error}");
        }
        std::fs::write(file, [&whole[..], b"x"].concat()).unwrap();
        assert!(problem(&region.config, &made.records).contains("something follows"));
        std::fs::write(file, &whole).unwrap();
    }
    // Blocks of another backup do not fit, nor does the other half.
    std::fs::copy(&made.living, &made.records).unwrap();
    assert!(problem(&region.config, &made.records).contains("living part"));
}

#[tokio::test]
async fn a_backup_opens_in_its_region_with_its_keys_alone() {
    let (ie1, us1) = (Region::sqlite("ie1").await, Region::sqlite("us1").await);
    lived_in(&ie1).await;
    let made = made(&ie1).await;
    let error = refused(&elsewhere(&us1), &made.records).await.to_string();
    assert!(error.contains("region ie1") && error.contains("us1"), "{error}");
    let another = ie1.path("other-keys");
    KeyRing::create(&another, ie1.config.region).unwrap();
    let config = StoreConfig { key_ring: another, ..elsewhere(&ie1) };
    let error = refused(&config, &made.records).await.to_string();
    assert!(error.contains("key ring"), "{error}");

    // Neither does it go where another region's lie, and the gate counts it.
    let dir = ie1.path("backup");
    let error = us1.store.backup(&dir, None, Path::new("none"), &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("backups of region ie1"), "{error}");
    let counted = us1.store.gate().counted();
    assert!(counted.iter().any(|it| it.verdict.name() == "abroad"), "{counted:?}");
    let error = ie1.store.backup(&dir, Some("b.example"), Path::new("none"), &mut |_| {}).await;
    assert!(error.unwrap_err().to_string().contains("no sub-processor"));
}

#[tokio::test]
async fn nothing_personal_lies_readable_in_a_backup() {
    let region = Region::sqlite("ie1").await;
    lived_in(&region).await;
    made(&region).await;
    for (file, octets) in files(&region.path("backup")) {
        for secret in ["alice", "+35312345678", "Acme", "acme.test", "secret-call-id", "internal"] {
            assert!(!common::contains(&octets, secret), "{secret} in {}", file.display());
        }
    }
}

#[tokio::test]
async fn old_backups_go_and_the_newest_stays() {
    let region = Region::sqlite("ie1").await;
    lived_in(&region).await;
    let mut made_then: Vec<PathBuf> = Vec::new();
    for _ in 0..3 {
        made_then.push(made(&region).await.records);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let dir = region.path("backup");
    std::fs::write(dir.join("ie1-notes.records.backup"), "of somebody else").unwrap();
    let listed: Vec<_> =
        list(&region.config, &dir).unwrap().into_iter().map(|it| it.file).collect();
    assert_eq!(listed, made_then);
    assert_eq!(backup::newest(&region.config, &dir).unwrap(), made_then[2]);
    let hour = std::time::Duration::from_secs(3600);
    assert!(prune(&region.config, &dir, hour).unwrap().is_empty());
    let removed = prune(&region.config, &dir, std::time::Duration::ZERO).unwrap();
    assert_eq!(removed, made_then[..2]);
    assert!(verify(&region.config, &made_then[2], &mut |_| {}).is_ok());
    assert!(dir.join("ie1-notes.records.backup").exists());
}

#[tokio::test]
async fn the_living_part_of_an_older_day_is_refused() {
    let region = Region::sqlite("ie1").await;
    let account = lived_in(&region).await;
    let old = made(&region).await;
    let kept = std::fs::read(&old.living).unwrap();
    closed(&region, &account, 50..=50).await;
    let new = made(&region).await;
    std::fs::write(&new.living, kept).unwrap();
    assert!(problem(&region.config, &new.records).contains("older than these records"));
    assert!(verify(&region.config, &old.records, &mut |_| {}).is_ok());
}
