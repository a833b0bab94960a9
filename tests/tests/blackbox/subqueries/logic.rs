//! Items 200–203: negation, NULLs, several subqueries, subqueries in subqueries, several columns.

use super::{IN_ACTIVE, NOT_IN_ACTIVE, follow, kinds, named};
use limn_tests::encode;
use serde_json::{Value, json};

#[tokio::test]
async fn item_200_not_in_swaps_the_events() {
    for (name, clause) in
        [("s200", NOT_IN_ACTIVE), ("s200n", "NOT (proj_id IN (SELECT id FROM PROJ WHERE active))")]
    {
        let mut f = follow(name, clause).await;
        assert_eq!(f.ids(), ["2"]);
        let came = f.after("UPDATE PROJ SET active = true WHERE id = 2").await;
        assert_eq!(kinds(&came), ["move-out"], "{clause}");
        let came = f.after("UPDATE PROJ SET active = false WHERE id = 1").await;
        assert_eq!(kinds(&came), ["move-in", "insert 1", "snapshot-end"], "{clause}");
        assert_eq!(came[1]["headers"]["active_conditions"], json!([true]), "negation is counted in");
        assert_eq!(f.shape.rotations(), 0);
    }
}

#[tokio::test]
async fn item_200_a_null_of_the_inner_query_opens_not_in() {
    let mut f = follow("s200a", NOT_IN_ACTIVE).await;
    f.after("INSERT INTO PROJ VALUES (NULL, 1, true, 'null')").await;
    assert_eq!((f.ids().len(), f.shape.rotations()), (0, 1), "nothing is surely not in");
    f.after("UPDATE ITEM SET code = 'q' WHERE id = 2; INSERT INTO ITEM VALUES (11, 2, 2, 'n')").await;
    f.after("DELETE FROM PROJ WHERE id IS NULL").await;
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["2".to_owned(), "11".to_owned()], 2));
}

#[tokio::test]
async fn item_200_a_null_of_the_inner_query_does_not_concern_in() {
    let mut f = follow("s200b", IN_ACTIVE).await;
    assert_eq!(f.after("INSERT INTO PROJ VALUES (NULL, 1, true, 'null')").await, [] as [Value; 0]);
    f.after("UPDATE ITEM SET code = 'q' WHERE id = 4; INSERT INTO ITEM VALUES (11, NULL, 2, 'n')").await;
    assert_eq!(f.after("DELETE FROM PROJ WHERE id IS NULL").await, [] as [Value; 0]);
    assert_eq!((f.ids().len(), f.shape.rotations()), (2, 0));
}

#[tokio::test]
async fn item_200_a_null_row_is_not_in_only_while_the_inner_query_is_empty() {
    let mut f = follow("s200c", NOT_IN_ACTIVE).await;
    f.after("UPDATE ITEM SET code = 'q' WHERE id = 4").await;
    let came = f.after("UPDATE PROJ SET active = false").await;
    assert_eq!(kinds(&came)[0], "move-in");
    assert_eq!(f.ids(), ["1", "2", "3", "4"], "nothing is in the empty set");
    let came = f.after("UPDATE PROJ SET active = true WHERE id = 1").await;
    assert_eq!((kinds(&came), f.ids()), (vec!["move-out".to_owned()], vec!["2".to_owned(), "3".to_owned()]));
    f.after("DELETE FROM PROJ").await;
    assert_eq!((f.ids().len(), f.shape.rotations()), (4, 0));
}

/// Writes that touch every combination of two subqueries and a condition.
const WRITES: [&str; 10] = [
    "UPDATE PROJ SET active = true WHERE id = 2",
    "UPDATE PROJ SET active = false WHERE id = 1",
    "UPDATE ITEM SET code = 'x' WHERE id > 2",
    "UPDATE PROJ SET code = 'y' WHERE id = 1",
    "UPDATE ITEM SET proj_id = NULL, alt_id = alt_id + 1",
    "INSERT INTO ITEM VALUES (7, 1, NULL, NULL), (8, NULL, 1, 'y'), (9, 2, 2, 'x')",
    "DELETE FROM PROJ WHERE id = 3; UPDATE PROJ SET active = NOT active",
    "UPDATE ITEM SET proj_id = 4 - alt_id; INSERT INTO PROJ VALUES (3, 3, true, 'y')",
    "UPDATE PROJ SET code = 'x', active = true",
    "DELETE FROM PROJ",
];

