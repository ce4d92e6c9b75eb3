//! waspmq-broker
