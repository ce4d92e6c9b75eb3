//! Arguments of every sub-command, as clap types. Defaults are the load of the published figures: four connections with 64
//! requests in flight each, eight queues, bodies of 1 KiB.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use waspmq_protocol::HeaderKind;

/// Load, latency and verification for brokers of RocketMQ's remoting protocol.
#[derive(Debug, Parser)]
#[command(name = "mqbench", version)]
pub struct Options {
    /// Print one JSON object with every figure instead of the summary.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send as fast as the window allows, or at a fixed rate.
    Produce(ProduceArgs),
    /// Read a topic from its start as fast as it comes.
    Consume(ConsumeArgs),
    /// Send at a fixed rate and measure, from the intended moment of each send, acknowledgement and receipt.
    Latency(LatencyArgs),
    /// Prove that what was acknowledged is there, once, unchanged and in order.
    #[command(subcommand)]
    Verify(VerifyCommand),
    /// A server that acknowledges everything and stores nothing: the tool's own ceiling.
    NullServer(NullServerArgs),
}

/// What to verify.
#[derive(Debug, Subcommand)]
pub enum VerifyCommand {
    /// Send, and note every acknowledgement in a journal; goes on over restarts of the broker.
    Send(VerifySendArgs),
    /// Read everything and compare it with the journal.
    Check(VerifyCheckArgs),
    /// Both, one after the other.
    Run(VerifySendArgs),
    /// Send and, at the same time, read through a filter; then compare both with everything that is stored.
    Filtered(VerifyFilteredArgs),
}

/// Where to send to or read from.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Nameserver, host:port.
    #[arg(short, long, default_value = "127.0.0.1:9876", conflicts_with = "broker")]
    pub namesrv: String,
    /// Broker, host:port; no nameserver is asked.
    #[arg(short, long)]
    pub broker: Option<String>,
    /// Topic; created if it is not there.
    #[arg(short, long, default_value = "mqbench")]
    pub topic: String,
    /// Queues of the topic on each broker, where it has to be created.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub queues: u32,
    /// Do not create the topic.
    #[arg(long)]
    pub no_create: bool,
}

/// The shape of what is sent.
#[derive(Clone, Debug, Args)]
pub struct ShapeArgs {
    /// Body bytes of a message.
    #[arg(short, long, default_value_t = 1024)]
    pub size: usize,
    /// Messages of one request; above 1, batch requests (320).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// How headers are written.
    #[arg(long, value_enum, default_value_t = Header::Json)]
    pub header: Header,
    /// Tags, comma-separated, that the messages carry in turn.
    #[arg(long, value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Properties NAME=N: the messages carry 0 to N-1 in turn.
    #[arg(long = "property", value_parser = property)]
    pub properties: Vec<(String, u32)>,
    /// Producer group.
    #[arg(long, default_value = "mqbench-producer")]
    pub group: String,
}

/// The two header encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Header {
    /// JSON text.
    Json,
    /// RocketMQ's binary header.
    Rocketmq,
}

impl From<Header> for HeaderKind {
    fn from(header: Header) -> Self {
        match header {
            Header::Json => Self::Json,
            Header::Rocketmq => Self::RocketMq,
        }
    }
}

/// How long to run.
#[derive(Clone, Debug, Args)]
pub struct TimeArgs {
    /// Seconds to measure.
    #[arg(short, long, default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds to run before counting begins.
    #[arg(short, long, default_value_t = 0.0)]
    pub warmup: f64,
    /// End after so many messages, if that comes first.
    #[arg(long)]
    pub count: Option<u64>,
}

/// `mqbench produce`.
#[derive(Clone, Debug, Args)]
pub struct ProduceArgs {
    /// Where to.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How long.
    #[command(flatten)]
    pub time: TimeArgs,
    /// Connections.
    #[arg(short, long, default_value_t = 4)]
    pub connections: usize,
    /// Requests in flight on each connection.
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Messages a second in all, sent whether or not answers come (open loop); latency then counts from the intended moment.
    #[arg(short, long)]
    pub rate: Option<f64>,
}

/// How to pull.
#[derive(Clone, Debug, Args)]
pub struct PullArgs {
    /// Messages a pull asks for at most.
    #[arg(long, default_value_t = 32)]
    pub pull: u32,
    /// Subscription expression.
    #[arg(short, long, default_value = "*")]
    pub expression: String,
    /// Type of the expression: TAG, SQL92, or what the broker knows besides.
    #[arg(long, default_value = "TAG")]
    pub expression_type: String,
    /// Consumer group.
    #[arg(long, default_value = "mqbench-consumer")]
    pub group: String,
}

