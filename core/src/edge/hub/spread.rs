//! The number of hubs over which the readers of each shape are spread, as a gateway remembers it.

use std::collections::HashMap;

/// Shapes that are remembered; past them, all are learnt anew.
pub const SPREAD_MAX: usize = 10_000;

/// The numbers of hubs, by the shape's key. A shape that is not here has one.
#[derive(Debug, Default)]
pub struct Spread {
    shards: HashMap<String, u32>,
}

impl Spread {
    /// Over how many hubs the readers of a shape are spread.
    #[must_use]
    pub fn shards(&self, key: &str) -> u32 {
        self.shards.get(key).copied().unwrap_or(1)
    }

    /// The hub that a request goes to, by a number that is another one each time: nothing for the one that asks the origin.
    #[must_use]
    pub fn choose(&self, key: &str, random: u64) -> Option<u64> {
        let shards = u64::from(self.shards(key));
        (shards > 1).then(|| random % shards)
    }

    /// A hub said that they are so many.
    pub fn learn(&mut self, key: &str, shards: u32) {
        if shards <= 1 {
            return;
        }
        if self.shards.len() >= SPREAD_MAX {
            self.shards.clear();
        }
        self.shards.insert(key.to_owned(), shards);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn readers_follow_what_hubs_say() {
        let mut spread = Spread::default();
        assert_eq!((spread.shards("a"), spread.choose("a", 7)), (1, None));
        spread.learn("a", 1);
        spread.learn("b", 4);
        assert_eq!(spread.choose("a", 7), None);
        assert_eq!(
            (0..6).map(|random| spread.choose("b", random)).collect::<Option<Vec<_>>>(),
            Some(vec![0, 1, 2, 3, 0, 1])
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut spread = Spread::default();
        for shape in 0..2 * SPREAD_MAX {
            spread.learn(&shape.to_string(), 4);
        }
        assert!(spread.shards.len() <= SPREAD_MAX);
        assert_eq!(spread.shards(&(2 * SPREAD_MAX - 1).to_string()), 4);
    }
}
