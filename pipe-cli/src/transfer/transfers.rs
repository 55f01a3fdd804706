use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use tokio::time::Instant;

use super::rel_path::RelPath;
use super::summary::Summary;

/// Maximum number of unfinished transfers without connections that are kept.
const MAX_BROKEN: usize = 64;

/// Maximum length of the number of a transfer.
const MAX_NUMBER: usize = 64;

/// Whose a transfer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The sender with this number.
    Number(String),
    /// A sender without one: all from this host.
    Host(String),
    /// A connection without a hello yet.
    Conn(u64),
}

/// A transfer that is not finished.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) began: Instant,
    pub(super) summary: Summary,
    /// Whether a failure occurred that applies to other files too.
    pub(super) fatal: bool,
    /// Number of announced files and folders.
    announced: u64,
    /// The files and folders that came, and those that it has begun to send, hashed.
    done: HashSet<u64>,
    begun: HashSet<u64>,
    conns: usize,
}

/// The transfers of a receiver.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    list: HashMap<Owner, Transfer>,
    keys: RandomState,
}

impl Owner {
    /// Returns the owner for a hello from this host.
    pub(super) fn of(number: Option<String>, host: &str) -> Result<Self, String> {
        match number {
            None => Ok(Self::Host(host.to_owned())),
            Some(number) if (16..=MAX_NUMBER).contains(&number.len()) => Ok(Self::Number(number)),
            Some(_) => Err("the number of a transfer has from 16 to 64 characters".to_owned()),
        }
    }
}

impl Transfers {
    /// Notes that a connection has announced so many files: it begins a transfer, or goes on with
    /// it.
    pub(super) fn join(&mut self, owner: &Owner, files: u64) {
        let broken = |transfer: &Transfer| transfer.conns == 0;
        if self
            .list
            .values()
            .filter(|transfer| broken(transfer))
            .count()
            > MAX_BROKEN
        {
            let oldest = self.list.iter().filter(|(_, transfer)| broken(transfer));
            let oldest = oldest.min_by_key(|(_, transfer)| transfer.began);
            if let Some(owner) = oldest.map(|(owner, _)| owner.clone()) {
                self.list.remove(&owner);
            }
        }
        let transfer = self.list.entry(owner.clone()).or_insert_with(|| Transfer {
            began: Instant::now(),
            summary: Summary::default(),
            fatal: false,
            announced: files,
            done: HashSet::new(),
            begun: HashSet::new(),
            conns: 0,
        });
        transfer.conns += 1;
    }

    /// Notes that a connection of it is gone.
    pub(super) fn leave(&mut self, owner: &Owner) {
        if let Some(transfer) = self.list.get_mut(owner) {
            transfer.conns = transfer.conns.saturating_sub(1);
        }
    }

    /// Returns the transfer of this owner, if it has begun.
    pub(super) fn of(&mut self, owner: &Owner) -> Option<&mut Transfer> {
        self.list.get_mut(owner)
    }

    /// Notes that the file is sent. Returns whether the same transfer had sent of it before.
    pub(super) fn begin(&mut self, owner: &Owner, path: &RelPath) -> bool {
        let key = self.keys.hash_one(path);
        match self.list.get_mut(owner) {
            Some(transfer) => !transfer.begun.insert(key),
            None => false,
        }
    }

    /// Notes that a file or folder is there, with so many bytes that came.
    pub(super) fn done(&mut self, owner: &Owner, path: &RelPath, file: Option<u64>) {
        let key = self.keys.hash_one(path);
        let Some(transfer) = self.list.get_mut(owner) else {
            return;
        };
        if transfer.done.insert(key) && file.is_some() {
            transfer.summary.files += 1;
        }
        transfer.summary.bytes += file.unwrap_or_default();
    }

    /// Removes a transfer that its sender has finished. Missing files are failures.
    pub(super) fn finish(&mut self, owner: &Owner, failed: u64) -> Option<Transfer> {
        let mut transfer = self.list.remove(owner)?;
        if transfer.summary.failed() == 0 {
            let came = transfer.done.len() as u64;
            if failed > 0 {
                let why = format!("{failed} files or folders could not be sent");
                transfer.summary.fail(why);
            } else if came < transfer.announced {
                let announced = transfer.announced;
                let why = format!("{came} of {announced} files or folders came");
                transfer.summary.fail(why);
            }
        }
        Some(transfer)
    }

    /// Returns whether nothing has begun that is not finished.
    pub(super) fn is_idle(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_whole_when_all_that_was_announced_has_come() {
        let mut transfers = Transfers::default();
        let (one, two) = (Owner::Number("1".into()), Owner::Number("2".into()));
        transfers.join(&one, 2);
        assert!(transfers.finish(&two, 0).is_none());
        let path = |text| RelPath::parse(text).unwrap();
        assert!(!transfers.begin(&one, &path("a")));
        assert!(transfers.begin(&one, &path("a")));
        assert!(!transfers.begin(&two, &path("a")));
        transfers.done(&one, &path("a"), Some(1));
        // The answer was lost: it comes again.
        transfers.done(&one, &path("a"), Some(0));
        transfers.leave(&one);
        assert!(!transfers.is_idle());
        transfers.join(&one, 1);
        let mut short = Transfers::default();
        short.join(&two, 1);
        assert_eq!(short.finish(&two, 0).unwrap().summary.failed(), 1);
        transfers.done(&one, &path("b"), None);
        let whole = transfers.finish(&one, 0).unwrap();
        assert_eq!((whole.summary.files, whole.summary.failed()), (1, 0));
        assert!(transfers.is_idle());
    }

    #[test]
    fn broken_transfers_are_not_remembered_without_end() {
        let mut transfers = Transfers::default();
        for number in 0..1000 {
            transfers.join(&Owner::Conn(number), 1);
            transfers.leave(&Owner::Conn(number));
        }
        assert!(transfers.list.len() <= MAX_BROKEN + 1);
    }
}
