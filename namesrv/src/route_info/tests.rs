//! The tables by themselves: each test plays registrations, departures and what admins do, and looks at routes.

use super::registration::{BROKERS_MAX, Registered, RegistrationError};
use super::topics::Topics;
use super::*;
use proptest::prelude::*;
use waspmq_protocol::body::register_broker::RegisterBrokerBody;
use waspmq_protocol::body::topic_config::{TopicConfig, TopicConfigTable};
use waspmq_protocol::body::topic_route::QueueData;
use waspmq_protocol::header::RegisterBrokerRequestHeader;

const CLUSTER: &str = "DefaultCluster";

/// A registration of broker `name`: two topics unless changed.
fn registration(name: &str, id: i64, addr: &str) -> Registration {
    let header = RegisterBrokerRequestHeader {
        broker_name: name.to_owned(),
        broker_addr: addr.to_owned(),
        cluster_name: CLUSTER.to_owned(),
        ha_server_addr: format!("{addr}.ha"),
        broker_id: id,
        heartbeat_timeout_millis: None,
        enable_acting_master: Some(false),
        compressed: false,
        body_crc32: 0,
        zone_name: None,
    };
    let mut registration = Registration {
        header,
        body: RegisterBrokerBody::default(),
        connection: 1,
        now: Duration::ZERO,
        delete_absent_topics: false,
    };
    set_topics(&mut registration, 1, &["A", "B"]);
    registration
}

fn set_topics(registration: &mut Registration, version: i64, topics: &[&str]) {
    let version = DataVersion { counter: version, state_version: 0, timestamp: 1 };
    let topics = topics.iter().map(|topic| TopicConfig::new(*topic, 4, 6));
    registration.body.topic_config_serialize_wrapper = TopicConfigTable::new(version, topics);
}

fn with_topics(mut registration: Registration, version: i64, topics: &[&str]) -> Registration {
    set_topics(&mut registration, version, topics);
    registration
}

fn key(addr: &str) -> BrokerKey {
    BrokerKey { cluster: CLUSTER.to_owned(), addr: addr.to_owned() }
}

impl RouteInfo {
    fn with(registrations: impl IntoIterator<Item = Registration>) -> Self {
        let mut routes = Self::default();
        for registration in registrations {
            routes.register(registration).unwrap();
        }
        routes
    }

    /// The addresses of a topic's route, `name/id=addr`.
    fn addresses(&self, topic: &str) -> Vec<String> {
        let route = self.route(topic, false);
        let brokers = route.into_iter().flat_map(|route| route.broker_datas);
        let named = |broker: BrokerData| {
            let name = broker.broker_name;
            broker.broker_addrs.into_iter().map(move |(id, addr)| format!("{name}/{id}={addr}"))
        };
        brokers.flat_map(named).collect()
    }

    fn permission(&self, topic: &str) -> i32 {
        self.route(topic, false).unwrap().queue_datas[0].perm
    }

    fn topic_names(&self) -> Vec<String> {
        let mut names = self.all_topics().topic_list;
        names.sort();
        names
    }

    /// What the head of the module promises.
    fn check(&self) {
        let mut held = 0;
        for (name, broker) in &self.brokers {
            assert!(!broker.broker_addrs.is_empty());
            assert!(self.clusters[&broker.cluster].contains(name));
            for addr in broker.broker_addrs.values() {
                let key = BrokerKey { cluster: broker.cluster.clone(), addr: addr.clone() };
                assert_eq!(&self.live[&key].name, name);
                held += 1;
            }
        }
        assert_eq!(held, self.live.len());
        assert_eq!(self.clusters.values().map(BTreeSet::len).sum::<usize>(), self.brokers.len());
        assert!(self.filter_servers.keys().all(|key| self.live.contains_key(key)));
        let (counted, entries) = self.topics.entries();
        assert_eq!(counted, entries);
        for (topic, queues) in self.topics.iter() {
            assert!(!queues.is_empty() && queues.is_sorted_by(|a, b| a.broker_name < b.broker_name), "{topic}");
            assert!(queues.iter().all(|queues| self.brokers.contains_key(&queues.broker_name)), "{topic}");
        }
        for (topic, brokers) in &self.mappings {
            assert!(!brokers.is_empty() && brokers.keys().all(|broker| self.topics.has(topic, broker)), "{topic}");
        }
    }
}

