//! waspmq-protocol
