//! Tests of a plugin, natively and without a broker. Messages go through the same batch bytes and the same runtime as
//! inside it, so that a mistake in the layout shows here.

use std::cell::RefCell;

use serde::Serialize;

use crate::abi::{
    self, Answer, BatchError, BatchHead, BatchWriter, Decides, Fault, Hook, Op, PrepareRequest, Prepared, Record,
    Refuse, Token, TokenBytes, Verdicts,
};
use crate::filter::Verdict;
use crate::message::tags_code;
use crate::plugin::Plugin;
use crate::runtime::Runtime;

/// A plugin instance under test.
///
/// The verdict methods panic where the broker would count a fault of the plugin: a test must fail then.
pub struct Harness<P: Plugin> {
    runtime: Runtime<P>,
    arenas: RefCell<(Vec<u8>, Vec<u8>)>,
    subscriptions: u32,
    topic: String,
}

impl<P: Plugin> Harness<P> {
    /// An instance with this configuration.
    pub fn new(config: P::Config) -> Result<Self, Refuse> {
        let mut harness = Self::unconfigured();
        harness.runtime.configure(config)?;
        Ok(harness)
    }

    /// An instance configured as the broker does it: `settings` are what stands in `plugins.toml`, as any map or struct.
    pub fn from_settings(settings: &impl Serialize) -> Result<Self, Refuse> {
        let mut harness = Self::unconfigured();
        harness.control::<abi::Done>(Op::Configure, settings)?;
        Ok(harness)
    }

    fn unconfigured() -> Self {
        let arenas = RefCell::new((vec![0; abi::IN_BYTES], vec![0; abi::OUT_BYTES]));
        Self { runtime: Runtime::new(), arenas, subscriptions: 0, topic: "TopicTest".into() }
    }

    /// Subscribes as a client does: `wasm:NAME(args)`. A text without that form is taken for the arguments alone.
    /// Verdicts are those of the latest subscription; earlier ones stay prepared.
    pub fn subscribe(self, expression: &str) -> Result<Self, Refuse> {
        let arguments = abi::split_wasm_expression(expression).map_or(expression, |(_, arguments)| arguments);
        self.subscribe_as("WASM", arguments)
    }

    /// Subscribes with an expression type: `TAG`, `SQL92` or `WASM`.
    pub fn subscribe_as(mut self, expression_type: &str, expression: &str) -> Result<Self, Refuse> {
        let request = PrepareRequest {
            handle: self.subscriptions + 1,
            topic: self.topic.clone(),
            group: "GID_test".into(),
            expression_type: expression_type.into(),
            expression: expression.into(),
        };
        self.control::<Prepared>(Op::Prepare, &request)?;
        self.subscriptions += 1;
        Ok(self)
    }

    /// Runs the plugin's own checks.
    pub fn self_test(&mut self) -> Result<u32, Refuse> {
        self.control::<abi::Tested>(Op::SelfTest, &abi::Done {}).map(|tested| tested.checks)
    }

    /// What the latest subscription needs to see.
    pub fn decides(&self) -> Decides {
        self.runtime.decides(self.subscriptions).expect("subscribe before asking for verdicts")
    }

    /// The verdict about one message.
    pub fn keep(&self, message: &TestMessage) -> Verdict {
        self.keep_all(std::slice::from_ref(message))[0]
    }

    /// The verdicts about many, in order, in batches as the broker makes them.
    pub fn keep_all(&self, messages: &[TestMessage]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(messages.len());
        match self.decides() {
            Decides::All => verdicts.resize(messages.len(), Verdict::Keep),
            Decides::Entries | Decides::Tokens => {
                let hook = if self.decides() == Decides::Entries { Hook::Entries } else { Hook::Records };
                self.in_batches(hook, messages, &mut verdicts);
            }
            Decides::EntriesThenTokens => {
                self.in_batches(Hook::Entries, messages, &mut verdicts);
                for (message, verdict) in messages.iter().zip(&mut verdicts).filter(|it| *it.1 == Verdict::CannotSay) {
                    let mut second = Vec::new();
                    self.in_batches(Hook::Records, std::slice::from_ref(message), &mut second);
                    *verdict = second[0];
                }
            }
        }
        verdicts
    }

    /// Lines logged on this thread since the last call.
    pub fn log_lines(&self) -> Vec<(abi::LogLevel, String)> {
        crate::log::take_lines()
    }

    fn in_batches(&self, hook: Hook, mut messages: &[TestMessage], verdicts: &mut Vec<Verdict>) {
        while !messages.is_empty() {
            let decided = self.one_batch(hook, messages, verdicts);
            messages = &messages[decided..];
        }
    }

