//! A segment's index: entries survive the way to the disk and back, and a search ends whatever they say.

use limn_core::Offset;
use limn_core::log::segment::{ENTRY_BYTES, decode_entry, encode_entry, search};
use std::convert::Infallible;

/// `data` begins with the offset to look for, as an entry; the rest is the index.
pub fn check(data: &[u8]) {
    let (entries, _) = data.as_chunks::<ENTRY_BYTES>();
    let Some((wanted, index)) = entries.split_first() else { return };
    let mut marks: Vec<_> = index.iter().map(decode_entry).collect();
    let mut written = Vec::new();
    marks.iter().for_each(|mark| encode_entry(&mut written, *mark));
    assert_eq!(written, index.concat());

    let wanted = decode_entry(wanted);
    let after = Offset::new(wanted.tx, wanted.op);
    let find = |marks: &[_]| {
        let entry = |n: u64| Ok::<_, Infallible>(marks[usize::try_from(n).expect("an index in memory")]);
        search(marks.len() as u64, after, entry).expect("nothing fails")
    };
    // Damaged: some end that is there, or none.
    let position = find(&marks);
    assert!(position == 0 || marks.iter().any(|mark| mark.end == position));
    // In order, as it is written: the very one.
    marks.sort_by_key(|mark| (mark.tx, mark.op));
    let scanned = marks.iter().rfind(|mark| Offset::new(mark.tx, mark.op) <= after);
    assert_eq!(find(&marks), scanned.map_or(0, |mark| mark.end));
}
