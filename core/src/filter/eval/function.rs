//! The functions that core evaluates, and how Postgres chooses among those of one name
//! (<https://www.postgresql.org/docs/current/typeconv-func.html>).

use super::{math, text};
use crate::filter::data_type::calendar;
use crate::filter::data_type::call::{Arguments, Outcome};
use crate::filter::data_type::operator::{category, implicit, is_preferred};
use crate::filter::data_type::ty::Type;

/// A function of fixed argument types.
pub(crate) struct Function {
    pub name: &'static str,
    pub arguments: &'static [Type],
    /// Any number of further arguments of any type.
    pub variadic: bool,
    pub result: Type,
    /// NULL for any NULL.
    pub strict: bool,
    /// Of another result under another collation.
    pub collated: bool,
    /// Without it the function is only here so that another one is not chosen in its place.
    pub call: Option<Call>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

type Call = fn(&Arguments<'_>) -> Outcome;

const fn of(name: &'static str, arguments: &'static [Type], result: Type, call: Call) -> Function {
    Function { name, arguments, variadic: false, result, strict: true, collated: false, call: Some(call) }
}

/// A function of one text whose result depends on the collation.
const fn collated(name: &'static str, call: Call) -> Function {
    let call = Some(call);
    Function { name, arguments: &[Text], variadic: false, result: Text, strict: true, collated: true, call }
}

/// A function of any arguments that may be NULL.
const fn variadic(name: &'static str, arguments: &'static [Type], result: Type, call: Call) -> Function {
    Function { name, arguments, variadic: true, result, strict: false, collated: false, call: Some(call) }
}

/// A function that Postgres has and core has not.
const fn other(name: &'static str, arguments: &'static [Type], result: Type) -> Function {
    Function { name, arguments, variadic: false, result, strict: true, collated: false, call: None }
}

use Type::{
    Bit, Bool, Bpchar, Bytea, Date, Float4, Float8, Int2, Int4, Int8, Interval, Numeric, Text, Time,
    Timestamp, Timestamptz, Varchar,
};

/// Every function of a name that is here must be here, unless no argument core reads could lead to it.
static FUNCTIONS: &[Function] = &[
    collated("lower", text::lower),
    collated("upper", text::upper),
    of("length", &[Text], Int4, text::length),
    of("length", &[Bpchar], Int4, text::length_unpadded),
    of("length", &[Bytea], Int4, text::octet_length),
    other("length", &[Bit], Int4),
    of("char_length", &[Text], Int4, text::length),
    of("char_length", &[Bpchar], Int4, text::length_unpadded),
    of("character_length", &[Text], Int4, text::length),
    of("character_length", &[Bpchar], Int4, text::length_unpadded),
    of("octet_length", &[Text], Int4, text::octet_length),
    of("octet_length", &[Bpchar], Int4, text::octet_length),
    of("octet_length", &[Bytea], Int4, text::octet_length),
    other("octet_length", &[Bit], Int4),
    of("substr", &[Text, Int4], Text, text::substring),
    of("substr", &[Text, Int4, Int4], Text, text::substring),
    other("substr", &[Bytea, Int4], Bytea),
    other("substr", &[Bytea, Int4, Int4], Bytea),
    of("substring", &[Text, Int4], Text, text::substring),
    of("substring", &[Text, Int4, Int4], Text, text::substring),
    other("substring", &[Text, Text], Text),
    other("substring", &[Text, Text, Text], Text),
    other("substring", &[Bytea, Int4], Bytea),
    other("substring", &[Bytea, Int4, Int4], Bytea),
    other("substring", &[Bit, Int4], Bit),
    other("substring", &[Bit, Int4, Int4], Bit),
    of("left", &[Text, Int4], Text, text::left),
    of("right", &[Text, Int4], Text, text::right),
    of("btrim", &[Text], Text, text::btrim),
    of("btrim", &[Text, Text], Text, text::btrim),
    other("btrim", &[Bytea, Bytea], Bytea),
    of("ltrim", &[Text], Text, text::ltrim),
    of("ltrim", &[Text, Text], Text, text::ltrim),
    other("ltrim", &[Bytea, Bytea], Bytea),
    of("rtrim", &[Text], Text, text::rtrim),
    of("rtrim", &[Text, Text], Text, text::rtrim),
    other("rtrim", &[Bytea, Bytea], Bytea),
    of("replace", &[Text, Text, Text], Text, text::replace),
    of("position", &[Text, Text], Int4, text::position),
    other("position", &[Bytea, Bytea], Int4),
    other("position", &[Bit, Bit], Int4),
    of("strpos", &[Text, Text], Int4, text::position),
    of("starts_with", &[Text, Text], Bool, text::starts_with),
    of("split_part", &[Text, Text, Int4], Text, text::split_part),
    of("reverse", &[Text], Text, text::reverse),
    of("ascii", &[Text], Int4, text::ascii),
    of("repeat", &[Text, Int4], Text, text::repeat),
    of("lpad", &[Text, Int4], Text, text::lpad),
    of("lpad", &[Text, Int4, Text], Text, text::lpad),
    of("rpad", &[Text, Int4], Text, text::rpad),
    of("rpad", &[Text, Int4, Text], Text, text::rpad),
    variadic("concat", &[], Text, text::concat),
    variadic("concat_ws", &[Text], Text, text::concat_ws),
    variadic("num_nulls", &[], Int4, math::num_nulls),
    variadic("num_nonnulls", &[], Int4, math::num_nonnulls),
    of("abs", &[Int2], Int2, math::abs),
    of("abs", &[Int4], Int4, math::abs),
    of("abs", &[Int8], Int8, math::abs),
    of("abs", &[Numeric], Numeric, math::abs),
    of("abs", &[Float4], Float4, math::abs),
    of("abs", &[Float8], Float8, math::abs),
    of("mod", &[Int2, Int2], Int2, math::modulo),
    of("mod", &[Int4, Int4], Int4, math::modulo),
    of("mod", &[Int8, Int8], Int8, math::modulo),
    of("mod", &[Numeric, Numeric], Numeric, math::modulo),
    of("ceil", &[Numeric], Numeric, math::ceil),
    of("ceil", &[Float8], Float8, math::ceil),
    of("ceiling", &[Numeric], Numeric, math::ceil),
    of("ceiling", &[Float8], Float8, math::ceil),
    of("floor", &[Numeric], Numeric, math::floor),
    of("floor", &[Float8], Float8, math::floor),
    of("round", &[Numeric], Numeric, math::round),
    of("round", &[Float8], Float8, math::round),
    of("round", &[Numeric, Int4], Numeric, math::round),
    of("trunc", &[Numeric], Numeric, math::trunc),
    of("trunc", &[Float8], Float8, math::trunc),
    of("trunc", &[Numeric, Int4], Numeric, math::trunc),
    of("sign", &[Numeric], Numeric, math::sign),
    of("sign", &[Float8], Float8, math::sign),
    of("sqrt", &[Float8], Float8, math::sqrt),
    other("sqrt", &[Numeric], Numeric),
    of("justify_days", &[Interval], Interval, calendar::justify_days),
    of("justify_hours", &[Interval], Interval, calendar::justify_hours),
    of("justify_interval", &[Interval], Interval, calendar::justify_interval),
    of("make_date", &[Int4, Int4, Int4], Date, calendar::make_date),
    of("extract", &[Text, Date], Numeric, calendar::extract),
    of("extract", &[Text, Timestamp], Numeric, calendar::extract),
    of("extract", &[Text, Timestamptz], Numeric, calendar::extract),
    other("extract", &[Text, Time], Numeric),
    other("extract", &[Text, Interval], Numeric),
    of("date_part", &[Text, Date], Float8, calendar::date_part),
    of("date_part", &[Text, Timestamp], Float8, calendar::date_part),
    of("date_part", &[Text, Timestamptz], Float8, calendar::date_part),
    other("date_part", &[Text, Time], Float8),
    other("date_part", &[Text, Interval], Float8),
    of("date_trunc", &[Text, Timestamp], Timestamp, calendar::date_trunc),
    of("date_trunc", &[Text, Timestamptz], Timestamptz, calendar::date_trunc),
    other("date_trunc", &[Text, Interval], Interval),
];

/// The types whose names are functions of one argument, casts in another spelling.
pub(crate) fn cast_function(name: &str) -> Option<Type> {
    [Int2, Int4, Int8, Numeric, Float4, Float8, Bool, Text, Varchar, Date, Timestamp, Timestamptz]
        .into_iter()
        .find(|ty| ty.static_name() == name)
}

/// Whether there is a function of a name at all.
pub(crate) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.name == name)
}

