//! Sums against a map of offsets, through cuts, power cuts and damage of their own files; which log they are of.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::storage::{Fault, MemoryStorage, Operation};

/// Four stretches, the last of them short.
const LOG_FILE_BYTES: u64 = 200_000;
const ROOT: &str = "/store";

fn open(storage: &Arc<MemoryStorage>) -> Arc<Sums> {
    Arc::new(Sums::open(Arc::clone(storage) as _, Path::new(ROOT), LOG_FILE_BYTES).unwrap())
}

fn sum_at(sums: &Sums, offset: u64) -> Option<u32> {
    sums.file_for(offset).unwrap().and_then(|file| file.sum_at(offset))
}

fn push(writer: &mut SumWriter, offset: u64, sum: u32) {
    writer.push(offset, sum).unwrap();
    writer.end = offset + 91;
    writer.publish();
}

/// Offsets and sums of records that lie as in a log: 91 to 70,000 bytes each.
fn records(count: u64) -> Vec<(u64, u32)> {
    let mut offset = 0;
    let record = |at: u64| {
        let found = (offset, (at as u32).wrapping_mul(0x9E37_79B9));
        offset += 91 + at * at * 97 % 3000 + if at.is_multiple_of(17) { 66_000 } else { 0 };
        found
    };
    (0..count).map(record).collect()
}

#[test]
fn no_flipped_bit_of_a_file_gives_a_good_record_another_sum() {
    let storage = Arc::new(MemoryStorage::new());
    let records = records(40);
    let mut writer = SumWriter::new(open(&storage));
    records.iter().for_each(|(offset, sum)| push(&mut writer, *offset, *sum));
    writer.sums.sync().unwrap();
    let path = writer.sums.path(0);
    let file = writer.sums.file_for(0).unwrap().unwrap();
    let in_file: Vec<_> = records.iter().filter(|(offset, _)| *offset < LOG_FILE_BYTES).collect();
    assert!(in_file.len() > 20 && in_file.len() < 40);
    let mut hidden = 0;
    for bit in 0..(file.used_bytes() * 8) {
        storage.flip_bit(&path, bit).unwrap();
        for (offset, sum) in &in_file {
            let found = file.sum_at(*offset);
            assert!(found.is_none_or(|found| found == *sum), "bit {bit} gives the record at {offset} {found:x?}");
            hidden += usize::from(found.is_none());
        }
        storage.flip_bit(&path, bit).unwrap();
    }
    assert!(hidden > in_file.len() * 64, "each bit of an entry hides it: {hidden}");
    assert!(in_file.iter().all(|(offset, sum)| file.sum_at(*offset) == Some(*sum)));
}

#[test]
fn what_is_brought_in_is_what_the_records_of_a_range_need() {
    let storage = Arc::new(MemoryStorage::new());
    let records = records(40);
    let mut writer = SumWriter::new(open(&storage));
    records.iter().for_each(|(offset, sum)| push(&mut writer, *offset, *sum));
    let file = writer.sums.file_for(0).unwrap().unwrap();
    let in_file = records.iter().filter(|(offset, _)| *offset < LOG_FILE_BYTES).count();
    let all = file.entries_in(file.stretches_in(0..LOG_FILE_BYTES));
    assert_eq!(all.len(), in_file * 8);
    for (number, (offset, _)) in records.iter().take(in_file).enumerate() {
        let part = file.entries_in(file.stretches_in(*offset..offset + 1));
        let entry = all.start + number * 8;
        assert!(part.start <= entry && entry + 8 <= part.end, "{number} at {offset}: {part:?} of {all:?}");
        assert!(part.len() < all.len());
    }
    // Where no record begins, behind the last, and where nothing can be.
    assert!(file.entries_in(3..3).is_empty());
    assert!(file.entries_in(file.stretches_in(u64::MAX - 1..u64::MAX)).is_empty());
    writer.sums.bring_in(0..LOG_FILE_BYTES);
    writer.sums.will_need(5 * LOG_FILE_BYTES..6 * LOG_FILE_BYTES);
    assert_eq!(sum_at(&writer.sums, 0), Some(records[0].1));
    // What cannot be read says nothing, and ends nobody.
    storage.plan(Fault { operation: Some(Operation::Read), after: 0, lasting: true, errno: 5 });
    writer.sums.bring_in(0..100);
    assert_eq!(sum_at(&writer.sums, 0), None);
}

