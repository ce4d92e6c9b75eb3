//! Finds the brokers and queues of a topic and creates the topic where it is missing: by nameserver, or on one broker directly.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use waspmq_protocol::body::cluster_info::ClusterInfo;
use waspmq_protocol::body::topic_route::TopicRouteData;
use waspmq_protocol::{RemotingCommand, RequestCode, ResponseCode, header::NoHeader, java_json};
use waspmq_remoting::{Client, ClientConfig};

use crate::args::TargetArgs;
use crate::error::LoadError;

/// Wait for the answer to a set-up call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Wait for a new topic to show up at the nameserver.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(40);

/// A queue of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the broker (its address, where no nameserver was asked).
    pub broker: String,
    /// Address of the master.
    pub address: String,
    /// Queue id.
    pub queue: i32,
}

/// Calls to nameserver and brokers.
struct Calls {
    runtime: Runtime,
}

/// The queues of `topic`, broker by broker; creates the topic first unless told not to.
///
/// # Errors
/// Nobody answers, somebody refuses, or no broker has the topic.
pub fn locate(target: &TargetArgs) -> Result<Vec<Place>, LoadError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(LoadError::Start)?;
    let calls = Calls { runtime };
    if let Some(address) = &target.broker {
        if !target.no_create {
            calls.create_topic(address, target)?;
        }
        let queues = 0..target.queues as i32;
        return Ok(queues.map(|queue| Place { broker: address.clone(), address: address.clone(), queue }).collect());
    }
    let start = Instant::now();
    let mut created = target.no_create;
    loop {
        created = created || calls.create_everywhere(target)?;
        match calls.route(target) {
            Ok(places) if !places.is_empty() => return Ok(places),
            Err(error) if !matches!(error, LoadError::Refused { code: ResponseCode::TOPIC_NOT_EXIST, .. }) => {
                return Err(error);
            }
            _ if target.no_create || start.elapsed() > ROUTE_TIMEOUT => {
                return Err(LoadError::NoBroker { topic: target.topic.clone() });
            }
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The offset the next message of each queue will have.
///
/// # Errors
/// Nobody answers, or somebody refuses.
pub fn ends(topic: &str, lane: &TargetQueues) -> Result<Vec<i64>, LoadError> {
    let calls = Calls { runtime: Builder::new_current_thread().enable_all().build().map_err(LoadError::Start)? };
    let end = |queue: &i32| {
        let request = RemotingCommand::request(RequestCode::GET_MAX_OFFSET, &NoHeader {})
            .with_ext("topic", topic)
            .with_ext("queueId", queue.to_string());
        let answer = calls.ask(&lane.address, request)?;
        let offset = answer.ext_value("offset").and_then(|offset| offset.parse().ok());
        offset.ok_or_else(|| LoadError::Unreadable {
            what: format!("{} of {}", RequestCode::GET_MAX_OFFSET, lane.address),
            reason: "it has no offset".to_owned(),
        })
    };
    lane.queues.iter().map(end).collect()
}

impl Calls {
    fn route(&self, target: &TargetArgs) -> Result<Vec<Place>, LoadError> {
        let route: TopicRouteData =
            self.ask_json(&target.namesrv, RequestCode::GET_ROUTEINFO_BY_TOPIC, Some(("topic", &target.topic)))?;
        let mut places = Vec::new();
        for queues in &route.queue_datas {
            let broker = route.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name);
            if let Some(address) = broker.and_then(|broker| broker.broker_addrs.get(&0)) {
                for queue in 0..queues.write_queue_nums {
                    places.push(Place { broker: queues.broker_name.clone(), address: address.clone(), queue });
                }
            }
        }
        places.sort_by(|one, other| (&one.broker, one.queue).cmp(&(&other.broker, other.queue)));
        Ok(places)
    }

    /// Creates the topic on every master there is; false when there is none yet.
    fn create_everywhere(&self, target: &TargetArgs) -> Result<bool, LoadError> {
        let cluster: ClusterInfo = self.ask_json(&target.namesrv, RequestCode::GET_BROKER_CLUSTER_INFO, None)?;
        let masters: Vec<_> =
            cluster.broker_addr_table.values().filter_map(|broker| broker.broker_addrs.get(&0)).collect();
        for master in &masters {
            self.create_topic(master, target)?;
        }
        Ok(!masters.is_empty())
    }

    fn create_topic(&self, address: &str, target: &TargetArgs) -> Result<(), LoadError> {
        let request = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &NoHeader {})
            .with_ext("topic", &target.topic)
            .with_ext("defaultTopic", "TBW102")
            .with_ext("readQueueNums", target.queues.to_string())
            .with_ext("writeQueueNums", target.queues.to_string())
            .with_ext("perm", "6")
            .with_ext("topicFilterType", "SINGLE_TAG")
            .with_ext("topicSysFlag", "0")
            .with_ext("order", "false");
        self.ask(address, request).map(drop)
    }

    fn ask_json<T: serde::de::DeserializeOwned>(
        &self,
        address: &str,
        code: RequestCode,
        field: Option<(&str, &str)>,
    ) -> Result<T, LoadError> {
        let mut request = RemotingCommand::request(code, &NoHeader {});
        if let Some((name, value)) = field {
            request = request.with_ext(name, value);
        }
        let answer = self.ask(address, request)?;
        let unreadable = |error: java_json::JavaJsonError| LoadError::Unreadable {
            what: format!("{code} of {address}"),
            reason: error.to_string(),
        };
        java_json::from_slice(&answer.body).map_err(unreadable)
    }

    fn ask(&self, address: &str, request: RemotingCommand) -> Result<RemotingCommand, LoadError> {
        let what = format!("{} of {address}", RequestCode(request.code));
        let answer = self.runtime.block_on(async {
            let client = Client::connect(address, ClientConfig::default(), None);
            client.request(request, CALL_TIMEOUT).await
        });
        match answer {
            Ok(answer) if answer.code == ResponseCode::SUCCESS.0 => Ok(answer),
            Ok(answer) => Err(LoadError::Refused {
                what,
                code: ResponseCode(answer.code),
                remark: answer.remark.unwrap_or_default(),
            }),
            Err(source) => Err(LoadError::Call { what, source }),
        }
    }
}

