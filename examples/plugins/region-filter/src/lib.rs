//! Keeps the messages whose property `region` is the one asked for: `wasm:region-filter(hz)`.

use waspmq_plugin_sdk::{Filter, Message, NoConfig, Refuse, Subscription, Verdict, plugin};

/// The plugin. It has no state: what a subscription asks for is in `Prepared`.
pub struct RegionFilter;

impl Filter for RegionFilter {
    type Config = NoConfig;
    type Prepared = String;

    fn new(_: NoConfig) -> Result<Self, Refuse> {
        Ok(Self)
    }

    fn prepare(&self, subscription: &Subscription<'_>) -> Result<String, Refuse> {
        match subscription.expression {
            "" => Err(Refuse::new("which region? Write wasm:region-filter(hz)")),
            region => Ok(region.to_string()),
        }
    }

    fn keep(&self, region: &String, message: &Message<'_>) -> Verdict {
        (message.prop("region") == Some(region)).into()
    }
}

plugin!(RegionFilter, name = "region-filter");

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_plugin_sdk::harness::{Harness, message};

    #[test]
    fn keeps_its_region_only() -> Result<(), Refuse> {
        let filter = Harness::<RegionFilter>::new(NoConfig {})?.subscribe("wasm:region-filter(hz)")?;
        assert_eq!(filter.keep(&message().prop("region", "hz")), Verdict::Keep);
        assert_eq!(filter.keep(&message().prop("region", "bj")), Verdict::Drop);
        assert_eq!(filter.keep(&message()), Verdict::Drop);
        Ok(())
    }

    #[test]
    fn wants_a_region() {
        let refused = Harness::<RegionFilter>::new(NoConfig {}).and_then(|it| it.subscribe("wasm:region-filter()"));
        assert!(refused.err().is_some_and(|refuse| refuse.message.starts_with("which region?")));
    }
}
