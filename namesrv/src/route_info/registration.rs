//! How the tables change: registrations, their end by request, silence or a closed connection, and what admins do to
//! topics and permissions. The rules are those of Java's nameserver, so that brokers of either kind see the same.

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
const BROKERS_MAX: usize = 10_000;

/// Bytes of a broker's or cluster's name, or of an address.
const NAME_BYTES_MAX: usize = 1024;

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
    /// Too many brokers or topics.
    #[error("the nameserver's tables are full; unregister brokers or delete topics that nobody needs")]
    Full,
}

impl From<Full> for RegistrationError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl RouteInfo {
    /// Takes in a registration.
    pub(crate) fn register(&mut self, registration: Registration) -> Result<Registered, RegistrationError> {
        let Registration { header, body, connection, now, delete_absent_topics } = registration;
        check_names(&header)?;
        let key = BrokerKey { cluster: header.cluster_name.clone(), addr: header.broker_addr.clone() };
        if !self.live.contains_key(&key) && self.live.len() >= BROKERS_MAX {
            return Err(RegistrationError::Full);
        }
        let table = body.topic_config_serialize_wrapper;
        if self.is_outdated(&header, &table) {
            self.unregister(&key, &header.broker_name);
            return Ok(Registered::default());
        }
        if let Some(renamed) = self.live.get(&key).filter(|live| live.name != header.broker_name) {
            let before = renamed.name.clone();
            self.unregister(&key, &before);
        }
        let first = self.enter_broker(&header, table.topic_config_table.len() == 1)?;
        let data_version = table.data_version;
        let changed = first || self.data_version(&key) != Some(data_version);
        if self.topics_count_from(&header) {
            if delete_absent_topics {
                let named = &table.topic_config_table;
                self.topics.remove_broker(&header.broker_name, |topic| !named.contains_key(topic));
            }
            self.enter_topics(&header, table, changed)?;
        }
        let timeout = header.heartbeat_timeout_millis.and_then(|millis| u64::try_from(millis).ok());
        self.live.insert(
            key,
            LiveBroker {
                name: header.broker_name.clone(),
                id: header.broker_id,
                seen: now,
                timeout: timeout.map_or(SILENCE, Duration::from_millis),
                data_version,
                connection,
                ha_server_addr: header.ha_server_addr.clone(),
                filter_servers: body.filter_server_list,
            },
        );
        Ok(self.master_of(&header))
    }

    /// Whether another process has this broker id with newer state: then this one was replaced and does not know yet.
    fn is_outdated(&self, header: &RegisterBrokerRequestHeader, table: &TopicConfigTable) -> bool {
        let holder = self.brokers.get(&header.broker_name).and_then(|broker| broker.broker_addrs.get(&header.broker_id));
        let Some(addr) = holder.filter(|addr| **addr != header.broker_addr) else { return false };
        let key = BrokerKey { cluster: header.cluster_name.clone(), addr: addr.clone() };
        self.data_version(&key).is_some_and(|version| version.state_version > table.data_version.state_version)
    }

    /// Enters name, cluster and address; true when this address was not there before.
    fn enter_broker(
        &mut self,
        header: &RegisterBrokerRequestHeader,
        one_topic: bool,
    ) -> Result<bool, RegistrationError> {
        let name = &header.broker_name;
        let addrs = self.brokers.get(name).map(|broker| &broker.broker_addrs);
        if one_topic && !addrs.is_some_and(|addrs| addrs.contains_key(&header.broker_id)) {
            return Err(RegistrationError::UnknownBroker { broker: name.clone() });
        }
        self.clusters.entry(header.cluster_name.clone()).or_default().insert(name.clone());
        let broker = self.brokers.entry(name.clone()).or_insert_with(|| BrokerData {
            broker_name: name.clone(),
            cluster: header.cluster_name.clone(),
            ..BrokerData::default()
        });
        broker.enable_acting_master = header.enable_acting_master.unwrap_or(false);
        broker.zone_name = header.zone_name.clone();
        // A slave that became master (or the other way) keeps its address and has one id only.
        broker.broker_addrs.retain(|id, addr| *addr != header.broker_addr || *id == header.broker_id);
        let before = broker.broker_addrs.insert(header.broker_id, header.broker_addr.clone());
        Ok(before.is_none())
    }

    /// Whether the routes follow this process: the master, or the smallest id where slaves may act.
    fn topics_count_from(&self, header: &RegisterBrokerRequestHeader) -> bool {
        let smallest = self.brokers.get(&header.broker_name).and_then(|broker| broker.broker_addrs.keys().next());
        header.broker_id == MASTER_ID
            || (header.enable_acting_master.is_some() && smallest == Some(&header.broker_id))
    }

