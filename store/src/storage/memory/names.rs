//! The folders of the fake disk: what programs see, what is on the disk, and the changes in between, in their order.
//! Must hold: a synced folder has its names on the disk, and its own and those above it, as ext4, xfs and btrfs do it.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::{
    super::Entry,
    content::Content,
    lock,
    power::{Keep, Random, names_kept},
};

/// What a name stands for.
#[derive(Debug)]
pub(super) struct File {
    content: Mutex<Arc<Content>>,
    /// A whole new content that is being written and not synced yet.
    pub(super) replacing: Mutex<Option<Vec<u8>>>,
    pub(super) modified: SystemTime,
}

impl File {
    pub(super) fn new(content: Content) -> Arc<Self> {
        let (content, replacing) = (Mutex::new(Arc::new(content)), Mutex::default());
        Arc::new(File { content, replacing, modified: SystemTime::UNIX_EPOCH })
    }

    pub(super) fn content(&self) -> Arc<Content> {
        Arc::clone(&lock(&self.content))
    }

    pub(super) fn replace(&self, content: Content) {
        *lock(&self.replacing) = None;
        *lock(&self.content) = Arc::new(content);
    }

    fn survivor(&self, keep: &mut Keep, random: &mut Random) -> Arc<Self> {
        let content = self.content();
        let Some(new) = lock(&self.replacing).clone() else { return File::new(content.survivor(keep, random)) };
        File::new(match random.below(3) {
            0 => content.survivor(keep, random),
            1 => Content::zeros(0),
            _ => {
                let half_written = Content::zeros(new.len());
                half_written.write(0, &new);
                half_written.survivor(keep, random)
            }
        })
    }
}

/// Folders and what is in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    dirs: BTreeMap<PathBuf, BTreeMap<OsString, Arc<File>>>,
}

impl Names {
    pub(super) fn file(&self, path: &Path) -> Option<&Arc<File>> {
        self.dirs.get(path.parent()?)?.get(path.file_name()?)
    }

    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        self.dirs.contains_key(dir)
    }

    /// Every folder at and below `dir`.
    fn below<'a>(
        &'a self,
        dir: &'a Path,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a BTreeMap<OsString, Arc<File>>)> + 'a {
        self.dirs
            .range::<Path, _>((Bound::Included(dir), Bound::Unbounded))
            .take_while(move |(below, _)| below.starts_with(dir))
    }

    pub(super) fn list(&self, dir: &Path) -> Vec<Entry> {
        let name = |name: &OsStr| name.to_string_lossy().into_owned();
        let dirs = self.below(dir).filter(|(below, _)| below.parent() == Some(dir));
        let dirs =
            dirs.map(|(dir, _)| Entry { name: dir.file_name().map(name).unwrap_or_default(), is_dir: true, bytes: 0 });
        let files = self.dirs.get(dir).into_iter().flatten().map(|(file, held)| Entry {
            name: name(file),
            is_dir: false,
            bytes: held.content().bytes() as u64,
        });
        let mut entries: Vec<_> = dirs.chain(files).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<File>> {
        self.dirs.values().flat_map(BTreeMap::values)
    }

    /// Files at and below `dir`, with their paths.
    pub(super) fn files_below(&self, dir: &Path) -> Vec<(PathBuf, Arc<File>)> {
        let all = self.below(dir).flat_map(|(dir, files)| files.iter().map(move |(name, file)| (dir.join(name), file)));
        all.map(|(path, file)| (path, Arc::clone(file))).collect()
    }

    /// The folders at and below `dir`, the deepest first.
    pub(super) fn dirs_below(&self, dir: &Path) -> Vec<PathBuf> {
        let mut dirs: Vec<_> = self.below(dir).map(|(dir, _)| dir.clone()).collect();
        dirs.reverse();
        dirs
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::MakeDir(dir) => drop(self.dirs.entry(dir.clone()).or_default()),
            Change::RemoveDir(dir) => drop(self.dirs.remove(dir)),
            Change::Link(path, file) => self.put(path, Arc::clone(file)),
            Change::Unlink(path) => drop(self.take(path)),
            Change::Rename(from, to) => {
                if let Some(file) = self.take(from) {
                    self.put(to, file);
                }
            }
        }
    }

    fn put(&mut self, path: &Path, file: Arc<File>) {
        if let (Some(dir), Some(name)) = (path.parent(), path.file_name())
            && let Some(files) = self.dirs.get_mut(dir)
        {
            files.insert(name.to_owned(), file);
        }
    }

    fn take(&mut self, path: &Path) -> Option<Arc<File>> {
        self.dirs.get_mut(path.parent()?)?.remove(path.file_name()?)
    }
}

