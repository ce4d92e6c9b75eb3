//! What a registration changes. The rules are those of Java's nameserver, so that brokers of either kind see the same.
//! Must hold: a refused registration changes nothing.

use super::topics::Full;
use super::{BrokerKey, LiveBroker, MASTER_ID, RouteInfo};
use std::time::Duration;
use waspmq_protocol::body::register_broker::RegisterBrokerBody;
use waspmq_protocol::body::topic_config::{PERM_WRITE, TopicConfig, TopicConfigTable};
use waspmq_protocol::body::topic_route::{BrokerData, QueueData};
use waspmq_protocol::header::RegisterBrokerRequestHeader;

/// Silence after which a broker is forgotten that asked for no time of its own.
const SILENCE: Duration = Duration::from_secs(120);

/// Broker processes that may be registered at once.
pub(super) const BROKERS_MAX: usize = 10_000;

/// Bytes of a broker's, cluster's or zone's name, or of an address.
const NAME_BYTES_MAX: usize = 255;

/// Filter servers of one broker; a feature of RocketMQ 3 that current brokers send an empty list for.
const FILTER_SERVERS_MAX: usize = 64;

/// One registration as it came in.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) header: RegisterBrokerRequestHeader,
    pub(crate) body: RegisterBrokerBody,
    /// Connection it came by.
    pub(crate) connection: u64,
    /// Monotonic time.
    pub(crate) now: Duration,
    /// Whether topics that the body does not name are taken from the broker.
    pub(crate) delete_absent_topics: bool,
}

/// What the broker is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Registered {
    /// For a slave: its master's address.
    pub(crate) master_addr: Option<String>,
    /// For a slave: its master's replication address.
    pub(crate) ha_server_addr: Option<String>,
}

/// Why a registration is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistrationError {
    /// An update of one topic by a broker that is not known (yet, or any more).
    #[error("broker {broker} has not registered with all its topics yet; it has to do that before it registers one")]
    UnknownBroker {
        /// Its name.
        broker: String,
    },
    /// A name that cannot be one.
    #[error("the registration's {field} is empty or longer than {NAME_BYTES_MAX} bytes")]
    BadName {
        /// Which.
        field: &'static str,
    },
    /// Too many filter servers.
    #[error("the registration names {count} filter servers; {FILTER_SERVERS_MAX} are allowed")]
    FilterServers {
        /// How many.
        count: usize,
    },
    /// Too many brokers.
    #[error("the nameserver knows {BROKERS_MAX} brokers and takes no more; stop brokers that nobody needs")]
    Brokers,
    /// Too many topics.
    #[error(transparent)]
    Topics(#[from] Full),
}

impl RouteInfo {
    /// Takes in a registration.
    pub(crate) fn register(&mut self, registration: Registration) -> Result<Registered, RegistrationError> {
        let Registration { header, body, connection, now, delete_absent_topics } = registration;
        let key = BrokerKey { cluster: header.cluster_name.clone(), addr: header.broker_addr.clone() };
        self.check_registration(&key, &header, &body)?;
        let RegisterBrokerBody { filter_server_list, topic_config_serialize_wrapper: table } = body;
        if self.is_outdated(&header, &table) {
            tracing::warn!(
                broker = header.broker_name,
                address = key.addr,
                "a process with newer state has this broker id"
            );
            self.unregister(&key);
            return Ok(Registered::default());
        }
        self.leave_former_places(&key, &header.broker_name);
        let first = self.enter_broker(&header);
        let data_version = table.data_version;
        let changed = first || self.data_version(&key) != Some(data_version);
        if filter_server_list.is_empty() {
            self.filter_servers.remove(&key);
        } else {
            self.filter_servers.insert(key.clone(), filter_server_list);
        }
        let timeout = header.heartbeat_timeout_millis.and_then(|millis| u64::try_from(millis).ok());
        let timeout = timeout.map_or(SILENCE, Duration::from_millis);
        let (name, ha_server_addr) = (header.broker_name.clone(), header.ha_server_addr.clone());
        self.live.insert(key, LiveBroker { name, seen: now, timeout, data_version, connection, ha_server_addr });
        if self.topics_count_from(&header) {
            if delete_absent_topics {
                self.remove_absent(&header.broker_name, &table);
            }
            self.enter_topics(&header, table, changed)?;
        }
        Ok(self.master_of(&header))
    }

