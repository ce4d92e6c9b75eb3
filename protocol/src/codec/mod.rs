//! The two ways a header is written: JSON text and RocketMQ's binary form. Only `command` calls these.

pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod rocketmq;
mod scan;