#[test]
fn a_master_and_its_slave_are_one_broker_of_the_route() {
    let mut routes = RouteInfo::default();
    assert_eq!(routes.register(registration("a", 0, "m:1")), Ok(Registered::default()));
    let slave = routes.register(registration("a", 1, "s:1")).unwrap();
    assert_eq!((slave.master_addr.as_deref(), slave.ha_server_addr.as_deref()), (Some("m:1"), Some("m:1.ha")));
    routes.register(with_topics(registration("b", 0, "n:1"), 1, &["A", "C"])).unwrap();
    assert_eq!(routes.addresses("A"), ["a/0=m:1", "a/1=s:1", "b/0=n:1"]);
    assert_eq!(routes.addresses("C"), ["b/0=n:1"]);
    assert_eq!(routes.route("X", false), None);
    let info = routes.cluster_info();
    assert_eq!(info.broker_addr_table["a"].broker_addrs.len(), 2);
    assert_eq!(info.cluster_addr_table[CLUSTER].iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(routes.member_group(CLUSTER, "a").broker_addrs[&1], "s:1");
    assert_eq!(routes.member_group(CLUSTER, "x").broker_addrs.len(), 0);
    assert_eq!(routes.topics_of_cluster(CLUSTER).topic_list.len(), 3);
    assert_eq!(routes.topics_of_cluster("X").topic_list.len(), 0);
    let system = routes.system_topics();
    assert_eq!(
        (system.broker_addr.as_deref(), system.topic_list),
        (Some("m:1"), vec![CLUSTER.into(), "a".into(), "b".into()])
    );
    routes.check();
}

#[test]
fn a_slave_registers_no_topics_of_its_own() {
    let routes =
        RouteInfo::with([registration("a", 0, "m:1"), with_topics(registration("a", 1, "s:1"), 9, &["C", "D"])]);
    assert_eq!(routes.topic_names(), ["A", "B"]);
}

#[test]
fn the_last_to_leave_takes_the_topics_along() {
    let mut routes = RouteInfo::with([registration("a", 0, "m:1"), registration("a", 1, "s:1")]);
    assert!(routes.unregister(&key("m:1")));
    assert_eq!(routes.addresses("A"), ["a/1=s:1"]);
    assert!(!routes.unregister(&key("m:1")));
    assert!(routes.unregister(&key("s:1")));
    assert_eq!((routes.addresses("A").len(), routes.topic_names().len()), (0, 0));
    assert_eq!(routes.cluster_info().cluster_addr_table.len(), 0);
    routes.check();
}

#[test]
fn silence_is_measured_for_each_broker() {
    let mut routes = RouteInfo::with([registration("a", 0, "m:1")]);
    let mut quick = registration("b", 0, "n:1");
    quick.header.heartbeat_timeout_millis = Some(10_000);
    routes.register(quick).unwrap();
    assert_eq!(routes.expire(Duration::from_secs(10)), []);
    assert_eq!(routes.expire(Duration::from_millis(10_001)), [key("n:1")]);
    routes.heard_of(&key("m:1"), Duration::from_secs(100));
    assert_eq!(routes.expire(Duration::from_secs(220)), []);
    assert_eq!(routes.expire(Duration::from_secs(221)), [key("m:1")]);
    routes.heard_of(&key("m:1"), Duration::from_secs(221));
    assert_eq!(routes.addresses("A").len(), 0);
}

#[test]
fn a_broker_goes_with_the_connection_it_registered_by_last() {
    let mut routes = RouteInfo::with([registration("a", 0, "m:1")]);
    routes.register(Registration { connection: 2, ..registration("a", 0, "m:1") }).unwrap();
    assert!(!routes.is_brokers_connection(1) && routes.is_brokers_connection(2));
    assert_eq!(routes.connection_closed(1), []);
    assert_eq!(routes.addresses("A"), ["a/0=m:1"]);
    assert_eq!(routes.connection_closed(2), [key("m:1")]);
    assert_eq!(routes.addresses("A").len(), 0);
}

#[test]
fn a_changed_address_replaces_the_old_one() {
    let mut routes = RouteInfo::with([registration("a", 0, "m:1")]);
    routes.register(Registration { connection: 2, ..registration("a", 0, "m:2") }).unwrap();
    assert_eq!(routes.addresses("A"), ["a/0=m:2"]);
    assert_eq!(routes.connection_closed(1), []);
    assert_eq!(routes.addresses("A"), ["a/0=m:2"]);
    routes.check();
}

#[test]
fn a_process_has_one_id_one_name_and_a_broker_one_cluster() {
    let mut routes = RouteInfo::with([registration("a", 1, "m:1")]);
    routes.register(registration("a", 0, "m:1")).unwrap();
    assert_eq!(routes.addresses("A"), ["a/0=m:1"]);
    routes.register(registration("renamed", 0, "m:1")).unwrap();
    assert_eq!(routes.addresses("A"), ["renamed/0=m:1"]);
    routes.check();
    let mut moved = registration("renamed", 0, "m:1");
    moved.header.cluster_name = "Other".to_owned();
    routes.register(moved).unwrap();
    assert_eq!(routes.cluster_info().cluster_addr_table.keys().collect::<Vec<_>>(), ["Other"]);
    assert_eq!(routes.addresses("A"), ["renamed/0=m:1"]);
    routes.check();
}

#[test]
fn a_process_that_was_replaced_by_newer_state_is_turned_away() {
    let mut newer = registration("a", 0, "m:2");
    newer.body.topic_config_serialize_wrapper.data_version.state_version = 2;
    let mut routes = RouteInfo::with([newer]);
    routes.register(with_topics(registration("a", 0, "m:1"), 9, &["A", "B", "C"])).unwrap();
    assert_eq!((routes.addresses("A"), routes.addresses("C").len()), (vec!["a/0=m:2".to_owned()], 0));
    assert_eq!(routes.data_version(&key("m:1")), None);
    routes.check();
}

#[test]
fn one_topic_alone_is_news_from_a_known_broker_only() {
    let mut routes = RouteInfo::default();
    let one = || with_topics(registration("a", 0, "m:1"), 2, &["C"]);
    let refused = routes.register(one());
    assert_eq!(refused, Err(RegistrationError::UnknownBroker { broker: "a".to_owned() }));
    assert_eq!(routes.cluster_info().cluster_addr_table.len(), 0);
    routes.register(registration("a", 0, "m:1")).unwrap();
    routes.register(Registration { delete_absent_topics: true, ..one() }).unwrap();
    assert_eq!(routes.topic_names(), ["A", "B", "C"]);
    routes.register(with_topics(registration("a", 0, "m:1"), 3, &["A", "C"])).unwrap();
    assert_eq!(routes.topic_names(), ["A", "B", "C"]);
    let absent = with_topics(registration("a", 0, "m:1"), 4, &["A", "D"]);
    routes.register(Registration { delete_absent_topics: true, ..absent }).unwrap();
    assert_eq!(routes.topic_names(), ["A", "D"]);
    routes.check();
}

#[test]
fn what_admins_did_stays_until_the_brokers_table_changes() {
    let mut routes =
        RouteInfo::with([registration("a", 0, "m:1"), with_topics(registration("b", 0, "n:1"), 1, &["C", "D"])]);
    assert_eq!(routes.wipe_write_permission("a"), 2);
    assert_eq!(routes.wipe_write_permission("x"), 0);
    assert_eq!((routes.permission("A"), routes.permission("C")), (4, 6));
    routes.register(registration("a", 0, "m:1")).unwrap();
    assert_eq!(routes.permission("A"), 4);
    routes.register(with_topics(registration("a", 0, "m:1"), 2, &["A", "B"])).unwrap();
    assert_eq!(routes.permission("A"), 6);
    routes.wipe_write_permission("a");
    assert_eq!(routes.add_write_permission("a"), 2);
    assert_eq!(routes.permission("A"), 6);
    routes.delete_topic("A", None);
    assert_eq!(routes.addresses("A").len(), 0);
    routes.register(with_topics(registration("a", 0, "m:1"), 2, &["A", "B"])).unwrap();
    assert_eq!(routes.addresses("A"), ["a/0=m:1"], "the broker still has it");
}

#[test]
fn a_topic_is_deleted_everywhere_or_in_one_cluster() {
    let mut other = registration("b", 0, "n:1");
    other.header.cluster_name = "Other".to_owned();
    let mut routes = RouteInfo::with([registration("a", 0, "m:1"), other]);
    routes.delete_topic("A", Some("Nowhere"));
    assert_eq!(routes.addresses("A"), ["a/0=m:1", "b/0=n:1"]);
    routes.delete_topic("A", Some("Other"));
    assert_eq!(routes.addresses("A"), ["a/0=m:1"]);
    routes.delete_topic("A", None);
    assert_eq!(routes.addresses("A").len(), 0);
    routes.check();
}

#[test]
fn a_topic_registered_by_hand_needs_known_brokers() {
    let mut routes = RouteInfo::with([registration("a", 0, "m:1")]);
    let queues = |broker: &str| QueueData { broker_name: broker.to_owned(), perm: 6, ..QueueData::default() };
    routes.register_topic("T", vec![queues("x"), queues("a")]).unwrap();
    assert_eq!(routes.addresses("T").len(), 0);
    routes.register_topic("T", vec![queues("a"), queues("x")]).unwrap();
    assert_eq!(routes.addresses("T"), ["a/0=m:1"]);
}

#[test]
fn a_slave_acts_as_master_where_both_sides_allow_it() {
    let acting = |id, addr| {
        let mut registration = registration("a", id, addr);
        registration.header.enable_acting_master = Some(true);
        set_topics(&mut registration, 1, &["A", "rmq_sys_SYNC_BROKER_MEMBER_a"]);
        registration
    };
    let mut routes = RouteInfo::with([acting(0, "m:1"), acting(1, "s:1"), acting(2, "s:2")]);
    routes.unregister(&key("m:1"));
    assert_eq!(routes.permission("A"), 4);
    let ids = |routes: &RouteInfo, topic: &str, support| {
        let route = routes.route(topic, support).unwrap();
        route.broker_datas[0].broker_addrs.iter().map(|(id, addr)| format!("{id}={addr}")).collect::<Vec<_>>()
    };
    assert_eq!(ids(&routes, "A", false), ["1=s:1", "2=s:2"]);
    assert_eq!(ids(&routes, "A", true), ["0=s:1", "2=s:2"]);
    assert_eq!(ids(&routes, "rmq_sys_SYNC_BROKER_MEMBER_a", true), ["1=s:1", "2=s:2"]);
    routes.register(acting(1, "s:1")).unwrap();
    assert_eq!(routes.permission("A"), 4);
    routes.register(acting(0, "m:2")).unwrap();
    assert_eq!(
        (routes.permission("A"), ids(&routes, "A", true)),
        (6, vec!["0=m:2".into(), "1=s:1".into(), "2=s:2".into()])
    );
    routes.check();
}

#[test]
fn static_topics_and_filter_servers_are_part_of_the_route() {
    let mut whole = registration("a", 0, "m:1");
    whole.body.filter_server_list = vec!["f:1".to_owned()];
    let mapping = TopicQueueMapping { topic: Some("A".to_owned()), ..TopicQueueMapping::default() };
    let mappings = BTreeMap::from([("A".to_owned(), mapping.clone()), ("Unknown".to_owned(), mapping.clone())]);
    whole.body.topic_config_serialize_wrapper.topic_queue_mapping_info_map = Some(mappings);
    let mut routes = RouteInfo::with([whole]);
    let route = routes.route("A", false).unwrap();
    assert_eq!(route.topic_queue_mapping_by_broker, Some(BTreeMap::from([("a".to_owned(), mapping)])));
    assert_eq!(route.filter_server_table, BTreeMap::from([("m:1".to_owned(), vec!["f:1".to_owned()])]));
    assert_eq!(routes.route("B", false).unwrap().topic_queue_mapping_by_broker, None);
    routes.check();
    routes.delete_topic("A", Some(CLUSTER));
    routes.check();
    routes.register(registration("a", 0, "m:1")).unwrap();
    assert_eq!(routes.route("A", false).unwrap().filter_server_table.len(), 0);
}

#[test]
fn unit_topics_by_their_flag() {
    let mut registration = registration("a", 0, "m:1");
    for (topic, flag) in [("none", 0), ("unit", 1), ("sub", 2), ("both", 3)] {
        let config = TopicConfig { topic_sys_flag: flag, ..TopicConfig::new(topic, 4, 6) };
        registration.body.topic_config_serialize_wrapper.topic_config_table.insert(topic.to_owned(), config);
    }
    let routes = RouteInfo::with([registration]);
    for (which, expected) in [
        (UnitTopics::Unit, vec!["both", "unit"]),
        (UnitTopics::Subscribed, vec!["both", "sub"]),
        (UnitTopics::SubscribedOnly, vec!["sub"]),
    ] {
        let mut topics = routes.unit_topics(which).topic_list;
        topics.sort();
        assert_eq!(topics, expected);
    }
}

#[test]
fn names_that_cannot_be_are_refused_and_change_nothing() {
    let long = "x".repeat(256);
    for (field, change) in [
        ("brokerName", (|header, name| header.broker_name = name) as fn(&mut RegisterBrokerRequestHeader, String)),
        ("brokerAddr", |header, name| header.broker_addr = name),
        ("clusterName", |header, name| header.cluster_name = name),
        ("haServerAddr", |header, name| header.ha_server_addr = name),
        ("__ZONE_NAME", |header, name| header.zone_name = Some(name)),
    ] {
        let mut routes = RouteInfo::default();
        let mut registration = registration("a", 0, "m:1");
        change(&mut registration.header, long.clone());
        assert_eq!(routes.register(registration), Err(RegistrationError::BadName { field }));
        assert!(routes.live.is_empty() && routes.clusters.is_empty());
    }
    let mut unnamed = registration("", 0, "m:1");
    unnamed.body.filter_server_list = vec![String::new(); 65];
    let mut routes = RouteInfo::default();
    assert_eq!(routes.register(unnamed), Err(RegistrationError::BadName { field: "brokerName" }));
    let mut many = registration("a", 0, "m:1");
    many.body.filter_server_list = vec![String::new(); 65];
    assert_eq!(routes.register(many), Err(RegistrationError::FilterServers { count: 65 }));
    routes.register(with_topics(registration("a", 0, "m:1"), 1, &["", &long, "A"])).unwrap();
    assert_eq!(routes.topic_names(), ["A"]);
}

#[test]
fn tables_are_bounded_and_a_refusal_changes_nothing() {
    let mut routes = RouteInfo { topics: Topics::bounded(3), ..RouteInfo::default() };
    routes.register(registration("a", 0, "m:1")).unwrap();
    let refused = routes.register(registration("b", 0, "n:1"));
    assert!(matches!(refused, Err(RegistrationError::Topics(_))), "{refused:?}");
    assert_eq!(routes.addresses("A"), ["a/0=m:1"]);
    assert_eq!(routes.live.len(), 1);
    routes.register(with_topics(registration("a", 0, "m:1"), 2, &["A", "B", "C"])).unwrap();
    let queues = QueueData { broker_name: "a".to_owned(), ..QueueData::default() };
    assert!(routes.register_topic("D", vec![queues]).is_err());
    routes.check();

    let all = (0..BROKERS_MAX)
        .map(|number| with_topics(registration(&format!("b{number}"), 0, &format!("n:{number}")), 1, &[]));
    let mut routes = RouteInfo::with(all);
    assert_eq!(routes.register(registration("a", 0, "m:1")), Err(RegistrationError::Brokers));
    routes.register(registration("b7", 0, "n:7")).unwrap();
    routes.check();
}

#[derive(Clone, Debug)]
enum Step {
    Register { name: u8, id: i64, addr: u8, cluster: bool, version: i64, topics: Vec<u8>, absent: bool },
    Unregister(u8),
    Close(u64),
    Wipe(u8),
    Delete(u8, bool),
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let topics = prop::collection::vec(0u8..5, 0..4);
    let registration = (0u8..3, 0i64..3, 0u8..4, any::<bool>(), 0i64..3, topics, any::<bool>());
    prop_oneof![
        6 => registration.prop_map(|(name, id, addr, cluster, version, topics, absent)| Step::Register {
            name, id, addr, cluster, version, topics, absent,
        }),
        1 => (0u8..4).prop_map(Step::Unregister),
        1 => (0u64..4).prop_map(Step::Close),
        1 => (0u8..3).prop_map(Step::Wipe),
        1 => (0u8..5, any::<bool>()).prop_map(|(topic, everywhere)| Step::Delete(topic, everywhere)),
        1 => Just(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_tables_agree(steps in prop::collection::vec(step(), 0..40)) {
        let mut routes = RouteInfo { topics: Topics::bounded(8), ..RouteInfo::default() };
        for (at, step) in (0u64..).zip(steps) {
            let now = Duration::from_secs(at * 20);
            match step {
                Step::Register { name, id, addr, cluster, version, topics, absent } => {
                    let topics: Vec<_> = topics.iter().map(|topic| format!("t{topic}")).collect();
                    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
                    let mut registration = registration(&format!("b{name}"), id, &format!("h:{addr}"));
                    set_topics(&mut registration, version, &topics);
                    registration.body.topic_config_serialize_wrapper.data_version.state_version = version;
                    registration.header.enable_acting_master = Some(version == 1);
                    registration.header.cluster_name = format!("c{}", u8::from(cluster));
                    let connection = u64::from(addr);
                    let _ = routes.register(Registration { now, connection, delete_absent_topics: absent, ..registration });
                }
                Step::Unregister(addr) => {
                    routes.unregister(&BrokerKey { cluster: "c0".to_owned(), addr: format!("h:{addr}") });
                }
                Step::Close(connection) => drop(routes.connection_closed(connection)),
                Step::Wipe(name) => drop(routes.wipe_write_permission(&format!("b{name}"))),
                Step::Delete(topic, everywhere) => routes.delete_topic(&format!("t{topic}"), (!everywhere).then_some("c0")),
                Step::Pass => drop(routes.expire(now)),
            }
            routes.check();
        }
        routes.expire(Duration::from_secs(100_000));
        prop_assert!(routes.live.is_empty() && routes.brokers.is_empty() && routes.clusters.is_empty());
        prop_assert!(routes.mappings.is_empty() && routes.topic_names().is_empty());
    }
}