/// A change of a folder.
#[derive(Clone, Debug)]
pub(super) enum Change {
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
    Link(PathBuf, Arc<File>),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    /// Whether a sync of `dir` brings it to the disk.
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Change::MakeDir(made) => made.parent() == Some(dir) || dir.starts_with(made),
            Change::RemoveDir(path) | Change::Link(path, _) | Change::Unlink(path) => path.parent() == Some(dir),
            Change::Rename(from, to) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }

    fn paths(&self) -> [&Path; 2] {
        match self {
            Change::MakeDir(path) | Change::RemoveDir(path) | Change::Link(path, _) | Change::Unlink(path) => [path; 2],
            Change::Rename(from, to) => [from, to],
        }
    }

    /// Whether one cannot be on the disk without the other: a name is the same, or lies below the other's.
    fn concerns(&self, other: &Change) -> bool {
        let related = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
        self.paths().into_iter().any(|a| other.paths().into_iter().any(|b| related(a, b)))
    }

    fn is_below(&self, dir: &Path) -> bool {
        match self {
            Change::MakeDir(path) => path.starts_with(dir) || dir.starts_with(path),
            Change::RemoveDir(path) | Change::Link(path, _) | Change::Unlink(path) => path.starts_with(dir),
            Change::Rename(from, to) => from.starts_with(dir) || to.starts_with(dir),
        }
    }
}

/// All names of a disk.
#[derive(Debug, Default)]
pub(super) struct Folders {
    seen: Arc<Names>,
    durable: Arc<Names>,
    pending: Vec<Change>,
}

impl Folders {
    pub(super) fn seen(&self) -> &Names {
        &self.seen
    }

    pub(super) fn change(&mut self, change: Change) {
        Arc::make_mut(&mut self.seen).apply(&change);
        self.pending.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        self.sync_changes(|change| change.is_in(dir));
    }

    pub(super) fn sync_tree(&mut self, dir: &Path) {
        self.sync_changes(|change| change.is_below(dir));
    }

    fn sync_changes(&mut self, synced: impl Fn(&Change) -> bool) {
        // Whatever was done before to the same names comes with it.
        let mut reached: Vec<bool> = self.pending.iter().map(synced).collect();
        for at in (0..reached.len()).rev() {
            let later = self.pending.iter().zip(&reached).skip(at + 1);
            reached[at] |= later.into_iter().any(|(later, reached)| *reached && later.concerns(&self.pending[at]));
        }
        let durable = Arc::make_mut(&mut self.durable);
        let mut reached = reached.into_iter();
        self.pending.retain(|change| {
            let synced = reached.next().unwrap_or(false);
            if synced {
                durable.apply(change);
            }
            !synced
        });
    }

    /// The names after a power cut, each with what is left of its file.
    pub(super) fn survivors(&self, random: &mut Random) -> Folders {
        let mut left = Names::clone(&self.durable);
        let kept = names_kept(random, self.pending.len());
        self.pending[..kept].iter().for_each(|change| left.apply(change));
        let mut keep = Keep::draw(random);
        left.dirs.values_mut().flat_map(BTreeMap::values_mut).for_each(|file| *file = file.survivor(&mut keep, random));
        // Made but for its size: the last thing that happened before the lights went out.
        if let Some(Change::Link(path, file)) = kept.checked_sub(1).map(|last| &self.pending[last])
            && file.content().never_synced()
            && random.below(2) == 0
        {
            left.put(path, File::new(Content::zeros(0)));
        }
        let cut_off: Vec<_> = left.dirs.keys().filter(|dir| !is_reachable(&left, dir)).cloned().collect();
        cut_off.iter().for_each(|dir| drop(left.dirs.remove(dir)));
        let left = Arc::new(left);
        Folders { seen: Arc::clone(&left), durable: left, pending: Vec::new() }
    }

    /// The same names with memory of their own behind them.
    pub(super) fn copied(&self) -> Folders {
        let mut copies: HashMap<*const File, Arc<File>> = HashMap::new();
        let mut copy = |file: &Arc<File>| {
            let copied = || {
                let copied = File::new(file.content().copied());
                lock(&copied.replacing).clone_from(&lock(&file.replacing));
                copied
            };
            Arc::clone(copies.entry(Arc::as_ptr(file)).or_insert_with(copied))
        };
        let mut copy_all = |names: &Names| {
            let mut names = names.clone();
            names.dirs.values_mut().flat_map(BTreeMap::values_mut).for_each(|file| *file = copy(file));
            Arc::new(names)
        };
        let (seen, durable) = (copy_all(&self.seen), copy_all(&self.durable));
        let pending = self.pending.iter().map(|change| match change {
            Change::Link(path, file) => Change::Link(path.clone(), copy(file)),
            other => other.clone(),
        });
        Folders { seen, durable, pending: pending.collect() }
    }
}

/// Whether all folders above are there.
fn is_reachable(names: &Names, dir: &Path) -> bool {
    dir.ancestors().all(|above| names.has_dir(above))
}
