//! The spellings of types: `double precision`, `character varying(20)`, `timestamp with time zone` and plain
//! names, all brought to the catalog's spelling.

use super::ast::TypeName;
use super::keywords;
use super::lexer::{TokenKind, spelled};
use super::parse::Parser;
use crate::filter::error::FilterError;

impl Parser<'_> {
    /// A type where the grammar wants one.
    pub(crate) fn type_name(&mut self) -> Result<TypeName, FilterError> {
        let at = self.token().start;
        let (word, quoted) = match self.token().kind.clone() {
            TokenKind::Word(word) if keywords::can_name_function(&word) => (word, false),
            TokenKind::Quoted(name) => (name, true),
            _ => return Err(self.syntax()),
        };
        self.advance();
        let (path, modifiers) = if quoted { self.generic(word)? } else { self.keyword_type(&word)? };
        let array = self.array_bounds()?;
        Ok(TypeName { at, name: type_spelling(&path, quoted), path, modifiers, array })
    }

    /// The types that the grammar itself knows, else a plain name.
    fn keyword_type(&mut self, word: &str) -> Result<(Vec<String>, Vec<i32>), FilterError> {
        let plain = |name: &str| (vec![name.to_owned()], Vec::new());
        Ok(match word {
            "int" | "integer" => plain("int4"),
            "smallint" => plain("int2"),
            "bigint" => plain("int8"),
            "real" => plain("float4"),
            "boolean" => plain("bool"),
            "double" if self.eat_word("precision") => plain("float8"),
            "float" => match self.modifiers()?.first() {
                Some(1..=24) => plain("float4"),
                Some(25..=53) | None => plain("float8"),
                Some(_) => return Err(self.syntax()),
            },
            "dec" | "decimal" => (vec!["numeric".to_owned()], self.modifiers()?),
            "character" | "char" | "nchar" => self.character()?,
            "national" if self.eat_word("character") || self.eat_word("char") => self.character()?,
            "time" | "timestamp" => {
                let modifiers = self.modifiers()?;
                let zoned = self.zone()?;
                (vec![format!("{word}{}", if zoned { "tz" } else { "" })], modifiers)
            }
            "bit" => self.bit()?,
            _ => self.generic(word.to_owned())?,
        })
    }

    /// After `char` or `character`: one character unless told otherwise, any number where varying.
    fn character(&mut self) -> Result<(Vec<String>, Vec<i32>), FilterError> {
        self.fixed_or_varying("bpchar", "varchar")
    }

    /// After `bit`, likewise.
    fn bit(&mut self) -> Result<(Vec<String>, Vec<i32>), FilterError> {
        self.fixed_or_varying("bit", "varbit")
    }

    fn fixed_or_varying(
        &mut self,
        fixed: &str,
        varying: &str,
    ) -> Result<(Vec<String>, Vec<i32>), FilterError> {
        if self.eat_word("varying") {
            return Ok((vec![varying.to_owned()], self.modifiers()?));
        }
        let modifiers = self.modifiers()?;
        Ok((vec![fixed.to_owned()], if modifiers.is_empty() { vec![1] } else { modifiers }))
    }

    fn zone(&mut self) -> Result<bool, FilterError> {
        let zoned = match self.word() {
            "with" => true,
            "without" => false,
            _ => return Ok(false),
        };
        self.advance();
        self.expect_word("time")?;
        self.expect_word("zone")?;
        Ok(zoned)
    }

    /// A name, qualified or not.
    fn generic(&mut self, first: String) -> Result<(Vec<String>, Vec<i32>), FilterError> {
        let mut path = vec![first];
        while self.eat('.') {
            let (TokenKind::Word(part) | TokenKind::Quoted(part)) = self.token().kind.clone() else {
                return Err(self.syntax());
            };
            self.advance();
            path.push(part);
        }
        Ok((path, self.modifiers()?))
    }

    /// `(10, 2)`
    fn modifiers(&mut self) -> Result<Vec<i32>, FilterError> {
        let mut modifiers = Vec::new();
        if !self.eat('(') {
            return Ok(modifiers);
        }
        loop {
            let negative = self.token().kind == TokenKind::Op("-".to_owned());
            if negative {
                self.advance();
            }
            let TokenKind::Number(digits) = self.token().kind.clone() else { return Err(self.syntax()) };
            let Ok(number) = digits.parse::<i32>() else { return Err(self.syntax()) };
            self.advance();
            modifiers.push(if negative { -number } else { number });
            if !self.eat(',') {
                self.expect(')')?;
                return Ok(modifiers);
            }
        }
    }

    /// `[]`, `[3]`, `ARRAY`
    fn array_bounds(&mut self) -> Result<bool, FilterError> {
        let mut array = self.eat_word("array");
        while self.eat('[') {
            array = true;
            if matches!(self.token().kind, TokenKind::Number(_)) {
                self.advance();
            }
            self.expect(']')?;
        }
        Ok(array)
    }
}

/// Without the catalog's own schema. `"char"` is another type than `char`, so it keeps its quotes.
fn type_spelling(path: &[String], quoted: bool) -> String {
    match path {
        [name] if quoted && name == "char" => "\"char\"".to_owned(),
        [name] if !quoted => name.clone(),
        [catalog, name] if catalog == "pg_catalog" => name.clone(),
        path => path.iter().map(|part| spelled(part)).collect::<Vec<_>>().join("."),
    }
}
