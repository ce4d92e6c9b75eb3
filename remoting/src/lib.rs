//! waspmq-remoting
