//! Requests of administrators: topics and consumer groups. Each family has its file.

pub mod group;
pub mod topic;