/// How the choice of a function ended.
pub(crate) enum Choice {
    Found(&'static Function),
    /// None fits, or several do equally well.
    None,
    /// One that core cannot evaluate.
    Other,
}

/// Chooses a function; `None` stands for a literal without a type.
pub(crate) fn choose(name: &str, given: &[Option<&Type>]) -> Choice {
    let mut candidates: Vec<&'static Function> =
        FUNCTIONS.iter().filter(|function| function.name == name && takes(function, given)).collect();
    let exact = |function: &&Function, index: usize, ty: Option<&Type>| {
        ty.is_some() && function.arguments.get(index) == ty
    };
    if let Some(found) =
        candidates.iter().find(|f| (0..given.len()).all(|i| exact(f, i, given.get(i).copied().flatten())))
    {
        return chosen(found);
    }
    keep_best(&mut candidates, |function| {
        given.iter().enumerate().filter(|(i, ty)| exact(function, *i, **ty)).count()
    });
    keep_best(&mut candidates, |function| {
        let preferred = |i: usize| function.arguments.get(i).is_some_and(is_preferred);
        given
            .iter()
            .enumerate()
            .filter(|(i, ty)| ty.is_some() && (exact(function, *i, **ty) || preferred(*i)))
            .count()
    });
    if candidates.len() > 1 {
        for index in (0..given.len()).filter(|i| given.get(*i).is_some_and(Option::is_none)) {
            keep_category(&mut candidates, index);
        }
    }
    match candidates.as_slice() {
        [] => Choice::None,
        [found] => chosen(found),
        _ => Choice::None,
    }
}

fn chosen(function: &'static Function) -> Choice {
    if function.call.is_some() { Choice::Found(function) } else { Choice::Other }
}

fn takes(function: &Function, given: &[Option<&Type>]) -> bool {
    let least = function.arguments.len();
    let fits = if function.variadic { given.len() > least } else { given.len() == least };
    fits && function
        .arguments
        .iter()
        .zip(given)
        .all(|(wanted, given)| given.is_none_or(|given| given == wanted || implicit(given, wanted)))
}

fn keep_best(candidates: &mut Vec<&'static Function>, score: impl Fn(&&'static Function) -> usize) {
    let best = candidates.iter().map(&score).max().unwrap_or(0);
    candidates.retain(|function| score(function) == best);
}

/// A literal is taken for a text where it may be, else for the category that all agree on, there for its
/// preferred type.
fn keep_category(candidates: &mut Vec<&'static Function>, index: usize) {
    let of = |function: &&Function| function.arguments.get(index).map(category);
    let first = candidates.first().and_then(of);
    let text = candidates.iter().any(|function| of(function) == Some('S'));
    let agreed = candidates.iter().all(|function| of(function) == first);
    if !text && !agreed {
        candidates.clear();
    }
    let wanted = if text { Some('S') } else { first };
    candidates.retain(|function| of(function) == wanted);
    if candidates.iter().any(|f| f.arguments.get(index).is_some_and(is_preferred)) {
        candidates.retain(|f| f.arguments.get(index).is_some_and(is_preferred));
    }
}
