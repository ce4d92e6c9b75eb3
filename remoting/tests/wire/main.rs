//! A server and its connections over real sockets: correct answers for the well-behaved, one closed connection and
//! nothing else for everybody else.

#![expect(clippy::unwrap_used, reason = "in a test, what does not work out fails it")]

mod background;
mod both_ways;
mod fixture;
mod hostile;
mod late_answers;
mod limits;
mod shutdown;
