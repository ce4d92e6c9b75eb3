//! waspmq-sql92-filter
