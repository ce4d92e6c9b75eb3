//! The seam between the store and where its bytes live: a disk, or memory in tests.
//! Everything in this crate that touches a file goes through [`Storage`], so that power cuts, full disks and failed
//! syncs can be played out. Bytes of mapped files are written in place and count as stored only after
//! [`Region::sync`].

mod disk;
mod memory;

use std::{
    any::Any,
    fmt, io,
    ops::Range,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};

use memmap2::MmapRaw;

pub use self::{
    disk::DiskStorage,
    memory::{Fault, Hint, MemoryStorage, Operation},
};

/// What memory and disk take or give as one.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name without its folder.
    pub name: String,
    /// Whether it is a folder itself.
    pub is_dir: bool,
    /// Size in bytes; 0 for a folder.
    pub bytes: u64,
}

/// How a new fixed-size file gets its disk blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// All at once: a full disk is an error of the creation, and no later write can fail for lack of room.
    Reserved,
    /// As they are needed: each range must be reserved with [`Storage::reserve`] before it is written.
    Sparse,
}

/// How the pages of a mapped file will be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Here and there: touching one brings in no others. Without it the kernel reads ahead, megabytes of zeros for one page
    /// of a sparse file.
    Random,
    /// As the kernel expects of any file: touching one brings in its surroundings.
    Usual,
}

/// See [`Storage::life`].
pub type Life = [i64; 4];

/// How full a file system is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are taken, by whomever.
    pub used: u64,
    /// Bytes that this process may still take; what is kept for the administrator does not count.
    pub available: u64,
}

impl Space {
    /// The part that is taken, rounded up, as `df` shows it.
    pub fn used_percent(self) -> u8 {
        let (used, all) = (u128::from(self.used), u128::from(self.used) + u128::from(self.available));
        (used * 100).div_ceil(all.max(1)) as u8
    }
}

/// Files and folders. Paths are absolute or relative to the process, as with `std::fs`.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Creates a folder and its parents; fine if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// What is in a folder, sorted by name; nothing for a folder that is not there.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Size of a file, `None` if it is not there.
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>>;
    /// How full the file system is that a folder lies in, or will lie in once it is made.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// When a file was last written, for retention.
    fn modified(&self, path: &Path) -> io::Result<SystemTime>;
    /// Makes a new file of `bytes` zero bytes; an error if it exists.
    fn create(&self, path: &Path, bytes: u64, blocks: Blocks) -> io::Result<()>;
    /// Gives a range of a sparse file its blocks; what is in it stays.
    fn reserve(&self, path: &Path, range: Range<u64>) -> io::Result<()>;
    /// Makes zeros of a range if it holds anything else, on the disk when this returns. The range then has all its
    /// blocks, or none, as `blocks` says.
    fn wipe(&self, path: &Path, range: Range<u64>, blocks: Blocks) -> io::Result<()>;
    /// The file as memory. The file must have exactly `bytes` bytes. No file descriptor stays open.
    fn map(&self, path: &Path, bytes: u64) -> io::Result<Region>;
    /// Reads into `buffer` from byte `at` of a file on, and returns how much there was: a look without a mapping.
    fn read_at(&self, path: &Path, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Frees the memory that holds a range of a file for quicker reading, as far as the range is on the disk and nobody has
    /// it mapped. Nothing is lost.
    fn give_back(&self, path: &Path, range: Range<u64>) -> io::Result<()>;
    /// A whole small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Writes a whole small file and syncs it; what was there is replaced (not atomically: write beside, then rename).
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Deletes a folder with everything in it; fine if it is not there.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Writes everything below a folder to the disk, names and bytes, in one go: what many single syncs would cost far
    /// more for. May write more than that, up to the whole file system.
    fn sync_tree(&self, dir: &Path) -> io::Result<()>;
    /// Names the life of the memory that stands before the disk, as far as it concerns this file: while two answers are
    /// equal, whatever was written to files beside it in between can be read, also by another process, synced or not.
    /// A power cut, a reboot, a new mount or a copy of the file gives another name. `None`: that cannot be told here.
    fn life(&self, path: &Path) -> io::Result<Option<Life>>;
    /// Takes the exclusive lock on a file (made if need be, never emptied), held until the value is dropped.
    /// `WouldBlock` if another process, or another store of this process, holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// The bytes of one file in memory, shared with the page cache or with the fake disk.
pub struct Region {
    pub(crate) memory: Memory,
    pub(crate) backing: Arc<dyn Backing>,
}

impl Region {
    /// Writes the range to the disk and waits for it.
    pub fn sync(&self, range: Range<usize>) -> io::Result<()> {
        self.backing.sync(&self.memory, range)
    }

    /// Makes the pages of the range present and writable, so that a later write into them does not enter the kernel.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        self.backing.populate(&self.memory, range)
    }

    /// Reads the pages of the range from the disk if they are not in memory. A bad page is an error here, where
    /// touching it would end the process.
    pub fn read_ahead(&self, range: Range<usize>) -> io::Result<()> {
        self.backing.read_ahead(&self.memory, range)
    }

    /// Asks the disk for the range and does not wait for it.
    pub fn will_need(&self, range: Range<usize>) -> io::Result<()> {
        self.backing.will_need(&self.memory, range)
    }

    /// Says how pages will be touched.
    pub fn expect_access(&self, access: Access) -> io::Result<()> {
        self.backing.expect_access(&self.memory, access)
    }

    /// Gives the range back to the page cache: the process no longer counts it as resident. Nothing is lost.
    pub fn release(&self, range: Range<usize>) -> io::Result<()> {
        self.backing.release(&self.memory, range)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("bytes", &self.memory.bytes()).finish_non_exhaustive()
    }
}

/// Where the bytes of a [`Region`] lie. Both kinds may be written through the pointer for as long as the value lives.
pub enum Memory {
    /// A shared mapping of a file.
    Mapped(MmapRaw),
    /// Plain memory, shared by every mapping of one fake file. Atomics, so that it may be written while shared.
    Heap {
        /// The memory.
        words: Arc<[AtomicU64]>,
        /// How much of it is the file.
        bytes: usize,
    },
}

impl Memory {
    /// First byte. Valid for reads and writes over [`Memory::bytes`] for as long as `self` lives.
    pub(crate) fn base(&self) -> *mut u8 {
        match self {
            Memory::Mapped(map) => map.as_mut_ptr(),
            Memory::Heap { words, .. } => words.as_ptr().cast_mut().cast(),
        }
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Memory::Mapped(map) => map.len(),
            Memory::Heap { bytes, .. } => *bytes,
        }
    }
}

/// What a kind of storage does to a range of a mapped file.
pub trait Backing: Send + Sync {
    /// See [`Region::sync`].
    fn sync(&self, memory: &Memory, range: Range<usize>) -> io::Result<()>;
    /// See [`Region::populate`].
    fn populate(&self, memory: &Memory, range: Range<usize>) -> io::Result<()>;
    /// See [`Region::read_ahead`].
    fn read_ahead(&self, memory: &Memory, range: Range<usize>) -> io::Result<()>;
    /// See [`Region::will_need`].
    fn will_need(&self, memory: &Memory, range: Range<usize>) -> io::Result<()>;
    /// See [`Region::expect_access`].
    fn expect_access(&self, memory: &Memory, access: Access) -> io::Result<()>;
    /// See [`Region::release`].
    fn release(&self, memory: &Memory, range: Range<usize>) -> io::Result<()>;
}
