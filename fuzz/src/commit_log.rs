//! The commit log: whatever a disk gives back is read up to the first damage, and what was read is written the same.

use limn_core::journal::Record;
use limn_core::journal::record::{FRAME_HEAD_BYTES, read_frame};

/// `data` is a file; and, since nobody guesses a checksum, a payload too.
pub fn check(data: &[u8]) {
    let mut rest = data;
    while let Some((payload, frame_bytes)) = read_frame(rest) {
        assert_eq!(payload.len() + FRAME_HEAD_BYTES, frame_bytes);
        reads_as_it_is_written(payload);
        rest = rest.get(frame_bytes..).expect("a frame lies within its file");
    }
    reads_as_it_is_written(data);
}

fn reads_as_it_is_written(payload: &[u8]) {
    let Ok(record) = Record::decode(payload) else { return };
    let mut written = Vec::new();
    record.encode(&mut written);
    let (payload, frame_bytes) = read_frame(&written).expect("a frame was just written");
    assert_eq!(frame_bytes, written.len());
    assert_eq!(Record::decode(payload).as_ref(), Ok(&record));
}
