use super::*;
use crate::protocol::Method;
use crate::protocol::cache_key::{EdgeRequest, Secrets};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SCHEMA: &str = r#"{"a":{"type":"int4"},"b":{"type":"text","not_null":true},"id":{"type":"int8","pk_index":0,"not_null":true},"mood":{"type":"mood"},"w":{"type":"text","collation":"nondeterministic"}}"#;

fn request(query: &str) -> EdgeRequest {
    EdgeRequest::parse(Method::Get, "/v1/shape", query).unwrap()
}

/// The derivation of a request, where these are the bases.
fn derive(bases: &str, query: &str) -> Result<Derivation, Passed> {
    let bases = Bases::parse(bases).unwrap();
    let request = request(&format!("{query}&offset=-1"));
    bases.wanted(&request).expect("a base of the table").derive(SCHEMA)
}

fn mapped(derivation: &mut Derivation, messages: &[&str]) -> Result<Vec<String>, Underived> {
    let mut out = Vec::new();
    let mut each = |message: &[u8]| out.push(String::from_utf8(message.to_vec()).unwrap());
    for message in messages {
        derivation.map(message.as_bytes(), &mut each)?;
    }
    derivation.end(&mut each);
    Ok(out)
}

#[test]
fn bases_are_read() {
    let bases = Bases::parse(
        "issues ;\n public.\"My (t);\" ( id,\"a;,)\" ) WHERE x = ';)' AND \"w;\" = 1;; s.t where(a = 1)",
    )
    .unwrap();
    let query = |query: &str| {
        let request = request(query);
        let wanted = bases.wanted(&request)?;
        Some(request.with_query(wanted.base().query(request.query())).origin_query(Secrets::Keep))
    };
    let issues = "handle=1-2&offset=0_0&replica=full&table=%22public%22%2E%22issues%22".replace("%2E", ".");
    assert_eq!(query("table=issues&where=a%3D$1&params[1]=2&columns=id&offset=0_0&handle=1-2"), Some(issues));
    let quoted = query("table=\"My (t);\"&offset=-1").unwrap();
    assert!(quoted.contains("columns[]=id&columns[]=a%3B,%29"), "{quoted}");
    assert!(quoted.contains("where=x%20%3D%20%27%3B%29%27%20AND%20%22w%3B%22%20%3D%201"), "{quoted}");
    assert!(query("table=s.t&offset=now").unwrap().contains("where=%28a%20%3D%201%29"));
}

