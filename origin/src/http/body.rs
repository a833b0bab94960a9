//! Bodies: stored bytes between brackets, sent as they are.

use crate::shapes::{Life, Shape};
use axum::body::{Body, Bytes};
use futures::stream;
use limn_core::Lsn;
use limn_core::log::reading::Part;
use limn_core::log::rope::SharedBytes;
use limn_core::protocol::message;
use limn_disk::segment;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are read from a file, or sent from memory, at one time: what is buffered for a slow client is bounded.
pub(super) const PIECE_BYTES: usize = 128 << 10;
/// Up to this length, a copy of what is in memory costs less than the two pieces that sharing it adds to a body.
const SMALL_BYTES: usize = 16 << 10;

/// A part of a log as a JSON array: `[`, stored bytes without their first comma, a control message, `]`.
pub(super) struct Stored {
    /// The file and the range in it, where a part is flushed.
    pub(super) file: Option<(PathBuf, Range<u64>)>,
    /// The part that is in memory; follows the file's.
    pub(super) tail: SharedBytes,
    /// The message behind the items, where there is one.
    pub(super) control: Option<Vec<u8>>,
}

impl Stored {
    /// A part of a shape's log, and the up-to-date message behind it where there is an LSN to name.
    pub(super) fn of(shape: &Shape, part: Part, up_to_date: Option<Lsn>) -> Self {
        let (file, tail) = match part {
            Part::Snapshot(range) => {
                let (path, at) = segment::snapshot_place(&shape.dir(), shape.log().snapshot().pack);
                (Some((path, at + range.start..at + range.end)), SharedBytes::new())
            }
            Part::Changes(bytes) => shape.parts(bytes),
            Part::Nothing => (None, SharedBytes::new()),
        };
        Self { file, tail, control: up_to_date.map(message::up_to_date) }
    }

    /// The body's length in bytes.
    pub(super) fn len(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, |(_, range)| range.end - range.start);
        let control = self.control.as_ref().map_or(0, |control| control.len() as u64 + 1);
        let inside = file + self.tail.len() as u64 + control;
        // The first comma gives way to the bracket; without one the bracket is added.
        inside.max(1) + 1
    }

    /// The body. Files are opened now, so that a shape that goes meanwhile can still be read to its end.
    pub(super) async fn into_body(self) -> io::Result<Body> {
        let Self { file, mut tail, control } = self;
        let is_empty = file.is_none() && tail.is_empty();
        // The first comma gives way to the bracket.
        let file = match file {
            Some((path, range)) => Some(FileRange::open(path, range.start + 1..range.end).await?),
            None => {
                let _comma = tail.next_piece(1);
                None
            }
        };
        let comma = if is_empty || control.is_none() { "" } else { "," };
        let closing = [comma.as_bytes(), &control.unwrap_or_default(), b"]"].concat();
        if file.is_none() && tail.len() <= SMALL_BYTES {
            return Ok(Body::from([b"[", &tail.to_vec()[..], &closing].concat()));
        }
        let pieces = Pieces { opening: Bytes::from_static(b"["), file, tail, closing: closing.into() };
        Ok(Body::from_stream(stream::unfold(Some(pieces), Pieces::next)))
    }
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
    pub(super) async fn open(path: PathBuf, range: Range<u64>) -> io::Result<Self> {
        let file =
            tokio::task::spawn_blocking(move || File::open(path)).await.map_err(io::Error::other)??;
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
    let read = move || {
        let length = PIECE_BYTES.min(usize::try_from(range.end - range.start).unwrap_or(PIECE_BYTES));
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, range.start)?;
        Ok(Bytes::from(buffer))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// The body of the first chunk of a snapshot that is still being written: sent as it grows.
pub(super) async fn growing_snapshot(shape: Arc<Shape>) -> io::Result<Body> {
    let path = segment::snapshot_path(&shape.dir());
    let file = tokio::task::spawn_blocking(move || File::open(path)).await.map_err(io::Error::other)??;
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
        let (written, chunk_end) = {
            let log = shape.log();
            (log.snapshot().bytes, log.snapshot().chunk_ends.first().copied())
        };
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

    async fn text(stored: Stored) -> String {
        let length = stored.len();
        let body = stored.into_body().await.unwrap();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        assert_eq!(bytes.len() as u64, length);
        String::from_utf8(bytes.to_vec()).unwrap()
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
            let tail = Bytes::from(vec![b','; length]).into();
            let stored = Stored { file: None, tail, control: Some(b"{}".to_vec()) };
            let body = stored.into_body().await.unwrap().into_data_stream();
            assert_eq!(body.count().await, 1, "{length} bytes");
        }
    }

    #[tokio::test]
    async fn bodies_of_one_tail_share_its_bytes() {
        let tail = Bytes::from(vec![b','; 2 * PIECE_BYTES]);
        for _client in 0..2 {
            let stored = Stored { file: None, tail: tail.clone().into(), control: Some(b"{}".to_vec()) };
            let body = stored.into_body().await.unwrap().into_data_stream();
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
    async fn a_file_and_a_tail_are_one_array() {
        let path = std::env::temp_dir().join(format!("limn-body-{}", std::process::id()));
        let items: String = (0..100_000).map(|number| format!(",{number}")).collect();
        std::fs::write(&path, format!("xx{items}yy")).unwrap();
        let range = 2..2 + items.len() as u64;
        let stored = Stored {
            file: Some((path.clone(), range)),
            tail: Bytes::from_static(b",7").into(),
            control: Some(b"{}".to_vec()),
        };
        assert_eq!(text(stored).await, format!("[{},7,{{}}]", &items[1..]));
        std::fs::remove_file(path).unwrap();
    }
}