    fn enter_topics(
        &mut self,
        header: &RegisterBrokerRequestHeader,
        table: TopicConfigTable,
        changed: bool,
    ) -> Result<(), Full> {
        let acting = header.broker_id != MASTER_ID && header.enable_acting_master == Some(true);
        for (topic, config) in &table.topic_config_table {
            // What is registered again unchanged does not undo what an admin did here, such as wiping permissions.
            if changed || !self.topics.has(topic, &header.broker_name) {
                let mut queues = queues_of(&header.broker_name, config);
                if acting {
                    queues.perm &= !PERM_WRITE;
                }
                self.topics.put(topic, queues)?;
            }
        }
        for (topic, mapping) in table.topic_queue_mapping_info_map.into_iter().flatten().filter(|_| changed) {
            let broker = mapping.bname.clone().unwrap_or_else(|| header.broker_name.clone());
            if self.topics.get(&topic).is_some() {
                self.mappings.entry(topic).or_default().insert(broker, mapping);
            }
        }
        Ok(())
    }

    fn master_of(&self, header: &RegisterBrokerRequestHeader) -> Registered {
        if header.broker_id == MASTER_ID {
            return Registered::default();
        }
        let addr = self.brokers.get(&header.broker_name).and_then(|broker| broker.broker_addrs.get(&MASTER_ID));
        let Some(addr) = addr else { return Registered::default() };
        let key = BrokerKey { cluster: header.cluster_name.clone(), addr: addr.clone() };
        let ha_server_addr = self.live.get(&key).map(|live| live.ha_server_addr.clone());
        Registered { master_addr: ha_server_addr.is_some().then(|| addr.clone()), ha_server_addr }
    }

    /// A broker said that it lives.
    pub(crate) fn heard_of(&mut self, key: &BrokerKey, now: Duration) {
        if let Some(live) = self.live.get_mut(key) {
            live.seen = now;
        }
    }

    /// A broker leaves.
    pub(crate) fn unregister(&mut self, key: &BrokerKey, broker: &str) {
        self.live.remove(key);
        self.remove_address(&key.cluster, broker, &key.addr);
    }

    /// Forgets brokers that were silent for too long; returns them.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<BrokerKey> {
        self.forget(|live| now.saturating_sub(live.seen) > live.timeout)
    }

    /// Forgets what registered by a connection that has closed; returns it.
    pub(crate) fn connection_closed(&mut self, connection: u64) -> Vec<BrokerKey> {
        self.forget(|live| live.connection == connection)
    }

    fn forget(&mut self, goes: impl Fn(&LiveBroker) -> bool) -> Vec<BrokerKey> {
        let gone: Vec<_> = self.live.extract_if(|_, live| goes(live)).collect();
        for (key, live) in &gone {
            let held = self.brokers.get(&live.name).and_then(|broker| broker.broker_addrs.get(&live.id));
            if held.is_some_and(|addr| *addr == key.addr) {
                self.remove_address(&key.cluster, &live.name, &key.addr);
            }
        }
        gone.into_iter().map(|(key, _)| key).collect()
    }

    /// Takes an address from a broker; the broker goes with its last address, and its topics with it.
    fn remove_address(&mut self, cluster: &str, name: &str, addr: &str) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.broker_addrs.retain(|_, known| known != addr);
        if !broker.broker_addrs.is_empty() {
            if broker.enable_acting_master && !broker.broker_addrs.contains_key(&MASTER_ID) {
                self.topics.wipe_write(name);
            }
            return;
        }
        self.brokers.remove(name);
        self.topics.remove_broker(name, |_| true);
        self.mappings.retain(|_, brokers| {
            brokers.remove(name);
            !brokers.is_empty()
        });
        if let Some(names) = self.clusters.get_mut(cluster) {
            names.remove(name);
            if names.is_empty() {
                self.clusters.remove(cluster);
            }
        }
    }

    /// Takes the write permission from all topics of a broker; returns how many there are.
    pub(crate) fn wipe_write_permission(&mut self, broker: &str) -> i32 {
        self.topics.wipe_write(broker)
    }

    /// Gives read and write permission to all topics of a broker; returns how many there are.
    pub(crate) fn add_write_permission(&mut self, broker: &str) -> i32 {
        self.topics.allow_write(broker)
    }

    /// Deletes a topic, everywhere or from the brokers of one cluster.
    pub(crate) fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        match cluster {
            None => self.topics.remove(topic),
            Some(cluster) => {
                for broker in self.clusters.get(cluster).into_iter().flatten() {
                    self.topics.remove_from(topic, broker);
                }
            }
        }
        if self.topics.get(topic).is_none() {
            self.mappings.remove(topic);
        }
    }

    /// Enters queues of one topic, up to the first that names a broker nobody knows.
    pub(crate) fn register_topic(&mut self, topic: &str, queues: Vec<QueueData>) -> Result<(), RegistrationError> {
        for queues in queues {
            if !self.brokers.contains_key(&queues.broker_name) {
                tracing::warn!(topic, broker = queues.broker_name, "a topic was registered for an unknown broker");
                return Ok(());
            }
            self.topics.put(topic, queues)?;
        }
        Ok(())
    }
}

fn check_names(header: &RegisterBrokerRequestHeader) -> Result<(), RegistrationError> {
    let names = [
        ("brokerName", &header.broker_name),
        ("brokerAddr", &header.broker_addr),
        ("clusterName", &header.cluster_name),
    ];
    let bad = names.iter().find(|(_, name)| name.is_empty() || name.len() > NAME_BYTES_MAX);
    bad.map_or(Ok(()), |(field, _)| Err(RegistrationError::BadName { field }))
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
