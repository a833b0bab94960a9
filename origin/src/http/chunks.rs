//! Chunks that many clients read: in memory once, as the bodies that are sent, within one bound.
//!
//! A chunk is read from its file once, by the first of those who ask for it together. The bound counts each chunk until
//! the last client that is sent it has it, whether it is kept or not; where there is no room, a reply reads the file
//! piece by piece for itself.

use super::compress::Turns;
use axum::body::Bytes;
use limn_core::log::reading::Part;
use limn_core::protocol::Coding;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// Bytes of chunks in memory, those included that are on their way to clients.
const CHUNKS_BYTES_MAX: usize = 64 << 20;
/// Chunks that are known: those count that are not worth compressing, of which there is nothing to keep.
const CHUNKS_MAX: usize = 16_384;
/// A longer chunk is not kept: few clients ask for it at one time, and its file serves them as well.
pub(super) const CHUNK_BYTES_MAX: u64 = 1 << 20;

/// The name of a chunk's bytes, which never change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ChunkKey {
    /// [`Shape::generation`](crate::shapes::Shape::generation)
    pub(super) generation: u64,
    pub(super) part: Part,
    pub(super) coding: Option<Coding>,
}

/// The chunks that are in memory.
#[derive(Debug)]
pub struct Chunks {
    kept: Mutex<Kept>,
    room: Arc<Semaphore>,
    /// For those that are compressed.
    pub(super) turns: Turns,
}

#[derive(Debug, Default)]
struct Kept {
    chunks: HashMap<ChunkKey, Chunk>,
    /// The order in which chunks go, where they are not asked for meanwhile.
    queue: VecDeque<ChunkKey>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Arc<OnceCell<Bytes>>,
    /// Somebody has asked for it since it came, or since it was last passed over.
    is_hot: bool,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new(CHUNKS_BYTES_MAX)
    }
}

