//! Nanoseconds per append.

fn main() {}
