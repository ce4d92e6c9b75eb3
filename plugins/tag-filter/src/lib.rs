//! waspmq-tag-filter
