//! Arrays: Postgres's text form with bounds, nesting, quoting and NULL, and the operations that need no more
//! than elements and dimensions.

use super::array_text::{Reader, write_element};
use super::ty::Type;
use super::value::Value;
use crate::filter::error::EvalError;
use std::cmp::Ordering;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    /// Empty for an array without elements.
    pub dimensions: Vec<Dimension>,
    /// In row-major order.
    pub elements: Vec<Value<'static>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dimension {
    pub lower: i32,
    pub length: usize,
}

impl Dimension {
    /// The last subscript.
    pub(crate) fn upper(&self) -> i64 {
        i64::from(self.lower) + i64::try_from(self.length).unwrap_or(i64::MAX) - 1
    }
}

impl Array {
    /// One dimension that begins at 1; none without elements.
    pub(crate) fn new(elements: Vec<Value<'static>>) -> Self {
        let dimension = Dimension { lower: 1, length: elements.len() };
        Self { dimensions: if elements.is_empty() { Vec::new() } else { vec![dimension] }, elements }
    }

    pub(crate) fn parse(element: &Type, text: &str) -> Result<Self, EvalError> {
        let invalid = EvalError::InvalidValue { ty: "array" };
        let mut reader = Reader { element, text, at: 0, elements: Vec::new(), lengths: Vec::new() };
        let lowers = reader.bounds().ok_or(invalid)?;
        reader.skip_blanks();
        reader.braces(0)?;
        reader.skip_blanks();
        if reader.at != text.len() {
            return Err(invalid);
        }
        let Reader { elements, lengths, .. } = reader;
        if elements.is_empty() {
            return if lengths.len() <= 1 && lowers.is_none() {
                Ok(Self::new(elements))
            } else {
                Err(invalid)
            };
        }
        let dimensions = match lowers {
            None => lengths.iter().map(|length| Dimension { lower: 1, length: *length }).collect(),
            Some(given) if given.iter().map(|d| d.length).eq(lengths.iter().copied()) => given,
            Some(_) => return Err(invalid),
        };
        Ok(Self { dimensions, elements })
    }

    /// Postgres's output form.
    pub(crate) fn output(&self, element: &Type) -> String {
        let mut text = String::new();
        if self.dimensions.iter().any(|dimension| dimension.lower != 1) {
            for dimension in &self.dimensions {
                text.push_str(&format!("[{}:{}]", dimension.lower, dimension.upper()));
            }
            text.push('=');
        }
        if self.elements.is_empty() {
            text.push_str("{}");
        } else {
            self.write(&mut text, element, 0, &mut self.elements.iter());
        }
        text
    }

