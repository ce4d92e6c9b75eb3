//! Who may consume a queue in order: the locks of LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42).
//! Called by the lock processor, and by the send path (a group that holds locks sends its failed messages
//! straight to its dead letters). In memory only: a lock outlives its connection until it expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use waspmq_protocol::message::MessageQueue;
use waspmq_store::clock::Clock;

/// A lock not renewed for this long is free (RocketMQ's `rocketmq.broker.rebalance.lockMaxLiveTime`).
const LOCK_LIVE_MS: i64 = 60_000;

struct QueueLock {
    client_id: String,
    renewed_at_ms: i64,
}

/// The locks of all consumer groups.
pub struct QueueLocks {
    clock: Arc<dyn Clock>,
    groups: Mutex<HashMap<String, HashMap<MessageQueue, QueueLock>>>,
}

impl QueueLocks {
    /// No lock is held.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, groups: Mutex::default() }
    }

    /// Locks or renews what is free or already this client's, and returns those queues.
    pub fn lock(&self, group: &str, client_id: &str, queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let now = self.clock.now_ms();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let held = groups.entry(group.to_owned()).or_default();
        let mut granted = Vec::with_capacity(queues.len());
        for queue in queues {
            let taken = held
                .get(queue)
                .is_some_and(|lock| lock.client_id != client_id && now - lock.renewed_at_ms <= LOCK_LIVE_MS);
            if !taken {
                held.insert(queue.clone(), QueueLock { client_id: client_id.to_owned(), renewed_at_ms: now });
                granted.push(queue.clone());
            }
        }
        granted
    }

    /// Gives up those of the queues that this client holds.
    pub fn unlock(&self, group: &str, client_id: &str, queues: &[MessageQueue]) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = groups.get_mut(group) else { return };
        for queue in queues {
            if held.get(queue).is_some_and(|lock| lock.client_id == client_id) {
                held.remove(queue);
            }
        }
        if held.is_empty() {
            groups.remove(group);
        }
    }

    /// Whether any unexpired lock of this group exists.
    pub fn any_held(&self, group: &str) -> bool {
        let now = self.clock.now_ms();
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get(group).is_some_and(|held| held.values().any(|lock| now - lock.renewed_at_ms <= LOCK_LIVE_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use waspmq_store::clock::SettableClock;

    fn queue(id: i32) -> MessageQueue {
        MessageQueue { topic: "Orders".into(), broker_name: "broker-a".into(), queue_id: id }
    }

    #[test]
    fn a_second_client_waits_until_the_first_gives_up_or_expires() {
        let clock = Arc::new(SettableClock::new(1_000));
        let locks = QueueLocks::new(clock.clone());
        let both = [queue(0), queue(1)];
        assert_eq!(locks.lock("g", "one", &both), both);
        assert_eq!(locks.lock("g", "two", &both), []);
        assert_eq!(locks.lock("other group", "two", &both), both);
        locks.unlock("g", "two", &both);
        assert_eq!(locks.lock("g", "two", &both), [], "only the holder may give up a lock");
        locks.unlock("g", "one", &[queue(1)]);
        assert_eq!(locks.lock("g", "two", &both), [queue(1)]);
        clock.advance(Duration::from_millis(60_000));
        assert_eq!(locks.lock("g", "two", &[queue(0)]), [], "still live on the last millisecond");
        clock.advance(Duration::from_millis(1));
        assert_eq!(locks.lock("g", "two", &[queue(0)]), [queue(0)]);
        assert!(locks.any_held("g"));
        clock.advance(Duration::from_millis(60_001));
        assert!(!locks.any_held("g"));
    }
}
