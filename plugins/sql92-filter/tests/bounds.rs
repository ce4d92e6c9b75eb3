//! Hostile and wrong expressions: each is refused with a place and a plain reason, none overflows or panics.

use proptest::prelude::*;
use waspmq_plugin_sdk::Refuse;
use waspmq_sql92_filter::compile;

fn refusal(expression: &str) -> Refuse {
    compile(expression).err().unwrap_or_else(|| panic!("`{expression}` is taken"))
}

#[test]
fn refusals_say_where_and_what_to_write() {
    let cases = [
        ("a != 3", 3, "`!=` is not an operator here; write `<>`"),
        ("a == 3", 3, "`==` is not an operator here; write `=`"),
        ("a = \"x\"", 5, "strings stand in single quotes here: `'text'`"),
        ("a.b = 1", 2, "property names have no dots here"),
        ("(a = 1", 7, "a `)` is missing here"),
        ("a = 'x", 5, "the string is not closed: `'` is missing"),
        ("a = 1 AND", 10, "the expression ends where a property, a number or a 'text' must stand"),
        ("a > 'x'", 5, "only numbers and properties can be ordered"),
        ("NOT a > 5", 1, "only numbers and properties can be ordered"),
        ("a BETWEEN 5 AND 1", 11, "the lower bound is above the upper one: nothing is between"),
        ("a = NULL", 5, "nothing equals NULL; write IS NULL or IS NOT NULL"),
        ("a IS TRUE", 6, "only NULL or NOT NULL can follow IS"),
        ("a NOT LIKE 'x'", 7, "after NOT, only BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH can follow here"),
        ("in = 1", 1, "a keyword cannot stand here, nor be the name of a property"),
        ("a AND 3", 7, "this is neither true nor false: a comparison must stand here"),
        ("a IN (1, b)", 10, "IN wants a list of 'texts' or numbers: one must stand here"),
        ("a IN ()", 7, "IN wants a list of 'texts' or numbers: one must stand here"),
        ("'a' IN ('a')", 1, "only a property can stand before IN"),
        ("a /* b", 3, "the comment is not closed: `*/` is missing"),
        ("a * 2 > 1", 3, "there is no arithmetic here"),
        ("", 1, "the expression ends where a property, a number or a 'text' must stand"),
    ];
    for (expression, column, message) in cases {
        assert_eq!(refusal(expression), Refuse::at(column, message), "{expression}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let terms = format!("a = 1{}", " AND a = 1".repeat(20_000));
    assert_eq!(refusal(&terms).message, "the expression has 200005 bytes; at most 65536 are allowed");
    let terms = format!("a{}", " AND a".repeat(10_000));
    assert_eq!(refusal(&terms).message, "the expression has more than 4096 properties and values");
    let list = format!("a IN (1{})", ",1".repeat(20_000));
    assert_eq!(refusal(&list).message, "the expression has more than 4096 properties and values");
    for prefix in ["(", "NOT ", "-", "+", "- ", "NOT("] {
        let deep = prefix.repeat(65_000 / prefix.len());
        let message = refusal(&deep).message;
        // Of `--…`, RocketMQ's comment without a line end, nothing is read.
        let expected = if prefix == "-" { "a property" } else { "more than 64 brackets" };
        assert!(message.starts_with(expected), "{prefix}: {message}");
    }
    let brackets = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(compile(&brackets(64)).is_ok());
    assert!(compile(&brackets(65)).is_err());
    assert!(compile(&brackets(20_000)).is_err());
}

/// The code of x stands twice in `x BETWEEN …`: nested, it would double at each step.
#[test]
fn nested_betweens_do_not_explode() {
    let nested = (0..30).fold("a".to_string(), |inner, _| format!("-({inner} BETWEEN 1 AND 5)"));
    assert!(refusal(&format!("{nested} = 1")).message.contains("more than 4096"));
    let shallow = (0..4).fold("a".to_string(), |inner, _| format!("-({inner} BETWEEN 1 AND 5)"));
    assert!(compile(&format!("{shallow} = 1")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_taken_or_refused(text in "(?s).{0,60}") {
        let _ = compile(&text);
    }

    /// Pieces of the language in any order reach deeper than plain noise.
    #[test]
    fn any_order_of_tokens_is_taken_or_refused(pieces in prop::collection::vec(prop::sample::select(vec![
        "a", "b", "1", "-", "+", "2.5", "'x'", "(", ")", ",", "=", "<>", "<", "<=", ">", ">=", "AND", "OR", "NOT", "IN",
        "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "CONTAINS", "STARTSWITH", "ENDSWITH", "--", "\n", "/*", "*/", "'", "0x1",
        "007", ".", "5.", "L", "l", "é", "\"", "!",
    ]), 0..25), spaced: bool) {
        let _ = compile(&pieces.join(if spaced { " " } else { "" }));
    }
}
