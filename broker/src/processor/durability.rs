//! Answers that wait for the disk: with SYNC_FLUSH a send is answered when its end of the log is durable, or with
//! FLUSH_DISK_TIMEOUT when that took too long. The store tells; nothing waits here.
//! The sends of one read wait, and are answered, together: one by one, the connection would be woken for the first of them
//! and write it alone, and its client would send the next one alone.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use waspmq_protocol::code::ResponseCode;
use waspmq_remoting::{Connection, LateAnswers, Replies, ReplyTo};
use waspmq_store::{Durability, MessageStore, PhysicalOffset};

use super::refusal::Refusal;
use super::send_reply::{ReplyMarks, SentReply};

/// Sends of one read that are appended and not yet answered.
pub struct AwaitedSends {
    answers: LateAnswers<Sent>,
    /// Message ids and transaction ids, back to back.
    texts: String,
    /// Where the last of them ends in the log.
    end: PhysicalOffset,
}

/// What an answer needs; texts are ranges of `AwaitedSends::texts`.
struct Sent {
    message_ids: Range<usize>,
    queue_id: i32,
    queue_offset: i64,
    transaction_id: Option<Range<usize>>,
}

impl AwaitedSends {
    /// None yet.
    pub fn new(connection: &Arc<Connection>) -> Self {
        Self { answers: connection.late_answers(), texts: String::new(), end: PhysicalOffset(0) }
    }

    /// One more, whose last message ends at `end`.
    pub fn push(&mut self, to: ReplyTo, sent: &SentReply<'_>, end: PhysicalOffset) {
        let mut keep = |text: &str| {
            let start = self.texts.len();
            self.texts.push_str(text);
            start..self.texts.len()
        };
        let sent = Sent {
            message_ids: keep(sent.message_ids),
            queue_id: sent.queue_id,
            queue_offset: sent.queue_offset,
            transaction_id: sent.transaction_id.map(keep),
        };
        self.answers.push(to, sent);
        self.end = self.end.max(end);
    }

    /// Answers them once all are on the disk, at `deadline` at the latest.
    pub fn answer_when_durable(self, store: &MessageStore, deadline: Duration, marks: &Arc<ReplyMarks>) {
        let marks = Arc::clone(marks);
        store.when_durable(self.end, deadline, Box::new(move |durability| self.answer(&durability, &marks)));
    }

