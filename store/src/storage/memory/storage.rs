//! The fake disk as the store uses it. Every operation begins with [`Shared::begin`], which counts it and may fail it;
//! those of two steps, which a power cut may part, begin twice.

use std::{
    any::Any,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, atomic::Ordering},
    time::{Duration, SystemTime},
};

use super::{
    super::{Access, Backing, Blocks, Entry, Life, Memory, Region, Space, Storage},
    Disk, Hint, MemoryStorage, Operation, Shared,
    content::Content,
    lock,
    names::{Change, File},
    not_found,
};

impl MemoryStorage {
    fn begin(&self, operation: Operation) -> io::Result<MutexGuard<'_, Disk>> {
        self.shared.begin(operation)
    }
}

impl Storage for MemoryStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // Nothing changes where the folder is there, so nothing is counted.
        if lock(&self.shared.disk).folders.seen().has_dir(dir) {
            return Ok(());
        }
        let mut disk = self.begin(Operation::CreateDir)?;
        let mut missing: Vec<_> = dir.ancestors().filter(|dir| !disk.folders.seen().has_dir(dir)).collect();
        while let Some(dir) = missing.pop() {
            disk.folders.change(Change::MakeDir(dir.to_owned()));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        Ok(self.begin(Operation::Look)?.folders.seen().list(dir))
    }

    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let disk = self.begin(Operation::Look)?;
        Ok(disk.folders.seen().file(path).map(|file| file.content().bytes() as u64))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let disk = self.begin(Operation::Look)?;
        let (all, elsewhere) = disk.size.unwrap_or((u64::MAX, 0));
        let files: u64 = disk.folders.seen().files().map(|file| file.content().bytes() as u64).sum();
        let used = files.saturating_add(elsewhere).min(all);
        Ok(Space { used, available: all - used })
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        drop(self.begin(Operation::Look)?);
        Ok(self.shared.file(path)?.modified)
    }

    fn create(&self, path: &Path, bytes: u64, blocks: Blocks) -> io::Result<()> {
        let mut disk = self.begin(Operation::Create)?;
        if disk.folders.seen().file(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| disk.folders.seen().has_dir(dir)) {
            return Err(not_found(path));
        }
        if blocks == Blocks::Reserved {
            disk.take_room(bytes)?;
        }
        let zeros = Content::zeros(usize::try_from(bytes).map_err(io::Error::other)?);
        disk.folders.change(Change::Link(path.to_owned(), File::new(zeros)));
        Ok(())
    }

    fn reserve(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        self.shared.file(path)?;
        self.begin(Operation::Reserve)?.take_room(range.end - range.start)
    }

    fn wipe(&self, path: &Path, range: Range<u64>, _blocks: Blocks) -> io::Result<()> {
        let content = self.shared.file(path)?.content();
        let range = range.start as usize..range.end as usize;
        if content.read(range.clone()).iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let wiping = self.begin(Operation::Wipe)?;
        content.write(range.start, &vec![0; range.len()]);
        drop(wiping);
        let _no_power_cut = self.begin(Operation::Sync).inspect_err(|_| content.give_up(range.clone()))?;
        content.sync(range);
        Ok(())
    }

    fn map(&self, path: &Path, bytes: u64) -> io::Result<Region> {
        drop(self.begin(Operation::Map)?);
        let content = self.shared.file(path)?.content();
        if content.bytes() as u64 != bytes {
            return Err(io::Error::other(format!("has {} bytes instead of {bytes}", content.bytes())));
        }
        let memory = Memory::Heap { words: Arc::clone(content.seen()), bytes: content.bytes() };
        Ok(Region { memory, backing: Arc::new(MemoryBacking { content, shared: Arc::clone(&self.shared) }) })
    }

    fn read_at(&self, path: &Path, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        drop(self.begin(Operation::Read)?);
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let read = self.shared.file(path)?.content().read(at..at.saturating_add(buffer.len()));
        buffer[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    fn give_back(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        self.shared.hints.note(|| Hint::GiveBack(path.to_owned(), range));
        self.shared.file(path).map(drop)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        drop(self.begin(Operation::Read)?);
        Ok(self.shared.file(path)?.content().read(0..usize::MAX))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.begin(Operation::Write)?;
        if !path.parent().is_some_and(|dir| disk.folders.seen().has_dir(dir)) {
            return Err(not_found(path));
        }
        disk.take_room(bytes.len() as u64)?;
        let file = match disk.folders.seen().file(path) {
            Some(file) => Arc::clone(file),
            None => {
                let file = File::new(Content::zeros(0));
                disk.folders.change(Change::Link(path.to_owned(), Arc::clone(&file)));
                file
            }
        };
        *lock(&file.replacing) = Some(bytes.to_vec());
        drop(disk);
        let _no_power_cut = self.begin(Operation::Sync)?;
        file.replace(Content::synced(bytes.to_vec()));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.begin(Operation::Rename)?;
        disk.folders.seen().file(from).ok_or_else(|| not_found(from))?;
        disk.folders.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.begin(Operation::Remove)?;
        disk.folders.seen().file(path).ok_or_else(|| not_found(path))?;
        disk.folders.change(Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.begin(Operation::RemoveDir)?;
        for (path, _) in disk.folders.seen().files_below(dir) {
            disk.folders.change(Change::Unlink(path));
        }
        for dir in disk.folders.seen().dirs_below(dir) {
            disk.folders.change(Change::RemoveDir(dir));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.begin(Operation::SyncDir)?;
        if !disk.folders.seen().has_dir(dir) {
            return Err(not_found(dir));
        }
        disk.folders.sync_dir(dir);
        Ok(())
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.begin(Operation::SyncTree)?;
        for (_, file) in disk.folders.seen().files_below(dir) {
            let content = file.content();
            content.sync(0..content.bytes());
        }
        disk.folders.sync_tree(dir);
        Ok(())
    }

    fn life(&self, _path: &Path) -> io::Result<Option<Life>> {
        Ok(Some([lock(&self.shared.disk).life, 0, 0, 0]))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !lock(&self.shared.locks).insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut disk = lock(&self.shared.disk);
        if disk.folders.seen().file(path).is_none() {
            disk.folders.change(Change::Link(path.to_owned(), File::new(Content::synced(b"lock".to_vec()))));
        }
        Ok(Box::new(Held { path: path.to_owned(), shared: Arc::clone(&self.shared) }))
    }
}

struct Held {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.shared.locks).remove(&self.path);
    }
}

struct MemoryBacking {
    content: Arc<Content>,
    shared: Arc<Shared>,
}

impl Backing for MemoryBacking {
    fn sync(&self, _memory: &Memory, range: Range<usize>) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(self.shared.slow_syncs_ms.load(Ordering::Relaxed)));
        // A power cut happens before or after a sync of whatever file, as seen by all files.
        let mut disk = self.shared.begin(Operation::Sync).inspect_err(|_| self.content.give_up(range.clone()))?;
        if let Some(mut astray) = disk.astray.take() {
            if !self.content.sync_astray(range, &mut astray) {
                disk.astray = Some(astray);
            }
            return Ok(());
        }
        if !self.shared.lie.load(Ordering::Relaxed) {
            self.content.sync(range);
        }
        Ok(())
    }

    fn populate(&self, _memory: &Memory, range: Range<usize>) -> io::Result<()> {
        self.shared.hints.note(|| Hint::Populate(range));
        Ok(())
    }

    fn read_ahead(&self, _memory: &Memory, _range: Range<usize>) -> io::Result<()> {
        self.shared.begin(Operation::Read).map(drop)
    }

    fn will_need(&self, _memory: &Memory, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    fn expect_access(&self, _memory: &Memory, access: Access) -> io::Result<()> {
        self.shared.hints.note(|| Hint::Expect(access));
        Ok(())
    }

    fn release(&self, _memory: &Memory, range: Range<usize>) -> io::Result<()> {
        self.shared.hints.note(|| Hint::Release(range));
        Ok(())
    }
}
