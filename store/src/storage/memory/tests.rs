//! The fake disk itself: what survives, what fails, what is counted.

use std::collections::BTreeSet;

use super::super::{Blocks, Storage};
use super::*;

const DIR: &str = "/store";

fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir(Path::new(DIR)).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    storage
}

fn at(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Writes through the seam for mapped files, without a mapping.
fn put(storage: &MemoryStorage, name: &str, from: usize, bytes: &[u8]) {
    storage.shared.file(&at(name)).unwrap().content().write(from, bytes);
}

fn names_after(storage: &MemoryStorage, seed: u64) -> Vec<String> {
    storage.power_cut(seed).list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_of_other_names_the_first() {
    let storage = storage();
    storage.write(&at("kept"), b"kept").unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    storage.write(&at("new"), b"new").unwrap();
    storage.rename(&at("new"), &at("renamed")).unwrap();
    storage.remove(&at("kept")).unwrap();
    let found: BTreeSet<_> = (0..100).map(|seed| names_after(&storage, seed).join(" ")).collect();
    let expected = ["kept", "kept new", "kept renamed", "renamed"].map(str::to_owned);
    assert_eq!(found, expected.into());
    assert!((0..100).all(|seed| names_after(&storage, seed) == names_after(&storage, seed)), "one seed, one disk");
    storage.sync_dir(Path::new(DIR)).unwrap();
    let after = storage.power_cut(1);
    assert_eq!(after.read(&at("renamed")).unwrap(), b"new");
    assert_eq!(after.list(Path::new(DIR)).unwrap().len(), 1);
}

#[test]
fn a_power_cut_keeps_whole_sectors_of_what_was_not_synced() {
    let storage = storage();
    storage.create(&at("a"), 4096, Blocks::Reserved).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    put(&storage, "a", 0, &[1; 4096]);
    let region = storage.map(&at("a"), 4096).unwrap();
    region.sync(0..600).unwrap();
    put(&storage, "a", 0, &[2; 4096]);
    let mut torn = 0;
    for seed in 0..200 {
        let bytes = storage.power_cut(seed).read(&at("a")).unwrap();
        let sectors: Vec<_> = bytes.chunks(512).collect();
        assert!(sectors[0] == [1; 512] || sectors[0] == [2; 512]);
        let second = [[1; 88].to_vec(), vec![0; 424]].concat();
        assert!(sectors[1] == second || sectors[1] == [2; 512]);
        assert!(sectors[2..].iter().all(|sector| *sector == [0; 512] || *sector == [2; 512]));
        torn += usize::from((1..8).contains(&sectors.iter().filter(|sector| **sector == [2; 512]).count()));
    }
    assert!((50..200).contains(&torn), "{torn} of 200 are torn");
    assert_eq!(storage.kill().read(&at("a")).unwrap(), [2; 4096]);
}

#[test]
fn a_folder_that_was_not_synced_may_be_gone_with_all_that_is_in_it() {
    let storage = storage();
    let dir = at("queue/0");
    storage.create_dir(&dir).unwrap();
    storage.write(&dir.join("a"), b"a").unwrap();
    assert!((0..50).any(|seed| !names_after(&storage, seed).contains(&"queue".to_owned())));
    storage.sync_dir(&dir).unwrap();
    assert!((0..50).all(|seed| storage.power_cut(seed).read(&dir.join("a")).is_ok()), "those above come with it");
    storage.remove_dir(&at("queue")).unwrap();
    let left = |seed| storage.power_cut(seed).read(&dir.join("a")).is_ok();
    assert!((0..50).any(left) && !(0..50).all(left));
    storage.sync_dir(Path::new(DIR)).unwrap();
    assert!(!(0..50).any(left));
}

#[test]
fn a_folder_that_is_made_anew_and_synced_is_not_removed_by_what_came_before() {
    let storage = storage();
    let dir = at("topic/0");
    for bytes in [b"old", b"new"] {
        storage.create_dir(&dir).unwrap();
        storage.write(&dir.join("a"), bytes).unwrap();
        storage.sync_dir(&dir).unwrap();
        assert!((0..20).all(|seed| storage.power_cut(seed).read(&dir.join("a")).unwrap() == bytes));
        storage.remove_dir(&at("topic")).unwrap();
        storage.sync_dir(Path::new(DIR)).unwrap();
        assert!((0..20).all(|seed| storage.power_cut(seed).read(&dir.join("a")).is_err()));
    }
    storage.create_dir(&dir).unwrap();
    storage.write(&dir.join("a"), b"last").unwrap();
    storage.sync_dir(&dir).unwrap();
    storage.sync_dir(&at("topic")).unwrap();
    assert!((0..20).all(|seed| storage.power_cut(seed).read(&dir.join("a")).unwrap() == b"last"));
}

#[test]
fn a_write_that_a_power_cut_parts_leaves_the_old_bytes_or_some_of_the_new() {
    let storage = Arc::new(storage());
    storage.write(&at("a"), b"old").unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&found);
    storage.watch(move |storage, _| {
        lock(&seen).extend((0..50).map(|seed| storage.power_cut(seed).read(&at("a")).unwrap()));
    });
    storage.write(&at("a"), b"newer").unwrap();
    let expected = [&b"old"[..], b"", b"newer", &[0; 5]].map(<[u8]>::to_vec);
    assert_eq!(*lock(&found), expected.into());
    assert_eq!(storage.power_cut(3).read(&at("a")).unwrap(), b"newer");
}

#[test]
fn a_file_that_was_being_made_may_be_empty() {
    let storage = storage();
    storage.create(&at("a"), 700, Blocks::Sparse).unwrap();
    let sizes: BTreeSet<_> = (0..50).map(|seed| storage.power_cut(seed).file_bytes(&at("a")).unwrap()).collect();
    assert_eq!(sizes, [None, Some(0), Some(700)].into());
}

#[test]
fn after_a_failed_sync_a_second_one_brings_nothing_to_the_disk() {
    let storage = storage();
    storage.create(&at("a"), 1024, Blocks::Reserved).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    let region = storage.map(&at("a"), 1024).unwrap();
    put(&storage, "a", 0, &[7; 1024]);
    storage.plan(Fault { operation: Some(Operation::Sync), after: 0, lasting: false, errno: 5 });
    assert_eq!(region.sync(0..1024).unwrap_err().raw_os_error(), Some(5));
    region.sync(0..1024).unwrap();
    let zeros = |sector: usize| {
        let is_zero = |seed| storage.power_cut(seed).read(&at("a")).unwrap()[sector * 512..][..512] == [0; 512];
        (0..50).any(is_zero)
    };
    assert!(zeros(0) && zeros(1));
    // What is written anew is dirty again.
    put(&storage, "a", 0, &[8; 512]);
    region.sync(0..1024).unwrap();
    assert!(!zeros(0) && zeros(1));
}

#[test]
fn faults_hit_the_operation_they_are_meant_for() {
    let storage = storage();
    storage.plan(Fault { operation: Some(Operation::Rename), after: 1, lasting: false, errno: 5 });
    storage.write(&at("a"), b"a").unwrap();
    storage.rename(&at("a"), &at("b")).unwrap();
    assert!(storage.rename(&at("b"), &at("c")).is_err());
    storage.rename(&at("b"), &at("c")).unwrap();
    storage.plan(Fault { operation: None, after: 0, lasting: true, errno: 28 });
    for _ in 0..2 {
        assert_eq!(storage.write(&at("d"), b"").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(storage.read(&at("c")).unwrap(), b"a", "looking changes nothing");
    assert_eq!(storage.failed_operations(), 3);
    storage.clear_plans();
    storage.write(&at("d"), b"").unwrap();
}

#[test]
fn without_power_nothing_reaches_the_disk() {
    let storage = storage();
    storage.create(&at("a"), 512, Blocks::Reserved).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    let region = storage.map(&at("a"), 512).unwrap();
    put(&storage, "a", 0, &[1; 512]);
    storage.power_fails_at(storage.operations() + 1);
    region.sync(0..512).unwrap();
    put(&storage, "a", 0, &[2; 512]);
    assert!(region.sync(0..512).is_err() && storage.write(&at("b"), b"b").is_err());
    put(&storage, "a", 0, &[3; 512]);
    let bytes = |seed| storage.power_cut(seed).read(&at("a")).unwrap()[0];
    assert_eq!((0..50).map(bytes).collect::<BTreeSet<_>>(), [1, 2].into());
}

#[test]
fn a_sync_that_goes_astray_writes_one_sector_over_another() {
    let storage = storage();
    storage.create(&at("a"), 4096, Blocks::Reserved).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    let region = storage.map(&at("a"), 4096).unwrap();
    let bytes: Vec<u8> = (0..4096).map(|at| (at / 512) as u8 + 1).collect();
    storage.lead_sync_astray(7);
    region.sync(0..4096).unwrap();
    put(&storage, "a", 0, &bytes);
    region.sync(0..4096).unwrap();
    assert_eq!(storage.read(&at("a")).unwrap(), bytes, "the memory is as it was");
    let after =
        (0..64).map(|seed| storage.power_cut(seed).read(&at("a")).unwrap()).find(|after| *after != bytes).unwrap();
    let wrong: Vec<_> = (0..8).filter(|sector| after[sector * 512] != *sector as u8 + 1).collect();
    assert!((1..=2).contains(&wrong.len()), "{wrong:?}");
}

#[test]
fn a_flipped_bit_is_seen_and_stays() {
    let storage = storage();
    storage.write(&at("a"), &[0; 100]).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    storage.flip_bit(&at("a"), 8 * 70 + 3).unwrap();
    assert_eq!(storage.read(&at("a")).unwrap()[70], 8);
    assert_eq!(storage.power_cut(1).read(&at("a")).unwrap()[70], 8);
    assert!(storage.flip_bit(&at("a"), 8 * 100).is_err());
}

#[test]
fn a_full_disk_refuses_new_blocks_but_not_sparse_files() {
    let storage = storage();
    storage.set_room(Some(4096));
    let full = storage.create(&at("a"), 8192, Blocks::Reserved).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    storage.create(&at("b"), 8192, Blocks::Sparse).unwrap();
    storage.reserve(&at("b"), 0..4096).unwrap();
    assert!(storage.reserve(&at("b"), 4096..8192).is_err());
}

#[test]
fn the_part_of_a_disk_that_is_used_is_rounded_up() {
    let storage = storage();
    let dir = Path::new(DIR);
    assert_eq!(storage.space(dir).unwrap().used_percent(), 0);
    storage.create(&dir.join("a"), 700, Blocks::Sparse).unwrap();
    for (elsewhere, percent) in [(0, 70), (1, 71), (300, 100), (5000, 100)] {
        storage.set_size(1000, elsewhere);
        assert_eq!(storage.space(dir).unwrap().used_percent(), percent, "{elsewhere}");
    }
}
