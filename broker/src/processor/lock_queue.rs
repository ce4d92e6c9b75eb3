//! LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42): consumers in order lock their queues.

use std::sync::Arc;

use waspmq_protocol::body::lock_batch::{LockBatch, LockedQueues};
use waspmq_protocol::code::ResponseCode;
use waspmq_protocol::command::{Command, RemotingCommand};
use waspmq_protocol::java_json;

use super::refusal::Refusal;
use crate::queue_locks::QueueLocks;

/// LOCK_BATCH_MQ.
///
/// # Errors
/// When the body cannot be read.
pub fn lock(locks: &Arc<QueueLocks>, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
    let body = read(command)?;
    let granted = locks.lock(&body.consumer_group, &body.client_id, &body.mq_set);
    let body = java_json::to_vec(&LockedQueues { queues: granted });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body))
}

/// UNLOCK_BATCH_MQ.
///
/// # Errors
/// When the body cannot be read.
pub fn unlock(locks: &Arc<QueueLocks>, command: &Command<'_>) -> Result<RemotingCommand, Refusal> {
    let body = read(command)?;
    locks.unlock(&body.consumer_group, &body.client_id, &body.mq_set);
    Ok(RemotingCommand::response(ResponseCode::SUCCESS))
}

fn read(command: &Command<'_>) -> Result<LockBatch, Refusal> {
    java_json::from_slice(command.body).map_err(|error| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the request's body cannot be read: {error}"))
    })
}
