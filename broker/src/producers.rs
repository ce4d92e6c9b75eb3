//! Which producers are connected, group by group: told by heartbeats, forgotten on unregister, on a closed
//! connection, or after two minutes of silence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waspmq_remoting::Connection;

use crate::member::{MEMBER_SILENCE_MS_MAX, Member};

/// The connected producers of every group.
#[derive(Default)]
pub struct Producers {
    groups: Mutex<HashMap<String, HashMap<u64, Member>>>,
}

impl Producers {
    /// Takes a heartbeat of a member; the first one registers it.
    pub fn beat(&self, group: &str, member: Member) {
        let mut groups = self.lock();
        match groups.get_mut(group) {
            Some(members) => {
                members.insert(member.connection.id(), member);
            }
            None => {
                groups.insert(group.to_owned(), HashMap::from([(member.connection.id(), member)]));
            }
        }
    }

    /// Forgets this connection's membership of one group.
    pub fn leave(&self, group: &str, connection: &Arc<Connection>) {
        let mut groups = self.lock();
        if let Some(members) = groups.get_mut(group) {
            members.remove(&connection.id());
            if members.is_empty() {
                groups.remove(group);
            }
        }
    }

    /// Forgets a connection in every group.
    pub fn closed(&self, connection: &Arc<Connection>) {
        self.retain(|member| member.connection.id() != connection.id());
    }

    /// Forgets members that were silent too long.
    pub fn expire(&self, now_ms: i64) {
        self.retain(|member| now_ms - member.last_beat_ms <= MEMBER_SILENCE_MS_MAX);
    }

    fn retain(&self, keep: impl Fn(&Member) -> bool) {
        self.lock().retain(|_, members| {
            members.retain(|_, member| keep(member));
            !members.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<u64, Member>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
