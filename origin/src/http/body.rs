//! Bodies: stored bytes between brackets, sent as they are.

use super::chunks::{CHUNK_BYTES_MAX, ChunkKey, Chunks};
use super::compress::{COMPRESSED_BYTES_MAX, COMPRESSED_BYTES_MIN, COMPRESSED_FROM_BYTES_MAX};
use crate::shapes::{Life, Shape};
use axum::body::{Body, Bytes};
use futures::stream;
use limn_core::Lsn;
use limn_core::log::reading::Part;
use limn_core::log::rope::SharedBytes;
use limn_core::log::shape_log::LogRange;
use limn_core::protocol::{Coding, message};
use limn_disk::segment;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are read from a file, or sent from memory, at one time: what is buffered for a slow client is bounded.
pub(super) const PIECE_BYTES: usize = 128 << 10;
/// Up to this length, a copy of what is in memory costs less than the two pieces that sharing it adds to a body.
const SMALL_BYTES: usize = 16 << 10;

/// A part of a log as a JSON array: `[`, stored bytes without their first comma, a control message, `]`.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The part that is flushed, if any is.
    pub(super) file: Option<Stretch>,
    /// The part that is in memory; follows the file's.
    pub(super) tail: SharedBytes,
    /// The message behind the items, where there is one.
    pub(super) control: Option<Vec<u8>>,
}

/// A part of a log that is in a file.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    key: ChunkKey,
    path: PathBuf,
    range: Range<u64>,
}

impl Stored {
    /// A part of a shape's log, and the up-to-date message behind it where there is an LSN to name.
    pub(super) fn of(shape: &Shape, part: Part, up_to_date: Option<Lsn>) -> Self {
        let (file, tail) = shape.stored(&part);
        let file = file.map(|(path, range)| {
            let part = match part {
                Part::Changes(changes) => Part::Changes(LogRange { bytes: range.clone(), ..changes }),
                part => part,
            };
            let key = ChunkKey { generation: shape.generation(), part, coding: None };
            Stretch { key, path, range }
        });
        Self { file, tail, control: up_to_date.map(message::up_to_date) }
    }