    fn answer(self, durability: &Durability, marks: &ReplyMarks) {
        let Self { answers, texts, .. } = self;
        let stored = |replies: &mut Replies, to, code, sent: Sent| {
            let Some(head) = replies.reply(to, code) else { return };
            let sent = SentReply {
                message_ids: &texts[sent.message_ids],
                queue_id: sent.queue_id,
                queue_offset: sent.queue_offset,
                transaction_id: sent.transaction_id.map(|range| &texts[range]),
                marks,
            };
            sent.write(head);
        };
        match durability {
            Durability::Durable => {
                answers.send(|replies, to, sent| stored(replies, to, ResponseCode::SUCCESS, sent));
            }
            // Stored, but not known to be on disk: the client reports FLUSH_DISK_TIMEOUT with the same fields.
            Durability::TimedOut => {
                answers.send(|replies, to, sent| stored(replies, to, ResponseCode::FLUSH_DISK_TIMEOUT, sent));
            }
            Durability::Failed { reason } => {
                let remark = format!("the message could not be put on the disk: {reason}");
                let refusal = Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, remark);
                answers.send(|replies, to, _| replies.push(to, refusal.clone().into_response()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::mpsc;

    use waspmq_protocol::{RemotingCommand, RequestCode, frame};
    use waspmq_remoting::{Batch, Handler, Server, ServerConfig};
    use waspmq_store::clock::{Clock as _, SystemClock};
    use waspmq_store::storage::MemoryStorage;
    use waspmq_store::{NoListener, StoreConfig};

    use super::*;

    const REQUESTS: i32 = 3;

    /// Keeps the sends of each read, all of which end at 1000 in the log.
    struct Keeper(mpsc::Sender<AwaitedSends>);

    impl Handler for Keeper {
        fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, _: &mut Replies) {
            let marks = marks();
            let mut awaited = AwaitedSends::new(connection);
            while let Some(request) = requests.next_request() {
                let sent = SentReply {
                    message_ids: &format!("id {}", request.opaque),
                    queue_id: request.opaque,
                    queue_offset: i64::from(request.opaque) * 10,
                    transaction_id: (request.opaque == 2).then_some("key"),
                    marks: &marks,
                };
                awaited.push(ReplyTo::of(request), &sent, PhysicalOffset(1000));
            }
            self.0.send(awaited).unwrap();
        }
    }

    fn marks() -> Arc<ReplyMarks> {
        Arc::new(ReplyMarks { region: "here".to_owned(), trace_on: "true" })
    }

    /// What the sender of three requests is answered when `answer` got what waits, until it has all.
    fn answers(answer: impl Fn(AwaitedSends) + Send + 'static) -> BTreeMap<i32, RemotingCommand> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _runtime = runtime.enter();
        let (kept, waiting) = mpsc::channel();
        let config = ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
        let server = Server::bind(config, Arc::new(Keeper(kept))).unwrap();
        let mut socket = TcpStream::connect(server.local_addrs()[0]).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for opaque in 1..=REQUESTS {
            let mut request =
                RemotingCommand::request(RequestCode::SEND_MESSAGE_V2, &waspmq_protocol::header::NoHeader {});
            request.opaque = opaque;
            socket.write_all(&request.encode()).unwrap();
        }
        std::thread::spawn(move || waiting.iter().for_each(answer));
        let (mut answers, mut received) = (BTreeMap::new(), Vec::new());
        while answers.len() < REQUESTS as usize {
            let mut buffer = [0; 4096];
            let bytes = socket.read(&mut buffer).unwrap();
            assert!(bytes > 0, "closed");
            received.extend_from_slice(&buffer[..bytes]);
            while let Some(bounds) = frame::split(&received, usize::MAX).unwrap() {
                let answer = RemotingCommand::decode(&received[..bounds.total]).unwrap();
                received.drain(..bounds.total);
                assert!(answers.insert(answer.opaque, answer).is_none(), "answered twice");
            }
        }
        answers
    }

    fn assert_stored(answers: &BTreeMap<i32, RemotingCommand>, code: ResponseCode) {
        for (opaque, answer) in answers {
            assert_eq!(answer.code, code.0);
            let field = |name: &str| answer.ext.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            assert_eq!(field("msgId"), Some(format!("id {opaque}")));
            assert_eq!(field("queueId"), Some(opaque.to_string()));
            assert_eq!(field("queueOffset"), Some((opaque * 10).to_string()));
            assert_eq!(field("transactionId"), (*opaque == 2).then(|| "key".to_owned()));
            assert_eq!(field("MSG_REGION").as_deref(), Some("here"));
            assert_eq!(field("TRACE_ON").as_deref(), Some("true"));
        }
    }

    #[test]
    fn what_is_durable_in_time_is_sent_and_what_is_not_is_a_flush_disk_timeout_with_the_same_fields() {
        assert_stored(&answers(|waiting| waiting.answer(&Durability::Durable, &marks())), ResponseCode::SUCCESS);
        let config = StoreConfig { storage: Arc::new(MemoryStorage::new()), ..StoreConfig::new("/store") };
        let clock = Arc::new(SystemClock::new());
        // Nothing is ever appended to it, so nothing gets as far as the sends say they are.
        let store = MessageStore::open(config, Arc::new(NoListener), clock.clone()).unwrap();
        let late = answers(move |waiting| {
            waiting.answer_when_durable(&store, clock.monotonic() + Duration::from_millis(5), &marks());
        });
        assert_stored(&late, ResponseCode::FLUSH_DISK_TIMEOUT);
    }

    #[test]
    fn what_will_never_be_durable_is_refused_with_the_reason() {
        let failed = Durability::Failed { reason: "the disk is gone".into() };
        for answer in answers(move |waiting| waiting.answer(&failed, &marks())).values() {
            assert_eq!(answer.code, ResponseCode::SERVICE_NOT_AVAILABLE.0);
            assert!(answer.remark.as_deref().unwrap().contains("the disk is gone"), "{:?}", answer.remark);
        }
    }
}