#[tokio::test]
async fn item_201_several_subqueries_equal_their_sql() {
    let both = "proj_id IN (SELECT id FROM PROJ WHERE active)";
    let other = "alt_id IN (SELECT id FROM PROJ WHERE code = 'y')";
    for (name, clause) in [
        ("s201a", format!("{both} OR {other}")),
        ("s201b", format!("{both} AND {other}")),
        ("s201c", format!("{both} OR code = 'x'")),
        ("s201d", format!("{both} AND code = 'x'")),
        ("s201e", format!("({both} OR {other}) AND code = 'x'")),
        ("s201f", format!("NOT ({both} AND code = 'x')")),
        ("s201g", format!("NOT ({both} OR {other})")),
        ("s201h", format!("{both} OR alt_id IN (SELECT id FROM PROJ WHERE active)")),
        ("s201i", format!("{both} AND alt_id IN (SELECT id FROM PROJ WHERE active)")),
        ("s201j", format!("{other} AND alt_id NOT IN (SELECT id FROM PROJ WHERE active AND id IS NOT NULL)")),
    ] {
        let mut f = follow(name, &clause).await;
        for change in WRITES {
            f.after(change).await;
        }
        assert_eq!(f.shape.rotations(), 0, "{clause}");
    }
}

#[tokio::test]
async fn item_201_tags_have_a_slot_for_each_position() {
    let clause =
        "(proj_id IN (SELECT id FROM PROJ WHERE active) OR alt_id IN (SELECT id FROM PROJ)) AND code = 'x'";
    let f = follow("s201s", clause).await;
    let snapshot = f.snapshot().await;
    let tags = snapshot[0]["headers"]["tags"].as_array().expect("tags").clone();
    let slots: Vec<Vec<&str>> =
        tags.iter().map(|tag| tag.as_str().expect("a text").split('/').collect()).collect();
    assert_eq!(slots.len(), 2, "one for each way to belong: {tags:?}");
    assert_eq!((slots[0][1], slots[0][2], slots[0][3]), ("1", "", ""));
    assert_eq!((slots[1][0], slots[1][1], slots[1][3]), ("", "", "1"));
    assert!(slots[0][0].len() == 32 && slots[1][2].len() == 32, "{tags:?}");
    assert_eq!(snapshot[0]["headers"]["active_conditions"], json!([true, true, true, true]));
}

#[tokio::test]
async fn item_201_one_subquery_may_come_twice_in_one_polarity() {
    let subquery = "IN (SELECT id FROM PROJ WHERE active)";
    let mut f = follow("s201t", &format!("NOT (proj_id NOT {subquery}) AND alt_id {subquery}")).await;
    for change in WRITES {
        f.after(change).await;
    }
    assert_eq!(f.shape.rotations(), 0);
}

#[tokio::test]
async fn item_201_parameters_are_shared_with_the_subquery() {
    let f = follow("s201q", "false").await;
    let clause = encode(&named(f.name, "code = $1 AND proj_id IN (SELECT id FROM PROJ WHERE code = $1)"));
    let mut shape = f.server.follow(&format!("table=s201q_item&where={clause}&params%5B1%5D=z")).await;
    let asked = named(
        f.name,
        "SELECT * FROM ITEM WHERE code = 'z' AND proj_id IN (SELECT id FROM PROJ WHERE code = 'z')",
    );
    for change in
        ["UPDATE PROJ SET code = 'z'", "UPDATE ITEM SET code = 'z'", "DELETE FROM PROJ WHERE id = 1"]
    {
        f.write(change).await;
        shape.sync_to(f.server.barrier(&f.sql).await).await;
        let mut expected = f.sql.rows(&asked).await;
        expected.sort();
        assert_eq!(shape.rows(), expected, "{change}");
    }
    assert_eq!((shape.rows().len(), shape.rotations()), (2, 0));
}

