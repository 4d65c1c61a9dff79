//! What can go wrong while opening, reading and writing.

use std::path::PathBuf;

use crate::JournalError;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle in this one, holds the folder.
    #[error("the folder {} is in use by another process", path.display())]
    InUse {
        /// The folder given to [`Db::open`](crate::Db::open).
        path: PathBuf,
    },
    /// The folder cannot be created, locked or listed.
    #[error("the folder {} cannot be used", path.display())]
    Folder {
        /// The folder given to [`Db::open`](crate::Db::open).
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The journal cannot be read, or is damaged where it was already synced.
    #[error("the journal of {} cannot be used", path.display())]
    Journal {
        /// The folder given to [`Db::open`](crate::Db::open).
        path: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// What is in the folder cannot be recovered: a table does not match its checksum, or the folder is of another version.
    #[error("the store in {} cannot be recovered", path.display())]
    Store {
        /// The folder given to [`Db::open`](crate::Db::open).
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<fjall::Error>,
    },
}

impl OpenError {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "in_use",
            Self::Folder { .. } => "folder",
            Self::Journal { .. } => "journal",
            Self::Store { .. } => "store",
        }
    }
}

/// A read or write failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store was closed before this write.
    #[error("the store is closed")]
    Closed,
    /// A write or fsync failed, so what is on disk is unknown. Only a restart helps: recovery finds out.
    #[error("the store failed to write and must be reopened")]
    Poisoned,
    /// The engine could not read, or could not create a keyspace.
    #[error("the store could not read")]
    Engine(#[source] Box<fjall::Error>),
    /// A row read as a timed one was not written by [`Batch::upsert_at`](crate::Batch::upsert_at).
    #[error("the row carries no write time")]
    Untimed,
    /// A row read as a run of a sequence was not written by [`Batch::append`](crate::Batch::append).
    #[error("the row is no run of a sequence")]
    NoRun,
}

impl Error {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Poisoned => "poisoned",
            Self::Engine(_) => "engine",
            Self::Untimed => "untimed",
            Self::NoRun => "no_run",
        }
    }
}

impl From<fjall::Error> for Error {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Poisoned => Self::Poisoned,
            error => Self::Engine(Box::new(error)),
        }
    }
}
