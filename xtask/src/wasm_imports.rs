//! Reads the import section of a wasm module: what the code asks of its host is what it can do.

use anyhow::{Context, Result, bail};

/// The header of every module: magic number and version 1.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";

const IMPORT_SECTION: u8 = 2;

/// One imported thing: `module.name`.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// The first half of its name; wasm-bindgen's own begin with `__wbindgen_`.
    pub module: String,
    /// The second half.
    pub name: String,
}

/// All imports of a module, in its order.
pub fn imports(module: &[u8]) -> Result<Vec<Import>> {
    let mut reader = Reader { rest: module.strip_prefix(HEADER).context("this is not a wasm module")? };
    while !reader.rest.is_empty() {
        let id = reader.byte()?;
        let length = reader.length()?;
        let section = reader.take(length)?;
        if id == IMPORT_SECTION {
            return Reader { rest: section }.import_section();
        }
    }
    Ok(Vec::new())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn import_section(&mut self) -> Result<Vec<Import>> {
        let count = self.length()?;
        let mut imports = Vec::new();
        for _ in 0..count {
            imports.push(Import { module: self.name()?, name: self.name()? });
            self.skip_description()?;
        }
        Ok(imports)
    }

    /// What kind of thing is imported; we only need to get past it.
    fn skip_description(&mut self) -> Result<()> {
        match self.byte()? {
            0 => self.skip_number(),
            1 => {
                self.byte()?;
                self.skip_limits()
            }
            2 => self.skip_limits(),
            3 => self.take(2).map(|_| ()),
            4 => {
                self.byte()?;
                self.skip_number()
            }
            kind => bail!("an import is of the unknown kind {kind}"),
        }
    }

    fn skip_limits(&mut self) -> Result<()> {
        let has_maximum = self.byte()? & 1 == 1;
        self.skip_number()?;
        if has_maximum {
            self.skip_number()?;
        }
        Ok(())
    }

    fn skip_number(&mut self) -> Result<()> {
        while self.byte()? & 0x80 != 0 {}
        Ok(())
    }

    fn name(&mut self) -> Result<String> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        Ok(std::str::from_utf8(bytes).context("a name is not UTF-8")?.to_owned())
    }

    /// An unsigned LEB128 number of at most 32 bits.
    fn length(&mut self) -> Result<usize> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(usize::try_from(value)?);
            }
        }
        bail!("a length is longer than 5 bytes")
    }

    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().context("the module ends too early")?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).context("the module ends too early")?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(sections: &[&[u8]]) -> Vec<u8> {
        [HEADER, &sections.concat()].concat()
    }

    #[test]
    fn lists_functions_memories_tables_and_globals() {
        // Beforehand a type section, which is skipped.
        let types = [1, 4, 1, 0x60, 0, 0];
        let section = [
            &[2, 35, 4][..],
            b"\x03env\x01f\x00\x00",
            b"\x03env\x01m\x02\x01\x01\x80\x02",
            b"\x02js\x01t\x01\x70\x00\x01",
            b"\x02js\x01g\x03\x7f\x01",
        ]
        .concat();
        let mut section = section;
        section[1] = u8::try_from(section.len() - 2).expect("a small section");
        let found = imports(&module(&[&types, &section])).expect("a valid module");
        let found: Vec<_> = found.iter().map(|i| format!("{}.{}", i.module, i.name)).collect();
        assert_eq!(found, ["env.f", "env.m", "js.t", "js.g"]);
    }

    #[test]
    fn a_module_without_imports_has_none() {
        assert_eq!(imports(&module(&[])).expect("a valid module"), []);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(imports(b"\x7fELF").is_err());
        assert!(imports(&module(&[&[2, 9, 1]])).is_err());
    }
}