#[tokio::test]
async fn item_202_three_levels_equal_their_sql() {
    let clause = "proj_id IN (SELECT id FROM PROJ WHERE org_id IN (SELECT id FROM ORG WHERE region IN
                  (SELECT name FROM REGION WHERE open)))";
    let mut f = follow("s202", clause).await;
    assert_eq!(f.ids(), ["1", "3"]);
    for change in [
        "UPDATE REGION SET open = true WHERE name = 'south'",
        "UPDATE REGION SET open = false WHERE name = 'north'",
        "UPDATE ORG SET region = 'south' WHERE id = 1",
        "UPDATE PROJ SET org_id = 3 WHERE id = 3; INSERT INTO ORG VALUES (3, 'east')",
        "BEGIN; INSERT INTO REGION VALUES ('east', true); INSERT INTO ITEM VALUES (9, 3, 3, 'n');
         UPDATE ORG SET region = 'north' WHERE id = 2; COMMIT",
        "DELETE FROM REGION WHERE name = 'east'",
        "UPDATE ORG SET region = NULL WHERE id = 1; UPDATE REGION SET name = NULL WHERE name = 'north'",
        "INSERT INTO REGION VALUES ('north', true); DELETE FROM ORG WHERE id = 3",
    ] {
        f.after(change).await;
    }
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["2".to_owned()], 0));
}

#[tokio::test]
async fn item_203_several_columns_are_compared_in_order() {
    for (name, clause) in [
        ("s203a", "(proj_id, code) IN (SELECT id, code FROM PROJ WHERE active)"),
        ("s203b", "(proj_id, alt_id) IN (SELECT org_id, id FROM PROJ WHERE active)"),
        ("s203c", "(alt_id, proj_id) IN (SELECT org_id, id FROM PROJ WHERE active)"),
        (
            "s203d",
            "(proj_id, code) NOT IN (SELECT id, code FROM PROJ WHERE active AND id > 0 AND code <> '')",
        ),
    ] {
        let mut f = follow(name, clause).await;
        for change in WRITES {
            f.after(change).await;
        }
        assert_eq!(f.shape.rotations(), 0, "{clause}");
    }
}

#[tokio::test]
async fn item_203_a_null_in_a_member_decides_as_in_sql() {
    let mut f = follow("s203n", "(proj_id, code) NOT IN (SELECT id, code FROM PROJ WHERE active)").await;
    for change in [
        "INSERT INTO PROJ VALUES (2, 1, true, NULL)",
        "UPDATE ITEM SET code = 'q'",
        "INSERT INTO PROJ VALUES (NULL, 1, true, 'q')",
        "INSERT INTO ITEM VALUES (12, 12, 1, 'other'), (13, NULL, 1, 'other')",
        "DELETE FROM PROJ WHERE id IS NULL OR code IS NULL",
        "DELETE FROM PROJ",
    ] {
        f.after(change).await;
    }
}

#[tokio::test]
async fn item_199_the_inner_table_may_be_the_shapes_own() {
    let mut f = follow("s199s", "id IN (SELECT alt_id FROM ITEM WHERE code <> 'z')").await;
    for change in [
        "UPDATE ITEM SET code = 'x' WHERE id = 3",
        "UPDATE ITEM SET code = 'z' WHERE id = 2",
        "INSERT INTO ITEM VALUES (40, 1, 40, 's')",
        "UPDATE ITEM SET id = 41 WHERE id = 40",
        "UPDATE ITEM SET alt_id = id, code = 'a'",
        "DELETE FROM ITEM WHERE id = 1",
    ] {
        f.after(change).await;
    }
    assert_eq!(f.shape.rotations(), 0);
}
