//! Keeps the messages whose property `region` is the one asked for: `wasm:new-filter(hz)`.

use waspmq_plugin_sdk::{Filter, Message, NoConfig, Refuse, Subscription, Verdict, plugin};

/// The plugin. It has no state: what a subscription asks for is in `Prepared`.
pub struct NewFilter;

impl Filter for NewFilter {
    type Config = NoConfig;
    type Prepared = String;

    fn new(_: NoConfig) -> Result<Self, Refuse> {
        Ok(Self)
    }

    fn prepare(&self, subscription: &Subscription<'_>) -> Result<String, Refuse> {
        match subscription.expression {
            "" => Err(Refuse::new("which region? Write wasm:new-filter(hz)")),
            region => Ok(region.to_string()),
        }
    }

    fn keep(&self, region: &String, message: &Message<'_>) -> Verdict {
        (message.prop("region") == Some(region)).into()
    }
}

plugin!(NewFilter, name = "new-filter");

#[cfg(test)]
mod tests {
    use super::*;
    use waspmq_plugin_sdk::harness::{Harness, message};

    #[test]
    fn keeps_its_region_only() -> Result<(), Refuse> {
        let filter = Harness::<NewFilter>::new(NoConfig {})?.subscribe("wasm:new-filter(hz)")?;
        assert_eq!(filter.keep(&message().prop("region", "hz")), Verdict::Keep);
        assert_eq!(filter.keep(&message().prop("region", "bj")), Verdict::Drop);
        Ok(())
    }
}