/// The brokers of these queues, each with its queue ids.
pub fn by_broker(places: &[Place]) -> Vec<(&str, Vec<i32>)> {
    let mut brokers: Vec<(&str, Vec<i32>)> = Vec::new();
    for place in places {
        match brokers.iter_mut().find(|(address, _)| *address == place.address) {
            Some((_, queues)) => queues.push(place.queue),
            None => brokers.push((&place.address, vec![place.queue])),
        }
    }
    brokers
}

/// Queues of one broker that one connection reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetQueues {
    /// Name of the broker.
    pub broker: String,
    /// Its address.
    pub address: String,
    /// Queue ids.
    pub queues: Vec<i32>,
}

/// Shares the queues out among `connections` connections, at least one a broker.
pub fn share_out(places: &[Place], connections: usize) -> Vec<TargetQueues> {
    let brokers = by_broker(places);
    let each = connections.div_ceil(brokers.len().max(1)).max(1);
    let mut lanes: Vec<TargetQueues> = Vec::new();
    for place in places {
        let own = |lane: &TargetQueues| lane.address == place.address;
        let open = lanes.iter().filter(|lane| own(lane)).count();
        if open < each {
            let (broker, address) = (place.broker.clone(), place.address.clone());
            lanes.push(TargetQueues { broker, address, queues: vec![place.queue] });
        } else if let Some(least) = lanes.iter_mut().filter(|lane| own(lane)).min_by_key(|lane| lane.queues.len()) {
            least.queues.push(place.queue);
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_shared_out_evenly_and_never_across_brokers() {
        let place = |broker: &str, queue| Place { broker: broker.into(), address: format!("{broker}:1"), queue };
        let places: Vec<_> =
            (0..5).map(|queue| place("a", queue)).chain((0..3).map(|queue| place("b", queue))).collect();
        let lanes = share_out(&places, 4);
        let queues: Vec<_> = lanes.iter().map(|lane| (lane.broker.as_str(), lane.queues.clone())).collect();
        assert_eq!(queues, [("a", vec![0, 2, 4]), ("a", vec![1, 3]), ("b", vec![0, 2]), ("b", vec![1])]);
        assert_eq!(share_out(&places, 1).len(), 2);
    }
}
