//! Rows that are read inside a snapshot: their tags, and the subqueries' results that decide on them.

use super::items;
use super::judge::Judge;
use super::member::Member;
use super::view::View;
use crate::filter::{Dependency, EvalError, SubqueryFilter};
use crate::pg::Row;
use crate::pg::copy::{CopyDecoder, CopyError};
use std::sync::Arc;

/// Adds tags to rows of a snapshot or a subset.
#[derive(Debug)]
pub struct Tagger {
    judge: Judge,
    views: Vec<View>,
}

impl Tagger {
    /// `views` are what the filter's subqueries return in the rows' snapshot; `salt` is the shape's.
    #[must_use]
    pub fn new(filter: &SubqueryFilter, salt: &str, views: Vec<View>) -> Self {
        Self { judge: Judge::new(Arc::new(filter.clone()), salt), views }
    }

    /// Puts a row's tags into its item, which `out` ends with.
    ///
    /// # Errors
    /// Where the filter cannot judge the row.
    pub fn tag(&self, out: &mut Vec<u8>, row: &impl Row) -> Result<(), EvalError> {
        let active = self.judge.active(&self.views, row)?;
        items::splice(&self.judge, out, &self.judge.tags(row), active, None);
        Ok(())
    }
}

/// Reads what a subquery returns from the chunks of its COPY.
#[derive(Debug)]
pub struct MemberReader<'a> {
    dependency: &'a Dependency,
    decoder: CopyDecoder,
}

impl<'a> MemberReader<'a> {
    /// A reader of one subquery's rows, in the order of its columns.
    #[must_use]
    pub fn new(dependency: &'a Dependency) -> Self {
        Self { dependency, decoder: CopyDecoder::new() }
    }

    /// Takes the next chunk and hands on each member that it completes.
    ///
    /// # Errors
    /// Where the bytes are not COPY's.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Member)) -> Result<(), CopyError> {
        self.decoder.push(chunk);
        while let Some(row) = self.decoder.next_row()? {
            let count = self.dependency.columns.len();
            let text = |index| row.cell(index).map(|text| self.dependency.key(index, text));
            let texts: Vec<_> = (0..count).map(text).collect();
            each(Member::new(texts.iter().map(Option::as_deref)));
        }
        Ok(())
    }

    /// # Errors
    /// Where the stream ended inside a row.
    pub fn finish(&self) -> Result<(), CopyError> {
        self.decoder.finish()
    }
}
