//! Bytes in a row, of which long runs are shared: an item of many megabytes is in memory once, however many logs,
//! records and replies it is in.

use bytes::Bytes;
use std::collections::VecDeque;
use std::iter;
use std::ops::Range;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Length from which on an item's bytes are shared. Shorter ones are copied, which costs less than an allocation of
/// their own, and an entry in a list for each log.
pub const SHARED_BYTES_MIN: usize = 4 << 10;

/// Bytes in a row. Those that are appended as a slice are copied, those that come as [`Bytes`] are not.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    /// The copied bytes, without the gaps.
    own: Vec<u8>,
    /// The shared runs. Few ropes have any, and there is a rope in each log.
    shared: Option<Box<Shared>>,
}

#[derive(Debug, Clone, Default)]
struct Shared {
    /// In their order.
    runs: Vec<Run>,
    /// Bytes of all runs.
    len: usize,
}

/// Shared bytes that stand before the byte `at` of what was copied.
#[derive(Debug, Clone)]
struct Run {
    at: usize,
    bytes: Bytes,
}

/// Bytes that lie in one place of memory.
#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Own(&'a [u8]),
    Shared(&'a Bytes),
}

/// The end of a rope at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RopeEnd {
    own: usize,
    runs: usize,
    len: usize,
}

impl<'a> Piece<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Rope {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { own: Vec::new(), shared: None }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.shared.as_ref().map_or(0, |shared| shared.len)
    }

    /// True where it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a byte.
    pub fn push(&mut self, byte: u8) {
        self.own.push(byte);
    }

    /// Appends a copy.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    /// Appends without a copy.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let at = self.own.len();
        let shared = self.shared.get_or_insert_default();
        shared.len += bytes.len();
        shared.runs.push(Run { at, bytes });
    }

    /// Appends another one: what that has copied is copied again, what it shares is shared.
    pub fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let behind = self.own.len();
        self.own.extend_from_slice(&other.own);
        if let Some(other) = other.shared {
            let shared = self.shared.get_or_insert_default();
            shared.len += other.len;
            shared.runs.extend(other.runs.into_iter().map(|run| Run { at: behind + run.at, ..run }));
        }
    }

    /// The vector to append copies to, for those who know vectors only.
    pub const fn end_mut(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Takes the last `bytes` away, none of which is shared.
    pub fn cut_end(&mut self, bytes: usize) {
        let own = self.own.len().saturating_sub(bytes);
        debug_assert!(self.end().runs == 0 || self.last_run_at() <= own, "shared bytes stay");
        self.own.truncate(own);
    }

    /// Takes the first `bytes` away.
    pub fn cut_start(&mut self, bytes: usize) {
        let (mut own, mut left) = (0, bytes);
        if let Some(shared) = &mut self.shared {
            let mut gone = 0;
            for run in &mut shared.runs {
                if left <= run.at - own {
                    break;
                }
                left -= run.at - own;
                own = run.at;
                let taken = left.min(run.bytes.len());
                left -= taken;
                shared.len -= taken;
                drop(run.bytes.split_to(taken));
                if !run.bytes.is_empty() {
                    break;
                }
                gone += 1;
            }
            own += left;
            shared.runs.drain(..gone);
            shared.runs.iter_mut().for_each(|run| run.at -= own);
        } else {
            own = left;
        }
        self.own.drain(..own.min(self.own.len()));
        self.shared.take_if(|shared| shared.runs.is_empty());
    }

    /// Makes room for copies of so many bytes, and for a quarter more than there is: with the doubling of a vector the
    /// ropes of many logs would take half as much again as they hold.
    pub fn reserve(&mut self, bytes: usize) {
        let room = self.own.capacity() - self.own.len();
        if room < bytes {
            self.own.reserve_exact(bytes.max(self.own.len() / 4));
        }
    }

    /// Gives room back that is not needed.
    pub fn shrink_to_fit(&mut self) {
        self.own.shrink_to_fit();
    }

    /// As much of a part as there is: what was copied is copied again, what is shared is shared.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let (mut part, mut at) = (Self::new(), 0);
        for piece in self.pieces() {
            let length = piece.bytes().len();
            let within = |position: usize| position.clamp(at, at + length) - at;
            let range = within(range.start)..within(range.end);
            match piece {
                Piece::Own(bytes) => part.extend_from_slice(bytes.get(range).unwrap_or_default()),
                Piece::Shared(bytes) if range.is_empty() => debug_assert!(bytes.len() == length),
                Piece::Shared(bytes) => part.push_shared(bytes.slice(range)),
            }
            at += length;
        }
        part
    }

    /// All of it, cut where memory is.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces().map(Piece::bytes).filter(|bytes| !bytes.is_empty())
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.slices().for_each(|slice| bytes.extend_from_slice(slice));
        bytes
    }

    /// All bytes; copied only where some are shared.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        if self.shared.is_none() { self.own } else { self.to_vec() }
    }

    /// All bytes, for many who read them.
    #[must_use]
    pub fn into_shared(self) -> SharedBytes {
        let (mut own, mut at) = (Bytes::from(self.own), 0);
        let mut pieces = VecDeque::new();
        for run in self.shared.into_iter().flat_map(|shared| shared.runs) {
            pieces.push_back(own.split_to(run.at - at));
            pieces.push_back(run.bytes);
            at = run.at;
        }
        pieces.push_back(own);
        pieces.retain(|piece| !piece.is_empty());
        SharedBytes(pieces)
    }

    /// Its end now.
    pub(crate) fn end(&self) -> RopeEnd {
        let runs = self.shared.as_ref().map_or(0, |shared| shared.runs.len());
        RopeEnd { own: self.own.len(), runs, len: self.len() }
    }

    /// The number of bytes appended since it ended there.
    pub(crate) fn len_since(&self, end: RopeEnd) -> usize {
        self.len() - end.len
    }

    /// The bytes copied since it ended there.
    pub(crate) fn own_since(&mut self, end: RopeEnd) -> &mut [u8] {
        self.own.get_mut(end.own..).unwrap_or_default()
    }

    /// The XXH3 of what was appended since it ended there, without the first `skipped` bytes, which are none that are
    /// shared.
    pub(crate) fn checksum_since(&self, end: RopeEnd, skipped: usize) -> u64 {
        let mut at = end.own + skipped;
        let mut runs = self.shared.iter().flat_map(|shared| shared.runs.iter().skip(end.runs)).peekable();
        if runs.peek().is_none() {
            return xxh3_64(self.own.get(at..).unwrap_or_default());
        }
        let mut hasher = Xxh3::new();
        for run in runs {
            hasher.update(self.own.get(at..run.at).unwrap_or_default());
            hasher.update(&run.bytes);
            at = run.at;
        }
        hasher.update(self.own.get(at..).unwrap_or_default());
        hasher.digest()
    }

    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut at = 0;
        let runs = self.shared.iter().flat_map(|shared| &shared.runs).flat_map(move |run| {
            let own = self.own.get(at..run.at).unwrap_or_default();
            at = run.at;
            [Piece::Own(own), Piece::Shared(&run.bytes)]
        });
        let rest = self.own.get(self.last_run_at()..).unwrap_or_default();
        runs.chain(iter::once(Piece::Own(rest)))
    }

    fn last_run_at(&self) -> usize {
        self.shared.as_ref().and_then(|shared| shared.runs.last()).map_or(0, |run| run.at)
    }
}

