//! What can go wrong in the store, each error with what happened, to which file, and what to do.
//! Every file of this crate uses these types; the broker turns them into response codes.

use std::{
    io,
    path::{Path, PathBuf},
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
