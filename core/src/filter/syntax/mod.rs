//! From text to a tree of nodes as they were written: names are not looked up, literals have no type yet.

pub(super) mod ast;
pub(super) mod keywords;
pub(super) mod lexer;
pub(super) mod order_by;
pub(super) mod parse;
pub(super) mod subject;
mod type_name;