    /// A broker said that it lives.
    pub(crate) fn heard_of(&mut self, key: &BrokerKey, now: Duration) {
        if let Some(live) = self.live.get_mut(key) {
            live.seen = now;
        }
    }

    fn check_registration(
        &self,
        key: &BrokerKey,
        header: &RegisterBrokerRequestHeader,
        body: &RegisterBrokerBody,
    ) -> Result<(), RegistrationError> {
        check_names(header, body)?;
        let topics = &body.topic_config_serialize_wrapper.topic_config_table;
        let known = self.brokers.get(&header.broker_name).filter(|broker| broker.cluster == header.cluster_name);
        if topics.len() == 1 && !known.is_some_and(|broker| broker.broker_addrs.contains_key(&header.broker_id)) {
            return Err(RegistrationError::UnknownBroker { broker: header.broker_name.clone() });
        }
        if self.live.len() >= BROKERS_MAX && !self.live.contains_key(key) {
            return Err(RegistrationError::Brokers);
        }
        Ok(self.topics.check_room(&header.broker_name, topics.keys())?)
    }

    /// Whether another process has this broker id with newer state: then this one was replaced and does not know yet.
    fn is_outdated(&self, header: &RegisterBrokerRequestHeader, table: &TopicConfigTable) -> bool {
        let broker = self.brokers.get(&header.broker_name);
        let holder = broker.and_then(|broker| broker.broker_addrs.get(&header.broker_id));
        let Some(addr) = holder.filter(|addr| **addr != header.broker_addr) else { return false };
        let key = BrokerKey { cluster: header.cluster_name.clone(), addr: addr.clone() };
        self.data_version(&key).is_some_and(|version| version.state_version > table.data_version.state_version)
    }

    /// A process that registers under another name, or a broker in another cluster than before, is no longer what it was.
    fn leave_former_places(&mut self, key: &BrokerKey, name: &str) {
        let renamed = self.live.get(key).is_some_and(|live| live.name != name);
        let moved = self.brokers.get(name).is_some_and(|broker| broker.cluster != key.cluster);
        if renamed || moved {
            self.forget(|known, live| {
                (known == key && live.name != name) || (live.name == name && known.cluster != key.cluster)
            });
        }
    }

    /// Enters name, cluster and address; true when this broker id was not there before.
    fn enter_broker(&mut self, header: &RegisterBrokerRequestHeader) -> bool {
        let (name, addr) = (&header.broker_name, &header.broker_addr);
        self.clusters.entry(header.cluster_name.clone()).or_default().insert(name.clone());
        let broker = self.brokers.entry(name.clone()).or_insert_with(|| BrokerData {
            broker_name: name.clone(),
            cluster: header.cluster_name.clone(),
            ..BrokerData::default()
        });
        broker.enable_acting_master = header.enable_acting_master.unwrap_or(false);
        broker.zone_name = header.zone_name.clone();
        // A slave that became master (or the other way) keeps its address and has one id only.
        broker.broker_addrs.retain(|id, known| known != addr || *id == header.broker_id);
        let before = broker.broker_addrs.insert(header.broker_id, addr.clone());
        match &before {
            None => {
                let (id, cluster) = (header.broker_id, &header.cluster_name);
                tracing::info!(broker = name, id, cluster, address = addr, "broker registered");
            }
            Some(replaced) if replaced != addr => {
                tracing::info!(
                    broker = name,
                    id = header.broker_id,
                    from = replaced,
                    to = addr,
                    "broker has a new address"
                );
                self.bury(&BrokerKey { cluster: header.cluster_name.clone(), addr: replaced.clone() });
            }
            Some(_) => {}
        }
        before.is_none()
    }

