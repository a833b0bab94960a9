//! The decoder against frames built by hand from the documented layout.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Appends fields in the wire's form.
#[derive(Default, Clone)]
struct Frame(Vec<u8>);

impl Frame {
    fn new(tag: u8) -> Self {
        Self(vec![tag])
    }
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn name(mut self, name: &str) -> Self {
        self.0.extend(name.as_bytes());
        self.u8(0)
    }
    fn tuple(mut self, kind: u8, cells: &[Cell<'_>]) -> Self {
        self = self.u8(kind).u16(u16::try_from(cells.len()).expect("a test's row is short"));
        for cell in cells {
            self = match cell {
                Cell::Null => self.u8(b'n'),
                Cell::UnchangedToast => self.u8(b'u'),
                Cell::Text(text) => {
                    let mut frame = self.u8(b't').u32(u32::try_from(text.len()).expect("short"));
                    frame.0.extend(*text);
                    frame
                }
            };
        }
        self
    }
}

const ROW: [Cell<'static>; 4] = [Cell::Text(b"1"), Cell::Null, Cell::UnchangedToast, Cell::Text(b"")];

fn samples() -> Vec<Frame> {
    vec![
        Frame::new(b'B').u64(7).u64(8).u32(9),
        Frame::new(b'C').u8(0).u64(7).u64(16).u64(8),
        Frame::new(b'R')
            .u32(5)
            .name("public")
            .name("items")
            .u8(b'f')
            .u16(1)
            .u8(1)
            .name("id")
            .u32(23)
            .u32(u32::MAX),
        Frame::new(b'I').u32(5).tuple(b'N', &ROW),
        Frame::new(b'U').u32(5).tuple(b'O', &ROW).tuple(b'N', &ROW),
        Frame::new(b'U').u32(5).tuple(b'K', &ROW[..1]).tuple(b'N', &ROW),
        Frame::new(b'U').u32(5).tuple(b'N', &ROW),
        Frame::new(b'D').u32(5).tuple(b'O', &ROW),
        Frame::new(b'T').u32(2).u8(0).u32(5).u32(6),
    ]
}

#[test]
fn transaction_limits() {
    let begin = Frame::new(b'B').u64(0x1_0000_0000).u64(1).u32(770);
    assert_eq!(decode(&begin.0), Ok(Message::Begin(Begin { final_lsn: Lsn::new(0x1_0000_0000), xid: 770 })));
    let commit = Frame::new(b'C').u8(0).u64(7).u64(16).u64(1);
    assert_eq!(decode(&commit.0), Ok(Message::Commit(Commit { lsn: Lsn::new(7), end_lsn: Lsn::new(16) })));
}

#[test]
fn relation_without_schema_is_in_the_catalog() {
    let frame = Frame::new(b'R')
        .u32(1259)
        .name("")
        .name("pg_class")
        .u8(b'n')
        .u16(2)
        .u8(0)
        .name("größe")
        .u32(25)
        .u32(u32::MAX)
        .u8(1)
        .name("b")
        .u32(1043)
        .u32(14);
    let column = |key, name, type_oid, type_mod| RelationColumn { key, name, type_oid, type_mod };
    assert_eq!(
        decode(&frame.0),
        Ok(Message::Relation(RelationMessage {
            oid: 1259,
            schema: "pg_catalog",
            name: "pg_class",
            replica_identity: ReplicaIdentity::Nothing,
            columns: vec![column(false, "größe", 25, -1), column(true, "b", 1043, 14)],
        }))
    );
}

#[test]
fn rows_keep_null_unchanged_and_empty_apart() {
    let frame = Frame::new(b'U').u32(5).tuple(b'O', &ROW).tuple(b'N', &ROW[1..]);
    let Ok(Message::Update { relation: 5, old: Some(OldTuple::Full(old)), new }) = decode(&frame.0) else {
        unreachable!("an update with a full old row")
    };
    assert_eq!(old.iter().collect::<Vec<_>>(), ROW);
    assert_eq!(new.iter().collect::<Vec<_>>(), ROW[1..]);
    assert_eq!((old.len(), new.iter().len()), (4, 3));
}

#[test]
fn old_rows_are_absent_partial_or_full() {
    let without = Frame::new(b'U').u32(5).tuple(b'N', &ROW);
    assert!(matches!(decode(&without.0), Ok(Message::Update { old: None, .. })));
    let key = Frame::new(b'D').u32(5).tuple(b'K', &ROW[..1]);
    let Ok(Message::Delete { relation: 5, old: OldTuple::Key(old) }) = decode(&key.0) else {
        unreachable!("a delete with a key")
    };
    assert_eq!(old.iter().collect::<Vec<_>>(), [Cell::Text(b"1")]);
    assert_eq!(decode(&Frame::new(b'D').u32(5).tuple(b'N', &ROW).0), Err(DecodeError::UnexpectedTuple(b'N')));
}

#[test]
fn truncate_lists_its_tables() {
    let frame = Frame::new(b'T').u32(2).u8(3).u32(5).u32(6);
    assert_eq!(decode(&frame.0), Ok(Message::Truncate { relations: vec![5, 6] }));
    let lie = Frame::new(b'T').u32(u32::MAX).u8(0).u32(5);
    assert_eq!(decode(&lie.0), Err(DecodeError::EndsEarly { at: 10, missing: 4 }));
}

#[test]
fn messages_without_content_for_us_are_named() {
    assert_eq!(decode(&Frame::new(b'O').u64(1).name("o").0), Ok(Message::Origin));
    assert_eq!(decode(&Frame::new(b'Y').u32(1).name("s").name("t").0), Ok(Message::Type));
    assert_eq!(decode(&Frame::new(b'M').u8(0).0), Ok(Message::Logical));
}

#[test]
fn every_truncation_and_every_extension_is_an_error() {
    for Frame(frame) in samples() {
        assert!(decode(&frame).is_ok(), "{frame:?}");
        for end in 0..frame.len() {
            assert!(decode(&frame[..end]).is_err(), "{:?}", &frame[..end]);
        }
        let longer = [&frame[..], b"x"].concat();
        assert_eq!(decode(&longer), Err(DecodeError::TrailingBytes(1)));
    }
}

#[test]
fn what_postgres_cannot_send_is_refused() {
    assert_eq!(decode(b"S"), Err(DecodeError::UnknownMessage(b'S')));
    assert_eq!(
        decode(&Frame::new(b'I').u32(1).u8(b'N').u16(2000).0),
        Err(DecodeError::TooManyColumns { count: 2000, limit: COLUMNS_MAX })
    );
    assert_eq!(
        decode(&Frame::new(b'I').u32(1).u8(b'N').u16(1).u8(b'b').u32(0).0),
        Err(DecodeError::UnknownCell(b'b'))
    );
    assert_eq!(
        decode(&Frame::new(b'R').u32(1).name("s").name("t").u8(b'x').0),
        Err(DecodeError::UnknownReplicaIdentity(b'x'))
    );
    let not_utf8 = [b"R\0\0\0\x01".as_slice(), b"\xff\0"].concat();
    assert_eq!(decode(&not_utf8), Err(DecodeError::InvalidName("schema")));
}

#[cfg(not(target_arch = "wasm32"))]
mod random {
    use super::*;
    use proptest::prelude::*;

    fn cell() -> impl Strategy<Value = Option<Option<Vec<u8>>>> {
        proptest::option::of(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)))
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn changed_bytes_never_panic(
            sample in 0..samples().len(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut frame = samples().swap_remove(sample).0;
            for (index, value) in changes {
                let index = index.index(frame.len());
                frame[index] = value;
            }
            if let Ok(Message::Insert { new, .. }) = decode(&frame) {
                prop_assert_eq!(new.iter().count(), new.len());
            }
        }

        #[test]
        fn rows_round_trip(cells in proptest::collection::vec(cell(), 0..30)) {
            let cells: Vec<Cell<'_>> = cells
                .iter()
                .map(|cell| match cell {
                    None => Cell::Null,
                    Some(None) => Cell::UnchangedToast,
                    Some(Some(text)) => Cell::Text(text),
                })
                .collect();
            let frame = Frame::new(b'I').u32(1).tuple(b'N', &cells).0;
            let Ok(Message::Insert { new, .. }) = decode(&frame) else {
                return Err(TestCaseError::fail("not an insert"));
            };
            prop_assert_eq!(new.iter().collect::<Vec<_>>(), cells);
        }
    }
}
