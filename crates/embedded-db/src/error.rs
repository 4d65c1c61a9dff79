//! What can go wrong while opening, reading and writing.

use std::path::PathBuf;

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
    /// The folder was written by a version with another format.
    #[error("the store in {} is of an earlier version, which is not read any more: begin with an empty folder", path.display())]
    Outdated {
        /// The folder given to [`Db::open`](crate::Db::open).
        path: PathBuf,
    },
    /// The journal lost what was acknowledged.
    #[error("{} is damaged at byte {at}, in what was already synced: restore a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first broken group begins.
        at: u64,
    },
    /// The files of a table cannot be recovered: one is missing, or does not match its checksum.
    #[error("the store in {} cannot be recovered", path.display())]
    Store {
        /// The folder given to [`Db::open`](crate::Db::open).
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<lsm_tree::Error>,
    },
}

impl OpenError {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "in_use",
            Self::Folder { .. } => "folder",
            Self::Outdated { .. } => "outdated",
            Self::Damaged { .. } => "damaged",
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
    Engine(#[source] Box<lsm_tree::Error>),
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

impl From<lsm_tree::Error> for Error {
    fn from(error: lsm_tree::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}
