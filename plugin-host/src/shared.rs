//! What sessions, subscriptions and the life cycle have in common: the plugin set in force, and the table of live
//! subscriptions. The set is replaced as a whole; whoever reads it pins one state of all plugins.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwap;

use crate::generation::Generation;
use crate::life::LifeSender;
use crate::lock::locked;
use crate::subscription::{Subscription, SubscriptionText};

/// All plugins in force at one time.
#[derive(Default)]
pub(crate) struct PluginSet {
    /// Rises by one with each swap.
    pub(crate) epoch: u64,
    pub(crate) slots: BTreeMap<String, Slot>,
}

/// What serves under one name. A file that is bound to some topics leaves the others to the standard plugin.
#[derive(Clone, Default)]
pub(crate) struct Slot {
    pub(crate) file: Option<Arc<Generation>>,
    pub(crate) standard: Option<Arc<Generation>>,
}

impl Slot {
    pub(crate) fn resolve(&self, topic: &str, group: &str) -> Option<&Arc<Generation>> {
        let bound = |generation: &&Arc<Generation>| generation.identity.entry.binds(topic, group);
        self.file.as_ref().filter(bound).or_else(|| self.standard.as_ref().filter(bound))
    }

    pub(crate) fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.file.iter().chain(&self.standard)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_none() && self.standard.is_none()
    }
}

pub(crate) struct Shared {
    pub(crate) set: ArcSwap<PluginSet>,
    /// Held while a subscription is prepared for the first time and while sets are swapped, so that no subscription can
    /// fall between two versions.
    pub(crate) swapping: Mutex<()>,
    pub(crate) life: LifeSender,
    table: Mutex<HashMap<SubscriptionText, (u32, Weak<Subscription>)>>,
    next_handle: AtomicU32,
}

impl Shared {
    pub(crate) fn new(life: LifeSender) -> Self {
        Self {
            set: ArcSwap::default(),
            swapping: Mutex::new(()),
            life,
            table: Mutex::default(),
            next_handle: AtomicU32::new(1),
        }
    }

    pub(crate) fn find(&self, text: &SubscriptionText) -> Option<Arc<Subscription>> {
        locked(&self.table).get(text)?.1.upgrade()
    }

    pub(crate) fn next_handle(&self) -> u32 {
        self.next_handle.fetch_add(1, Relaxed)
    }

    pub(crate) fn insert(&self, subscription: &Arc<Subscription>) {
        let entry = (subscription.handle(), Arc::downgrade(subscription));
        locked(&self.table).insert(subscription.text.clone(), entry);
    }

    /// The last holder of a subscription has gone.
    pub(crate) fn release(&self, text: &SubscriptionText, handle: u32) {
        let mut table = locked(&self.table);
        // The same text may have been subscribed to again in the meantime, under another handle.
        if table.get(text).is_some_and(|entry| entry.0 == handle) {
            table.remove(text);
        }
        drop(table);
        for slot in self.set.load().slots.values() {
            slot.generations().for_each(|generation| generation.release(handle));
        }
    }

    /// Live subscriptions that go to the plugin `name`.
    pub(crate) fn subscriptions_of(&self, name: &str) -> Vec<Arc<Subscription>> {
        // Upgraded under the lock, dropped by the caller outside of it: the last drop takes the lock itself.
        let table = locked(&self.table);
        let live = table.values().filter_map(|(_, subscription)| subscription.upgrade());
        let (own, others): (Vec<_>, Vec<_>) = live.partition(|subscription| subscription.plugin == name);
        drop(table);
        drop(others);
        own
    }
}
