//! waspmq-settings
