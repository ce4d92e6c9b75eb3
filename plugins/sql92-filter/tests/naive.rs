//! Batches of random messages under random expressions, against an evaluator written the plain way: a tree, walked.
//! Also what the table of cases has no row for: numeric IN lists.

use proptest::prelude::*;
use waspmq_plugin_sdk::harness::{Harness, TestMessage, message};
use waspmq_plugin_sdk::{NoConfig, Verdict};
use waspmq_sql92_filter::Sql92Filter;

#[derive(Clone, Debug)]
enum Expr {
    Compare(usize, &'static str, i32),
    Between(usize, i32, i32, bool),
    In(usize, Vec<String>, bool),
    Contains(usize, String, bool),
    IsNull(usize, bool),
    Bare(usize),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

type Properties = [Option<String>; 3];
/// `Err`: cannot be evaluated. `None`: unknown.
type Truth = Result<Option<bool>, ()>;

impl Expr {
    fn text(&self) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::Compare(p, op, n) => format!("{} {op} {n}", NAMES[*p]),
            Self::Between(p, low, high, negated) => format!("{} {}BETWEEN {low} AND {high}", NAMES[*p], not(negated)),
            Self::In(p, list, negated) => format!("{} {}IN ('{}')", NAMES[*p], not(negated), list.join("','")),
            Self::Contains(p, text, negated) => format!("{} {}CONTAINS '{text}'", NAMES[*p], not(negated)),
            Self::IsNull(p, negated) => format!("{} IS {}NULL", NAMES[*p], not(negated)),
            Self::Bare(p) => NAMES[*p].to_string(),
            Self::And(l, r) => format!("({}) AND ({})", l.text(), r.text()),
            Self::Or(l, r) => format!("({}) OR ({})", l.text(), r.text()),
            Self::Not(inner) => format!("NOT ({})", inner.text()),
        }
    }

    fn truth(&self, of: &Properties) -> Truth {
        let compare = |p: &usize, op: &str, n: i32| -> Truth {
            let Some(value) = &of[*p] else { return Ok(None) };
            let value: i32 = value.parse().map_err(|_| ())?;
            Ok(Some(match op {
                "=" => value == n,
                "<>" => value != n,
                "<" => value < n,
                "<=" => value <= n,
                ">" => value > n,
                _ => value >= n,
            }))
        };
        match self {
            Self::Compare(p, op, n) => compare(p, op, *n),
            Self::Between(p, low, high, false) => and(compare(p, ">=", *low), || compare(p, "<=", *high)),
            Self::Between(p, low, high, true) => or(compare(p, "<", *low), || compare(p, ">", *high)),
            Self::In(p, list, negated) => Ok(of[*p].as_ref().map(|value| list.contains(value) != *negated)),
            Self::Contains(p, text, negated) => {
                Ok(Some(!text.is_empty() && of[*p].as_ref().is_some_and(|value| value.contains(text) != *negated)))
            }
            Self::IsNull(p, negated) => Ok(Some(of[*p].is_none() != *negated)),
            Self::Bare(p) => Ok(of[*p].as_ref().map(|_| false)),
            Self::And(l, r) => and(l.truth(of), || r.truth(of)),
            Self::Or(l, r) => or(l.truth(of), || r.truth(of)),
            Self::Not(inner) => Ok(inner.truth(of)?.map(|truth| !truth)),
        }
    }
}

fn and(left: Truth, right: impl FnOnce() -> Truth) -> Truth {
    match left? {
        Some(false) => Ok(Some(false)),
        left => Ok(match (left, right()?) {
            (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }),
    }
}

fn or(left: Truth, right: impl FnOnce() -> Truth) -> Truth {
    match left? {
        Some(true) => Ok(Some(true)),
        left => Ok(match (left, right()?) {
            (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }),
    }
}

fn expr() -> impl Strategy<Value = Expr> {
    let p = || 0usize..3;
    let n = || -3i32..8;
    let op = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let text = || prop::sample::select(vec!["1", "2", "x", "xy", ""]).prop_map(str::to_string);
    let leaf = prop_oneof![
        4 => (p(), op, n()).prop_map(|(p, op, n)| Expr::Compare(p, op, n)),
        1 => (p(), n(), 0i32..5, any::<bool>()).prop_map(|(p, low, more, not)| Expr::Between(p, low, low + more, not)),
        1 => (p(), prop::collection::vec(text(), 1..4), any::<bool>()).prop_map(|(p, list, not)| Expr::In(p, list, not)),
        1 => (p(), text(), any::<bool>()).prop_map(|(p, text, not)| Expr::Contains(p, text, not)),
        1 => (p(), any::<bool>()).prop_map(|(p, not)| Expr::IsNull(p, not)),
        1 => p().prop_map(Expr::Bare),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            two().prop_map(|(l, r)| Expr::And(l.into(), r.into())),
            two().prop_map(|(l, r)| Expr::Or(l.into(), r.into())),
            inner.clone().prop_map(|inner| Expr::Not(inner.into())),
        ]
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    let value = prop::sample::select(vec!["1", "2", "5", "-2", "x", "xy", "1x"]).prop_map(str::to_string);
    prop::array::uniform3(prop::option::weighted(0.8, value))
}

fn with(properties: &Properties) -> TestMessage {
    let given = NAMES.iter().zip(properties);
    given.fold(message().prop("UNIQ_KEY", "0A"), |message, (name, value)| match value {
        Some(value) => message.prop(name, value),
        None => message,
    })
}

fn subscribe(expression: &str) -> Harness<Sql92Filter> {
    Harness::new(NoConfig {}).and_then(|it| it.subscribe_as("SQL92", expression)).expect("the expression is sound")
}

proptest! {
    #[test]
    fn batches_equal_the_plain_evaluator(expr in expr(), sent in prop::collection::vec(properties(), 1..80)) {
        let filter = subscribe(&expr.text());
        let verdicts = filter.keep_all(&sent.iter().map(with).collect::<Vec<_>>());
        let naive = sent.iter().map(|properties| (expr.truth(properties) == Ok(Some(true))).into());
        prop_assert_eq!(verdicts, naive.collect::<Vec<Verdict>>(), "{}", expr.text());
    }
}

#[test]
fn in_lists_of_numbers_compare_by_value() {
    let keeps = |expression: &str, a: &str| subscribe(expression).keep(&message().prop("a", a)) == Verdict::Keep;
    assert!(keeps("a IN (1,3,7)", "3"));
    assert!(!keeps("a IN (1,3,7)", "4"));
    assert!(keeps("a NOT IN (1,3,7)", "4"));
    for same in ["3", "3.0", " 3 ", "+3", "03", "3e0"] {
        assert!(keeps("a IN (1, 3)", same), "{same:?}");
    }
    assert!(keeps("a IN (-1, +2.5)", "-1"));
    assert!(keeps("a IN (-1, +2.5)", "2.50"));
    assert!(keeps("a IN ('x', 1)", "x"), "texts first");
    assert!(keeps("a IN (9223372036854775807)", "9223372036854775807"));
    assert!(!keeps("a IN (9223372036854775807)", "9223372036854775806"), "longs compare without rounding");
    // What is no number cannot be compared with one, as in `a = 1`: no match, and NOT does not make it one.
    assert!(!keeps("a IN (1, 3)", "x"));
    assert!(!keeps("a NOT IN (1, 3)", "x"));
    assert!(!keeps("a IN (1, 3) OR TRUE", "x"));
    assert!(!keeps("b IN (1, 3)", "1"), "an absent property is unknown");
}
