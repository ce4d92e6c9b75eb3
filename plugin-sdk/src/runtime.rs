//! One plugin instance without its memory: answers control messages and batches from byte slices to byte slices.
//! Driven by `guest` inside the broker and by `harness` natively, so that both run the same code over the same bytes.

use crate::abi::{BatchView, Decides, Fault, Hook, Op, Refuse, write_verdicts};
use crate::filter::{Config, EntryVerdict, Filter, Subscription, Verdict};
use crate::message::{Entry, Message};
use crate::msgpack::{Packer, Unpacker};
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
    pub(crate) fn configure(&mut self, config: F::Config) -> Result<(), Refuse> {
        let filter = F::new(config)?;
        self.prepared.clear();
        self.filter = Some(filter);
        Ok(())
    }

    fn prepare(&mut self, handle: u32, subscription: &Subscription<'_>) -> Result<Decides, Refuse> {
        let filter = self.configured()?;
        let prepared = filter.prepare(subscription)?;
        let decides = filter.decides(&prepared);
        match self.prepared.binary_search_by_key(&handle, |(handle, _)| *handle) {
            Ok(at) => self.prepared[at].1 = prepared,
            Err(at) => self.prepared.insert(at, (handle, prepared)),
        }
        Ok(decides)
    }

    fn release(&mut self, handle: u32) {
        if let Ok(at) = self.prepared.binary_search_by_key(&handle, |(handle, _)| *handle) {
            self.prepared.remove(at);
        }
    }

    fn configured(&self) -> Result<&F, Refuse> {
        self.filter.as_ref().ok_or_else(|| Refuse::new("the plugin is not configured"))
    }

    /// How far a prepared subscription must look.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn decides(&self, handle: u32) -> Result<Decides, Fault> {
        let (filter, prepared) = self.bound(handle)?;
        Ok(filter.decides(prepared))
    }

    fn bound(&self, handle: u32) -> Result<(&F, &F::Prepared), Fault> {
        let filter = self.filter.as_ref().ok_or(Fault::NotConfigured)?;
        let at =
            self.prepared.binary_search_by_key(&handle, |(handle, _)| *handle).map_err(|_| Fault::UnknownBinding)?;
        Ok((filter, &self.prepared[at].1))
    }
}

impl<F: Plugin> Runtime<F> {
    /// Answers a control message: the length of the answer in `out`, or minus the number of a fault.
    pub fn control(&mut self, op: i32, request: &[u8], out: &mut [u8]) -> i32 {
        let Some(op) = Op::from_number(op) else { return -Fault::UnknownOp.number() };
        let mut answer = Packer::new(out);
        answer.map(1);
        match self.perform(op, request) {
            Ok(done) => pack(answer.text("ok"), &done),
            Err(refuse) => {
                // Cut, so that it fits OUT.
                let message = refuse.message.get(..refuse.message.floor_char_boundary(REFUSAL_BYTES_MAX)).unwrap_or("");
                answer.text("error").map(2).text("message").text(message).text("position");
                match refuse.position {
                    Some(column) => answer.number(column),
                    None => answer.nil(),
                };
            }
        }
        answer.finish().map_or(-Fault::AnswerTooLong.number(), |len| len as i32)
    }

    fn perform(&mut self, op: Op, request: &[u8]) -> Result<Performed, Refuse> {
        Ok(match op {
            Op::Describe => Performed::Described {
                name: F::NAME,
                version: F::VERSION,
                prepared: self.prepared.len() as u32,
                configured: self.filter.is_some(),
            },
            Op::Configure => {
                self.configure(F::Config::from_settings(request)?)?;
                Performed::Done
            }
            Op::Prepare => {
                let (handle, subscription) = prepare_request(request)?;
                Performed::Prepared(self.prepare(handle, &subscription)?)
            }
            Op::Release => {
                self.release(release_request(request)?);
                Performed::Done
            }
            Op::SelfTest => Performed::Tested(self.configured()?.self_test()?),
        })
    }

    /// Decides a batch into `out`: 0, or the number of a fault.
    pub fn filter(&self, batch: &[u8], out: &mut [u8]) -> i32 {
        self.decide(batch, out).map_or_else(Fault::number, |()| 0)
    }

    fn decide(&self, batch: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        let batch = BatchView::parse(batch)?;
        let (filter, prepared) = self.bound(batch.handle())?;
        match batch.hook() {
            Hook::Entries => {
                let verdicts = batch.entries().map(|entry| {
                    let verdict = filter.keep_entry(prepared, &Entry::new(entry));
                    Ok((verdict == EntryVerdict::Keep, verdict == EntryVerdict::NeedRecord))
                });
                write_verdicts(out, batch.count(), verdicts)
            }
            Hook::Records => {
                let verdicts = batch.records(F::BODY_BYTES_MAX).map(|record| {
                    let verdict = filter.keep(prepared, &Message::new(&batch, record?));
                    Ok((verdict == Verdict::Keep, verdict == Verdict::CannotSay))
                });
                write_verdicts(out, batch.count(), verdicts)
            }
        }
    }
}

/// What a control operation came to.
enum Performed {
    Done,
    Described { name: &'static str, version: &'static str, prepared: u32, configured: bool },
    Prepared(Decides),
    Tested(u32),
}

/// Writes the content of `ok`; the fields are those of the structs in `abi`.
fn pack(answer: &mut Packer<'_>, done: &Performed) {
    match *done {
        Performed::Done => answer.map(0),
        Performed::Described { name, version, prepared, configured } => {
            answer.map(4).text("name").text(name).text("version").text(version);
            answer.text("prepared").number(prepared).text("configured").truth(configured)
        }
        Performed::Prepared(decides) => answer.map(1).text("decides").text(decides.name()),
        Performed::Tested(checks) => answer.map(1).text("checks").number(checks),
    };
}

/// Reads the fields of `abi::PrepareRequest` in place; passes over those it does not know.
fn prepare_request(request: &[u8]) -> Result<(u32, Subscription<'_>), Refuse> {
    let read = || {
        let mut subscription = Subscription { topic: "", group: "", expression_type: "", expression: "" };
        let mut handle = None;
        let mut request = Unpacker::new(request);
        for _ in 0..request.map()? {
            match request.text()? {
                "handle" => handle = Some(request.number()?),
                "topic" => subscription.topic = request.text()?,
                "group" => subscription.group = request.text()?,
                "expression_type" => subscription.expression_type = request.text()?,
                "expression" => subscription.expression = request.text()?,
                _ => request.skip()?,
            }
        }
        Some((handle?, subscription))
    };
    read().ok_or_else(|| Refuse::new("the prepare request cannot be read"))
}

/// Reads `abi::ReleaseRequest`: the handle.
fn release_request(request: &[u8]) -> Result<u32, Refuse> {
    let read = || {
        let mut handle = None;
        let mut request = Unpacker::new(request);
        for _ in 0..request.map()? {
            match request.text()? {
                "handle" => handle = Some(request.number()?),
                _ => request.skip()?,
            }
        }
        handle
    };
    read().ok_or_else(|| Refuse::new("the release request cannot be read"))
}
