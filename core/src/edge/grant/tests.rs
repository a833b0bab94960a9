use super::*;
use crate::edge::{Claims, Expected};
use crate::protocol::parameter::Part;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn grant(claims: &str) -> Grant {
    let json = format!(r#"{{"exp":4000000000,{claims}}}"#);
    Claims::parse(json.as_bytes(), &Expected::default(), 0).unwrap().grant
}

/// The parameters of the definition as the origin reads them from what goes on.
fn judged(grant: &Grant, query: &str) -> Result<DefinitionRequest, Denied> {
    let query = grant.judge(Method::Get, &Query::parse(query).unwrap())?;
    Ok(read_definition(&query).unwrap())
}

fn params(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const SHAPE: &str =
    r#""shape":{"table":"items","where":"owner = $1","params":["7"],"columns":["id","name"]}"#;
const FENCE: &str =
    r#""impose":{"table":"items","where":"owner = $1 OR shared","params":["7"],"columns":["id","name"]}"#;

#[test]
fn a_shape_of_the_token_passes_as_it_is() {
    let asked = "table=items&where=owner%20%3D%20%241&params[1]=7&columns=name,id&offset=-1&replica=full";
    let query = Query::parse(asked).unwrap();
    assert_eq!(grant(SHAPE).judge(Method::Get, &query), Ok(query.clone()));
    assert_eq!(grant(SHAPE).judge(Method::Head, &query), Ok(query));
}

#[test]
fn another_shape_does_not_and_the_first_difference_is_named() {
    let table = QualifiedName::new("public", "items");
    for (asked, part) in [
        ("table=items&columns=id,name", Parameter::Where),
        ("table=items&where=owner%20=%20$1&params[1]=7&params[2]=8&columns=id,name", Parameter::Params),
        ("table=items&where=owner%20=%20$1&params[1]=8&columns=id,name", Parameter::Params),
        ("table=items&where=owner%20=%20$1&columns=id,name", Parameter::Params),
        ("table=items&where=owner%20=%20$1&params[1]=7", Parameter::Columns),
        ("table=items&where=owner%20=%20$1&params[1]=7&columns=id,name,salary", Parameter::Columns),
        ("table=items&where=owner%20=%20$1%20or%20true&params[1]=7&columns=id,name", Parameter::Where),
    ] {
        assert_eq!(
            judged(&grant(SHAPE), asked),
            Err(Denied::Shape { table: table.clone(), part }),
            "{asked}"
        );
    }
    let full = grant(r#""shape":{"table":"items","replica":"default"}"#);
    let part = Parameter::Replica;
    assert_eq!(judged(&full, "table=items&replica=full"), Err(Denied::Shape { table, part }));
    assert!(judged(&full, "table=items").is_ok());
}

#[test]
fn other_tables_and_writes_are_refused() {
    for claims in [SHAPE, FENCE] {
        let other = QualifiedName::new("public", "Items");
        assert_eq!(judged(&grant(claims), "table=%22Items%22"), Err(Denied::Table(other)));
        let other = QualifiedName::new("s", "items");
        assert_eq!(judged(&grant(claims), "table=s.items"), Err(Denied::Table(other)));
        assert!(matches!(judged(&grant(claims), "offset=-1"), Err(Denied::BadRequest(_))));
        let query = Query::parse("table=items").unwrap();
        assert_eq!(grant(claims).judge(Method::Delete, &query), Err(Denied::Writes));
    }
}

#[test]
fn the_last_of_several_spellings_counts_for_the_judge_and_the_origin() {
    let asked =
        "table=secrets&table=items&where=true&where=owner%20=%20$1&params[1]=1&params[1]=7&columns=id,name";
    assert_eq!(judged(&grant(SHAPE), asked).unwrap().table.name, "items");
    let turned = "table=items&table=secrets&where=owner%20=%20$1&params[1]=7&columns=id,name";
    assert!(matches!(judged(&grant(SHAPE), turned), Err(Denied::Table(_))));
}

#[test]
fn a_fence_is_imposed_on_a_request_without_a_clause() {
    let definition = judged(&grant(FENCE), "table=items&params[1]=8&params[9]=x").unwrap();
    assert_eq!(definition.where_clause.as_deref(), Some("owner = $1 OR shared"));
    assert_eq!(definition.params, params(&[("1", "7")]));
    assert_eq!(definition.columns, Some(vec!["id".to_owned(), "name".to_owned()]));
}

#[test]
fn a_fence_stands_before_the_client_s_clause() {
    let asked = "table=items&where=name%20=%20$1%20OR%20id%20%3C%20$2&params[1]=a&params[2]=5&columns=id";
    let definition = judged(&grant(FENCE), asked).unwrap();
    assert_eq!(
        definition.where_clause.as_deref(),
        Some("(owner = $1 OR shared\n) AND (name = $2 OR id < $3\n)")
    );
    assert_eq!(definition.params, params(&[("1", "7"), ("2", "a"), ("3", "5")]));
    assert_eq!(definition.columns, Some(vec!["id".to_owned()]));
}

#[test]
fn no_name_of_a_parameter_replaces_one_of_the_fence() {
    for name in ["0", "00", "+0", "-0", "01", "18446744073709551615"] {
        let asked = format!("table=items&where=id%20=%20$1&params[1]=a&params[{name}]=evil");
        let definition = judged(&grant(FENCE), &asked).unwrap();
        assert_eq!(definition.params.get("1").map(String::as_str), Some("7"), "{name}");
    }
}

#[test]
fn what_lies_outside_of_the_fence_cannot_be_named() {
    let denied = |asked: &str| judged(&grant(FENCE), asked).unwrap_err();
    assert_eq!(denied("table=items&columns=id,salary"), Denied::Column("salary".to_owned()));
    for clause in
        ["salary%3E1", "true)%20OR%20(true", "id%20IN%20(SELECT%20id%20FROM%20secrets)", "owner%20=%208"]
    {
        let denied = denied(&format!("table=items&where={clause}"));
        assert!(matches!(denied, Denied::Clause(_)), "{clause}: {denied:?}");
    }
}

#[test]
fn a_fence_without_columns_shows_all_of_them() {
    let grant = grant(
        r#""impose":{"table":"items","where":"owner IN (SELECT id FROM users WHERE org = $1)","params":[3]}"#,
    );
    let definition =
        judged(&grant, "table=items&where=salary%20%3E%20$1&params[1]=9&columns=id,salary").unwrap();
    assert_eq!(
        definition.where_clause.as_deref(),
        Some("(owner IN (SELECT id FROM users WHERE org = $1)\n) AND (salary > $2\n)")
    );
    assert_eq!(definition.columns, Some(vec!["id".to_owned(), "salary".to_owned()]));
    assert_eq!(definition.queryable_columns, None);
}

#[test]
fn reads_beside_the_log_are_bounded_by_the_token_s_columns() {
    let listed = Some(vec!["id".to_owned(), "name".to_owned()]);
    let subset = "&subset__where=salary%20%3E%201&queryable_columns=id,name,salary";
    let shape = format!("table=items&where=owner%20=%20$1&params[1]=7&columns=id,name{subset}");
    assert_eq!(judged(&grant(SHAPE), &shape).unwrap().queryable_columns, listed);
    assert_eq!(judged(&grant(FENCE), &format!("table=items{subset}")).unwrap().queryable_columns, listed);
}

#[test]
fn a_shape_is_preferred_to_a_fence_and_one_of_several_is_enough() {
    let several =
        r#""shape":[{"table":"items","where":"a"},{"table":"items","where":"b"},{"table":"other"}]"#;
    let grant = grant(&format!(r#"{several},"impose":{{"table":"items","where":"c"}}"#));
    let clause = |asked: &str| judged(&grant, asked).unwrap().where_clause;
    assert_eq!(clause("table=items&where=b").as_deref(), Some("b"));
    assert_eq!(clause("table=items&where=d").as_deref(), Some("(c\n) AND (d\n)"));
    assert_eq!(clause("table=other"), None);
}

#[test]
fn a_fence_may_ask_for_whole_rows() {
    let grant = grant(r#""impose":{"table":"items","replica":"full"}"#);
    assert_eq!(judged(&grant, "table=items&replica=default").unwrap().replica, Replica::Full);
}

#[test]
fn every_parameter_of_a_definition_is_compared_or_left_free() {
    let exact = grant(
        r#""shape":{"table":"items","where":"a = $1","params":["1"],"columns":["id"],"replica":"full"}"#,
    );
    let asked = "table=items&where=a%20=%20$1&params[1]=1&columns=id&replica=full";
    assert!(judged(&exact, asked).is_ok());
    for parameter in Parameter::ALL.iter().filter(|parameter| parameter.part() == Part::Definition) {
        let (changed, is_free) = match parameter {
            Parameter::Table => ("table=others", false),
            Parameter::Where => ("where=a%20=%20$1%20or%20true", false),
            Parameter::Params => ("params[1]=2", false),
            Parameter::Columns => ("columns=id,b", false),
            Parameter::Replica => ("replica=default", false),
            // Names for a subset, which are bounded apart, shows no row that the log does not hold, and decides nothing.
            Parameter::QueryableColumns => ("queryable_columns=id,b", true),
            Parameter::Log => ("log=changes_only", true),
            Parameter::ExperimentalCompaction => ("experimental_compaction=true", true),
            other => panic!("say whether a token has to name `{other}`"),
        };
        let judged = judged(&exact, &format!("{asked}&{changed}"));
        assert_eq!(judged.is_ok(), is_free, "{parameter}: {judged:?}");
    }
}
