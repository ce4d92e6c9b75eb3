//! How brokers leave: by request, by silence, with their connection, or replaced by another process. The last address of
//! a broker takes the broker and its topics with it.

use super::{BrokerKey, LiveBroker, MASTER_ID, RouteInfo};
use std::time::Duration;

impl RouteInfo {
    /// A broker leaves; returns whether it was known.
    pub(crate) fn unregister(&mut self, key: &BrokerKey) -> bool {
        let Some(live) = self.bury(key) else { return false };
        self.remove_address(&live.name, &key.addr);
        true
    }

    /// Forgets brokers that were silent for too long; returns them.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<BrokerKey> {
        self.forget(|_, live| now.saturating_sub(live.seen) > live.timeout)
    }

    /// Whether somebody registered by this connection.
    pub(crate) fn is_brokers_connection(&self, connection: u64) -> bool {
        self.live.values().any(|live| live.connection == connection)
    }

    /// Forgets what registered by a connection that has closed; returns it.
    pub(crate) fn connection_closed(&mut self, connection: u64) -> Vec<BrokerKey> {
        self.forget(|_, live| live.connection == connection)
    }

    pub(super) fn forget(&mut self, goes: impl Fn(&BrokerKey, &LiveBroker) -> bool) -> Vec<BrokerKey> {
        let gone = self.live.iter().filter(|(key, live)| goes(key, live));
        let gone: Vec<BrokerKey> = gone.map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.unregister(key);
        }
        gone
    }

    /// Takes a process from the living; its address stays, for the caller to remove or replace.
    pub(super) fn bury(&mut self, key: &BrokerKey) -> Option<LiveBroker> {
        self.filter_servers.remove(key);
        self.live.remove(key)
    }

    /// Forgets what a broker said of its static topics, of those that `goes` says.
    pub(super) fn remove_mappings(&mut self, broker: &str, goes: impl Fn(&str) -> bool) {
        self.mappings.retain(|topic, brokers| {
            if goes(topic) {
                brokers.remove(broker);
            }
            !brokers.is_empty()
        });
    }

    /// Takes an address from a broker; the broker goes with its last address, and its topics with it.
    fn remove_address(&mut self, name: &str, addr: &str) {
        let Some(broker) = self.brokers.get_mut(name) else { return };
        broker.broker_addrs.retain(|_, known| known != addr);
        if !broker.broker_addrs.is_empty() {
            if broker.enable_acting_master && !broker.broker_addrs.contains_key(&MASTER_ID) {
                self.topics.wipe_write(name);
            }
            return;
        }
        let cluster = std::mem::take(&mut broker.cluster);
        self.brokers.remove(name);
        self.topics.remove_broker(name, |_| true);
        self.remove_mappings(name, |_| true);
        if let Some(names) = self.clusters.get_mut(&cluster) {
            names.remove(name);
            if names.is_empty() {
                self.clusters.remove(&cluster);
            }
        }
    }
}
