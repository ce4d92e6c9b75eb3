//! What can go wrong in the store, each error with what happened, to which file, and what to do.
//! Every file of this crate uses these types; the broker turns them into response codes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

/// A failed operation on the store's files.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb in its -ing form.
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of a fixed-size row of files has another size.
    #[error(
        "{} has {found} bytes, but every file here must have {expected}: it was made with another file size setting, \
         or it is damaged; set the size it was made with, or move the file away",
        path.display()
    )]
    WrongFileSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size set for this folder.
        expected: u64,
    },
    /// A file's name is not the decimal offset it must be.
    #[error("{} is not named by an offset that is a multiple of {file_bytes}: move it out of this folder", path.display())]
    NotAnOffset {
        /// The file.
        path: PathBuf,
        /// The size of every file in the folder.
        file_bytes: u64,
    },
    /// A file is missing between two others.
    #[error("{} is missing: the files before and after it are there; restore it, or move the later files away", path.display())]
    MissingFile {
        /// The file that should be there.
        path: PathBuf,
    },
    /// An offset outside what is stored.
    #[error("bytes {from} to {to} are not in {} (it holds {min} to {max})", path.display())]
    OutOfRange {
        /// The folder of the row of files.
        path: PathBuf,
        /// First byte asked for.
        from: u64,
        /// One past the last byte asked for.
        to: u64,
        /// First byte held.
        min: u64,
        /// One past the last byte held.
        max: u64,
    },
}

impl StoreError {
    /// Whether a row of files is not what it should be, though the disk works.
    pub(crate) fn is_wrong_file(&self) -> bool {
        matches!(self, Self::WrongFileSize { .. } | Self::NotAnOffset { .. } | Self::MissingFile { .. })
    }

    /// Whether the disk, or what this user may have of it, is full.
    pub(crate) fn is_disk_full(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, StoreError::Io { source, .. } if full(source.kind()))
    }
}

/// Turns an [`io::Error`] into a [`StoreError`] that names the action and the file.
pub(crate) trait AtPath<T> {
    /// `action` is a verb in its -ing form, such as `creating`.
    fn at_path(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at_path(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { action, path: path.to_owned(), source })
    }
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A setting is out of bounds.
    #[error("the store's settings are wrong: {reason}")]
    Config {
        /// Which, and how.
        reason: String,
    },
    /// Another broker works on this folder.
    #[error(
        "the data folder {} is in use by {holder}: stop that broker, or give this one another folder (--data, or storePathRootDir)",
        root.display()
    )]
    Locked {
        /// The data folder.
        root: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// The log is damaged before its end.
    #[error(
        "{} is damaged: {reason}, at byte {position} of the file (offset {offset}), although the messages behind it \
         were stored safely; nothing was changed. Restore the file from a copy or a replica",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte in the file where the damaged record begins.
        position: u64,
        /// Its physical offset.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A background thread could not be started.
    #[error("cannot start the thread {name}: {source}; check the limit of processes")]
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why a message was not stored. Nothing of it is in the log.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// A sync has failed: what the disk holds is no longer certain, so nothing is added until a restart.
    #[error("the log takes no more messages: {reason}; check the disk, then restart the broker")]
    Poisoned {
        /// The failed step and what the system said.
        reason: Arc<str>,
    },
    /// No room for another file of the log.
    #[error("the disk is full: {reason}; free space, and sending goes on by itself")]
    DiskFull {
        /// Which file did not fit.
        reason: Arc<str>,
    },
    /// Told not to take messages.
    #[error("the store takes no messages at the moment: {reason}")]
    ReadOnly {
        /// By whom, why.
        reason: Arc<str>,
    },
    /// The store is being closed.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// The queue's topic was deleted since the caller looked the queue up.
    #[error("the topic {topic} was deleted; look the queue up again")]
    QueueDeleted {
        /// The topic.
        topic: Arc<str>,
    },
    /// A body above the limit (`maxMessageSize`).
    #[error("the body has {bytes} bytes, the limit is {bytes_max}")]
    BodyTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Properties above 32,767 bytes.
    #[error("the properties have {bytes} bytes, the limit is {bytes_max}")]
    PropertiesTooLarge {
        /// Their size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A record, or all records of a batch together, above the limit or above what one file of the log holds.
    #[error("the message takes {bytes} bytes in the log, the limit is {bytes_max}")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The next file of the log could not be made or mapped, for another reason than a full disk.
    #[error("the next file of the log is not available: {source}")]
    FileUnavailable {
        /// Why.
        source: Arc<StoreError>,
    },
}
