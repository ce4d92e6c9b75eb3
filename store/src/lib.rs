//! waspmq-store