#[test]
fn no_sum_that_was_cut_speaks_against_the_record_that_came_in_its_place() {
    let storage = Arc::new(MemoryStorage::new());
    let mut writer = SumWriter::new(open(&storage));
    // The entries are in other sectors than the directory that counts them.
    let places: Vec<u64> = (0..300).map(|at| at * 200).collect();
    places.iter().for_each(|at| push(&mut writer, *at, 1));
    writer.sums.sync().unwrap();
    let cut = 150;
    writer.sums.truncate_to(places[cut]).unwrap();
    let mut writer = SumWriter::new(Arc::clone(&writer.sums));
    places[cut..].iter().for_each(|at| push(&mut writer, *at, 2));
    let mut ahead = 0;
    for seed in 0..50 {
        let sums = open(&Arc::new(storage.power_cut(seed)));
        let Some(file) = sums.file_for(0).unwrap() else { continue };
        ahead += u32::from(file.count() as usize > cut);
        let wrong = file.between(places[cut], u64::MAX).find(|(_, sum)| *sum != 2);
        assert_eq!(wrong, None, "seed {seed}");
    }
    assert!(ahead > 5, "the directory was ahead of its entries {ahead} times");
}

#[test]
fn a_damaged_directory_keeps_no_record_from_being_noted() {
    let storage = Arc::new(MemoryStorage::new());
    let mut writer = SumWriter::new(open(&storage));
    let records = records(6);
    records.iter().for_each(|(offset, sum)| push(&mut writer, *offset, *sum));
    let path = writer.sums.path(0);
    let before = storage.read(&path).unwrap();
    let directory = 64..64 + 4 * 8;
    for bit in directory.start * 8..directory.end * 8 {
        storage.write(&path, &before).unwrap();
        storage.flip_bit(&path, bit).unwrap();
        let sums = open(&storage);
        let end = records.last().unwrap().0 + 100;
        sums.start_at(u64::MAX, end).unwrap();
        let mut writer = SumWriter::new(Arc::clone(&sums));
        (0..5).for_each(|at| push(&mut writer, end + at * 20_000, 5));
        for (offset, sum) in &records {
            assert!(sum_at(&sums, *offset).is_none_or(|found| found == *sum), "bit {bit}");
        }
    }
}

