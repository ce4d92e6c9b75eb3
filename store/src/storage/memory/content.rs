//! The bytes of one fake file: what programs see, and what is on the disk, which a sync makes the same. Copies of a disk
//! share what neither changes.
//! Must hold: what a power cut leaves of a sector is what was synced, or what was written since, never a mixture.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    lock,
    power::{Keep, Random},
};

/// What a disk writes as one: a power cut keeps or loses this much of what was not synced.
pub(super) const SECTOR_BYTES: usize = 512;
const WORD_BYTES: usize = 8;

/// One file's bytes.
#[derive(Debug)]
pub(super) struct Content {
    bytes: usize,
    /// What programs see; made when somebody maps or changes the file.
    seen: OnceLock<Arc<[AtomicU64]>>,
    disk: Mutex<OnDisk>,
}

#[derive(Clone, Debug, Default)]
struct OnDisk {
    /// Zeros lie behind what is held here.
    bytes: Arc<Vec<u8>>,
    /// Sectors of which a sync has failed, as they were then: the kernel takes them for clean, and a later sync passes
    /// them over.
    given_up: BTreeMap<usize, Vec<u8>>,
}

impl Content {
    /// Zeros, on the disk as soon as the file's name is.
    pub(super) fn zeros(bytes: usize) -> Self {
        Content { bytes, seen: OnceLock::new(), disk: Mutex::default() }
    }

    /// Bytes that are on the disk already.
    pub(super) fn synced(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Self::on_disk(length, OnDisk { bytes: Arc::new(bytes), given_up: BTreeMap::new() })
    }

