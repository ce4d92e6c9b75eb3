//! A plugin from the author's side, and the control messages from the host's side, through the native harness.

use serde::Deserialize;
use waspmq_plugin_sdk::abi::{
    self, Answer, Description, Done, Fault, Op, PrepareRequest, Prepared, ReleaseRequest, Tested,
};
use waspmq_plugin_sdk::harness::{Harness, message};
use waspmq_plugin_sdk::{
    Decides, Entry, EntryVerdict, Filter, LogLevel, Message, Refuse, Runtime, Subscription, Verdict, log, plugin,
};

/// Keeps messages by size of the body, and by the words of its subscription.
struct Probe {
    least: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    least: i64,
}

impl Filter for Probe {
    type Config = Settings;
    type Prepared = String;

    fn new(config: Settings) -> Result<Self, Refuse> {
        match config.least {
            least @ 0.. => Ok(Self { least }),
            _ => Err(Refuse::new("`least` must not be below 0")),
        }
    }

    fn prepare(&self, subscription: &Subscription<'_>) -> Result<String, Refuse> {
        match subscription.expression {
            "bad" => Err(Refuse::at(1, "é".repeat(4000))),
            "" => Err(Refuse::new("")),
            expression => Ok(expression.into()),
        }
    }

    fn decides(&self, prepared: &String) -> Decides {
        match prepared.as_str() {
            "all" => Decides::All,
            "odd" => Decides::Entries,
            "odd or big" => Decides::EntriesThenTokens,
            _ => Decides::Tokens,
        }
    }

    fn keep_entry(&self, prepared: &String, entry: &Entry<'_>) -> EntryVerdict {
        match entry.queue_offset() % 2 {
            1 => EntryVerdict::Keep,
            _ if prepared == "odd or big" => EntryVerdict::NeedRecord,
            _ => EntryVerdict::Drop,
        }
    }

    fn keep(&self, prepared: &String, message: &Message<'_>) -> Verdict {
        match prepared.as_str() {
            "young" => (message.now_ms() - message.born_ms() < 1000).into(),
            "body" => (message.body() == b"0123" && message.body_len() == 6).into(),
            "unsure" => Verdict::CannotSay,
            "log" => {
                log(LogLevel::Warn, message.tag().unwrap_or("no tag"));
                Verdict::Keep
            }
            _ => (message.prop_i64("size").unwrap_or(0) >= self.least).into(),
        }
    }

    fn self_test(&self) -> Result<u32, Refuse> {
        Ok(3)
    }
}

plugin!(Probe, name = "probe", version = "7", body = 4);

fn probe(expression: &str) -> Harness<Probe> {
    let probe = Harness::<Probe>::new(Settings { least: 10 });
    probe.and_then(|it| it.subscribe(expression)).expect("the probe takes any words but bad ones")
}

