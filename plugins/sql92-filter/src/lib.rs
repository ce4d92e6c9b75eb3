//! Standard plugin `sql92-filter`: serves SQL92 subscriptions on message properties, with RocketMQ's grammar, checks and
//! three-valued evaluation. Text goes through `lexer` (sqlparser's tokenizer under a whitelist) and `parser` to a
//! `Program`, which each message then runs. One deliberate difference to RocketMQ: IN lists may hold numbers.

mod lexer;
mod number;
mod parser;
mod program;
mod value;

use waspmq_plugin_sdk::{Filter, Message, NoConfig, Refuse, Subscription, Verdict, plugin};

pub use parser::compile;
pub use program::Program;

/// The plugin.
pub struct Sql92Filter;

impl Filter for Sql92Filter {
    type Config = NoConfig;
    type Prepared = Program;

    fn new(_: NoConfig) -> Result<Self, Refuse> {
        Ok(Self)
    }

    fn prepare(&self, subscription: &Subscription<'_>) -> Result<Program, Refuse> {
        compile(subscription.expression)
    }

    /// A comparison that cannot be made is "no match" and not "cannot say": RocketMQ's users rely on it.
    #[inline]
    fn keep(&self, program: &Program, message: &Message<'_>) -> Verdict {
        program.matches(message).into()
    }
}

// The token table of the longest expression takes more than the default.
plugin!(Sql92Filter, name = "sql92-filter", memory = 16 << 20);
