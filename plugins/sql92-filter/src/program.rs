//! A compiled expression: flat code for a small stack machine, run once per message without recursion or allocation.
//! Made by `parser`, which guarantees that jumps go forward to the same stack height and that indices exist.

use std::cmp::Ordering;

use waspmq_plugin_sdk::Message;

use crate::number::{Literal, java_double, java_integer, java_long};
use crate::value::{Incomparable, Value, equal, negated, order, same_number};

/// Operands of code up to this stack height need no allocation.
const SMALL_STACK: usize = 8;

/// One instruction. Comments: what it takes from the stack, what it puts there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    /// → value of a property, by index into the names.
    Property(u16),
    /// → constant, by index.
    Constant(u16),
    /// value → minus value
    Negate,
    /// left, right → truth
    Compare(Comparison),
    /// left, right → truth
    Equal,
    /// → truth: `Property`, `Constant`, `Compare` in one, as nearly every expression has them.
    CompareProperty { name: u16, constant: u16, comparison: Comparison },
    /// → truth: `Property`, `Constant`, `Equal` in one.
    EqualProperty { name: u16, constant: u16 },
    /// value → truth, never unknown
    IsNull,
    /// value → truth: anything but a truth value is false
    Cast,
    /// truth → truth
    Not,
    /// value → truth: whether the list, by index, has it
    In { list: u16, negated: bool },
    /// value → truth: whether it holds the constant text, by index
    Search { kind: Search, needle: u16, negated: bool },
    /// truth → same; goes on at the offset if it is false
    SkipIfFalse(u32),
    /// truth → same; goes on at the offset if it is true
    SkipIfTrue(u32),
    /// left, right → truth; left is not false
    And,
    /// left, right → truth; left is not true
    Or,
}

impl Op {
    /// How much higher the stack is afterwards.
    fn growth(self) -> isize {
        match self {
            Self::Property(_) | Self::Constant(_) | Self::CompareProperty { .. } | Self::EqualProperty { .. } => 1,
            Self::Compare(_) | Self::Equal | Self::And | Self::Or => -1,
            _ => 0,
        }
    }
}

/// `<`, `<=`, `>`, `>=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// Where CONTAINS, STARTSWITH and ENDSWITH look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    Anywhere,
    Start,
    End,
}

/// A constant of the expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    Null,
    Truth(bool),
    Number(Literal),
    Text(Box<[u8]>),
}

impl Constant {
    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Truth(truth) => Value::Truth(*truth),
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text),
        }
    }
}

/// The list of an IN. Texts are equal byte by byte, numbers by value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct List {
    /// Sorted.
    pub(crate) texts: Vec<Box<[u8]>>,
    pub(crate) numbers: Vec<Literal>,
}

impl List {
    fn has(&self, value: &[u8]) -> Result<bool, Incomparable> {
        if self.texts.binary_search_by(|text| (**text).cmp(value)).is_ok() {
            return Ok(true);
        }
        if self.numbers.is_empty() {
            return Ok(false);
        }
        let number = java_long(value).map(Literal::Long).or_else(|| java_double(value).map(Literal::Double));
        let number = number.ok_or(Incomparable)?;
        Ok(self.numbers.iter().any(|item| same_number(number, *item)))
    }
}

/// Parts of a compiled expression, filled by the parser.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) code: Vec<Op>,
    pub(crate) names: Vec<String>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) lists: Vec<List>,
}

impl Parts {
    /// Emits `op`, in one with its operands where there is such an instruction. No jump leads between the operands: jumps
    /// lead behind an AND or OR.
    pub(crate) fn push(&mut self, op: Op) {
        let op = match (self.code.last_chunk(), op) {
            (Some([Op::Property(name), Op::Constant(constant)]), Op::Compare(comparison)) => {
                Op::CompareProperty { name: *name, constant: *constant, comparison }
            }
            (Some([Op::Property(name), Op::Constant(constant)]), Op::Equal) => {
                Op::EqualProperty { name: *name, constant: *constant }
            }
            _ => return self.code.push(op),
        };
        self.code.truncate(self.code.len() - 2);
        self.code.push(op);
    }

    #[inline]
    fn property<'a>(&self, name: u16, message: &Message<'a>) -> Value<'a> {
        message.prop_bytes(&self.names[usize::from(name)]).map_or(Value::Null, Value::Text)
    }

    /// Whether the property stands so to the constant; `None`: unknown.
    #[inline]
    fn compare(
        &self,
        name: u16,
        constant: u16,
        comparison: Comparison,
        message: &Message<'_>,
    ) -> Result<Option<bool>, Incomparable> {
        // The usual pair first and in one piece: `order` comes to the same by way of three calls.
        if let Constant::Number(Literal::Integer(right)) = self.constants[usize::from(constant)] {
            let Some(text) = message.prop_bytes(&self.names[usize::from(name)]) else { return Ok(None) };
            let left = java_integer(text).ok_or(Incomparable)?;
            return Ok(Some(comparison.holds(left.cmp(&right))));
        }
        let ordering = order(self.property(name, message), self.constant(constant))?;
        Ok(ordering.map(|ordering| comparison.holds(ordering)))
    }

    #[inline]
    fn constant(&self, constant: u16) -> Value<'_> {
        self.constants[usize::from(constant)].value()
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    parts: Parts,
    stack_max: usize,
}