    fn one_batch(&self, hook: Hook, messages: &[TestMessage], verdicts: &mut Vec<Verdict>) -> usize {
        let (input, out) = &mut *self.arenas.borrow_mut();
        let head = BatchHead {
            hook,
            handle: self.subscriptions,
            plugin_epoch: 1,
            now_ms: messages[0].now_ms,
            topic: &self.topic,
            body_bytes_max: P::BODY_BYTES_MAX,
        };
        let mut batch = BatchWriter::new(input, head, messages.len().min(abi::BATCH_RECORDS)).expect("arena too small");
        for message in messages {
            match message.write(hook, &mut batch) {
                Ok(()) => {}
                Err(BatchError::Full) if batch.count() > 0 => break,
                Err(error) => panic!("the message can never be shown to a plugin: {error}"),
            }
        }
        let count = batch.count();
        let total = batch.finish();
        let fault = self.runtime.filter(&input[..total], out);
        assert_eq!(fault, 0, "the plugin answered with a fault: {:?}", Fault::from_number(fault));
        let answer = Verdicts::read(out, count).expect("the runtime writes sound answers");
        verdicts.extend((0..count).map(|n| match answer.error(n) {
            true => Verdict::CannotSay,
            false => answer.keep(n).into(),
        }));
        count
    }

    fn control<T: serde::de::DeserializeOwned>(&mut self, op: Op, request: &impl Serialize) -> Result<T, Refuse> {
        let (input, out) = self.arenas.get_mut();
        let len = abi::encode(request, input).map_err(|error| Refuse::new(error.to_string()))?;
        let answered = self.runtime.control(op.number(), &input[..len], out);
        let len = usize::try_from(answered).map_err(|_| Refuse::new(format!("fault {answered} of control {op:?}")))?;
        abi::decode::<Answer<T>>(&out[..len]).map_err(|error| Refuse::new(error.to_string()))?.into()
    }
}

/// An empty message, to be filled: `message().tag("TagA").prop("region", "hz")`.
pub fn message() -> TestMessage {
    TestMessage::default()
}

/// A message for a test.
#[derive(Clone, Debug, Default)]
pub struct TestMessage {
    properties: Vec<u8>,
    tokens: Vec<TokenBytes>,
    tags_code: i64,
    queue_offset: u64,
    queue_id: u32,
    born_ms: u64,
    store_ms: u64,
    now_ms: u64,
    reconsume: u32,
    body: Vec<u8>,
}

impl TestMessage {
    /// Adds a property. Panics when the block grows beyond what a message can have.
    pub fn prop(mut self, name: &str, value: &str) -> Self {
        let name_off = self.properties.len();
        for (text, separator) in [(name, 1), (value, 2)] {
            self.properties.extend_from_slice(text.as_bytes());
            self.properties.push(separator);
        }
        assert!(self.properties.len() <= abi::PROPERTIES_BYTES_MAX, "properties beyond {}", abi::PROPERTIES_BYTES_MAX);
        let token = Token {
            name_off: name_off as u16,
            name_len: name.len() as u16,
            value_off: (name_off + name.len() + 1) as u16,
            value_len: value.len() as u16,
        };
        self.tokens.push(token.to_bytes());
        self
    }

    /// Sets the tag.
    pub fn tag(mut self, tag: &str) -> Self {
        self.tags_code = tags_code(tag);
        self.prop("TAGS", tag)
    }

    /// Sets the keys, separated by blanks.
    pub fn keys(self, keys: &str) -> Self {
        self.prop("KEYS", keys)
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets queue and offset within it.
    pub fn queue(mut self, queue_id: u32, queue_offset: u64) -> Self {
        (self.queue_id, self.queue_offset) = (queue_id, queue_offset);
        self
    }

    /// Sets when it was made and stored, and the wall clock of its batch, ms since 1970.
    pub fn times(mut self, born_ms: u64, store_ms: u64, now_ms: u64) -> Self {
        (self.born_ms, self.store_ms, self.now_ms) = (born_ms, store_ms, now_ms);
        self
    }

    /// Sets how often it was consumed before.
    pub fn reconsume_times(mut self, times: u32) -> Self {
        self.reconsume = times;
        self
    }

    fn write(&self, hook: Hook, batch: &mut BatchWriter<'_>) -> Result<(), BatchError> {
        if hook == Hook::Entries {
            return batch.push_entry(self.queue_offset, 0, self.tags_code);
        }
        let record = Record {
            queue_offset: self.queue_offset,
            born_ms: self.born_ms,
            store_ms: self.store_ms,
            tags_code: self.tags_code,
            queue_id: self.queue_id,
            reconsume: self.reconsume,
            properties: &self.properties,
            body: &self.body,
            ..Record::default()
        };
        batch.push_record(&record, &self.tokens)
    }
}
