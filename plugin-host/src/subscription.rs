//! Subscriptions: which plugin a filter text goes to, and the handle its holders keep. A text is prepared once, however
//! many consumers bring it; the last handle dropped releases it.

use std::sync::Arc;

use waspmq_plugin_sdk::abi::{EXPRESSION_BYTES_MAX, PrepareRequest, split_wasm_expression};

use crate::generation::PrepareFault;
use crate::lock::locked;
use crate::session::FilterSession;
use crate::shared::Shared;

/// Plugin that serves expression type TAG.
const TAG_PLUGIN: &str = "tag-filter";
/// Plugin that serves expression type SQL92.
const SQL_PLUGIN: &str = "sql92-filter";

/// What a consumer asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionText {
    /// Topic it reads.
    pub topic: String,
    /// Its consumer group.
    pub group: String,
    /// `TAG` (also if empty), `SQL92`, or the name of a plugin.
    pub expression_type: String,
    /// The filter text; for a plugin by name, its arguments. `wasm:NAME(arguments)` under SQL92 goes to plugin NAME.
    pub expression: String,
}

/// Why there is no filter for a subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PrepareError {
    /// For the consumer's log: what is wrong and what to do.
    pub message: String,
    /// Where in the text, as a column counted in characters from 1, if the plugin says so.
    pub position: Option<u32>,
    /// The text is fine as far as anybody knows, but the plugin cannot be asked now: try again later.
    pub retry: bool,
}

impl PrepareError {
    fn text(message: String) -> Self {
        Self { message, position: None, retry: false }
    }
}

/// A live subscription.
pub(crate) struct Subscription {
    pub(crate) text: SubscriptionText,
    /// Name of the plugin it goes to.
    pub(crate) plugin: String,
    pub(crate) request: PrepareRequest,
    pub(crate) shared: Arc<Shared>,
}

impl Subscription {
    pub(crate) fn handle(&self) -> u32 {
        self.request.handle
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.release(&self.text, self.request.handle);
    }
}

/// A prepared filter. Cheap to clone; it stays valid through swaps of its plugin.
#[derive(Clone)]
pub struct FilterHandle {
    subscription: Arc<Subscription>,
}

impl FilterHandle {
    /// Begins one pull: everything it decides is decided by one version of the plugin.
    pub fn session(&self) -> FilterSession {
        FilterSession::new(Arc::clone(&self.subscription))
    }

    /// What was subscribed to.
    pub fn text(&self) -> &SubscriptionText {
        &self.subscription.text
    }

    /// Name of the plugin that decides.
    pub fn plugin(&self) -> &str {
        &self.subscription.plugin
    }
}

/// Where a text goes.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    plugin: &'a str,
    expression_type: &'static str,
    expression: &'a str,
}

fn route(text: &SubscriptionText) -> Result<Route<'_>, PrepareError> {
    let expression = text.expression.as_str();
    let length = expression.len();
    if length > EXPRESSION_BYTES_MAX {
        let most = EXPRESSION_BYTES_MAX;
        return Err(PrepareError::text(format!("the subscription text has {length} bytes, {most} are allowed")));
    }
    let to = |plugin, expression_type, expression| Ok(Route { plugin, expression_type, expression });
    match text.expression_type.as_str() {
        "" | "TAG" => to(TAG_PLUGIN, "TAG", expression),
        "SQL92" if expression.trim_start().starts_with("wasm:") => match split_wasm_expression(expression) {
            Some((plugin, arguments)) => to(plugin, "WASM", arguments),
            None => Err(PrepareError::text(format!(
                "`{}` is not of the form wasm:NAME(arguments), where NAME has letters, digits, `-` and `_`",
                shortened(expression)
            ))),
        },
        "SQL92" => to(SQL_PLUGIN, "SQL92", expression),
        plugin => to(plugin, "WASM", expression),
    }
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN { text.to_string() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

/// Finds or prepares the subscription.
pub(crate) fn prepare(shared: &Arc<Shared>, text: SubscriptionText) -> Result<FilterHandle, PrepareError> {
    if let Some(subscription) = shared.find(&text) {
        return Ok(FilterHandle { subscription });
    }
    let swapping = locked(&shared.swapping);
    if let Some(subscription) = shared.find(&text) {
        return Ok(FilterHandle { subscription });
    }
    let route = route(&text)?;
    let set = shared.set.load_full();
    let Some(slot) = set.slots.get(route.plugin) else {
        return Err(unknown_plugin(&text, &route, &set.slots.keys().map(String::as_str).collect::<Vec<_>>()));
    };
    let Some(generation) = slot.resolve(&text.topic, &text.group) else {
        return Err(PrepareError::text(format!(
            "the plugin `{}` is not bound to topic `{}` and group `{}` (plugins.toml)",
            route.plugin, text.topic, text.group
        )));
    };
    let request = PrepareRequest {
        handle: shared.next_handle(),
        topic: text.topic.clone(),
        group: text.group.clone(),
        expression_type: route.expression_type.to_string(),
        expression: route.expression.to_string(),
    };
    generation.prepare(&request).map_err(|fault| match fault {
        PrepareFault::Refused(refuse) => {
            PrepareError { message: refuse.message, position: refuse.position, retry: false }
        }
        PrepareFault::Unavailable(message) => PrepareError { message, position: None, retry: true },
    })?;
    let plugin = route.plugin.to_string();
    let subscription = Arc::new(Subscription { text, plugin, request, shared: Arc::clone(shared) });
    shared.insert(&subscription);
    drop(swapping);
    Ok(FilterHandle { subscription })
}

fn unknown_plugin(text: &SubscriptionText, route: &Route<'_>, known: &[&str]) -> PrepareError {
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    let wanted = shortened(route.plugin);
    let from_type = text.expression_type == route.plugin;
    let hint = if from_type { " (expression types are TAG, SQL92, or the name of a plugin)" } else { "" };
    PrepareError::text(format!("this broker has no filter plugin `{wanted}`; it has: {known}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression_type: &str, expression: &str) -> Result<(String, &'static str, String), String> {
        let text = SubscriptionText {
            topic: "T".into(),
            group: "g".into(),
            expression_type: expression_type.into(),
            expression: expression.into(),
        };
        let route = route(&text).map_err(|error| error.message)?;
        Ok((route.plugin.to_string(), route.expression_type, route.expression.to_string()))
    }

    #[test]
    fn texts_find_their_plugin() {
        let to = |plugin: &str, kind, expression: &str| Ok((plugin.to_string(), kind, expression.to_string()));
        assert_eq!(check("TAG", "a || b"), to(TAG_PLUGIN, "TAG", "a || b"));
        assert_eq!(check("", "*"), to(TAG_PLUGIN, "TAG", "*"));
        assert_eq!(check("TAG", "wasm:x(y)"), to(TAG_PLUGIN, "TAG", "wasm:x(y)"));
        assert_eq!(check("SQL92", "a > 5"), to(SQL_PLUGIN, "SQL92", "a > 5"));
        assert_eq!(check("SQL92", " wasm:region-filter( hz )"), to("region-filter", "WASM", "hz"));
        assert_eq!(check("region-filter", "hz"), to("region-filter", "WASM", "hz"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(check("SQL92", "wasm:x(y").unwrap_err().contains("wasm:NAME(arguments)"));
        let error = check("TAG", &"x".repeat(EXPRESSION_BYTES_MAX + 1)).unwrap_err();
        assert!(error.contains("65537 bytes, 65536 are allowed"), "{error}");
        assert!(check("SQL92", &format!("wasm:{}", "é".repeat(200))).unwrap_err().len() < 300);
    }
}
