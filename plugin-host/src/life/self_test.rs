//! What every file must survive before it may decide about real messages: an empty batch, 256 made-up messages of the
//! worst kinds, and its own self-test. Standard plugins are spared: their own tests have done it.

use std::sync::Arc;
use std::time::Duration;

use waspmq_plugin_sdk::abi::{
    BATCH_RECORDS, BatchHead, BatchWriter, Fault, Hook, Op, PROPERTIES_BYTES_MAX, PrepareRequest, Prepared, Record,
    Tested,
};

use crate::generation::{Generation, Lease};
use crate::instance::{CallFault, Instance};
use crate::limits::CONTROL_CPU;
use crate::refusal::{Failed, Step};
use crate::tokens::tokenise;

/// Messages shown to each sample subscription.
const MESSAGES: usize = 256;
/// No real subscription has this handle: real ones count up from 1.
const SAMPLE_HANDLE: u32 = u32::MAX;
/// Subscriptions tried; a plugin takes those it understands.
const SAMPLES: [(&str, &str); 4] = [("WASM", ""), ("WASM", "a"), ("TAG", "a || b"), ("SQL92", "a > 5 AND b = 'x'")];

pub(super) fn self_test(generation: &Arc<Generation>) -> Result<(), Failed> {
    let failed = |reason: String| Failed::at(Step::SelfTest, reason);
    let mut lease = generation.lease(Duration::ZERO).map_err(|error| failed(error.to_string()))?;
    let tested = run(&mut lease, generation);
    // Thrown away in any case: what it was fed must not reach a real batch.
    lease.discard();
    tested.map_err(failed)
}

fn run(lease: &mut Lease, generation: &Generation) -> Result<(), String> {
    let Some(instance) = lease.instance() else { return Err("its instance is gone".into()) };
    let own = instance.control_bytes::<Tested>(Op::SelfTest, &[], CONTROL_CPU);
    match own {
        Ok(Ok(_)) => {}
        Ok(Err(refuse)) => return Err(format!("its own test says: {refuse}")),
        // A plugin need not have a test of its own.
        Err(CallFault::Declined(text)) if text == Fault::UnknownOp.to_string() => {}
        Err(fault) => return Err(format!("its own test failed: {fault}")),
    }
    let messages = hostile_messages();
    for (expression_type, expression) in SAMPLES {
        let request = PrepareRequest {
            handle: SAMPLE_HANDLE,
            topic: "self-test".into(),
            group: "self-test".into(),
            expression_type: expression_type.into(),
            expression: expression.into(),
        };
        let prepared = instance.control::<Prepared>(Op::Prepare, &request, CONTROL_CPU);
        match prepared {
            Err(fault) => return Err(format!("preparing {expression_type} `{expression}` failed: {fault}")),
            Ok(Err(_)) => continue,
            Ok(Ok(_)) => {}
        }
        for hook in [Hook::Entries, Hook::Records] {
            show(instance, generation, hook, &[])?;
            for batch in messages.chunks(BATCH_RECORDS) {
                show(instance, generation, hook, batch)?;
            }
        }
    }
    Ok(())
}

/// Shows a batch. A fault number is a fair answer, a trap or an endless loop is not.
fn show(instance: &mut Instance, generation: &Generation, hook: Hook, messages: &[Message]) -> Result<(), String> {
    let mut rest = messages;
    loop {
        let head = BatchHead {
            hook,
            handle: SAMPLE_HANDLE,
            plugin_epoch: 0,
            now_ms: 0,
            topic: "self-test",
            body_bytes_max: generation.identity.body_bytes_max,
        };
        let wanted = instance.records_max(rest.len());
        let mut writer = BatchWriter::new(instance.input(), head, wanted).map_err(|error| error.to_string())?;
        for message in rest {
            let mut tokens = Vec::new();
            tokenise(&message.properties, &mut tokens);
            let tags_code = message.body.len() as i64 - 3;
            let record =
                Record { properties: &message.properties, body: &message.body, tags_code, ..Record::default() };
            let pushed = match hook {
                Hook::Entries => writer.push_entry(0, 0, tags_code),
                Hook::Records => writer.push_record(&record, &tokens),
            };
            if pushed.is_err() {
                break;
            }
        }
        let count = writer.count();
        let total = writer.finish();
        match instance.filter(total, count, generation.batch_limit) {
            Ok(_) | Err(CallFault::Declined(_)) => {}
            Err(fault) => {
                let kinds: Vec<_> = rest[..count].iter().map(|message| message.kind).collect();
                return Err(format!("it failed on made-up messages ({}): {fault}", distinct(&kinds).join(", ")));
            }
        }
        // One that does not even fit alone is passed over: sessions do the same.
        rest = &rest[count.max(1).min(rest.len())..];
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn distinct<'a>(kinds: &[&'a str]) -> Vec<&'a str> {
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

struct Message {
    kind: &'static str,
    properties: Vec<u8>,
    body: Vec<u8>,
}

fn hostile_messages() -> Vec<Message> {
    let many: Vec<u8> = (0..PROPERTIES_BYTES_MAX / 4).flat_map(|_| *b"a\x01b\x02").collect();
    let kinds: [(&str, Vec<u8>); 12] = [
        ("no properties", Vec::new()),
        ("only separators", b"\x01\x02\x02\x01\x01\x02".to_vec()),
        ("a name without a value", b"a\x01\x02TAGS\x01\x02".to_vec()),
        ("a value without a name", b"\x01b\x02".to_vec()),
        ("no separators", b"abcdefgh".to_vec()),
        ("no last separator", b"a\x016\x02b\x01x".to_vec()),
        ("invalid UTF-8", b"a\x01\xff\xfe\x80\x02\xc3\x28\x01\xf0\x90\x02TAGS\x01\xed\xa0\x80\x02".to_vec()),
        ("zero bytes", b"a\0b\x01\0\0\x02".to_vec()),
        ("odd numbers", b"a\x01-99999999999999999999999\x02b\x011e309\x02c\x01NaN\x02d\x01 5\x02".to_vec()),
        ("a name twice", b"a\x011\x02a\x019\x02TAGS\x01a\x02TAGS\x01b\x02".to_vec()),
        ("one long value", [b"a\x01".as_slice(), &vec![b'9'; PROPERTIES_BYTES_MAX - 2]].concat()),
        ("very many properties", many),
    ];
    let message = |index: usize| {
        // The large kinds only once: they fill an arena alone.
        let large = |kind: usize| kinds[kind].1.len() > 1000;
        let kind = index % kinds.len();
        let (kind, properties) = &kinds[if large(kind) && index >= kinds.len() { 0 } else { kind }];
        Message { kind, properties: properties.clone(), body: vec![0xff; index * 7 % 1000] }
    };
    (0..MESSAGES).map(message).collect()
}