#[test]
fn what_names_no_bases_is_refused() {
    assert_eq!(Bases::parse(" ; "), Ok(Bases::default()));
    for text in [
        "t u",
        "t (a",
        "t (a) b",
        "t where",
        "t wherea",
        "t where a b",
        "t where $1 = a",
        "a.b.c",
        "t()",
        "t; T",
    ] {
        assert!(Bases::parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_plain_read_of_another_shape_passes() {
    let bases = Bases::parse("t; u where a = 1").unwrap();
    for query in [
        "table=x&offset=-1",
        "table=t&replica=full&offset=-1",
        "table=u&where=a+%3D+1&replica=full&offset=-1",
        "table=t&offset=-1&log=changes_only",
        "table=t&offset=-1&queryable_columns=id",
        "table=t&offset=-1&subset__limit=1",
        "table=t&offset=1_2",
        "table=t&replica=x&offset=-1",
        "offset=-1",
    ] {
        assert_eq!(bases.wanted(&request(query)), None, "{query}");
    }
    let post = EdgeRequest::parse(Method::Post, "/v1/shape", "table=t&offset=-1").unwrap();
    assert_eq!(bases.wanted(&post), None);
    assert_eq!(Bases::default().wanted(&request("table=t&offset=-1")), None);
}

#[test]
fn what_core_cannot_judge_for_sure_passes() {
    for (bases, query, why) in [
        ("t", "table=t&where=mood+IS+NULL", Passed::Type("mood".to_owned())),
        ("t", "table=t&columns=a", Passed::Columns),
        ("t", "table=t&columns=id,x", Passed::Columns),
        ("t", "table=t&columns=id,a,a", Passed::Columns),
        ("t (id, a)", "table=t", Passed::Columns),
        ("t where a = 1", "table=t", Passed::Wider("(\"a\" = 1)".to_owned())),
        ("t where a = 1", "table=t&where=a%3D1+OR+a%3D2", Passed::Wider("(\"a\" = 1)".to_owned())),
    ] {
        let passed = derive(bases, query).unwrap_err();
        match (&passed, &why) {
            (Passed::Wider(_), Passed::Wider(_)) => {}
            _ => assert_eq!(passed, why, "{query}"),
        }
    }
    for clause in [
        "b+>+'x'",
        "lower(b)%3D'x'",
        "w%3D'x'",
        "nope%3D1",
        "id+IN+(SELECT+1)",
        "a",
        "a%3D$2",
        "soundex(b)%3D'x'",
        "mood%3D'ok'",
    ] {
        let passed = derive("t", &format!("table=t&where={clause}"));
        assert!(matches!(passed, Err(Passed::Clause(_))), "{clause}: {passed:?}");
    }
    assert!(matches!(derive("t", "table=t&where=a%3D$2&params[2]=1"), Err(Passed::Params(_))));
    assert!(matches!(derive("t where x = 1", "table=t&where=a%3D1"), Err(Passed::BaseClause(_))));
    let bases = Bases::parse("t").unwrap();
    let wanted = request("table=t&offset=-1");
    assert_eq!(bases.wanted(&wanted).unwrap().derive("[]").unwrap_err(), Passed::Schema);
}

#[test]
fn a_request_that_repeats_the_bases_clause_is_narrower() {
    let bases = "t where a = 1 and b = 'x'";
    for clause in
        ["b%3D'x'+AND+a%3D1", "(a%3D1)+AND+(b%3D'x'+AND+id>3)", "t.a%3D$1+AND+b%3D$2&params[1]=1&params[2]=x"]
    {
        assert!(derive(bases, &format!("table=t&where={clause}")).is_ok(), "{clause}");
    }
}

#[test]
fn the_schema_is_that_of_the_columns() {
    let derivation = derive("t", "table=t&columns=mood,id").unwrap();
    assert_eq!(
        derivation.schema(),
        r#"{"id":{"type":"int8","pk_index":0,"not_null":true},"mood":{"type":"mood"}}"#
    );
}

const DELETE: &str = r#"{"key":"k/1","value":{"id":"1","a":"1","b":"x","mood":null,"w":""},"headers":{"operation":"delete","lsn":"9","op_position":0,"key_change_to":"k/2"}}"#;
const INSERT: &str = r#"{"key":"k/2","value":{"id":"2","a":"2","b":"x","mood":null,"w":""},"headers":{"operation":"insert","lsn":"9","op_position":1,"key_change_from":"k/1","last":true}}"#;

#[test]
fn halves_of_a_key_change_name_each_other_only_where_both_are_shown() {
    let map = |clause: &str, messages: &[&str]| {
        let mut derivation = derive("t", &format!("table=t&where={clause}&columns=id,a")).unwrap();
        mapped(&mut derivation, messages).unwrap()
    };
    let delete =
        r#"{"key":"k/1","value":{"id":"1"},"headers":{"operation":"delete","lsn":"9","op_position":0}}"#;
    let insert = r#"{"key":"k/2","value":{"id":"2","a":"2"},"headers":{"operation":"insert","lsn":"9","op_position":1,"last":true}}"#;
    let linked = [
        r#"{"key":"k/1","value":{"id":"1"},"headers":{"operation":"delete","lsn":"9","op_position":0,"key_change_to":"k/2"}}"#,
        r#"{"key":"k/2","value":{"id":"2","a":"2"},"headers":{"operation":"insert","lsn":"9","op_position":1,"key_change_from":"k/1","last":true}}"#,
    ];
    assert_eq!(map("a>0", &[DELETE, INSERT]), linked);
    assert_eq!(map("a%3D1", &[DELETE, INSERT]), [delete]);
    assert_eq!(map("a%3D2", &[DELETE, INSERT]), [insert]);
    assert_eq!(map("a%3D3", &[DELETE, INSERT]), [""; 0]);
    // A reply ends between the two.
    assert_eq!(map("a>0", &[DELETE]), [delete]);
    assert_eq!(map("a>0", &[INSERT]), [insert]);
    let control = r#"{"headers":{"control":"up-to-date"}}"#;
    assert_eq!(map("a>0", &[DELETE, control]), [delete, control]);
}

#[test]
fn a_body_without_messages_is_none() {
    let derivation = derive("t", "table=t&where=a%3D3").unwrap();
    assert_eq!(derivation.body([DELETE.as_bytes(), INSERT.as_bytes()]), Ok(None));
    let control = br#"{"headers":{"control":"up-to-date"}}"#.as_slice();
    assert_eq!(derivation.body([INSERT.as_bytes(), control]), Ok(Some([b"[", control, b"]"].concat())));
}

#[test]
fn values_keep_their_spelling() {
    let mut derivation = derive("t", "table=t&where=b%3D'%C3%A4%22%0A'&columns=id,b").unwrap();
    let row = r#"{ "key" : "k" , "value":{"b":"\u00e4\"\n","id":"1","a":null,"mood":"ä","w":"x"}, "headers":{"operation":"insert"} }"#;
    assert_eq!(
        mapped(&mut derivation, &[row]).unwrap(),
        [r#"{"key":"k","value":{"b":"\u00e4\"\n","id":"1"},"headers":{"operation":"insert"}}"#]
    );
}

#[test]
fn what_cannot_be_judged_ends_the_reply() {
    let map = |message: &str| mapped(&mut derive("t", "table=t&where=1/a%3D1").unwrap(), &[message]);
    let row = |a: &str, more: &str| {
        format!(r#"{{"key":"k","value":{{"id":"1","a":"{a}"}}{more},"headers":{{"operation":"update"}}}}"#)
    };
    assert_eq!(map(&row("1", "")), Err(Underived::NoOldValues));
    assert!(matches!(map(&row("0", r#","old_value":{"a":"1"}"#)), Err(Underived::Unjudgeable(_))));
    assert!(matches!(map(&row("x", r#","old_value":{"a":"1"}"#)), Err(Underived::Unjudgeable(_))));
    for message in [
        "",
        "{}",
        "[]",
        r#"{"headers":{"event":"move-in"}}"#,
        r#"{"key":"k","value":{"id":"1"},"headers":{"operation":"insert"}}"#,
        r#"{"key":"k","value":{"id":"1","a":1},"headers":{"operation":"insert"}}"#,
        r#"{"key":"k","value":{"id":"1","a":"1"},"headers":{"operation":"upsert"}}"#,
        r#"{"key":"k","value":{"id":"1","a":"1"},"headers":{"operation":"insert","tags":["x"]}}"#,
        r#"{"key":"k","value":{"id":"1","a":"1"},"old_value":{"b":"1"},"headers":{"operation":"update"}}"#,
    ] {
        assert_eq!(map(message), Err(Underived::Unreadable), "{message}");
    }
}

#[test]
fn any_bytes_are_taken() {
    let mut derivation = derive("t", "table=t&where=a%3D1").unwrap();
    for message in [DELETE, INSERT] {
        for length in 0..message.len() {
            let cut = message.as_bytes().get(..length).unwrap();
            assert!(derivation.map(cut, &mut |_| {}).is_err(), "{length}");
            for byte in *b"{}[]\",:\\\xff" {
                let mut changed = message.as_bytes().to_vec();
                changed[length] = byte;
                let _ = derivation.map(&changed, &mut |_| {});
            }
        }
    }
}

#[test]
fn events_are_mapped_one_by_one() {
    let stream = format!(
        ": keep-alive\n\ndata: {DELETE}\n\ndata: {INSERT}\n\ndata: {{\"headers\":{{\"control\":\"up-to-date\"}}}}\n\n"
    );
    let expected = concat!(
        ": keep-alive\n\n",
        r#"data: {"key":"k/2","value":{"id":"2"},"headers":{"operation":"insert","lsn":"9","op_position":1,"last":true}}"#,
        "\n\ndata: {\"headers\":{\"control\":\"up-to-date\"}}\n\n"
    );
    for size in 1..=stream.len() {
        let mut derivation = derive("t", "table=t&where=a%3D2&columns=id").unwrap();
        let (mut events, mut out) = (Events::default(), Vec::new());
        for chunk in stream.as_bytes().chunks(size) {
            events.push(&mut derivation, chunk, 1_000, &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let (mut events, mut out) = (Events::default(), Vec::new());
    let mut derivation = derive("t", "table=t&where=a%3D2").unwrap();
    assert_eq!(events.push(&mut derivation, &[b'x'; 11], 10, &mut out), Err(Underived::Unreadable));
}
