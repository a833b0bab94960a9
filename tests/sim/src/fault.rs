//! Bugs to plant: each is a mistake that somebody could make around core, and that the judge must find.

use std::fmt;

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// One mistake of the origin, made on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
        #[value(rename_all = "kebab-case")]
        pub enum Fault { $($(#[doc = $what])+ $name,)+ }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The fault in words.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => concat!($($what),+),)+ }
            }
        }
    };
}

faults! {
    /// A transaction is confirmed when it was read, not when it is durable.
    ConfirmsBeforeSync,
    /// A ticket counts as durable when its group is written, not when it is synced.
    ReportsBeforeSync,
    /// A keepalive names the end of the WAL, whatever was sent before.
    BelievesKeepalives,
    /// Each fragment of a transaction is shown by itself.
    PublishesFragments,
    /// The catalog is not asked whose partition a relation of the stream is.
    ForgetsPartitions,
    /// The position that replies may name rises when a transaction begins.
    ProcessedTooEarly,
    /// The server counts as caught up as soon as it is connected.
    ActiveTooEarly,
    /// The snapshot may lack a transaction that was read before the shape was there.
    TakesSnapshotTooEarly,
    /// A reader of a new shape is up to date before the stream has come up to its snapshot.
    ForgetsToJoin,
    /// The WAL position that ends the snapshot's filter is noted before the snapshot.
    NotesPositionFirst,
    /// The WAL position that a move's snapshot holds is noted before the snapshot.
    NotesPositionOfMoveFirst,
    /// A move's snapshot may lack a transaction that was read before it.
    OpensMoveTooEarly,
    /// The questions of a move are answered from what is there then, not from its snapshot.
    AnswersMoveLate,
    /// A move is not written down, only shown.
    ForgetsMoves,
    /// The bound of a move is not written down: readers see transactions that the move holds back.
    ForgetsBounds,
    /// A compacted segment takes the place of the old one although its files were not synced.
    CompactedNotSynced,
    /// A compaction is not written down, only shown.
    ForgetsCompactions,
    /// The old segment goes before the commit log tells of the new one.
    RemovesSegmentFirst,
    /// The snapshot counts as durable although its file was not synced.
    SnapshotNotSynced,
    /// A small snapshot counts as durable although the commit log lacks its bytes.
    ForgetsSmallSnapshots,
    /// A checkpoint believes small snapshots whose pack was not synced.
    PackNotSynced,
    /// The name of the snapshot's file is not made durable.
    SnapshotNameNotSynced,
    /// A shape's files go before the record that says so is durable.
    RemovesFilesFirst,
    /// Older commit log files go before the checkpoint that replaces them is durable.
    ForgetsFilesFirst,
    /// Older commit log files go although the segments were not synced.
    SegmentsNotSynced,
    /// A segment that could not be synced is synced again.
    SyncsAgain,
    /// A tail counts as written before it is.
    ReportsTailsFirst,
    /// Only the segment's items are synced, not its index.
    IndexNotSynced,
    /// The name of a new commit log file is not made durable.
    CommitFileNameNotSynced,
    /// A start does not make it durable that the older commit log files are gone.
    OlderFilesComeBack,
    /// After a restart a cut off transaction counts.
    BelievesCutOffItems,
    /// After a restart the last durable transaction is left out.
    ForgetsLastTransaction,
    /// After a restart the snapshot's filter is empty: what it holds comes again.
    ForgetsSnapshotFilter,
    /// Shapes that were removed come back with a restart.
    ForgetsRemovals,
    /// A frame of the commit log is believed whatever its checksum.
    IgnoresChecksums,
    /// What waited for a shape's snapshot is not written down.
    ForgetsBackfills,
    /// An index entry names the beginning of its item, but for the first of each write.
    IndexNamesBeginnings,
    /// A start does not know which handles were given before.
    ForgetsHandles,
    /// A start's checkpoint lacks the handles that the start passes over.
    ForgetsPassedOverHandles,
    /// A second process calls a new shape up to date before the commit log says that it joined.
    SecondJoinsEarly,
    /// A second process shows items before the commit log holds their commit.
    SecondShowsItemsFirst,
}

/// The bug that was planted, if any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults(pub Option<Fault>);

impl Faults {
    /// True where it is this one.
    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        self.0 == Some(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}:{}", self.what())
    }
}
