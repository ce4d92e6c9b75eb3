//! JSON bodies of requests and answers: what reads has to be written and read to the same. The first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use waspmq_protocol::body::{
    assignment, broker_member_group, broker_stats, check_client_config, cluster_info, connections, consume_queue,
    consume_stats, consume_time_span, consumer_list, consumer_offsets, group_list, heartbeat, kv_table, lock_batch,
    query_subscription, reset_offset, subscription_group, topic_config, topic_list, topic_route, topic_stats,
};
use waspmq_protocol::java_json;

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) {
    let Ok(body) = java_json::from_slice::<T>(text) else { return };
    for written in [java_json::to_vec(&body), java_json::to_standard(&body)] {
        let again: T = java_json::from_slice(&written).expect("what was written reads");
        assert_eq!(again, body);
    }
}

const CHECKS: [fn(&[u8]); 24] = [
    check::<assignment::QueryAssignment>,
    check::<assignment::Assignments>,
    check::<broker_member_group::BrokerMemberGroupAnswer>,
    check::<broker_stats::BrokerStatsData>,
    check::<check_client_config::CheckClientConfig>,
    check::<cluster_info::ClusterInfo>,
    check::<connections::ConsumerConnection>,
    check::<connections::ProducerTable>,
    check::<consume_queue::ConsumeQueueEntries>,
    check::<consume_stats::BrokerConsumeStats>,
    check::<consume_time_span::ConsumeTimeSpans>,
    check::<consumer_list::ConsumerList>,
    check::<consumer_offsets::ConsumerOffsetTable>,
    check::<group_list::GroupList>,
    check::<heartbeat::HeartbeatData>,
    check::<kv_table::KvTable>,
    check::<lock_batch::LockBatch>,
    check::<query_subscription::QuerySubscription>,
    check::<reset_offset::ConsumerStatus>,
    check::<subscription_group::SubscriptionGroupTable>,
    check::<topic_config::TopicConfigTable>,
    check::<topic_list::TopicList>,
    check::<topic_route::TopicRouteData>,
    check::<topic_stats::TopicStatsTable>,
];

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    CHECKS[usize::from(*which) % CHECKS.len()](text);
});
