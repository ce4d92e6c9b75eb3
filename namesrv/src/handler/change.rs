//! Requests that change what is kept on disk: key-values and settings. They are made on a thread that may block, one
//! after the other, and answered when they are on disk. Rare, so few may wait at once.

use super::{Outcome, Refusal, into_reply, success};
use crate::config_update::UpdateError;
use crate::namesrv::{ChangeError, Namesrv};
use waspmq_protocol::header::{DeleteKVConfigRequestHeader, PutKVConfigRequestHeader};
use waspmq_protocol::{Command, RequestCode, ResponseCode};
use waspmq_remoting::Responder;

/// Changes that may wait for the disk at once.
pub(crate) const CHANGES_MAX: usize = 16;

/// What is to be changed.
pub(super) enum Change {
    PutKv(PutKVConfigRequestHeader),
    DeleteKv(DeleteKVConfigRequestHeader),
    /// Properties text.
    Settings(Vec<u8>),
}

impl Change {
    /// What a request wants changed; `None` for all other requests.
    pub(super) fn of(request: &Command<'_>) -> Result<Option<Self>, Refusal> {
        Ok(Some(match request.request_code() {
            RequestCode::PUT_KV_CONFIG => Self::PutKv(request.header()?),
            RequestCode::DELETE_KV_CONFIG => Self::DeleteKv(request.header()?),
            RequestCode::UPDATE_NAMESRV_CONFIG => Self::Settings(request.body.to_vec()),
            _ => return Ok(None),
        }))
    }
}

impl Namesrv {
    /// Makes a change, and answers when it is on disk.
    pub(super) fn begin(&self, change: Change, responder: Responder) {
        let Ok(permit) = self.change_permits().try_acquire_owned() else {
            let remark = format!("{CHANGES_MAX} changes wait for the disk; try again later");
            return responder.send(into_reply(Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark))));
        };
        let namesrv = self.handle_to_self();
        tokio::task::spawn_blocking(move || {
            responder.send(into_reply(namesrv.make(change)));
            drop(permit);
        });
    }

    fn make(&self, change: Change) -> Outcome {
        let made = match change {
            Change::PutKv(header) => {
                tracing::info!(namespace = header.namespace, key = header.key, "key-value to be set");
                self.change_kv(|kv| kv.put(&header.namespace, &header.key, &header.value))
            }
            Change::DeleteKv(header) => {
                tracing::info!(namespace = header.namespace, key = header.key, "key-value to be deleted");
                self.change_kv(|kv| {
                    kv.delete(&header.namespace, &header.key);
                    Ok(())
                })
            }
            Change::Settings(text) => self.change_keys(&text),
        };
        match made {
            Ok(()) => Ok(success()),
            Err(error @ ChangeError::Settings(UpdateError::BlackListed { .. })) => {
                Err(Refusal::new(ResponseCode::NO_PERMISSION, error.to_string()))
            }
            Err(error) => {
                tracing::warn!(%error, "a change was refused");
                Err(Refusal::error(error))
            }
        }
    }
}
