//! A disk made of memory, for tests: it forgets what was not synced, runs out of room and fails syncs on request.
//! Several stores may be opened on one after another; [`MemoryStorage::power_cut`] gives the disk as it is found
//! after the power came back.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{Access, Backing, Blocks, Entry, Life, Memory, Region, Space, Storage};

/// What a disk writes as one: a power cut keeps or loses this much of what was not synced.
const SECTOR_BYTES: usize = 512;

/// Files in memory.
#[derive(Debug)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    fail_syncs: Arc<AtomicBool>,
    slow_syncs_ms: Arc<AtomicU64>,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
}

#[derive(Debug, Default)]
struct Disk {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<Bytes>>,
    /// The names a power cut keeps, with the file each stands for.
    durable: BTreeMap<PathBuf, Arc<Bytes>>,
    room: Option<u64>,
    /// What the disk says of itself: bytes in all, and of those what is not the store's.
    size: Option<(u64, u64)>,
    /// Changes when what was not synced may be lost.
    life: i64,
}

/// Every disk of the process, and every power cut, has a life of its own.
fn new_life() -> i64 {
    static LIVES: AtomicI64 = AtomicI64::new(1);
    LIVES.fetch_add(1, Ordering::Relaxed)
}

/// One file: what programs see, and what is on the disk.
#[derive(Debug)]
struct Bytes {
    seen: Arc<[AtomicU8]>,
    durable: Mutex<Vec<u8>>,
    modified: SystemTime,
}

impl Bytes {
    fn new(bytes: &[u8]) -> Arc<Self> {
        let seen = bytes.iter().map(|byte| AtomicU8::new(*byte)).collect();
        Arc::new(Bytes { seen, durable: Mutex::new(vec![0; bytes.len()]), modified: SystemTime::UNIX_EPOCH })
    }