impl Chunks {
    fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), room: Arc::new(Semaphore::new(bytes_max)), turns: Turns::default() }
    }

    /// A chunk of at most `length` bytes, which `read` gives where it is not kept. `None` where there is no room for it.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn get<R>(
        &self,
        key: ChunkKey,
        length: u64,
        read: impl FnOnce() -> R,
    ) -> io::Result<Option<Bytes>>
    where
        R: Future<Output = io::Result<Vec<u8>>>,
    {
        let cell = self.cell(&key);
        if let Some(bytes) = cell.get() {
            return Ok(Some(bytes.clone()));
        }
        let reading = cell.get_or_try_init(|| async {
            let room = self.make_room(length).ok_or(None)?;
            let bytes = read().await.map_err(Some)?;
            let room = keep(room, bytes.len()).ok_or(None)?;
            Ok::<_, Option<io::Error>>(Bytes::from_owner(Counted { bytes, _room: room }))
        });
        match reading.await {
            Ok(bytes) => Ok(Some(bytes.clone())),
            Err(error) => {
                self.forget(&key, &cell);
                error.map_or(Ok(None), Err)
            }
        }
    }

    fn cell(&self, key: &ChunkKey) -> Arc<OnceCell<Bytes>> {
        let mut kept = self.kept();
        if let Some(chunk) = kept.chunks.get_mut(key) {
            chunk.is_hot = true;
            return chunk.bytes.clone();
        }
        let _passed_over = (kept.chunks.len() >= CHUNKS_MAX).then(|| kept.pop());
        let bytes = Arc::new(OnceCell::new());
        kept.chunks.insert(key.clone(), Chunk { bytes: bytes.clone(), is_hot: false });
        kept.queue.push_back(key.clone());
        bytes
    }

    /// Counts bytes in. Chunks go for that which nobody has asked for lately.
    fn make_room(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        let length = u32::try_from(length).ok()?;
        loop {
            if let Ok(room) = self.room.clone().try_acquire_many_owned(length) {
                return Some(room);
            }
            // Outside the lock: the last one to let go of a chunk frees it.
            drop(self.kept().pop()?);
        }
    }

    /// A chunk that could not be had takes no place among the others.
    fn forget(&self, key: &ChunkKey, cell: &Arc<OnceCell<Bytes>>) {
        let mut kept = self.kept();
        let is_same = kept.chunks.get(key).is_some_and(|chunk| Arc::ptr_eq(&chunk.bytes, cell));
        if is_same && !cell.initialized() {
            kept.chunks.remove(key);
            kept.queue.retain(|queued| queued != key);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Takes out the chunk that is to go first; those that are hot are passed over once. Chunks that are being read stay.
    fn pop(&mut self) -> Option<Chunk> {
        for _ in 0..2 * self.queue.len() {
            let key = self.queue.pop_front()?;
            let chunk = self.chunks.get_mut(&key)?;
            if chunk.bytes.initialized() && !std::mem::take(&mut chunk.is_hot) {
                return self.chunks.remove(&key);
            }
            self.queue.push_back(key);
        }
        None
    }
}

/// Gives back the room that was not needed; `None` where there is not enough of it.
fn keep(mut room: OwnedSemaphorePermit, length: usize) -> Option<OwnedSemaphorePermit> {
    drop(room.split(room.num_permits().checked_sub(length)?));
    Some(room)
}

/// A chunk's bytes, counted for as long as anybody has them.
struct Counted {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(generation: u64) -> ChunkKey {
        ChunkKey { generation, part: Part::Snapshot(0..10), coding: None }
    }

    async fn get(chunks: &Chunks, generation: u64) -> Option<Bytes> {
        let read = || async move { Ok(vec![u8::try_from(generation).unwrap(); 10]) };
        chunks.get(key(generation), 10, read).await.unwrap()
    }

    fn is_kept(chunks: &Chunks, generation: u64) -> bool {
        chunks.kept().chunks.contains_key(&key(generation))
    }

    #[tokio::test]
    async fn who_asks_together_shares_one_read() {
        let chunks = Chunks::new(CHUNKS_BYTES_MAX);
        let reads = std::sync::atomic::AtomicU32::new(0);
        let ask = || {
            chunks.get(key(1), 10, || async {
                reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(b"[]".to_vec())
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        let (first, second) = (first.unwrap().unwrap(), second.unwrap().unwrap());
        assert_eq!((first.as_ptr(), &first[..]), (second.as_ptr(), &b"[]"[..]));
        assert_eq!(reads.into_inner(), 1);
    }

    #[tokio::test]
    async fn generations_do_not_share_bytes() {
        let chunks = Chunks::default();
        assert_ne!(get(&chunks, 1).await, get(&chunks, 2).await);
    }

    #[tokio::test]
    async fn chunks_go_that_nobody_asks_for() {
        let chunks = Chunks::new(25);
        drop((get(&chunks, 1).await, get(&chunks, 2).await));
        get(&chunks, 1).await.unwrap();
        get(&chunks, 3).await.unwrap();
        assert_eq!([1, 2, 3].map(|generation| is_kept(&chunks, generation)), [true, false, true]);
    }

    #[tokio::test]
    async fn what_is_on_its_way_counts() {
        let chunks = Chunks::new(25);
        let sent = (get(&chunks, 1).await.unwrap(), get(&chunks, 2).await.unwrap());
        assert_eq!(get(&chunks, 3).await, None, "the others are still being sent");
        assert!(!is_kept(&chunks, 3));
        drop(sent);
        assert!(get(&chunks, 3).await.is_some());
    }

    #[tokio::test]
    async fn the_number_of_chunks_is_bounded() {
        let chunks = Chunks::default();
        for generation in 0..=CHUNKS_MAX as u64 {
            let nothing = chunks.get(key(generation), 0, || async { Ok(Vec::new()) }).await;
            assert_eq!(nothing.unwrap(), Some(Bytes::new()));
        }
        assert_eq!(chunks.kept().chunks.len(), CHUNKS_MAX);
        assert!(!is_kept(&chunks, 0) && is_kept(&chunks, 1));
    }

    #[tokio::test]
    async fn a_read_that_failed_leaves_nothing_behind() {
        let chunks = Chunks::new(25);
        let failed = chunks.get(key(1), 10, || async { Err(io::ErrorKind::NotFound.into()) }).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!is_kept(&chunks, 1));
        assert!(get(&chunks, 1).await.is_some());
        assert_eq!(chunks.room.available_permits(), 15);
        let short = chunks.get(key(2), 10, || async { Ok(b"[]".to_vec()) }).await;
        assert_eq!((short.unwrap().unwrap().len(), chunks.room.available_permits()), (2, 13));
        assert_eq!(chunks.get(key(3), 1, || async { Ok(b"[]".to_vec()) }).await.unwrap(), None);
    }
}
