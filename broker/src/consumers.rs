//! Which consumers are connected and what their groups subscribe to: told by heartbeats, forgotten on unregister,
//! on a closed connection, or after two minutes of silence. A subscription carries its prepared filter, so that a
//! pull finds it ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waspmq_protocol::body::heartbeat::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel};
use waspmq_protocol::body::subscription_data::SubscriptionData;
use waspmq_remoting::Connection;

use crate::filter::Filters;
use crate::filter::PreparedFilter;
use crate::member::{MEMBER_SILENCE_MS_MAX, Member};

/// What a group wants of one topic.
#[derive(Clone)]
pub struct Subscription {
    /// As the client's heartbeat says it.
    pub data: Arc<SubscriptionData>,
    /// The filter made of it, or why none could be made (the heartbeat itself succeeds all the same).
    pub filter: PreparedFilter,
}

/// A connected group, as others may see it.
#[derive(Clone)]
pub struct ConsumerGroup {
    /// Push, pull or pop.
    pub consume_type: ConsumeType,
    /// Shared among the members, or everything to each.
    pub message_model: MessageModel,
    /// Where the members start a queue without a stored offset.
    pub consume_from_where: ConsumeFromWhere,
    members: HashMap<u64, Member>,
    subscriptions: HashMap<String, Subscription>,
    /// Which subscriptions these are, in the words of the member that told them last; 0 when it has none.
    fingerprint: i32,
}

/// How a heartbeat speaks of subscriptions.
#[derive(Clone, Copy)]
pub struct Told {
    /// Stands for all of them; 0 in the first version of the heartbeat.
    pub fingerprint: i32,
    /// They are left out: those with this fingerprint hold.
    pub left_out: bool,
}

/// What a heartbeat changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// The other members must rebalance: a member joined, or a topic came or went. A changed expression alone is no
    /// reason.
    pub rebalance: bool,
    /// The group's subscriptions were not those that the heartbeat stands for: the client shall tell them in full.
    pub subscriptions_differed: bool,
}

impl ConsumerGroup {
    /// The members, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The subscription to one topic.
    pub fn subscription(&self, topic: &str) -> Option<&Subscription> {
        self.subscriptions.get(topic)
    }
}

/// The connected consumers of every group.
pub struct Consumers {
    filters: Arc<Filters>,
    groups: Mutex<HashMap<String, ConsumerGroup>>,
}

impl Consumers {
    /// Nobody is connected. `filters` prepares what heartbeats subscribe to.
    pub fn new(filters: Arc<Filters>) -> Self {
        Self { filters, groups: Mutex::default() }
    }

    /// Takes a heartbeat of a member.
    pub fn beat(&self, data: &ConsumerData, told: Told, member: Member) -> Beaten {
        let fresh = if told.left_out { Vec::new() } else { self.fresh_subscriptions(data) };
        let mut groups = self.lock();
        let group = groups.entry(data.group_name.clone()).or_insert_with(|| ConsumerGroup {
            consume_type: data.consume_type,
            message_model: data.message_model,
            consume_from_where: data.consume_from_where,
            members: HashMap::new(),
            subscriptions: HashMap::new(),
            fingerprint: 0,
        });
        group.consume_type = data.consume_type;
        group.message_model = data.message_model;
        group.consume_from_where = data.consume_from_where;
        let joined = group.members.insert(member.connection.id(), member).is_none();
        let subscriptions_differed = told.fingerprint == 0 || told.fingerprint != group.fingerprint;
        if told.left_out {
            return Beaten { rebalance: joined, subscriptions_differed };
        }
        group.fingerprint = told.fingerprint;
        let mut topics_changed = false;
        for subscription in fresh {
            topics_changed |= group.subscriptions.insert(subscription.data.topic.clone(), subscription).is_none();
        }
        let wanted = |topic: &String| data.subscription_data_set.iter().any(|wanted| &wanted.topic == topic);
        let before = group.subscriptions.len();
        group.subscriptions.retain(|topic, _| wanted(topic));
        topics_changed |= group.subscriptions.len() != before;
        Beaten { rebalance: joined || topics_changed, subscriptions_differed }
    }

    /// The subscriptions of a heartbeat that are new or newer than what is known, their filters prepared. Made
    /// outside the lock: preparing calls a plugin.
    fn fresh_subscriptions(&self, data: &ConsumerData) -> Vec<Subscription> {
        let is_fresh = |wanted: &&SubscriptionData| {
            let groups = self.lock();
            let known = groups.get(&data.group_name).and_then(|group| group.subscriptions.get(&wanted.topic));
            known.is_none_or(|known| wanted.sub_version > known.data.sub_version)
        };
        let prepare = |wanted: &SubscriptionData| Subscription {
            data: Arc::new(wanted.clone()),
            filter: self.filters.prepare(&data.group_name, wanted),
        };
        data.subscription_data_set.iter().filter(is_fresh).map(prepare).collect()
    }

    /// Prepares a refused subscription once more: the plugin it lacked may have come. Asked by a pull, which its client
    /// repeats every few seconds only. Returns the filter as it is now.
    pub fn prepare_again(&self, group: &str, refused: &Subscription) -> PreparedFilter {
        let filter = self.filters.prepare(group, &refused.data);
        let mut groups = self.lock();
        let known = groups.get_mut(group).and_then(|known| known.subscriptions.get_mut(&refused.data.topic));
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.data, &refused.data)) {
            known.filter = filter.clone();
        }
        filter
    }

    /// Forgets this connection's membership of one group. Returns whether it was a member.
    pub fn leave(&self, group: &str, connection: &Arc<Connection>) -> bool {
        let mut groups = self.lock();
        let Some(known) = groups.get_mut(group) else { return false };
        let left = known.members.remove(&connection.id()).is_some();
        if known.members.is_empty() {
            groups.remove(group);
        }
        left
    }

    /// Forgets a connection in every group and returns the groups it was in.
    pub fn closed(&self, connection: &Arc<Connection>) -> Vec<String> {
        self.retain(|member| member.connection.id() != connection.id())
    }

    /// Forgets members that were silent too long and returns their groups.
    pub fn expire(&self, now_ms: i64) -> Vec<String> {
        self.retain(|member| now_ms - member.last_beat_ms <= MEMBER_SILENCE_MS_MAX)
    }

    /// Reads one group without copying it.
    pub fn with_group<R>(&self, group: &str, read: impl FnOnce(&ConsumerGroup) -> R) -> Option<R> {
        self.lock().get(group).map(read)
    }

    /// Everybody to tell when the group's members changed. Broadcasting groups share nothing, so nobody is told.
    pub fn to_notify(&self, group: &str) -> Vec<Arc<Connection>> {
        let groups = self.lock();
        let shared = groups.get(group).filter(|known| known.message_model == MessageModel::Clustering);
        shared.map(|known| known.members.values().map(|member| member.connection.clone()).collect()).unwrap_or_default()
    }

    fn retain(&self, keep: impl Fn(&Member) -> bool) -> Vec<String> {
        let mut changed = Vec::new();
        self.lock().retain(|name, group| {
            let before = group.members.len();
            group.members.retain(|_, member| keep(member));
            if group.members.len() != before {
                changed.push(name.clone());
            }
            !group.members.is_empty()
        });
        changed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, ConsumerGroup>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