    fn sync(&self, range: Range<usize>) {
        let mut durable = lock(&self.durable);
        for at in range {
            durable[at] = self.seen[at].load(Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty disk without limits.
    pub fn new() -> Self {
        let disk = Disk { life: new_life(), ..Disk::default() };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            fail_syncs: Arc::default(),
            slow_syncs_ms: Arc::default(),
            locks: Arc::default(),
        }
    }

    /// As after a reboot that lost nothing: whoever opens the disk next can rely on nothing but what was synced.
    pub fn reboot(&self) {
        lock(&self.disk).life = new_life();
    }

    /// From now on every sync fails (or works again).
    pub fn fail_syncs(&self, fail: bool) {
        self.fail_syncs.store(fail, Ordering::Relaxed);
    }

    /// From now on every sync takes so long.
    pub fn slow_syncs(&self, pause: Duration) {
        self.slow_syncs_ms.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// Room left for new files and reservations, in bytes; `None` for no limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        lock(&self.disk).room = bytes;
    }

    /// From now on the disk says that it has `all` bytes, `elsewhere` of them taken by others. Files count in full. Says
    /// nothing of what can be stored: see [`MemoryStorage::set_room`].
    pub fn set_size(&self, all: u64, elsewhere: u64) {
        lock(&self.disk).size = Some((all, elsewhere));
    }

    /// The disk after a power cut at this moment: synced bytes are there, of the others a random part of the sectors.
    /// The same seed keeps the same sectors.
    pub fn power_cut(&self, seed: u64) -> MemoryStorage {
        let disk = lock(&self.disk);
        let mut random = seed;
        let mut after = Disk { dirs: disk.dirs.clone(), life: new_life(), ..Disk::default() };
        for (path, file) in &disk.durable {
            let mut bytes = lock(&file.durable).clone();
            for (sector, kept) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
                if next_random(&mut random) & 1 == 0 {
                    for (at, byte) in kept.iter_mut().enumerate() {
                        *byte = file.seen[sector * SECTOR_BYTES + at].load(Ordering::Relaxed);
                    }
                }
            }
            let file = Bytes::new(&bytes);
            file.sync(0..bytes.len());
            after.files.insert(path.clone(), Arc::clone(&file));
            after.durable.insert(path.clone(), file);
        }
        MemoryStorage { disk: Arc::new(Mutex::new(after)), ..MemoryStorage::new() }
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Bytes>> {
        lock(&self.disk).files.get(path).cloned().ok_or_else(|| not_found(path))
    }

    fn check_sync(&self) -> io::Result<()> {
        check_sync(&self.fail_syncs)
    }
}

fn check_sync(fail: &AtomicBool) -> io::Result<()> {
    if fail.load(Ordering::Relaxed) { Err(io::Error::other("the disk does not sync")) } else { Ok(()) }
}

/// SplitMix64: enough randomness to choose sectors, without a dependency.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Disk {
    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.room {
            Some(room) if *room < bytes => Err(io::ErrorKind::StorageFull.into()),
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Storage for MemoryStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let disk = lock(&self.disk);
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let inside = |path: &Path| path.parent() == Some(dir);
        let files = disk.files.iter().filter(|(path, _)| inside(path)).map(|(path, file)| Entry {
            name: name(path),
            is_dir: false,
            bytes: file.seen.len() as u64,
        });
        let dirs = disk.dirs.iter().filter(|path| inside(path));
        let mut entries: Vec<_> = dirs.map(|path| Entry { name: name(path), is_dir: true, bytes: 0 }).collect();
        entries.extend(files);
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(lock(&self.disk).files.get(path).map(|file| file.seen.len() as u64))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let disk = lock(&self.disk);
        let (all, elsewhere) = disk.size.unwrap_or((u64::MAX, 0));
        let files: u64 = disk.files.values().map(|file| file.seen.len() as u64).sum();
        let used = files.saturating_add(elsewhere).min(all);
        Ok(Space { used, available: all - used })
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        Ok(self.file(path)?.modified)
    }

    fn create(&self, path: &Path, bytes: u64, blocks: Blocks) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        if disk.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| disk.dirs.contains(dir)) {
            return Err(not_found(path));
        }
        if blocks == Blocks::Reserved {
            disk.take_room(bytes)?;
        }
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        disk.files.insert(path.to_owned(), Bytes::new(&zeros));
        Ok(())
    }

    fn reserve(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        self.file(path)?;
        lock(&self.disk).take_room(range.end - range.start)
    }

    fn wipe(&self, path: &Path, range: Range<u64>, _blocks: Blocks) -> io::Result<()> {
        self.check_sync()?;
        let file = self.file(path)?;
        let range = range.start as usize..range.end as usize;
        let _no_power_cut = lock(&self.disk);
        for byte in &file.seen[range.clone()] {
            byte.store(0, Ordering::Relaxed);
        }
        file.sync(range);
        Ok(())
    }

    fn map(&self, path: &Path, bytes: u64) -> io::Result<Region> {
        let file = self.file(path)?;
        if file.seen.len() as u64 != bytes {
            return Err(io::Error::other(format!("has {} bytes instead of {bytes}", file.seen.len())));
        }
        let memory = Memory::Heap(Arc::clone(&file.seen));
        let (disk, fail_syncs) = (Arc::clone(&self.disk), Arc::clone(&self.fail_syncs));
        let slow_syncs_ms = Arc::clone(&self.slow_syncs_ms);
        Ok(Region { memory, backing: Arc::new(MemoryBacking { file, disk, fail_syncs, slow_syncs_ms }) })
    }

    fn read_at(&self, path: &Path, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file(path)?;
        let rest = file.seen.iter().skip(usize::try_from(at).map_err(io::Error::other)?);
        let read = buffer.iter_mut().zip(rest).map(|(to, byte)| *to = byte.load(Ordering::Relaxed));
        Ok(read.count())
    }

    fn give_back(&self, path: &Path, _range: Range<u64>) -> io::Result<()> {
        self.file(path).map(drop)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.file(path)?.seen.iter().map(|byte| byte.load(Ordering::Relaxed)).collect())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.check_sync()?;
        let file = Bytes::new(bytes);
        file.sync(0..bytes.len());
        let mut disk = lock(&self.disk);
        disk.take_room(bytes.len() as u64)?;
        disk.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let file = disk.files.remove(from).ok_or_else(|| not_found(from))?;
        disk.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.disk).files.remove(path).map(drop).ok_or_else(|| not_found(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.files.retain(|path, _| !path.starts_with(dir));
        disk.dirs.retain(|path| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check_sync()?;
        let mut guard = lock(&self.disk);
        let disk = &mut *guard;
        disk.durable.retain(|path, _| path.parent() != Some(dir));
        let inside = disk.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        disk.durable.extend(inside.map(|(path, file)| (path.clone(), Arc::clone(file))));
        Ok(())
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        self.check_sync()?;
        let mut guard = lock(&self.disk);
        let disk = &mut *guard;
        disk.durable.retain(|path, _| !path.starts_with(dir));
        for (path, file) in disk.files.iter().filter(|(path, _)| path.starts_with(dir)) {
            file.sync(0..file.seen.len());
            disk.durable.insert(path.clone(), Arc::clone(file));
        }
        Ok(())
    }

    fn life(&self, _path: &Path) -> io::Result<Option<Life>> {
        Ok(Some([lock(&self.disk).life, 0, 0, 0]))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !lock(&self.locks).insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        lock(&self.disk).files.entry(path.to_owned()).or_insert_with(|| Bytes::new(b"lock"));
        Ok(Box::new(Held { path: path.to_owned(), locks: Arc::clone(&self.locks) }))
    }
}

struct Held {
    path: PathBuf,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.locks).remove(&self.path);
    }
}

