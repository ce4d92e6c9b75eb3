//! One plugin instance without its memory: answers control messages and batches from byte slices to byte slices.
//! Driven by `guest` inside the broker and by `harness` natively, so that both run the same code over the same bytes.

use serde::Serialize;

use crate::abi::{
    self, Answer, BatchView, Decides, Description, Done, Fault, Hook, Op, PrepareRequest, Prepared, Refuse, ReleaseRequest,
    Tested, VerdictsWriter,
};
use crate::filter::{EntryVerdict, Filter, Subscription, Verdict};
use crate::message::{Entry, Message};
use crate::plugin::Plugin;

/// A longer refusal is cut, so that it fits OUT.
const REFUSAL_BYTES_MAX: usize = 2048;

/// State of an instance: the filter once configured, and its prepared subscriptions by handle.
pub struct Runtime<F: Filter> {
    filter: Option<F>,
    /// Sorted by handle.
    prepared: Vec<(u32, F::Prepared)>,
}

impl<F: Filter> Default for Runtime<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Filter> Runtime<F> {
    /// A fresh instance, not configured.
    pub const fn new() -> Self {
        Self { filter: None, prepared: Vec::new() }
    }

    /// Puts a configured filter in.
    pub(crate) fn configure(&mut self, config: F::Config) -> Result<Done, Refuse> {
        let filter = F::new(config)?;
        self.prepared.clear();
        self.filter = Some(filter);
        Ok(Done {})
    }

    fn configure_from(&mut self, request: &[u8]) -> Result<Done, Refuse> {
        if request.is_empty() {
            return self.configure(F::Config::default());
        }
        let config = abi::decode(request).map_err(|error| Refuse::new(format!("configuration: {error}")))?;
        self.configure(config)
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<Prepared, Refuse> {
        let filter = self.filter.as_ref().ok_or_else(|| Refuse::new(Fault::NotConfigured.to_string()))?;
        let subscription = Subscription {
            topic: &request.topic,
            group: &request.group,
            expression_type: &request.expression_type,
            expression: &request.expression,
        };
        let prepared = filter.prepare(&subscription)?;
        let decides = filter.decides(&prepared);
        match self.prepared.binary_search_by_key(&request.handle, |(handle, _)| *handle) {
            Ok(at) => self.prepared[at].1 = prepared,
            Err(at) => self.prepared.insert(at, (request.handle, prepared)),
        }
        Ok(Prepared { decides })
    }

    fn release(&mut self, handle: u32) -> Done {
        if let Ok(at) = self.prepared.binary_search_by_key(&handle, |(handle, _)| *handle) {
            self.prepared.remove(at);
        }
        Done {}
    }

    /// How far a prepared subscription must look.
    pub(crate) fn decides(&self, handle: u32) -> Result<Decides, Fault> {
        let (filter, prepared) = self.bound(handle)?;
        Ok(filter.decides(prepared))
    }

    fn bound(&self, handle: u32) -> Result<(&F, &F::Prepared), Fault> {
        let filter = self.filter.as_ref().ok_or(Fault::NotConfigured)?;
        let at = self.prepared.binary_search_by_key(&handle, |(handle, _)| *handle).map_err(|_| Fault::UnknownBinding)?;
        Ok((filter, &self.prepared[at].1))
    }
}

impl<F: Plugin> Runtime<F> {
    /// Answers a control message: the length of the answer in `out`, or minus the number of a fault.
    pub fn control(&mut self, op: i32, request: &[u8], out: &mut [u8]) -> i32 {
        let answered = match Op::from_number(op) {
            None => return -Fault::UnknownOp.number(),
            Some(Op::Describe) => answer(Ok(self.describe()), out),
            Some(Op::Configure) => answer(self.configure_from(request), out),
            Some(Op::Prepare) => answer(decoded(request).and_then(|request| self.prepare(&request)), out),
            Some(Op::Release) => answer(decoded::<ReleaseRequest>(request).map(|it| self.release(it.handle)), out),
            Some(Op::SelfTest) => answer(self.self_test(), out),
        };
        answered.map_or_else(|fault| -fault.number(), |len| len as i32)
    }

    /// Decides a batch into `out`: 0, or the number of a fault.
    pub fn filter(&self, batch: &[u8], out: &mut [u8]) -> i32 {
        self.decide(batch, out).map_or_else(Fault::number, |()| 0)
    }

    fn describe(&self) -> Description {
        Description {
            name: F::NAME.into(),
            version: F::VERSION.into(),
            prepared: self.prepared.len() as u32,
            configured: self.filter.is_some(),
        }
    }

    fn self_test(&self) -> Result<Tested, Refuse> {
        let filter = self.filter.as_ref().ok_or_else(|| Refuse::new(Fault::NotConfigured.to_string()))?;
        Ok(Tested { checks: filter.self_test()? })
    }

    fn decide(&self, batch: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        let batch = BatchView::parse(batch)?;
        let (filter, prepared) = self.bound(batch.handle())?;
        let mut verdicts = VerdictsWriter::new(out, batch.count()).ok_or(Fault::AnswerTooLong)?;
        match batch.hook() {
            Hook::Entries => {
                for record in batch.records(0) {
                    let verdict = filter.keep_entry(prepared, &Entry::new(record?));
                    verdicts.push(verdict == EntryVerdict::Keep, verdict == EntryVerdict::NeedRecord);
                }
            }
            Hook::Records => {
                for record in batch.records(F::BODY_BYTES_MAX) {
                    let verdict = filter.keep(prepared, &Message::new(&batch, record?));
                    verdicts.push(verdict == Verdict::Keep, verdict == Verdict::CannotSay);
                }
            }
        }
        verdicts.finish();
        Ok(())
    }
}

fn decoded<T: serde::de::DeserializeOwned>(request: &[u8]) -> Result<T, Refuse> {
    abi::decode(request).map_err(|error| Refuse::new(error.to_string()))
}

fn answer<T: Serialize>(result: Result<T, Refuse>, out: &mut [u8]) -> Result<usize, Fault> {
    let mut answer = Answer::from(result);
    if let Answer::Error(refuse) = &mut answer {
        refuse.message.truncate(refuse.message.floor_char_boundary(REFUSAL_BYTES_MAX));
    }
    abi::encode(&answer, out).map_err(|_| Fault::AnswerTooLong)
}
