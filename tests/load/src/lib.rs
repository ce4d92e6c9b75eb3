//! waspmq-load