struct MemoryBacking {
    file: Arc<Bytes>,
    disk: Arc<Mutex<Disk>>,
    fail_syncs: Arc<AtomicBool>,
    slow_syncs_ms: Arc<AtomicU64>,
}

impl Backing for MemoryBacking {
    fn sync(&self, _memory: &Memory, range: Range<usize>) -> io::Result<()> {
        check_sync(&self.fail_syncs)?;
        std::thread::sleep(Duration::from_millis(self.slow_syncs_ms.load(Ordering::Relaxed)));
        // A power cut happens before or after a sync of whatever file, as seen by all files.
        let _no_power_cut = lock(&self.disk);
        self.file.sync(range);
        Ok(())
    }

    fn populate(&self, _memory: &Memory, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    fn read_ahead(&self, _memory: &Memory, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    fn expect_access(&self, _memory: &Memory, _access: Access) -> io::Result<()> {
        Ok(())
    }

    fn release(&self, _memory: &Memory, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_synced_bytes_and_synced_names_only() {
        let storage = MemoryStorage::new();
        let dir = Path::new("/store");
        storage.create_dir(dir).unwrap();
        storage.write(&dir.join("kept"), b"kept").unwrap();
        storage.sync_dir(dir).unwrap();
        storage.write(&dir.join("lost"), b"lost").unwrap();
        let after = storage.power_cut(1);
        assert_eq!(after.read(&dir.join("kept")).unwrap(), b"kept");
        assert!(after.read(&dir.join("lost")).is_err());
    }

    #[test]
    fn a_full_disk_refuses_new_blocks_but_not_sparse_files() {
        let storage = MemoryStorage::new();
        storage.create_dir(Path::new("/store")).unwrap();
        storage.set_room(Some(4096));
        let full = storage.create(Path::new("/store/a"), 8192, Blocks::Reserved).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        storage.create(Path::new("/store/b"), 8192, Blocks::Sparse).unwrap();
        storage.reserve(Path::new("/store/b"), 0..4096).unwrap();
        assert!(storage.reserve(Path::new("/store/b"), 4096..8192).is_err());
    }

    #[test]
    fn the_part_of_a_disk_that_is_used_is_rounded_up() {
        let storage = MemoryStorage::new();
        let dir = Path::new("/store");
        assert_eq!(storage.space(dir).unwrap().used_percent(), 0);
        storage.create_dir(dir).unwrap();
        storage.create(&dir.join("a"), 700, Blocks::Sparse).unwrap();
        for (elsewhere, percent) in [(0, 70), (1, 71), (300, 100), (5000, 100)] {
            storage.set_size(1000, elsewhere);
            assert_eq!(storage.space(dir).unwrap().used_percent(), percent, "{elsewhere}");
        }
    }
}