    /// The body's length in bytes.
    pub(super) fn len(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, Stretch::len);
        let control = self.control.as_ref().map_or(0, |control| control.len() as u64 + 1);
        let inside = file + self.tail.len() as u64 + control;
        // The first comma gives way to the bracket; without one the bracket is added.
        inside.max(1) + 1
    }

    /// The body, where nothing of it is in a file.
    pub(super) fn into_memory(self) -> Option<Vec<u8>> {
        let Self { file: None, mut tail, control } = self else { return None };
        let comma = if tail.is_empty() || control.is_none() { "" } else { "," };
        let _first_comma = tail.next_piece(1);
        let mut array = b"[".to_vec();
        tail.append_to(&mut array);
        array.extend_from_slice(&[comma.as_bytes(), &control.unwrap_or_default(), b"]"].concat());
        Some(array)
    }

    /// The compressed form of this part, which never changes again; `None` where it is sent as it is.
    pub(super) async fn compressed(
        &self,
        chunks: &Chunks,
        generation: u64,
        part: Part,
        coding: Coding,
    ) -> io::Result<Option<Bytes>> {
        let length = self.len();
        if !(COMPRESSED_BYTES_MIN..=COMPRESSED_FROM_BYTES_MAX).contains(&length) {
            return Ok(None);
        }
        let key = ChunkKey { generation, part, coding: Some(coding) };
        let compress = || {
            let stored = self.clone();
            chunks.turns.compress(coding, move || stored.read())
        };
        let compressed = chunks.get(key, length.min(COMPRESSED_BYTES_MAX), compress).await?;
        Ok(compressed.filter(|bytes| !bytes.is_empty()))
    }

    /// The whole body. Waits for the disk.
    pub(super) fn read(self) -> io::Result<Vec<u8>> {
        let Self { file, tail, control } = self;
        let Some(Stretch { path, range, .. }) = file else {
            return Ok(Self { file: None, tail, control }.into_memory().unwrap_or_default());
        };
        let mut array = read_array(&path, range)?;
        array.pop();
        tail.append_to(&mut array);
        if let Some(control) = control {
            array.push(b',');
            array.extend_from_slice(&control);
        }
        array.push(b']');
        Ok(array)
    }

    /// The body. Files are opened now, so that a shape that goes meanwhile can still be read to its end.
    pub(super) async fn into_body(self, chunks: &Chunks) -> io::Result<Body> {
        let Self { file, mut tail, control } = self;
        let is_empty = file.is_none() && tail.is_empty();
        let kept = match &file {
            Some(stretch) => stretch.kept(chunks).await?,
            None => None,
        };
        // The first comma gives way to the bracket.
        let (opening, file) = match (kept, file) {
            (Some(array), _) if tail.is_empty() && control.is_none() => return Ok(Body::from(array)),
            (Some(array), _) => (array.slice(..array.len().saturating_sub(1)), None),
            (None, Some(stretch)) => (Bytes::from_static(b"["), Some(stretch.open().await?)),
            (None, None) => {
                let _first_comma = tail.next_piece(1);
                (Bytes::from_static(b"["), None)
            }
        };
        let comma = if is_empty || control.is_none() { "" } else { "," };
        let closing = [comma.as_bytes(), &control.unwrap_or_default(), b"]"].concat();
        if file.is_none() && opening.len() + tail.len() <= SMALL_BYTES {
            let mut array = opening.to_vec();
            tail.append_to(&mut array);
            array.extend_from_slice(&closing);
            return Ok(Body::from(array));
        }
        let pieces = Pieces { opening, file, tail, closing: closing.into() };
        Ok(Body::from_stream(stream::unfold(Some(pieces), Pieces::next)))
    }
}

impl Stretch {
    const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The array of its items, where it is short enough to be kept in memory for others.
    async fn kept(&self, chunks: &Chunks) -> io::Result<Option<Bytes>> {
        let length = self.len() + 1;
        if length > CHUNK_BYTES_MAX {
            return Ok(None);
        }
        let read = || {
            let Self { path, range, .. } = self.clone();
            async move { blocking(move || read_array(&path, range)).await }
        };
        chunks.get(self.key.clone(), length, read).await
    }

    /// Its items, without the first comma.
    pub(super) async fn open(self) -> io::Result<FileRange> {
        let Self { path, range, .. } = self;
        FileRange::open(path, range.start + 1..range.end).await
    }

    /// The same with it.
    pub(super) async fn open_with_comma(self) -> io::Result<FileRange> {
        FileRange::open(self.path, self.range).await
    }
}

/// Reads items that are preceded by a comma each, as an array.
fn read_array(path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut array = vec![0; length + 1];
    if let [items @ .., closing] = array.as_mut_slice() {
        File::open(path)?.read_exact_at(items, range.start)?;
        *closing = b']';
    }
    if let Some(opening) = array.first_mut() {
        *opening = b'[';
    }
    Ok(array)
}

/// Does what may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The pieces of a body that are still to be sent.
struct Pieces {
    opening: Bytes,
    file: Option<FileRange>,
    tail: SharedBytes,
    closing: Bytes,
}

impl Pieces {
    /// One step of a body: the piece that is next.
    async fn next(pieces: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut pieces = pieces?;
        if !pieces.opening.is_empty() {
            return Some((Ok(std::mem::take(&mut pieces.opening)), Some(pieces)));
        }
        if let Some(file) = &mut pieces.file {
            match file.next().await {
                Ok(Some(bytes)) => return Some((Ok(bytes), Some(pieces))),
                Ok(None) => pieces.file = None,
                Err(error) => return Some((Err(error), None)),
            }
        }
        if let Some(bytes) = pieces.tail.next_piece(PIECE_BYTES) {
            return Some((Ok(bytes), Some(pieces)));
        }
        Some((Ok(pieces.closing), None))
    }
}

