//! waspmq-plugin-sdk