    /// Whether the routes follow this process: the master, or the smallest id where slaves may act.
    fn topics_count_from(&self, header: &RegisterBrokerRequestHeader) -> bool {
        let broker = self.brokers.get(&header.broker_name);
        let smallest = broker.and_then(|broker| broker.broker_addrs.keys().next());
        header.broker_id == MASTER_ID || (header.enable_acting_master.is_some() && smallest == Some(&header.broker_id))
    }

    /// A table of one topic is news about that topic, one with mappings may not be whole: neither deletes anything.
    fn remove_absent(&mut self, broker: &str, table: &TopicConfigTable) {
        let named = &table.topic_config_table;
        let mappings = table.topic_queue_mapping_info_map.as_ref();
        if named.len() != 1 && mappings.is_none_or(|mappings| mappings.is_empty()) {
            self.topics.remove_broker(broker, |topic| !named.contains_key(topic));
            self.remove_mappings(broker, |topic| !named.contains_key(topic));
        }
    }

    fn enter_topics(
        &mut self,
        header: &RegisterBrokerRequestHeader,
        table: TopicConfigTable,
        changed: bool,
    ) -> Result<(), Full> {
        let broker = &header.broker_name;
        let acting = header.broker_id != MASTER_ID && header.enable_acting_master == Some(true);
        for (topic, config) in &table.topic_config_table {
            // What is registered again unchanged does not undo what an admin did here, such as wiping permissions.
            if changed || !self.topics.has(topic, broker) {
                let mut queues = queues_of(broker, config);
                if acting {
                    queues.perm &= !PERM_WRITE;
                }
                self.topics.put(topic, queues)?;
            }
        }
        for (topic, mapping) in table.topic_queue_mapping_info_map.into_iter().flatten().filter(|_| changed) {
            if self.topics.has(&topic, broker) {
                self.mappings.entry(topic).or_default().insert(broker.clone(), mapping);
            }
        }
        Ok(())
    }

    fn master_of(&self, header: &RegisterBrokerRequestHeader) -> Registered {
        let broker = self.brokers.get(&header.broker_name).filter(|_| header.broker_id != MASTER_ID);
        let Some(addr) = broker.and_then(|broker| broker.broker_addrs.get(&MASTER_ID)) else {
            return Registered::default();
        };
        let key = BrokerKey { cluster: header.cluster_name.clone(), addr: addr.clone() };
        let ha_server_addr = self.live.get(&key).map(|live| live.ha_server_addr.clone());
        Registered { master_addr: ha_server_addr.is_some().then(|| addr.clone()), ha_server_addr }
    }
}

fn check_names(header: &RegisterBrokerRequestHeader, body: &RegisterBrokerBody) -> Result<(), RegistrationError> {
    let needed = [
        ("brokerName", &header.broker_name),
        ("brokerAddr", &header.broker_addr),
        ("clusterName", &header.cluster_name),
    ];
    if let Some((field, _)) = needed.iter().find(|(_, name)| name.is_empty()) {
        return Err(RegistrationError::BadName { field });
    }
    let optional = header.zone_name.iter().map(|zone| ("__ZONE_NAME", zone));
    let optional = optional.chain([("haServerAddr", &header.ha_server_addr)]);
    let optional = optional.chain(body.filter_server_list.iter().map(|server| ("filterServerList", server)));
    if let Some((field, _)) = needed.into_iter().chain(optional).find(|(_, name)| name.len() > NAME_BYTES_MAX) {
        return Err(RegistrationError::BadName { field });
    }
    let count = body.filter_server_list.len();
    if count > FILTER_SERVERS_MAX { Err(RegistrationError::FilterServers { count }) } else { Ok(()) }
}

fn queues_of(broker: &str, topic: &TopicConfig) -> QueueData {
    QueueData {
        broker_name: broker.to_owned(),
        perm: topic.perm,
        read_queue_nums: topic.read_queue_nums,
        topic_sys_flag: topic.topic_sys_flag,
        write_queue_nums: topic.write_queue_nums,
    }
}