impl From<Vec<u8>> for Rope {
    fn from(own: Vec<u8>) -> Self {
        Self { own, shared: None }
    }
}

/// Bytes in a row that nobody changes any more, to be read from the front.
#[derive(Debug, Clone, Default)]
pub struct SharedBytes(VecDeque<Bytes>);

impl SharedBytes {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// The number of bytes left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// True where no bytes are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next bytes, at most `bytes_max`, without copying them; `None` where none are left.
    pub fn next_piece(&mut self, bytes_max: usize) -> Option<Bytes> {
        let first = self.0.front_mut()?;
        let piece = first.split_to(first.len().min(bytes_max));
        self.0.pop_front_if(|first| first.is_empty());
        Some(piece)
    }

    /// A copy of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len());
        self.append_to(&mut copy);
        copy
    }

    /// Appends a copy of them.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|bytes| out.extend_from_slice(bytes));
    }
}

impl From<Bytes> for SharedBytes {
    fn from(bytes: Bytes) -> Self {
        Self(iter::once(bytes).filter(|bytes| !bytes.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ALL: &[u8] = b"abCDEfgHIj";

    /// The capital letters are shared.
    fn rope() -> Rope {
        let mut rope = Rope::new();
        rope.extend_from_slice(b"ab");
        rope.push_shared(Bytes::from_static(b"CD"));
        rope.push_shared(Bytes::from_static(b"E"));
        rope.extend_from_slice(b"fg");
        rope.push_shared(Bytes::from_static(b"HI"));
        rope.push(b'j');
        rope
    }

    #[test]
    fn its_room_is_little_more_than_it_holds() {
        let mut rope = Rope::new();
        for _ in 0..1_000 {
            rope.reserve(100);
            rope.extend_from_slice(&[b'x'; 100]);
            assert!(
                rope.own.capacity() <= rope.len() * 5 / 4 + 100,
                "{} of {}",
                rope.own.capacity(),
                rope.len()
            );
        }
    }

    #[test]
    fn it_is_cut_wherever_a_vector_is() {
        assert_eq!((rope().len(), rope().to_vec()), (ALL.len(), ALL.to_vec()));
        for start in 0..=ALL.len() {
            let mut rest = rope();
            rest.cut_start(start);
            assert_eq!((rest.len(), rest.to_vec()), (ALL.len() - start, ALL[start..].to_vec()), "{start}");
            rest.extend_from_slice(b"xy");
            rest.cut_end(1);
            assert_eq!(rest.into_vec(), [&ALL[start..], b"x"].concat());
            for end in start..=ALL.len() + 1 {
                let expected = &ALL[start..end.min(ALL.len())];
                let part = rope().part(start..end);
                assert_eq!((part.len(), part.to_vec()), (expected.len(), expected.to_vec()), "{start} {end}");
            }
        }
    }

    #[test]
    fn what_is_shared_stays_where_it_is() {
        let bytes = Bytes::from(vec![7; 100]);
        let mut one = Rope::from(b"1".to_vec());
        one.push_shared(bytes.clone());
        let mut two = Rope::from(b"2".to_vec());
        two.append(one.part(1..61));
        assert_eq!((two.len(), two.clone().into_shared().len()), (61, 61));
        assert!(two.slices().any(|slice| slice.as_ptr() == bytes.as_ptr()));
        let mut shared = two.into_shared();
        assert_eq!(shared.next_piece(50).as_deref(), Some(&b"2"[..]));
        assert_eq!(shared.next_piece(50).map(|piece| piece.as_ptr()), Some(bytes.as_ptr()));
        assert_eq!((shared.len(), shared.to_vec()), (10, vec![7; 10]));
        assert_eq!(shared.next_piece(50).map(|piece| piece.len()), Some(10));
        assert!(shared.is_empty() && shared.next_piece(50).is_none());
    }

    #[test]
    fn the_checksum_is_that_of_the_bytes_in_a_row() {
        let mut joined = Rope::from(b"head".to_vec());
        joined.push_shared(Bytes::from_static(b"before"));
        let end = joined.end();
        joined.append(rope());
        assert_eq!((joined.len_since(end), joined.own_since(end).len()), (ALL.len(), 5));
        for skipped in 0..=2 {
            assert_eq!(joined.checksum_since(end, skipped), xxh3_64(&ALL[skipped..]));
        }
        let end = joined.end();
        joined.extend_from_slice(ALL);
        assert_eq!(joined.checksum_since(end, 1), xxh3_64(&ALL[1..]));
    }
}
