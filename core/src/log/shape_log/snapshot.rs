//! How far a snapshot is, in little memory: of many logs that nobody reads or changes it is all there is.

use serde::{Deserialize, Serialize};

/// How far the snapshot is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// Bytes written so far.
    pub bytes: u64,
    /// Where each closed chunk ends.
    pub chunk_ends: Vec<u64>,
    /// True once the snapshot-end message is written.
    pub complete: bool,
    /// The place of the bytes, if they share a file with those of other shapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<PackPlace>,
}

/// The place of a small shape's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackPlace {
    /// The number of the file that the shapes share.
    pub pack: u64,
    /// Byte position of the snapshot in it.
    pub at: u64,
}

/// A snapshot that is complete, is one chunk, and lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallSnapshot {
    /// Its length.
    pub bytes: u32,
    /// [`PackPlace::pack`]
    pub pack: u32,
    /// [`PackPlace::at`]
    pub at: u32,
}

impl SmallSnapshot {
    /// `None` where it is no such snapshot, or its place is beyond what fits.
    #[must_use]
    pub fn of(progress: &SnapshotProgress) -> Option<Self> {
        let is_small = progress.complete && progress.chunk_ends == [progress.bytes];
        let PackPlace { pack, at } = progress.pack.filter(|_| is_small)?;
        let [Ok(bytes), Ok(pack), Ok(at)] = [progress.bytes, pack, at].map(u32::try_from) else {
            return None;
        };
        Some(Self { bytes, pack, at })
    }

    /// The same as of any snapshot.
    #[must_use]
    pub fn progress(self) -> SnapshotProgress {
        let bytes = u64::from(self.bytes);
        SnapshotProgress { bytes, chunk_ends: vec![bytes], complete: true, pack: Some(self.place()) }
    }

    fn place(self) -> PackPlace {
        PackPlace { pack: u64::from(self.pack), at: u64::from(self.at) }
    }
}

/// [`SnapshotProgress`], in 16 bytes where it is that of a small snapshot.
#[derive(Debug, Clone)]
pub(super) enum Snapshot {
    /// Nothing is written.
    Begun,
    /// A small one.
    Packed(SmallSnapshot),
    /// Any other.
    Other(Box<SnapshotProgress>),
}

impl Snapshot {
    pub(super) fn progress(&self) -> SnapshotProgress {
        match self {
            Self::Begun => SnapshotProgress::default(),
            Self::Packed(small) => small.progress(),
            Self::Other(progress) => progress.as_ref().clone(),
        }
    }

    /// [`SnapshotProgress::pack`]
    pub(super) fn pack(&self) -> Option<PackPlace> {
        match self {
            Self::Begun => None,
            Self::Packed(small) => Some(small.place()),
            Self::Other(progress) => progress.pack,
        }
    }

    /// The end of closed chunk number `index`.
    pub(super) fn chunk_end(&self, index: usize) -> Option<u64> {
        match self {
            Self::Begun => None,
            Self::Packed(small) => (index == 0).then_some(u64::from(small.bytes)),
            Self::Other(progress) => progress.chunk_ends.get(index).copied(),
        }
    }

    /// [`SnapshotProgress::complete`]
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Begun => false,
            Self::Packed(_) => true,
            Self::Other(progress) => progress.complete,
        }
    }
}

impl From<SnapshotProgress> for Snapshot {
    fn from(progress: SnapshotProgress) -> Self {
        if progress == SnapshotProgress::default() {
            return Self::Begun;
        }
        match SmallSnapshot::of(&progress) {
            Some(small) => Self::Packed(small),
            None => Self::Other(Box::new(progress)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_snapshot_is_what_it_was_and_a_small_one_takes_no_memory_of_its_own() {
        let small = SnapshotProgress {
            bytes: 450,
            chunk_ends: vec![450],
            complete: true,
            pack: Some(PackPlace { pack: 7, at: 900 }),
        };
        assert!(matches!(Snapshot::from(small.clone()), Snapshot::Packed(_)));
        let beyond = u64::from(u32::MAX) + 1;
        let others = [
            SnapshotProgress::default(),
            SnapshotProgress { complete: false, ..small.clone() },
            SnapshotProgress { pack: None, ..small.clone() },
            SnapshotProgress { chunk_ends: vec![20, 450], ..small.clone() },
            SnapshotProgress { bytes: beyond, chunk_ends: vec![beyond], ..small.clone() },
            SnapshotProgress { pack: Some(PackPlace { pack: beyond, at: 0 }), ..small.clone() },
            SnapshotProgress { pack: Some(PackPlace { pack: 0, at: beyond }), ..small.clone() },
        ];
        for progress in others.into_iter().chain([small]) {
            let snapshot = Snapshot::from(progress.clone());
            assert_eq!((snapshot.pack(), snapshot.is_complete()), (progress.pack, progress.complete));
            let ends: Vec<u64> = (0..).map_while(|index| snapshot.chunk_end(index)).collect();
            assert_eq!(ends, progress.chunk_ends);
            assert_eq!(snapshot.progress(), progress);
        }
        assert_eq!(size_of::<Snapshot>(), 16);
    }
}
