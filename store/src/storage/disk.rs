//! The real disk: fallocated files, shared mappings, msync, and the locks a Java broker respects.
//! Called through [`Storage`] only. Needs Linux 5.14 for page population; older kernels do without.
#![expect(unsafe_code, reason = "giving mapped pages back to the page cache is an unchecked advice in memmap2")]

use std::{
    any::Any,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, SeekFrom, StatxFlags, fadvise, fallocate, fcntl_lock, flock, statvfs,
    syncfs,
};

use super::{Access, Backing, Blocks, Entry, Life, Memory, Region, Space, Storage};

/// How much is read at a time to find bytes that are not zero.
const LOOK_BYTES: u64 = 64 << 10;

/// Files of the operating system.
#[derive(Debug, Default)]
pub struct DiskStorage;

impl Storage for DiskStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let read = match fs::read_dir(dir) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
            Err(error) => return Err(error),
        };
        for entry in read {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                // Known from the folder itself, without a look at each: there may be tens of thousands.
                entries.push(Entry { name, is_dir: true, bytes: 0 });
                continue;
            }
            let metadata = fs::metadata(entry.path())?;
            let bytes = if metadata.is_dir() { 0 } else { metadata.len() };
            entries.push(Entry { name, is_dir: metadata.is_dir(), bytes });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let mut dir = dir;
        let found = loop {
            match (statvfs(dir), dir.parent()) {
                (Err(rustix::io::Errno::NOENT), Some(parent)) => dir = parent,
                (found, _) => break found?,
            }
        };
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { used: bytes(found.f_blocks.saturating_sub(found.f_bfree)), available: bytes(found.f_bavail) })
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        fs::metadata(path)?.modified()
    }

    fn create(&self, path: &Path, bytes: u64, blocks: Blocks) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let made = match blocks {
            // Blocks first, size last: a crash in between leaves an empty file, which the next start deletes.
            Blocks::Reserved => reserve(&file, 0..bytes, true).and_then(|()| file.set_len(bytes)),
            Blocks::Sparse => file.set_len(bytes),
        };
        // A file of the wrong size would stop the next start, so none is left behind.
        made.inspect_err(|_| drop(fs::remove_file(path)))
    }

    fn reserve(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        reserve(&OpenOptions::new().write(true).open(path)?, range, false)
    }

    fn wipe(&self, path: &Path, range: Range<u64>, blocks: Blocks) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if !holds_bytes(&file, range.clone())? {
            return Ok(());
        }
        let how = match blocks {
            Blocks::Reserved => FallocateFlags::ZERO_RANGE,
            Blocks::Sparse => FallocateFlags::PUNCH_HOLE,
        };
        match fallocate(&file, how | FallocateFlags::KEEP_SIZE, range.start, range.end - range.start) {
            // Not on this file system: written zeros read the same.
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&file, range)?,
            done => done?,
        }
        file.sync_data()
    }

    fn map(&self, path: &Path, bytes: u64) -> io::Result<Region> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let found = file.metadata()?.len();
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        if found != bytes {
            // Touching a mapping beyond the file's end would kill the process.
            return Err(io::Error::other(format!("has {found} bytes instead of {bytes}")));
        }
        let map = MmapOptions::new().len(length).map_raw(&file)?;
        Ok(Region { memory: Memory::Mapped(map), backing: Arc::new(DiskBacking) })
    }

    fn read_at(&self, path: &Path, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        File::open(path)?.read_at(buffer, at)
    }

    fn give_back(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let bytes = NonZeroU64::new(range.end - range.start);
        Ok(fadvise(File::open(path)?, range.start, bytes, rustix::fs::Advice::DontNeed)?)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        Ok(syncfs(&File::open(dir)?)?)
    }

    fn life(&self, path: &Path) -> io::Result<Option<Life>> {
        life_of(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // The first holds off another store in this process, the second (which Java uses too) another process.
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(would_block)?;
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(would_block)?;
        if file.metadata()?.len() == 0 {
            file.write_all(b"lock")?;
        }
        Ok(Box::new(file))
    }
}

/// The running kernel's own name for this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// `STATX_MNT_ID_UNIQUE` (since Linux 6.8): unlike the older id, one that no later mount is given again.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// This boot, this mount, this file on it.
fn life_of(path: &Path) -> io::Result<Option<Life>> {
    let Ok(boot) = fs::read_to_string(BOOT_ID) else { return Ok(None) };
    let Ok(boot) = u128::from_str_radix(&boot.trim().replace('-', ""), 16) else { return Ok(None) };
    let asked = StatxFlags::INO | StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), asked)?;
    if found.stx_mask & MNT_ID_UNIQUE == 0 {
        return Ok(None);
    }
    Ok(Some([(boot >> 64) as i64, boot as i64, found.stx_mnt_id as i64, found.stx_ino as i64]))
}

/// POSIX locks say "held" with either of two codes.
fn would_block(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN => io::ErrorKind::WouldBlock.into(),
        other => other.into(),
    }
}

/// Gives a range of the file its blocks, without changing its size.
fn reserve(file: &File, range: Range<u64>, new: bool) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, range.start, range.end - range.start) {
        // A file system that cannot reserve (some network ones): written zeros do it, for new files only.
        Err(rustix::io::Errno::OPNOTSUPP) if new => write_zeros(file, range),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        done => Ok(done?),
    }
}