#[test]
fn verdicts_come_back_in_order_over_many_batches() {
    let messages: Vec<_> = (0..100u64).map(|n| message().queue(3, n).prop("size", &n.to_string())).collect();
    let kept = |expression: &str| {
        let verdicts = probe(expression).keep_all(&messages);
        let kept = verdicts.iter().enumerate().filter(|it| *it.1 == Verdict::Keep);
        kept.map(|it| it.0).collect::<Vec<_>>()
    };
    assert_eq!(kept("all").len(), 100);
    assert_eq!(kept("big"), (10..100).collect::<Vec<_>>());
    assert_eq!(kept("odd"), (1..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(kept("odd or big"), [1, 3, 5, 7, 9].into_iter().chain(10..100).collect::<Vec<_>>());
}

#[test]
fn messages_too_big_for_one_batch_come_in_several() {
    let big = "x".repeat(30_000);
    let messages: Vec<_> = (0..40).map(|n| message().prop("pad", &big).prop("size", &n.to_string())).collect();
    let verdicts = probe("big").keep_all(&messages);
    assert_eq!(verdicts.iter().filter(|it| **it == Verdict::Keep).count(), 30);
    assert_eq!(verdicts[..10], [Verdict::Drop; 10]);
}

#[test]
fn a_message_shows_its_fields() {
    let sent = message().tag("T").keys("k1 k2").body("012345").times(500, 600, 1400);
    assert_eq!(probe("young").keep(&sent), Verdict::Keep);
    assert_eq!(probe("body").keep(&sent), Verdict::Keep);
    assert_eq!(probe("unsure").keep(&sent), Verdict::CannotSay);
    let logging = probe("log");
    logging.keep(&sent);
    assert_eq!(logging.log_lines(), [(LogLevel::Warn, "T".to_string())]);
}

#[test]
fn settings_are_read_or_refused_by_name() {
    let with =
        |key: &str, value: i64| Harness::<Probe>::from_settings(&std::collections::BTreeMap::from([(key, value)]));
    assert_eq!(with("least", 5).unwrap().self_test(), Ok(3));
    assert!(with("leest", 5).err().is_some_and(|refuse| refuse.message.contains("leest")));
    assert_eq!(with("least", -1).err(), Some(Refuse::new("`least` must not be below 0")));
}

/// One instance as the host drives it.
struct Instance(Runtime<Probe>);

impl Instance {
    fn ask<T: serde::de::DeserializeOwned>(&mut self, op: Op, request: &impl serde::Serialize) -> Result<T, Refuse> {
        let (mut input, mut out) = ([0; 1024], [0; abi::OUT_BYTES]);
        let len = abi::encode(request, &mut input).expect("the request is short");
        let answered = self.0.control(op.number(), &input[..len], &mut out);
        assert!(answered > 0, "{:?}", Fault::from_number(-answered));
        abi::decode::<Answer<T>>(&out[..answered as usize]).expect("the answer is one").into()
    }

    fn prepare(&mut self, handle: u32, expression: &str) -> Result<Prepared, Refuse> {
        let request = PrepareRequest {
            handle,
            topic: "T".into(),
            group: "G".into(),
            expression_type: "WASM".into(),
            expression: expression.into(),
        };
        self.ask(Op::Prepare, &request)
    }
}

#[test]
fn control_messages_as_the_host_sends_them() {
    let mut instance = Instance(Runtime::new());
    assert!(instance.prepare(1, "x").is_err(), "not configured");
    assert_eq!(instance.0.control(Op::Configure.number(), &[], &mut [0; 64]), 5, "no settings: the defaults");
    assert_eq!(instance.prepare(9, "x"), Ok(Prepared { decides: Decides::Tokens }));
    let by_expression = [("all", Decides::All), ("odd", Decides::Entries), ("odd or big", Decides::EntriesThenTokens)];
    for (expression, decides) in by_expression {
        assert_eq!(instance.prepare(2, expression), Ok(Prepared { decides }), "{expression}");
    }
    let refused = instance.prepare(2, "bad").unwrap_err();
    assert_eq!((refused.message.len(), refused.position), (2048, Some(1)), "a long refusal is cut");
    assert_eq!(instance.prepare(3, ""), Err(Refuse::new("")));
    let described = Description { name: "probe".into(), version: "7".into(), prepared: 2, configured: true };
    assert_eq!(instance.ask(Op::Describe, &Done {}), Ok(described));
    assert_eq!(instance.ask(Op::Release, &ReleaseRequest { handle: 9 }), Ok(Done {}));
    assert_eq!(instance.ask(Op::Release, &ReleaseRequest { handle: 9 }), Ok(Done {}));
    assert_eq!(instance.ask::<Description>(Op::Describe, &Done {}).map(|it| it.prepared), Ok(1));
    assert_eq!(instance.ask(Op::SelfTest, &Done {}), Ok(Tested { checks: 3 }));
}

#[test]
fn wrong_calls_are_faults() {
    let mut instance = Instance(Runtime::new());
    assert_eq!(instance.0.control(99, &[], &mut [0; 64]), -Fault::UnknownOp.number());
    assert_eq!(instance.0.control(Op::Configure.number(), &[], &mut [0; 4]), -Fault::AnswerTooLong.number());
    assert_eq!(instance.0.filter(&[0; 64], &mut [0; 64]), Fault::BadBatch.number());
    let mut arena = [0; 1024];
    let head = abi::BatchHead {
        hook: abi::Hook::Entries,
        handle: 1,
        plugin_epoch: 0,
        now_ms: 0,
        topic: "T",
        body_bytes_max: 0,
    };
    let mut batch = abi::BatchWriter::new(&mut arena, head, 1).unwrap();
    batch.push_entry(1, 1, 1).unwrap();
    let total = batch.finish();
    assert_eq!(Runtime::<Probe>::new().filter(&arena[..total], &mut [0; 64]), Fault::NotConfigured.number());
    assert_eq!(instance.0.filter(&arena[..total], &mut [0; 64]), Fault::UnknownBinding.number());
    instance.prepare(1, "odd").unwrap();
    assert_eq!(instance.0.filter(&arena[..total], &mut [0; 15]), Fault::AnswerTooLong.number());
    assert_eq!(instance.0.filter(&arena[..total], &mut [0; 16]), 0);
    arena[abi::header_at::HOOK] = 9;
    assert_eq!(instance.0.filter(&arena[..total], &mut [0; 16]), Fault::UnknownHook.number());
}
