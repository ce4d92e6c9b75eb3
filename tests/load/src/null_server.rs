//! `mqbench null-server`: acknowledges every send and stores nothing. What `produce` reaches against it is the ceiling of
//! this tool and of the connections together; no broker's figure near it says anything about the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::runtime::Builder;
use waspmq_protocol::body::cluster_info::ClusterInfo;
use waspmq_protocol::body::topic_route::{BrokerData, QueueData, TopicRouteData};
use waspmq_protocol::{Command, RemotingCommand, RequestCode, ResponseCode, java_json};
use waspmq_remoting::{Batch, Connection, Handler, Replies, ReplyTo, Server, ServerConfig};

use crate::args::NullServerArgs;
use crate::error::LoadError;

/// Queues of every topic.
const QUEUES: i32 = 8;

const NAME: &str = "null";

/// Serves until the process is ended.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(args: &NullServerArgs) -> Result<bool, LoadError> {
    let runtime = Builder::new_multi_thread().worker_threads(args.threads.max(1)).enable_all().build();
    runtime.map_err(LoadError::Start)?.block_on(async {
        let server = start(args.listen)?;
        for address in server.local_addrs() {
            println!("listening on {address}, as nameserver and as broker");
        }
        tokio::signal::ctrl_c().await.map_err(LoadError::Start)?;
        Ok(true)
    })
}

/// Listens; call it inside a tokio runtime.
///
/// # Errors
/// The address cannot be listened on.
pub fn start(listen: SocketAddr) -> Result<Server, LoadError> {
    let handler = Arc::new(NullBroker { offset: AtomicI64::new(0) });
    let failed =
        |error: waspmq_remoting::BindError| LoadError::Socket { address: listen.to_string(), source: error.source };
    Server::bind(ServerConfig::new(vec![listen]), handler).map_err(failed)
}

struct NullBroker {
    offset: AtomicI64,
}

impl Handler for NullBroker {
    fn handle(&self, connection: &Arc<Connection>, requests: &mut Batch<'_>, replies: &mut Replies) {
        while let Some(request) = requests.next_request() {
            match request.request_code() {
                RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => self.acknowledge(request, replies),
                code => replies.push(ReplyTo::of(request), set_up(code, connection.local())),
            }
        }
    }
}

impl NullBroker {
    fn acknowledge(&self, request: &Command<'_>, replies: &mut Replies) {
        let queue = request.ext.get("e").and_then(|queue| queue.parse_i64()).unwrap_or(0);
        let offset = self.offset.fetch_add(1, Ordering::Relaxed);
        if let Some(head) = replies.reply(ReplyTo::of(request), ResponseCode::SUCCESS) {
            head.ext_str("MSG_REGION", "DefaultRegion")
                .ext_str("TRACE_ON", "true")
                .ext_str("msgId", "7F00000100002A9F0000000000000000")
                .ext_i64("queueId", queue)
                .ext_i64("queueOffset", offset)
                .ext_str("transactionId", "00000000000000000000000000000000")
                .finish(0);
        }
    }
}

/// Answers what tools ask before they send.
fn set_up(code: RequestCode, address: SocketAddr) -> RemotingCommand {
    let broker = BrokerData {
        broker_addrs: BTreeMap::from([(0, address.to_string())]),
        broker_name: NAME.to_owned(),
        cluster: NAME.to_owned(),
        ..BrokerData::default()
    };
    let body = match code {
        RequestCode::GET_ROUTEINFO_BY_TOPIC => java_json::to_standard(&TopicRouteData {
            broker_datas: vec![broker],
            queue_datas: vec![QueueData {
                broker_name: NAME.to_owned(),
                perm: 6,
                read_queue_nums: QUEUES,
                topic_sys_flag: 0,
                write_queue_nums: QUEUES,
            }],
            ..TopicRouteData::default()
        }),
        RequestCode::GET_BROKER_CLUSTER_INFO => java_json::to_standard(&ClusterInfo {
            broker_addr_table: BTreeMap::from([(NAME.to_owned(), broker)]),
            cluster_addr_table: BTreeMap::from([(NAME.to_owned(), BTreeSet::from([NAME.to_owned()]))]),
        }),
        RequestCode::UPDATE_AND_CREATE_TOPIC | RequestCode::HEART_BEAT => Vec::new(),
        _ => return RemotingCommand::response(ResponseCode::REQUEST_CODE_NOT_SUPPORTED).with_remark("a null server"),
    };
    RemotingCommand::response(ResponseCode::SUCCESS).with_body(body)
}