/// Whether a range holds anything but zeros. Holes, and blocks that were reserved and never written, are not read.
fn holds_bytes(file: &File, range: Range<u64>) -> io::Result<bool> {
    let mut buffer = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let (data, hole) = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            // No further than there is data: reading holes fills memory with zeros.
            Ok(data) => (data, rustix::fs::seek(file, SeekFrom::Hole(data))?),
            Err(rustix::io::Errno::NXIO) => return Ok(false),
            // Not on this file system: all of it is data.
            Err(rustix::io::Errno::INVAL) => (at, range.end),
            Err(error) => return Err(error.into()),
        };
        let step = range.end.min(hole).saturating_sub(data).min(LOOK_BYTES) as usize;
        buffer.resize(buffer.len().max(step), 0);
        let read = file.read_at(&mut buffer[..step], data)?;
        if buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        if read == 0 {
            break;
        }
        at = data + read as u64;
    }
    Ok(false)
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = range.start;
    while at < range.end {
        let step = (range.end - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

/// Operations on shared mappings of files.
struct DiskBacking;

fn mapped(memory: &Memory) -> io::Result<&MmapRaw> {
    match memory {
        Memory::Mapped(map) => Ok(map),
        Memory::Heap { .. } => Err(io::Error::other("not a mapping of a file")),
    }
}

/// An advice the kernel does not know is not needed for correctness.
fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => Ok(()),
        other => other,
    }
}

impl Backing for DiskBacking {
    fn sync(&self, memory: &Memory, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        mapped(memory)?.flush_range(range.start, range.len())
    }

    fn populate(&self, memory: &Memory, range: Range<usize>) -> io::Result<()> {
        optional(mapped(memory)?.advise_range(Advice::PopulateWrite, range.start, range.len()))
    }

    fn read_ahead(&self, memory: &Memory, range: Range<usize>) -> io::Result<()> {
        optional(mapped(memory)?.advise_range(Advice::PopulateRead, range.start, range.len()))
    }

    fn will_need(&self, memory: &Memory, range: Range<usize>) -> io::Result<()> {
        optional(mapped(memory)?.advise_range(Advice::WillNeed, range.start, range.len()))
    }

    fn expect_access(&self, memory: &Memory, access: Access) -> io::Result<()> {
        mapped(memory)?.advise(match access {
            Access::Random => Advice::Random,
            Access::Usual => Advice::Normal,
        })
    }

    fn release(&self, memory: &Memory, range: Range<usize>) -> io::Result<()> {
        // SAFETY: the mapping is shared and backed by a file, so its pages keep their bytes in the page cache; the
        // next access, of whichever thread, maps the same page again.
        unsafe { mapped(memory)?.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_life_and_a_copy_has_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("progress"), dir.path().join("copy"));
        fs::write(&path, b"x").unwrap();
        fs::copy(&path, &copy).unwrap();
        let life = DiskStorage.life(&path).unwrap();
        assert_eq!(DiskStorage.life(&path).unwrap(), life);
        assert!(life.is_none() || DiskStorage.life(&copy).unwrap() != life);
    }

    #[test]
    fn a_second_lock_on_a_folder_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = DiskStorage.lock(&path).unwrap();
        assert_eq!(DiskStorage.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        drop(DiskStorage.lock(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"lock");
    }

    #[test]
    fn released_pages_keep_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        DiskStorage.create(&path, 8192, Blocks::Reserved).unwrap();
        fs::write(&path, [7; 8192]).unwrap();
        let region = DiskStorage.map(&path, 8192).unwrap();
        region.populate(0..8192).unwrap();
        region.sync(0..8192).unwrap();
        region.release(0..8192).unwrap();
        DiskStorage.give_back(&path, 0..8192).unwrap();
        region.read_ahead(0..8192).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; 8192]);
    }

    #[test]
    fn wiping_touches_its_range_only_and_finds_bytes_behind_holes() {
        let dir = tempfile::tempdir().unwrap();
        for blocks in [Blocks::Reserved, Blocks::Sparse] {
            let path = dir.path().join(format!("{blocks:?}"));
            DiskStorage.create(&path, 1 << 20, blocks).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            assert!(!holds_bytes(&file, 0..1 << 20).unwrap());
            file.write_all_at(&[7; 20_000], 0).unwrap();
            file.write_all_at(&[7], 900_000).unwrap();
            assert!(holds_bytes(&file, 20_000..1 << 20).unwrap());
            DiskStorage.wipe(&path, 5000..1 << 20, blocks).unwrap();
            assert!(!holds_bytes(&file, 5000..1 << 20).unwrap());
            write_zeros(&file, 100..200).unwrap();
            let bytes = fs::read(&path).unwrap();
            let zero = |at: usize| at >= 5000 || (100..200).contains(&at);
            assert!(bytes.len() == 1 << 20 && bytes.iter().enumerate().all(|(at, byte)| (*byte == 0) == zero(at)));
        }
    }

    #[test]
    fn space_is_told_also_for_a_folder_that_is_yet_to_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let here = DiskStorage.space(dir.path()).unwrap();
        let below = DiskStorage.space(&dir.path().join("a/b/c")).unwrap();
        // Others write meanwhile, but the file system keeps its size.
        assert_eq!(here.used + here.available, below.used + below.available);
        assert!(here.available > 0 && here.used_percent() <= 100);
    }

    #[test]
    fn a_file_of_another_size_is_not_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, [7; 100]).unwrap();
        assert!(DiskStorage.map(&path, 4096).unwrap_err().to_string().contains("100 bytes"));
    }

    #[test]
    fn reserving_a_sparse_file_keeps_its_size_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        DiskStorage.create(&path, 10_000, Blocks::Sparse).unwrap();
        DiskStorage.reserve(&path, 0..8192).unwrap();
        assert_eq!(DiskStorage.file_bytes(&path).unwrap(), Some(10_000));
        assert!(DiskStorage.create(&path, 10_000, Blocks::Sparse).is_err());
    }
}
