//! Every store passes the contract, and a durable one keeps its promise over restarts.

use std::{path::Path, time::Duration};

use persistence_server::{
    FileSettings, SequenceName,
    store::{Operations, file::FileStore, memory::MemoryStore},
};
use sequence::{Count, Sequence as _, Store as _, contract};
use tokio::time::sleep;

fn try_open(dir: &Path, name: &str) -> Result<FileStore, String> {
    let settings = FileSettings {
        data_dir: dir.to_owned(),
    };
    let name = SequenceName::try_from(name.to_owned()).unwrap();
    FileStore::open(&settings, &name, Operations::default(), |error| {
        panic!("{error}")
    })
    .map_err(|error| error.to_string())
}

/// Opens once the directory is free: that is a moment after the last handle is gone.
async fn open_when_free(dir: &Path, name: &str) -> Result<FileStore, String> {
    for _ in 0..5000 {
        match try_open(dir, name) {
            Err(error) if error.contains("another process") => {
                sleep(Duration::from_millis(1)).await;
            }
            opened => return opened,
        }
    }
    panic!("the directory stays locked");
}

async fn open(dir: &Path) -> FileStore {
    open_when_free(dir, "numbers")
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn the_memory_store_passes_the_contract() {
    let store = MemoryStore::open(Operations::default());
    contract::check_new(async || store.clone()).await;
    contract::check_store(async || store.clone()).await;
}

#[tokio::test]
async fn the_file_store_passes_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    contract::check_new(async || store.clone()).await;
    contract::check_store(async || store.clone()).await;
}

#[tokio::test]
async fn the_file_store_goes_on_where_it_was_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 1..=20 {
        let store = open(dir.path()).await;
        let block = store.reserve(Count::new(round).unwrap()).await.unwrap();
        assert_eq!(block.first(), last + 1);
        last = block.last();
    }
    let store = open(dir.path()).await;
    store.raise_above(1_000_000).await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.reserve(Count::ONE).await.unwrap().first(), 1_000_001);
}

#[tokio::test]
async fn two_sequences_in_one_place_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let one = try_open(dir.path(), "one").unwrap();
    one.reserve(Count::new(10).unwrap()).await.unwrap();
    let busy = try_open(dir.path(), "two").unwrap_err();
    assert!(
        busy.contains("another process is using the directory"),
        "{busy}"
    );
    drop(one);
    let two = open_when_free(dir.path(), "two").await.unwrap();
    assert_eq!(two.reserve(Count::ONE).await.unwrap().first(), 1);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.reserve(Count::new(1000).unwrap()).await.unwrap();
    drop(store);
    drop(open(dir.path()).await);
    let file = dir.path().join("numbers.sequence");
    let good = std::fs::read(&file).unwrap();
    let damages: [(&str, Vec<u8>); 5] = [
        ("emptied", Vec::new()),
        ("cut short", good[..good.len() / 2].to_vec()),
        ("zeroed", vec![0; good.len()]),
        (
            "half zeroed",
            [vec![0; good.len() / 2], good[good.len() / 2..].to_vec()].concat(),
        ),
        ("another file", b"hello\n".repeat(3000)),
    ];
    for (what, bytes) in damages {
        std::fs::write(&file, &bytes).unwrap();
        let error = open_when_free(dir.path(), "numbers").await.unwrap_err();
        assert!(
            error.contains("numbers.sequence is damaged"),
            "{what}: {error}"
        );
        assert!(error.contains("DATA_DIR="), "{what}: {error}");
        assert_eq!(
            std::fs::read(&file).unwrap(),
            bytes,
            "{what}: it was changed"
        );
    }
    std::fs::write(&file, good).unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.reserve(Count::ONE).await.unwrap().first(), 1001);
}
