//! Pulls from the queues of one broker over one connection, one request in flight a queue, as a consumer does.
//! Shared by `consume`, `latency` and `verify check`.

use std::io::{self, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use waspmq_protocol::{Command, RemotingCommand, RequestCode, ResponseCode, header::NoHeader};

use crate::answers::AnswerReader;
use crate::frames::{FIRST_OPAQUE, index_of};
use crate::window::connect;

/// Flag of a pull: the broker may hold it until a message comes.
const SUSPEND: i32 = 2;

/// Flag of a pull: its own expression counts, no subscription has been registered.
const SUBSCRIPTION: i32 = 4;

/// How long the broker may hold a pull; below the time after which a silent connection is given up.
const SUSPEND_MILLIS: i64 = 3000;

/// Wait before a refused pull is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A queue that is refused this often in a row is given up.
const REFUSALS_MAX: u32 = 50;

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullPlan {
    /// Topic.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// Subscription expression.
    pub expression: String,
    /// Its type.
    pub expression_type: String,
    /// Messages of one pull at most.
    pub count_max: u32,
    /// Go on when a queue is read to its end.
    pub follow: bool,
}

/// Where one queue is read.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Queue id.
    pub queue: i32,
    /// The offset wanted next.
    pub next: i64,
    /// Read to its end, or given up.
    pub done: bool,
    refusals: u32,
}

impl Cursor {
    /// Reads `queue` from `next`.
    pub fn new(queue: i32, next: i64) -> Self {
        Self { queue, next, done: false, refusals: 0 }
    }

    /// The broker refused to let this queue be read.
    pub fn given_up(&self) -> bool {
        self.refusals >= REFUSALS_MAX
    }
}

/// What one pull brought.
#[derive(Clone, Copy, Debug)]
pub struct Pulled<'a> {
    /// Queue id.
    pub queue: i32,
    /// Response code.
    pub code: ResponseCode,
    /// The broker's remark.
    pub remark: &'a str,
    /// Stored records one behind the other; empty unless the code is SUCCESS.
    pub records: &'a [u8],
    /// Entries of the queue this pull went over.
    pub scanned: u64,
    /// Since the request was sent.
    pub waited: Duration,
}

/// Pulls over one connection.
#[derive(Debug)]
pub struct Puller {
    stream: TcpStream,
    reader: AnswerReader,
    plan: PullPlan,
    cursors: Vec<Cursor>,
    sent: Vec<Instant>,
}

