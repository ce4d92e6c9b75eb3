//! waspmq-plugin-host
