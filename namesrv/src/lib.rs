//! waspmq-namesrv
