//! Tells every name server what this broker serves: at the start, every 30 s, and when a topic changes. Name servers
//! are independent; one that does not answer is tried again at the next turn and disturbs no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use waspmq_protocol::body::register_broker::{RegisterBrokerBody, body_crc32};
use waspmq_protocol::body::topic_config::{PERM_READ, PERM_WRITE};
use waspmq_protocol::code::{RequestCode, ResponseCode};
use waspmq_protocol::command::RemotingCommand;
use waspmq_protocol::header::{RegisterBrokerRequestHeader, UnRegisterBrokerRequestHeader};
use waspmq_remoting::{Client, ClientConfig};

use crate::topic::TopicTable;

/// How long one name server may take to answer; more than a slow one needs, less than the period.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// How long a request that changed a topic waits for the name servers before it is answered all the same.
const CHANGE_KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// Who this broker is to the name servers.
#[derive(Debug, Clone)]
pub struct BrokerIdentity {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the broker, shared by a master and its slaves.
    pub broker_name: String,
    /// 0 for a master.
    pub broker_id: i64,
    /// Where clients reach it, `ip:port`.
    pub address: String,
    /// Where slaves reach it, `ip:port`.
    pub ha_address: String,
}

/// What the rest of the broker sees: a place to say that topics changed.
#[derive(Default)]
pub struct Registration {
    wanted: AtomicU64,
    notify: Notify,
}

impl Registration {
    /// Topics changed: the name servers are told soon.
    pub fn topics_changed(&self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_one();
    }
}

/// The task that keeps the name servers informed.
pub struct Registrar {
    identity: BrokerIdentity,
    topics: Arc<TopicTable>,
    registration: Arc<Registration>,
    name_servers: Vec<NameServer>,
    period: Duration,
    permission: i32,
    done: watch::Sender<u64>,
}

struct NameServer {
    address: String,
    client: Client,
}

/// Lets a request wait until the name servers know of its change.
#[derive(Clone)]
pub struct RegistrationWatch {
    registration: Arc<Registration>,
    done: watch::Receiver<u64>,
}

impl RegistrationWatch {
    /// Asks for a registration and waits until it was tried with every name server, or for a few seconds.
    pub async fn register_now(mut self) {
        let wanted = self.registration.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.registration.notify.notify_one();
        let known = self.done.wait_for(|done| *done >= wanted);
        if tokio::time::timeout(CHANGE_KNOWN_WITHIN, known).await.is_err() {
            tracing::warn!("the name servers do not know of a topic change yet");
        }
    }
}

impl Registrar {
    /// A registrar with these name servers, `host:port` each.
    pub fn new(
        identity: BrokerIdentity,
        topics: Arc<TopicTable>,
        registration: Arc<Registration>,
        name_servers: &[String],
        (period, permission): (Duration, i32),
    ) -> (Self, RegistrationWatch) {
        let connect = |address: &String| NameServer {
            address: address.clone(),
            client: Client::connect(address.clone(), ClientConfig::default(), None),
        };
        let name_servers = name_servers.iter().map(connect).collect();
        let (done, receiver) = watch::channel(0);
        let watch = RegistrationWatch { registration: registration.clone(), done: receiver };
        (Self { identity, topics, registration, name_servers, period, permission, done }, watch)
    }

    /// Registers now, and from then on when something changed or the period is over. Ends with its task.
    pub async fn run(&self) {
        loop {
            let wanted = self.registration.wanted.load(Ordering::Acquire);
            self.register().await;
            self.done.send_replace(wanted);
            tokio::select! {
                () = self.registration.notify.notified() => {}
                () = tokio::time::sleep(self.period) => {}
            }
        }
    }

    /// Tells every name server what is served. Returns how many took it.
    pub async fn register(&self) -> usize {
        let request = self.register_request();
        let mut taken = 0;
        for server in &self.name_servers {
            match server.client.request(request.clone(), ANSWER_WITHIN).await {
                Ok(response) if response.code == ResponseCode::SUCCESS.0 => taken += 1,
                Ok(response) => tracing::warn!(
                    name_server = server.address,
                    code = response.code,
                    remark = response.remark,
                    "a name server refused the registration"
                ),
                Err(error) => {
                    tracing::warn!(name_server = server.address, %error, "a name server did not take the registration");
                }
            }
        }
        taken
    }

    /// Tells every name server that this broker goes.
    pub async fn unregister(&self) {
        let header = UnRegisterBrokerRequestHeader {
            broker_name: self.identity.broker_name.clone(),
            broker_addr: self.identity.address.clone(),
            cluster_name: self.identity.cluster.clone(),
            broker_id: self.identity.broker_id,
        };
        for server in &self.name_servers {
            let request = RemotingCommand::request(RequestCode::UNREGISTER_BROKER, &header);
            if let Err(error) = server.client.request(request, Duration::from_secs(1)).await {
                tracing::info!(name_server = server.address, %error, "a name server was not told of the shutdown");
            }
        }
    }

    fn register_request(&self) -> RemotingCommand {
        let mut table = self.topics.snapshot();
        for config in table.topic_config_table.values_mut() {
            // A broker that may not be written offers no topic for writing.
            config.perm &= self.permission | !(PERM_READ | PERM_WRITE);
        }
        let body = RegisterBrokerBody { filter_server_list: Vec::new(), topic_config_serialize_wrapper: table };
        let body = Bytes::from(body.encode());
        let header = RegisterBrokerRequestHeader {
            broker_name: self.identity.broker_name.clone(),
            broker_addr: self.identity.address.clone(),
            cluster_name: self.identity.cluster.clone(),
            ha_server_addr: self.identity.ha_address.clone(),
            broker_id: self.identity.broker_id,
            compressed: false,
            body_crc32: body_crc32(&body),
            ..RegisterBrokerRequestHeader::default()
        };
        RemotingCommand::request(RequestCode::REGISTER_BROKER, &header).with_body(body)
    }
}