#[test]
fn only_where_a_record_begins_there_is_a_sum() {
    let storage = Arc::new(MemoryStorage::new());
    let mut writer = SumWriter::new(open(&storage));
    let records: BTreeMap<_, _> = records(30).into_iter().collect();
    records.iter().for_each(|(offset, sum)| push(&mut writer, *offset, *sum));
    let again = open(&storage);
    for offset in 0..records.last_key_value().unwrap().0 + 100 {
        assert_eq!(sum_at(&again, offset), records.get(&offset).copied(), "{offset}");
    }
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_deleted() {
    let storage = Arc::new(MemoryStorage::new());
    let mut writer = SumWriter::new(open(&storage));
    let records = records(40);
    records.iter().for_each(|(offset, sum)| push(&mut writer, *offset, *sum));
    let (first, second) = (writer.sums.path(0), writer.sums.path(LOG_FILE_BYTES));
    let cut = storage.read(&second).unwrap()[1..].to_vec();
    storage.write(&second, &cut).unwrap();
    storage.flip_bit(&first, 5).unwrap();
    let sums = open(&storage);
    assert!(records.iter().all(|(offset, _)| sum_at(&sums, *offset).is_none() || *offset >= 2 * LOG_FILE_BYTES));
    assert_eq!([&first, &second].map(|path| storage.file_bytes(path).unwrap()), [None, None]);
    // It goes on all the same.
    let end = records.last().unwrap().0 + 100;
    sums.start_at(end, end).unwrap();
    push(&mut SumWriter::new(Arc::clone(&sums)), end, 7);
    assert_eq!(sum_at(&sums, end), Some(7));
}

#[test]
fn a_full_disk_costs_the_sums_and_nothing_else() {
    let storage = Arc::new(MemoryStorage::new());
    let sums = open(&storage);
    let mut writer = SumWriter::new(Arc::clone(&sums));
    storage.set_room(Some(0));
    assert!(writer.push(0, 1).is_err());
    storage.set_room(None);
    push(&mut writer, 100, 2);
    assert_eq!([0, 100].map(|offset| sum_at(&sums, offset)), [None, Some(2)]);
}

#[test]
fn sums_of_another_log_are_told_from_damage() {
    let records = records(60);
    let storage = Arc::new(MemoryStorage::new());
    let mut writer = SumWriter::new(open(&storage));
    records.iter().for_each(|(offset, sum)| push(&mut writer, *offset, *sum));
    let sums = open(&storage);
    let all = u64::MAX;
    let own_end = |strangers, is_same: &dyn Fn(usize) -> bool| {
        sums.own_end(strangers, |offset, sum| {
            let at = records.iter().position(|record| *record == (offset, sum)).unwrap();
            is_same(at)
        })
        .unwrap()
    };
    let behind = |at: usize| records[at].0 + 1;
    for strangers in [true, false] {
        assert_eq!(own_end(strangers, &|_| true), all);
        assert_eq!(own_end(strangers, &|at| at != 20), all, "damage is no other log");
        assert_eq!(own_end(strangers, &|_| false), 0);
        for cut in [1, 2, 17, 30, 43] {
            assert_eq!(own_end(strangers, &|at| at < cut), behind(cut - 1), "{cut}");
        }
    }
    for cut in 45..60 {
        assert_eq!(own_end(true, &|at| at < cut), behind(cut - 1), "{cut}");
        assert_eq!(own_end(false, &|at| at < cut), all, "so few may be damaged: {cut}");
    }
    assert_eq!(open(&Arc::new(MemoryStorage::new())).own_end(true, |_, _| false).unwrap(), u64::MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Push { gap: u64, sum: u32 },
    Sync,
    Cut { back: u64 },
    Kill,
    PowerCut { seed: u64 },
    DeleteBefore { back: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![8 => 0..2000u64, 1 => 0..300_000u64];
    prop_oneof![
        24 => (gap, any::<u32>()).prop_map(|(gap, sum)| Step::Push { gap, sum }),
        4 => Just(Step::Sync),
        2 => (0..200_000u64).prop_map(|back| Step::Cut { back }),
        2 => Just(Step::Kill),
        2 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
        1 => (0..500_000u64).prop_map(|back| Step::DeleteBefore { back }),
    ]
}

fn play(steps: &[Step]) {
    let mut storage = Arc::new(MemoryStorage::new());
    let mut writer = SumWriter::new(open(&storage));
    let mut expected = BTreeMap::new();
    let (mut end, mut synced, mut min) = (0, 0, 0);
    for step in steps {
        match *step {
            Step::Push { gap, sum } => {
                push(&mut writer, end + gap, sum);
                expected.insert(end + gap, sum);
                end += gap + 91;
            }
            Step::Sync => {
                writer.sums.sync().unwrap();
                synced = end;
            }
            Step::Cut { back } => {
                end = end.saturating_sub(back).max(min);
                let sums = Arc::clone(&writer.sums);
                sums.truncate_to(end).unwrap();
                writer = SumWriter::new(sums);
                expected.split_off(&end);
                synced = synced.min(end);
            }
            Step::Kill => {
                // As after a kill: everything is synced before anything is relied on.
                storage.sync_tree(Path::new(ROOT)).unwrap();
                synced = end;
                writer = SumWriter::new(open(&storage));
            }
            Step::PowerCut { seed } => {
                storage = Arc::new(storage.power_cut(seed));
                end = synced;
                writer = SumWriter::new(open(&storage));
                // A file that was deleted may have come back.
                writer.sums.delete_before(min).unwrap();
                writer.sums.truncate_to(end).unwrap();
                expected.split_off(&end);
            }
            Step::DeleteBefore { back } => {
                min = min.max(synced.saturating_sub(back) / LOG_FILE_BYTES * LOG_FILE_BYTES);
                writer.sums.delete_before(min).unwrap();
                expected = expected.split_off(&min);
            }
        }
        let files = writer.sums.files().len();
        assert!(files as u64 <= end / LOG_FILE_BYTES + 1, "{files} files up to {end}");
    }
    for (offset, sum) in &expected {
        assert_eq!(sum_at(&writer.sums, *offset), Some(*sum), "{offset}");
        assert_eq!(sum_at(&writer.sums, offset + 1), None, "{offset}");
    }
    let row = writer.sums.row(false).unwrap();
    let all: Vec<_> = (0..row.len).rev().map(|back| row.nth_back(back).unwrap().unwrap()).collect();
    assert_eq!(all, expected.into_iter().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_noted_is_found_again(steps in proptest::collection::vec(step(), 1..120)) {
        play(&steps);
    }
}