    fn write<'e>(
        &self,
        text: &mut String,
        element: &Type,
        level: usize,
        elements: &mut impl Iterator<Item = &'e Value<'static>>,
    ) {
        let length = self.dimensions.get(level).map_or(0, |dimension| dimension.length);
        text.push('{');
        for i in 0..length {
            if i > 0 {
                text.push(',');
            }
            if level + 1 < self.dimensions.len() {
                self.write(text, element, level + 1, elements);
                continue;
            }
            match elements.next() {
                None | Some(Value::Null) => text.push_str("NULL"),
                Some(value) => write_element(text, &value.borrowed().output(element)),
            }
        }
        text.push('}');
    }

    /// The element at the subscripts, NULL where there is none.
    pub(crate) fn element(&self, subscripts: &[i64]) -> Value<'static> {
        if subscripts.len() != self.dimensions.len() {
            return Value::Null;
        }
        let mut index = 0;
        for (dimension, subscript) in self.dimensions.iter().zip(subscripts) {
            let offset = usize::try_from(subscript - i64::from(dimension.lower)).ok();
            let Some(offset) = offset.filter(|offset| *offset < dimension.length) else {
                return Value::Null;
            };
            index = index * dimension.length + offset;
        }
        self.elements.get(index).cloned().unwrap_or(Value::Null)
    }

    /// `a[l:u]…`; a missing bound is the array's own. Bounds begin at 1 again.
    pub(crate) fn slice(&self, bounds: &[(Option<i64>, Option<i64>)]) -> Self {
        let empty = Self::new(Vec::new());
        if bounds.len() > self.dimensions.len() {
            return empty;
        }
        let mut ranges = Vec::with_capacity(self.dimensions.len());
        for (i, dimension) in self.dimensions.iter().enumerate() {
            let (lower, upper) = bounds.get(i).copied().unwrap_or((None, None));
            let first = i64::from(dimension.lower);
            let lower = lower.unwrap_or(first).max(first);
            let upper = upper.unwrap_or(i64::MAX).min(dimension.upper());
            let range = (usize::try_from(lower - first), usize::try_from(upper - lower + 1));
            let (Ok(offset), Ok(length @ 1..)) = range else { return empty };
            ranges.push((offset, length));
        }
        let mut indexes = vec![0];
        for ((offset, length), dimension) in ranges.iter().zip(&self.dimensions) {
            let rows = |index: usize| (*offset..offset + length).map(move |i| index * dimension.length + i);
            indexes = indexes.into_iter().flat_map(rows).collect();
        }
        let dimensions = ranges.iter().map(|(_, length)| Dimension { lower: 1, length: *length }).collect();
        Self { dimensions, elements: indexes.iter().filter_map(|i| self.elements.get(*i).cloned()).collect() }
    }

    /// `array || array`: of equal dimensions along the first, else the smaller one becomes an element.
    pub(crate) fn concat(self, other: Self) -> Result<Self, EvalError> {
        const INCOMPATIBLE: EvalError = EvalError::Failed("cannot concatenate incompatible arrays");
        if other.dimensions.is_empty() {
            return Ok(self);
        }
        if self.dimensions.is_empty() {
            return Ok(other);
        }
        let (a, b) = (self.dimensions.as_slice(), other.dimensions.as_slice());
        let mut dimensions = if a.len() >= b.len() { a.to_vec() } else { b.to_vec() };
        let inner = dimensions.get(1..).unwrap_or_default();
        let first = |dimensions: &[Dimension]| dimensions.first().map_or(0, |dimension| dimension.length);
        let length = match a.len().cmp(&b.len()) {
            Ordering::Equal if b.get(1..) == Some(inner) => first(a) + first(b),
            Ordering::Less if a == inner => first(b) + 1,
            Ordering::Greater if b == inner => first(a) + 1,
            _ => return Err(INCOMPATIBLE),
        };
        if let Some(dimension) = dimensions.first_mut() {
            dimension.length = length;
        }
        let mut elements = self.elements;
        elements.extend(other.elements);
        Ok(Self { dimensions, elements })
    }

    /// `array || element`, or `element || array` where `front`.
    pub(crate) fn with(mut self, element: Value<'static>, front: bool) -> Result<Self, EvalError> {
        match self.dimensions.as_mut_slice() {
            [] => return Ok(Self::new(vec![element])),
            [dimension] => dimension.length += 1,
            _ => return Err(EvalError::Failed("argument must be empty or one-dimensional array")),
        }
        self.elements.insert(if front { 0 } else { self.elements.len() }, element);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn ints(text: &str) -> Array {
        Array::parse(&Type::Int4, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn text_round_trips() {
        for text in [
            r"{}",
            r"{a,b}",
            r#"{"a b","x,y","q\"t","back\\s",NULL,"NULL",""}"#,
            r"{{a,b},{c,d}}",
            r"[0:1]={a,b}",
            r"[-1:0][2:3]={{a,b},{c,d}}",
        ] {
            let array = Array::parse(&Type::Text, text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(array.output(&Type::Text), text);
        }
        assert_eq!(ints(" { 1 , NULL } ").output(&Type::Int4), "{1,NULL}");
        for bad in
            ["", "{", "{1", "{1,}", "{,1}", "{1}x", "{{1},2}", "{{1},{2,3}}", "{1,{2}}", "[1:2]={1}", "{x}"]
        {
            assert!(Array::parse(&Type::Int4, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn order_is_postgres() {
        let sorted = ["{}", "{1}", "[2:2]={1}", "{1,2}", "{{1,2}}", "{1,3}", "{2}", "{NULL}"].map(ints);
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.compare(b, false), Ok(i.cmp(&j)), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn containment_looks_at_elements_only() {
        let contains = |a: &str, b: &str| ints(a).contains(&ints(b), false).expect("compares");
        assert!(contains("{{1,2},{3,4}}", "{3,3}") && contains("{1}", "{}"));
        assert!(!contains("{1,NULL}", "{NULL}"));
        assert!(ints("{1,2}").overlaps(&ints("[0:0]={2}"), false).expect("compares"));
    }

    #[test]
    fn elements_and_slices() {
        let grid = ints("{{1,2},{3,4}}");
        assert_eq!(grid.element(&[2, 1]), Value::Int(3));
        assert_eq!(grid.element(&[1]), Value::Null);
        assert_eq!(ints("[0:1]={7,8}").element(&[0]), Value::Int(7));
        let slice = |array: &str, bounds: &[(Option<i64>, Option<i64>)]| {
            ints(array).slice(bounds).output(&Type::Int4)
        };
        assert_eq!(slice("{1,2,3}", &[(Some(2), None)]), "{2,3}");
        assert_eq!(slice("{1,2,3}", &[(Some(3), Some(2))]), "{}");
        assert_eq!(slice("{{1,2},{3,4}}", &[(Some(2), Some(2))]), "{{3,4}}");
        assert_eq!(slice("{{1,2},{3,4}}", &[(None, None), (Some(2), Some(9))]), "{{2},{4}}");
    }

    #[test]
    fn concatenation() {
        let concat = |a: &str, b: &str| ints(a).concat(ints(b)).map(|array| array.output(&Type::Int4));
        assert_eq!(concat("{1}", "[5:5]={2}").as_deref(), Ok("{1,2}"));
        assert_eq!(concat("[5:5]={1}", "{2}").as_deref(), Ok("[5:6]={1,2}"));
        assert_eq!(concat("{1,2}", "{{3,4}}").as_deref(), Ok("{{1,2},{3,4}}"));
        assert!(concat("{1}", "{{3,4}}").is_err());
        assert_eq!(
            ints("[0:0]={1}").with(Value::Int(5), true).expect("fits").output(&Type::Int4),
            "[0:1]={5,1}"
        );
    }
}
