//! waspmq-tests