impl Program {
    pub(crate) fn new(parts: Parts) -> Self {
        let height = |height: &mut isize, op: &Op| {
            *height += op.growth();
            Some(*height)
        };
        let stack_max = parts.code.iter().scan(0, height).max().unwrap_or(0) as usize;
        Self { parts, stack_max }
    }

    /// Whether the message matches. Unknown is no match, nor is a comparison that cannot be made.
    #[inline]
    pub fn matches(&self, message: &Message<'_>) -> bool {
        // A single comparison, as most expressions are, needs no stack.
        if let [Op::CompareProperty { name, constant, comparison }] = self.parts.code[..] {
            return self.parts.compare(name, constant, comparison, message) == Ok(Some(true));
        }
        let result = if self.stack_max <= SMALL_STACK {
            self.run(message, &mut [Value::Null; SMALL_STACK])
        } else {
            self.run(message, &mut vec![Value::Null; self.stack_max])
        };
        result == Ok(Value::Truth(true))
    }

    #[inline]
    fn run<'a>(&'a self, message: &Message<'a>, stack: &mut [Value<'a>]) -> Result<Value<'a>, Incomparable> {
        let code = &self.parts.code[..];
        let mut at = 0;
        let mut height = 0;
        while let Some(op) = code.get(at) {
            at += 1;
            match *op {
                Op::CompareProperty { name, constant, comparison } => {
                    let truth = self.parts.compare(name, constant, comparison, message)?;
                    stack[height] = truth.map_or(Value::Null, Value::Truth);
                    height += 1;
                }
                Op::EqualProperty { name, constant } => {
                    let same = equal(self.parts.property(name, message), self.parts.constant(constant))?;
                    stack[height] = same.map_or(Value::Null, Value::Truth);
                    height += 1;
                }
                Op::Property(name) => {
                    stack[height] = self.parts.property(name, message);
                    height += 1;
                }
                Op::Constant(constant) => {
                    stack[height] = self.parts.constant(constant);
                    height += 1;
                }
                Op::SkipIfFalse(target) if stack[height - 1] == Value::Truth(false) => at = target as usize,
                Op::SkipIfTrue(target) if stack[height - 1] == Value::Truth(true) => at = target as usize,
                Op::SkipIfFalse(_) | Op::SkipIfTrue(_) => {}
                Op::Compare(_) | Op::Equal | Op::And | Op::Or => {
                    height -= 1;
                    stack[height - 1] = binary(*op, stack[height - 1], stack[height])?;
                }
                unary => stack[height - 1] = self.unary(unary, stack[height - 1])?,
            }
        }
        Ok(stack[0])
    }

    #[inline]
    fn unary<'a>(&'a self, op: Op, value: Value<'a>) -> Result<Value<'a>, Incomparable> {
        Ok(match (op, value) {
            (Op::Negate, _) => negated(value),
            (Op::IsNull, _) => Value::Truth(value == Value::Null),
            (Op::Not, Value::Truth(truth)) => Value::Truth(!truth),
            (Op::Cast, Value::Null | Value::Truth(_)) => value,
            (Op::Cast, _) => Value::Truth(false),
            (Op::In { list, negated }, Value::Text(text)) => {
                Value::Truth(self.parts.lists[usize::from(list)].has(text)? != negated)
            }
            (Op::Search { kind, needle, negated }, _) => {
                Value::Truth(search(kind, value, self.parts.constant(needle)).is_some_and(|found| found != negated))
            }
            _ => Value::Null,
        })
    }
}

#[inline]
fn binary<'a>(op: Op, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, Incomparable> {
    let truth = match op {
        Op::Compare(comparison) => order(left, right)?.map(|ordering| comparison.holds(ordering)),
        Op::Equal => equal(left, right)?,
        // The left side did not decide: the right side does if it can, else both must be known.
        Op::And if right == Value::Truth(false) => Some(false),
        Op::Or if right == Value::Truth(true) => Some(true),
        _ if left == Value::Null || right == Value::Null => None,
        _ => Some(op == Op::And),
    };
    Ok(truth.map_or(Value::Null, Value::Truth))
}

/// `None`: not a text, or nothing to look for; false then with NOT as without.
fn search(kind: Search, value: Value<'_>, needle: Value<'_>) -> Option<bool> {
    let (Value::Text(text), Value::Text(needle)) = (value, needle) else { return None };
    if needle.is_empty() {
        return None;
    }
    Some(match kind {
        Search::Start => text.starts_with(needle),
        Search::End => text.ends_with(needle),
        // The search of `str` takes linear time.
        Search::Anywhere => match (str::from_utf8(text), str::from_utf8(needle)) {
            (Ok(text), Ok(needle)) => text.contains(needle),
            _ => text.windows(needle.len()).any(|part| part == needle),
        },
    })
}
