//! The JSON bodies of requests and answers, one file per body or per family of the same table.
//!
//! Read by `java_json::from_slice` and written by `java_json::to_vec`. Fields stand in alphabetical order of
//! their JSON names because Java prints them so; unknown names are ignored, missing ones take Java's default,
//! and what Java leaves out when null is an `Option` that is left out when `None`.

#[macro_use]
mod tolerant;

pub mod assignment;
pub mod broker_member_group;
pub mod broker_stats;
pub mod check_client_config;
pub mod cluster_info;
pub mod connections;
pub mod consume_queue;
pub mod consume_stats;
pub mod consume_time_span;
pub mod consumer_list;
pub mod consumer_offsets;
pub mod data_version;
pub mod group_list;
pub mod heartbeat;
pub mod kv_table;
pub mod lock_batch;
pub mod query_subscription;
pub mod register_broker;
pub mod reset_offset;
pub mod subscription_data;
pub mod subscription_group;
pub mod topic_config;
pub mod topic_list;
pub mod topic_queue_mapping;
pub mod topic_route;
pub mod topic_stats;