/// A part of a file that is read piece by piece.
pub(super) struct FileRange {
    file: Arc<File>,
    next: u64,
    end: u64,
}

impl FileRange {
    async fn open(path: PathBuf, range: Range<u64>) -> io::Result<Self> {
        let file = blocking(move || File::open(path)).await?;
        Ok(Self { file: Arc::new(file), next: range.start, end: range.end })
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let bytes = read(&self.file, self.next..self.end).await?;
        self.next += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// Reads the beginning of a range, never nothing.
async fn read(file: &Arc<File>, range: Range<u64>) -> io::Result<Bytes> {
    let file = file.clone();
    blocking(move || {
        let length = PIECE_BYTES.min(usize::try_from(range.end - range.start).unwrap_or(PIECE_BYTES));
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, range.start)?;
        Ok(Bytes::from(buffer))
    })
    .await
}

/// The body of the first chunk of a snapshot that is still being written: sent as it grows.
pub(super) async fn growing_snapshot(shape: Arc<Shape>) -> io::Result<Body> {
    let path = segment::snapshot_path(&shape.dir());
    let file = blocking(move || File::open(path)).await?;
    let state = Some(Growing { shape, file: Arc::new(file), next: 0 });
    Ok(Body::from_stream(stream::unfold(state, next_grown)))
}

struct Growing {
    shape: Arc<Shape>,
    file: Arc<File>,
    /// 0 before the bracket is sent.
    next: u64,
}

async fn next_grown(state: Option<Growing>) -> Option<(io::Result<Bytes>, Option<Growing>)> {
    let mut growing = state?;
    if growing.next == 0 {
        growing.next = 1;
        return Some((Ok(Bytes::from_static(b"[")), Some(growing)));
    }
    loop {
        let shape = growing.shape.clone();
        let changed = shape.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let snapshot = shape.log().snapshot();
        let (written, chunk_end) = (snapshot.bytes, snapshot.chunk_ends.first().copied());
        let end = chunk_end.unwrap_or(written);
        if growing.next < end {
            let bytes = match read(&growing.file, growing.next..end).await {
                Ok(bytes) => bytes,
                Err(error) => return Some((Err(error), None)),
            };
            growing.next += bytes.len() as u64;
            return Some((Ok(bytes), Some(growing)));
        }
        if chunk_end.is_some() {
            return Some((Ok(Bytes::from_static(b"]")), None));
        }
        if !matches!(shape.life(), Life::Creating | Life::Readable) {
            // Cut the body off: half a snapshot must not look like a whole one.
            return Some((Err(io::Error::other("the snapshot failed")), None));
        }
        changed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use limn_core::log::compaction::SegmentStart;

    async fn text(stored: Stored) -> String {
        let length = stored.len();
        let read = stored.clone().read().unwrap();
        let body = stored.into_body(&Chunks::default()).await.unwrap();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert_eq!(bytes.len() as u64, length);
        assert!(read == bytes);
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn brackets_go_round_whatever_there_is() {
        let stored = |tail: &str, control: Option<&str>| Stored {
            file: None,
            tail: Bytes::copy_from_slice(tail.as_bytes()).into(),
            control: control.map(|text| text.as_bytes().to_vec()),
        };
        assert_eq!(text(stored("", None)).await, "[]");
        assert_eq!(text(stored("", Some("{}"))).await, "[{}]");
        assert_eq!(text(stored(",1,2", None)).await, "[1,2]");
        assert_eq!(text(stored(",1,2", Some("{}"))).await, "[1,2,{}]");
    }

    #[tokio::test]
    async fn a_small_body_is_one_piece() {
        for length in [0, 2, SMALL_BYTES] {
            let tail = Bytes::from(vec![b','; length]);
            let stored = Stored { file: None, tail: tail.into(), control: Some(b"{}".to_vec()) };
            let body = stored.into_body(&Chunks::default()).await.unwrap().into_data_stream();
            assert_eq!(body.count().await, 1, "{length} bytes");
        }
    }

    #[tokio::test]
    async fn bodies_of_one_tail_share_its_bytes() {
        let tail = Bytes::from(vec![b','; 2 * PIECE_BYTES]);
        for _client in 0..2 {
            let stored = Stored { file: None, tail: tail.clone().into(), control: Some(b"{}".to_vec()) };
            let body = stored.into_body(&Chunks::default()).await.unwrap().into_data_stream();
            let pieces: Vec<Bytes> = body.map(Result::unwrap).collect().await;
            let shared = &pieces[1..pieces.len() - 1];
            let mut at = tail.as_ptr().wrapping_add(1);
            for piece in shared {
                assert_eq!(piece.as_ptr(), at, "no copy");
                at = at.wrapping_add(piece.len());
            }
            assert_eq!(shared.iter().map(Bytes::len).sum::<usize>(), tail.len() - 1);
            assert_eq!((&pieces[0][..], &pieces[pieces.len() - 1][..]), (&b"["[..], &b",{}]"[..]));
        }
    }

    #[tokio::test]
    async fn chunks_of_a_useful_length_are_compressed() {
        let chunks = Chunks::default();
        for (length, expected) in [
            (COMPRESSED_BYTES_MIN - 1, false),
            (COMPRESSED_BYTES_MIN, true),
            (COMPRESSED_FROM_BYTES_MAX, true),
            (COMPRESSED_FROM_BYTES_MAX + 1, false),
        ] {
            // The first comma gives way to the bracket; the other one is added.
            let tail = vec![b','; usize::try_from(length - 1).unwrap()];
            let stored = Stored { file: None, tail: Bytes::from(tail).into(), control: None };
            assert_eq!(stored.len(), length);
            let part = Part::Changes(LogRange { start: SegmentStart::default(), bytes: 0..length });
            let compressed = stored.compressed(&chunks, 0, part, Coding::Zstd).await.unwrap();
            assert_eq!(compressed.is_some(), expected, "{length}");
            if let Some(compressed) = compressed {
                let whole = stored.read().unwrap();
                assert!(zstd::decode_all(&compressed[..]).unwrap() == whole);
            }
        }
    }

    #[tokio::test]
    async fn a_file_and_a_tail_are_one_array() {
        let path = std::env::temp_dir().join(format!("limn-body-{}", std::process::id()));
        for count in [1, 1_000, 100_000, 1_000_000] {
            let items: String = (0..count).map(|number| format!(",{number}")).collect();
            std::fs::write(&path, format!("xx{items}yy")).unwrap();
            let range = 2..2 + items.len() as u64;
            let part = Part::Changes(LogRange { start: SegmentStart::default(), bytes: range.clone() });
            let stretch =
                Stretch { key: ChunkKey { generation: 0, part, coding: None }, path: path.clone(), range };
            let stored = |tail: &'static str, control: Option<&str>| Stored {
                file: Some(stretch.clone()),
                tail: Bytes::from_static(tail.as_bytes()).into(),
                control: control.map(|text| text.as_bytes().to_vec()),
            };
            let items = &items[1..];
            assert_eq!(count == 1_000_000, items.len() as u64 > CHUNK_BYTES_MAX, "kept, or read in pieces");
            assert_eq!(text(stored("", None)).await, format!("[{items}]"));
            assert_eq!(text(stored(",7", None)).await, format!("[{items},7]"));
            assert_eq!(text(stored("", Some("{}"))).await, format!("[{items},{{}}]"));
            assert_eq!(text(stored(",7", Some("{}"))).await, format!("[{items},7,{{}}]"));
        }
        std::fs::remove_file(path).unwrap();
    }
}