    fn on_disk(bytes: usize, disk: OnDisk) -> Self {
        Content { bytes, seen: OnceLock::new(), disk: Mutex::new(disk) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing of it was brought to the disk yet, not even its size.
    pub(super) fn never_synced(&self) -> bool {
        lock(&self.disk).bytes.is_empty()
    }

    /// The memory that every mapping of the file shares.
    pub(super) fn seen(&self) -> &Arc<[AtomicU64]> {
        self.seen.get_or_init(|| {
            let disk = lock(&self.disk);
            let (whole, rest) = disk.bytes.as_chunks::<WORD_BYTES>();
            let mut last = [0; WORD_BYTES];
            last[..rest.len()].copy_from_slice(rest);
            let written = whole.iter().copied().chain([last]);
            let words = written.chain(std::iter::repeat([0; WORD_BYTES])).take(self.bytes.div_ceil(WORD_BYTES));
            words.map(|word| AtomicU64::new(u64::from_ne_bytes(word))).collect()
        })
    }

    /// What programs see of a range.
    pub(super) fn read(&self, range: Range<usize>) -> Vec<u8> {
        let range = range.start.min(self.bytes)..range.end.min(self.bytes);
        if let Some(words) = self.seen.get() {
            return copy(words, range);
        }
        let disk = lock(&self.disk);
        let mut read = vec![0; range.len()];
        let held = disk.bytes.get(range.start..range.end.min(disk.bytes.len())).unwrap_or_default();
        read[..held.len()].copy_from_slice(held);
        read
    }

    /// Changes what programs see.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        let words = self.seen();
        for (at, byte) in (at..self.bytes).zip(bytes) {
            let mut word = words[at / WORD_BYTES].load(Ordering::Relaxed).to_ne_bytes();
            word[at % WORD_BYTES] = *byte;
            words[at / WORD_BYTES].store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Brings a range to the disk.
    pub(super) fn sync(&self, range: Range<usize>) {
        let Some(words) = self.seen.get() else { return };
        let mut disk = lock(&self.disk);
        let OnDisk { bytes, given_up } = &mut *disk;
        let bytes = Arc::make_mut(bytes);
        if bytes.len() < range.end {
            bytes.resize(range.end, 0);
        }
        if given_up.is_empty() {
            bytes[range.clone()].copy_from_slice(&copy(words, range));
            return;
        }
        for (sector, part) in sectors(range) {
            let now = copy(words, part.clone());
            let begin = sector * SECTOR_BYTES;
            let clean = given_up.get(&sector).is_some_and(|then| now == then[part.start - begin..part.end - begin]);
            if !clean {
                given_up.remove(&sector);
                bytes[part].copy_from_slice(&now);
            }
        }
    }

    /// A sync of the range has failed: of what it should have written nobody speaks any more.
    pub(super) fn give_up(&self, range: Range<usize>) {
        let Some(words) = self.seen.get() else { return };
        let mut disk = lock(&self.disk);
        let OnDisk { bytes, given_up } = &mut *disk;
        for (sector, _) in sectors(range) {
            let now = copy(words, self.sector(sector));
            if !same(bytes, self.sector(sector), &now) {
                given_up.insert(sector, now);
            }
        }
    }

    /// Brings a range to the disk, but one of the sectors that changed to a wrong place. Says whether there was one.
    pub(super) fn sync_astray(&self, range: Range<usize>, random: &mut Random) -> bool {
        let now = self.read(0..self.bytes);
        let before = lock(&self.disk).bytes.to_vec();
        let changed: Vec<_> =
            sectors(range.clone()).filter(|(_, part)| !same(&before, part.clone(), &now[part.clone()])).collect();
        let whole = self.bytes / SECTOR_BYTES;
        self.sync(range);
        let Some((sector, _)) = changed.get(random.below(changed.len())).filter(|_| whole > 1) else { return false };
        let strayed = (sector + 1 + random.below(whole - 1)) % whole;
        let mut disk = lock(&self.disk);
        let bytes = Arc::make_mut(&mut disk.bytes);
        bytes.resize(self.bytes, 0);
        let mut old = before;
        old.resize(self.bytes, 0);
        bytes[self.sector(*sector)].copy_from_slice(&old[self.sector(*sector)]);
        let moved = &now[self.sector(*sector)];
        let to = self.sector(strayed);
        bytes[to.clone()].copy_from_slice(&moved[..to.len()]);
        true
    }

    fn sector(&self, sector: usize) -> Range<usize> {
        sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(self.bytes)
    }

    /// What a power cut leaves.
    pub(super) fn survivor(&self, keep: &mut Keep, random: &mut Random) -> Self {
        let disk = lock(&self.disk);
        let mut bytes = Arc::clone(&disk.bytes);
        if let Some(words) = self.seen.get() {
            let now = copy(words, 0..self.bytes);
            for (_, part) in sectors(0..self.bytes) {
                if !same(&bytes, part.clone(), &now[part.clone()]) && keep.one(random) {
                    let kept = Arc::make_mut(&mut bytes);
                    kept.resize(kept.len().max(part.end), 0);
                    kept[part.clone()].copy_from_slice(&now[part]);
                }
            }
        }
        Self::on_disk(self.bytes, OnDisk { bytes, given_up: BTreeMap::new() })
    }

    /// The same file in memory of its own.
    pub(super) fn copied(&self) -> Self {
        let copied = Self::on_disk(self.bytes, lock(&self.disk).clone());
        if let Some(words) = self.seen.get() {
            let words = words.iter().map(|word| AtomicU64::new(word.load(Ordering::Relaxed))).collect();
            copied.seen.get_or_init(|| words);
        }
        copied
    }

    /// Turns one bit over, in memory and on the disk.
    pub(super) fn flip(&self, bit: usize) -> io::Result<()> {
        let at = bit / 8;
        let Some(byte) = self.read(at..at + 1).first().map(|byte| byte ^ 1 << (bit % 8)) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        self.write(at, &[byte]);
        let mut disk = lock(&self.disk);
        let bytes = Arc::make_mut(&mut disk.bytes);
        bytes.resize(bytes.len().max(at + 1), 0);
        bytes[at] ^= 1 << (bit % 8);
        Ok(())
    }
}

/// The sectors that a range touches, each with its part of the range.
fn sectors(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    (range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES)).map(move |sector| {
        let part = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        (sector, part.start.max(range.start)..part.end.min(range.end))
    })
}

/// Whether a range of what is on the disk, which may end early in zeros, is `now`.
fn same(disk: &[u8], range: Range<usize>, now: &[u8]) -> bool {
    let held = disk.get(range.start..range.end.min(disk.len())).unwrap_or_default();
    held == &now[..held.len()] && now[held.len()..].iter().all(|byte| *byte == 0)
}

fn copy(words: &[AtomicU64], range: Range<usize>) -> Vec<u8> {
    if range.is_empty() {
        return Vec::new();
    }
    let first = range.start / WORD_BYTES;
    let words = &words[first..range.end.div_ceil(WORD_BYTES)];
    let mut bytes = Vec::with_capacity(words.len() * WORD_BYTES);
    words.iter().for_each(|word| bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()));
    let skipped = range.start - first * WORD_BYTES;
    bytes.truncate(skipped + range.len());
    bytes.drain(..skipped);
    bytes
}