impl Puller {
    /// Connects to the broker; nothing is asked yet.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(address: &str, plan: PullPlan, cursors: Vec<Cursor>) -> io::Result<Self> {
        let stream = connect(address)?;
        let reader = AnswerReader::new(stream.try_clone()?);
        let sent = vec![Instant::now(); cursors.len()];
        Ok(Self { stream, reader, plan, cursors, sent })
    }

    /// A second handle of the connection; shut it down to end [`Self::run`] from another thread.
    ///
    /// # Errors
    /// The system's.
    pub fn handle(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Pulls until every queue is done or `take` says to break; returns where the queues stand.
    ///
    /// # Errors
    /// The connection broke, or the broker answered something else than was asked.
    pub fn run(mut self, mut take: impl FnMut(Pulled<'_>) -> ControlFlow<()>) -> io::Result<Vec<Cursor>> {
        let mut out = Vec::new();
        for index in 0..self.cursors.len() {
            self.ask(index, &mut out);
        }
        while self.cursors.iter().any(|cursor| !cursor.done) {
            self.stream.write_all(&out)?;
            out.clear();
            self.reader.fill()?;
            let mut asked = Vec::new();
            while let Some(answer) = self.reader.next_answer()? {
                let index = index_of(answer.opaque).filter(|index| *index < self.cursors.len());
                let index = index.ok_or_else(|| io::Error::other("an answer to a pull nobody sent"))?;
                let command = answer.command()?;
                let waited = self.sent[index].elapsed();
                let pulled = self.cursors[index].advance(&command, self.plan.follow, waited)?;
                if take(pulled).is_break() {
                    return Ok(self.cursors);
                }
                if !self.cursors[index].done {
                    asked.push(index);
                }
            }
            asked.into_iter().for_each(|index| self.ask(index, &mut out));
        }
        Ok(self.cursors)
    }

    fn ask(&mut self, index: usize, out: &mut Vec<u8>) {
        let (plan, cursor) = (&self.plan, &self.cursors[index]);
        if cursor.refusals > 0 {
            std::thread::sleep(RETRY_PAUSE);
        }
        let flags = if plan.follow { SUSPEND | SUBSCRIPTION } else { SUBSCRIPTION };
        let mut request = RemotingCommand::request(RequestCode::PULL_MESSAGE, &NoHeader {})
            .with_ext("consumerGroup", &plan.group)
            .with_ext("topic", &plan.topic)
            .with_ext("queueId", cursor.queue.to_string())
            .with_ext("queueOffset", cursor.next.to_string())
            .with_ext("maxMsgNums", plan.count_max.to_string())
            .with_ext("sysFlag", flags.to_string())
            .with_ext("commitOffset", "0")
            .with_ext("suspendTimeoutMillis", SUSPEND_MILLIS.to_string())
            .with_ext("subscription", &plan.expression)
            .with_ext("subVersion", "0")
            .with_ext("expressionType", &plan.expression_type);
        request.opaque = FIRST_OPAQUE + index as i32;
        out.extend_from_slice(&request.encode());
        self.sent[index] = Instant::now();
    }
}

impl Cursor {
    /// Moves on by what the broker answered.
    fn advance<'a>(&mut self, answer: &Command<'a>, follow: bool, waited: Duration) -> io::Result<Pulled<'a>> {
        let code = answer.response_code();
        let mut pulled = Pulled { queue: self.queue, code, remark: "", records: &[], scanned: 0, waited };
        let number = |name| answer.ext.get(name).and_then(waspmq_protocol::command::Text::parse_i64);
        match code {
            ResponseCode::SUCCESS
            | ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_RETRY_IMMEDIATELY
            | ResponseCode::PULL_OFFSET_MOVED => {
                let (Some(next), Some(end)) = (number("nextBeginOffset"), number("maxOffset")) else {
                    return Err(io::Error::other("a pull answer without nextBeginOffset or maxOffset"));
                };
                if code == ResponseCode::SUCCESS {
                    pulled.records = answer.body;
                }
                if code != ResponseCode::PULL_OFFSET_MOVED {
                    pulled.scanned = u64::try_from(next - self.next).unwrap_or(0);
                }
                (self.next, self.refusals) = (next, 0);
                self.done = !follow && next >= end;
            }
            _ => {
                pulled.remark = answer.remark.as_ref().and_then(|remark| remark.as_plain()).unwrap_or_default();
                self.refusals += 1;
                self.done = self.given_up();
            }
        }
        Ok(pulled)
    }
}

/// Sizes of the records that lie one behind the other; a word that is no size ends them with an error.
pub fn record_sizes(records: &[u8]) -> impl Iterator<Item = io::Result<usize>> + '_ {
    let mut rest = records;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = rest.first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word) as usize);
        if size < 4 || size > rest.len() {
            rest = &[];
            return Some(Err(io::Error::other("a record whose length cannot be right")));
        }
        rest = &rest[size..];
        Some(Ok(size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_by_their_lengths() {
        let mut body = vec![0, 0, 0, 6, 1, 2];
        body.extend_from_slice(&[0, 0, 0, 4]);
        let sizes: Result<Vec<_>, _> = record_sizes(&body).collect();
        assert_eq!(sizes.unwrap(), [6, 4]);
        body.extend_from_slice(&[0, 0, 0, 9, 1]);
        assert!(record_sizes(&body).collect::<Result<Vec<_>, _>>().is_err());
        assert!(record_sizes(&[0, 0, 0, 0]).next().unwrap().is_err());
    }
}
