//! Files that hold the snapshots of many small shapes: each of its own would take the file system longer to make than
//! its rows take Postgres.

use crate::{Files, Layout, Recovered};
use limn_core::log::shape_log::PackPlace;
use std::collections::BTreeMap;
use std::io;

/// The packs of a folder. Snapshots are appended to the newest; a pack is removed once no shape has its snapshot there.
#[derive(Debug)]
pub struct Packs<F: Files> {
    files: F,
    layout: Layout,
    /// The length at which a pack is full.
    bytes_max: u64,
    newest: Option<Newest<F::File>>,
    /// The number for the next pack.
    next: u64,
    /// How many shapes have their snapshot in each.
    shapes: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Newest<T> {
    number: u64,
    file: T,
    /// Its length.
    end: u64,
}

impl<F: Files> Packs<F> {
    /// The packs of a folder that was recovered, and has no files of other shapes any more. Each is full at `bytes_max`.
    pub fn new(files: F, layout: Layout, recovered: &Recovered, bytes_max: u64) -> Self {
        let mut shapes = BTreeMap::new();
        let places = recovered.store.shapes.iter().filter_map(|shape| shape.log.pack());
        places.for_each(|place| *shapes.entry(place.pack).or_default() += 1);
        let next = shapes.keys().next_back().map_or(1, |last| last + 1);
        Self { files, layout, bytes_max, newest: None, next, shapes }
    }

    /// Appends a snapshot. Nothing is synced.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn append(&mut self, content: &[u8]) -> io::Result<PackPlace> {
        let mut newest = match self.newest.take().filter(|newest| newest.end < self.bytes_max) {
            Some(newest) => newest,
            None => self.create()?,
        };
        let place = PackPlace { pack: newest.number, at: newest.end };
        let written = self.files.write_at(&newest.file, content, newest.end);
        if written.is_ok() {
            newest.end += content.len() as u64;
            *self.shapes.entry(newest.number).or_default() += 1;
        }
        self.newest = Some(newest);
        written.map(|()| place)
    }

    /// A shape whose snapshot is in a pack is gone.
    ///
    /// # Errors
    /// Whatever the operating system says; the next start removes the pack then.
    pub fn release(&mut self, place: PackPlace) -> io::Result<()> {
        let Some(shapes) = self.shapes.get_mut(&place.pack) else { return Ok(()) };
        *shapes -= 1;
        if *shapes > 0 {
            return Ok(());
        }
        self.shapes.remove(&place.pack);
        self.newest.take_if(|newest| newest.number == place.pack);
        self.files.remove_file(&self.layout.pack_file(place.pack))
    }

    fn create(&mut self) -> io::Result<Newest<F::File>> {
        let number = self.next;
        let file = self.files.create(&self.layout.pack_file(number))?;
        self.next += 1;
        Ok(Newest { number, file, end: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Native;
    use crate::scratch::Scratch;
    use limn_core::journal::Tables;
    use limn_core::journal::recovery::RecoveredStore;
    use std::fs;

    fn packs(scratch: &Scratch) -> Packs<Native> {
        let layout = Layout::new(scratch.path().to_owned());
        fs::create_dir(layout.shapes_dir()).unwrap();
        let store = RecoveredStore {
            shapes: Vec::new(),
            tables: Tables::default(),
            processed: 0,
            next_id: 0,
            last_handle_us: 0,
        };
        Packs::new(Native, layout, &Recovered { store, next_file: 1 }, 5)
    }

    #[test]
    fn a_pack_goes_with_the_last_of_its_shapes() {
        let scratch = Scratch::new("packs");
        let mut packs = packs(&scratch);
        let there = || {
            let names = fs::read_dir(scratch.path().join("shapes")).unwrap();
            names.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
        };
        let places: Vec<PackPlace> =
            [",1", ",22", ",333"].iter().map(|content| packs.append(content.as_bytes()).unwrap()).collect();
        let place = |pack, at| PackPlace { pack, at };
        assert_eq!(places, [place(1, 0), place(1, 2), place(2, 0)], "the first is full at five bytes");
        packs.release(places[0]).unwrap();
        assert_eq!(there().len(), 2);
        packs.release(places[1]).unwrap();
        assert_eq!(there(), [",333"]);
        packs.release(places[2]).unwrap();
        assert_eq!(there(), Vec::<String>::new(), "the newest as well");
        assert_eq!(packs.append(b",4").unwrap(), place(3, 0), "no number comes again");
        assert_eq!(there(), [",4"]);
    }
}
