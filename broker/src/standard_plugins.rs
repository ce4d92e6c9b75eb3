//! The plugins that are inside the binary, each as a module and as code compiled ahead for the machine of the build.

use waspmq_plugin_host::StandardPlugin;

/// Tag and SQL92 filtering.
pub const STANDARD_PLUGINS: &[StandardPlugin] = include!(concat!(env!("OUT_DIR"), "/standard_plugins.rs"));