/// `mqbench consume`.
#[derive(Clone, Debug, Args)]
pub struct ConsumeArgs {
    /// Where from.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How.
    #[command(flatten)]
    pub pull: PullArgs,
    /// How long; ends earlier when every queue is read to its end.
    #[command(flatten)]
    pub time: TimeArgs,
    /// Connections; the queues are shared out among them.
    #[arg(short, long, default_value_t = 4)]
    pub connections: usize,
    /// Begin again when everything is read, until the time is over.
    #[arg(long)]
    pub again: bool,
}

/// `mqbench latency`.
#[derive(Clone, Debug, Args)]
pub struct LatencyArgs {
    /// Where to.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// How long.
    #[command(flatten)]
    pub time: TimeArgs,
    /// How the receiving side pulls.
    #[command(flatten)]
    pub receive: ReceiveArgs,
    /// Messages a second in all.
    #[arg(short, long, default_value_t = 5000.0)]
    pub rate: f64,
    /// Sending connections.
    #[arg(short, long, default_value_t = 4)]
    pub connections: usize,
}

/// The receiving side of `mqbench latency`.
#[derive(Clone, Debug, Args)]
pub struct ReceiveArgs {
    /// Measure acknowledgements only.
    #[arg(long)]
    pub no_receive: bool,
    /// Subscription expression.
    #[arg(short, long, default_value = "*")]
    pub expression: String,
    /// Type of the expression.
    #[arg(long, default_value = "TAG")]
    pub expression_type: String,
}

/// `mqbench verify send` and `verify run`.
#[derive(Clone, Debug, Args)]
pub struct VerifySendArgs {
    /// Where to.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The journal to write.
    #[arg(short, long, default_value = "mqbench.journal")]
    pub journal: PathBuf,
    /// Body bytes of a message, 64 at least.
    #[arg(short, long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..=4_194_304))]
    pub size: u32,
    /// How headers are written.
    #[arg(long, value_enum, default_value_t = Header::Json)]
    pub header: Header,
    /// Producers, each on its own connection.
    #[arg(short, long, default_value_t = 4)]
    pub connections: usize,
    /// Messages in flight of each producer.
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// How long.
    #[command(flatten)]
    pub time: TimeArgs,
    /// `verify run`: insist that each producer's messages lie in each queue in the order they were sent, also those that
    /// were in flight together (a broker with several sending threads does not promise that).
    #[arg(long)]
    pub strict_order: bool,
}

/// `mqbench verify filtered`.
#[derive(Clone, Debug, Args)]
pub struct VerifyFilteredArgs {
    /// What is sent.
    #[command(flatten)]
    pub send: VerifySendArgs,
    /// How it is read.
    #[command(flatten)]
    pub pull: PullArgs,
    /// Property NAME=N: the messages carry 0 to N-1 in turn.
    #[arg(long, value_parser = property)]
    pub property: (String, u32),
    /// The one value of that property which the expression lets through.
    #[arg(long)]
    pub keeps: u32,
    /// End sending when standard input ends, if that comes before the time is over.
    #[arg(long)]
    pub until_eof: bool,
}

/// `mqbench verify check`.
#[derive(Clone, Debug, Args)]
pub struct VerifyCheckArgs {
    /// Nameserver, host:port.
    #[arg(short, long, default_value = "127.0.0.1:9876", conflicts_with = "broker")]
    pub namesrv: String,
    /// Broker, host:port; no nameserver is asked.
    #[arg(short, long)]
    pub broker: Option<String>,
    /// The journal to compare with.
    #[arg(short, long, default_value = "mqbench.journal")]
    pub journal: PathBuf,
    /// Insist on the order of sending also for messages that were in flight together.
    #[arg(long)]
    pub strict_order: bool,
}

/// `mqbench null-server`.
#[derive(Clone, Debug, Args)]
pub struct NullServerArgs {
    /// Address to listen on.
    #[arg(short, long, default_value = "127.0.0.1:10911")]
    pub listen: SocketAddr,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

fn property(text: &str) -> Result<(String, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write it as NAME=N")?;
    match count.parse() {
        Ok(count) if count > 0 => Ok((name.to_owned(), count)),
        _ => Err(format!("{count} is not a number above 0")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Options::command().debug_assert();
        let options = Options::parse_from(["mqbench", "produce", "--tags", "a,b", "--property", "a=10", "--json"]);
        let Command::Produce(args) = options.command else { panic!("another sub-command") };
        assert!(options.json);
        assert_eq!(args.shape.tags, ["a", "b"]);
        assert_eq!(args.shape.properties, [("a".to_owned(), 10)]);
        assert!(Options::try_parse_from(["mqbench", "produce", "--property", "a=0"]).is_err());
    }
}
