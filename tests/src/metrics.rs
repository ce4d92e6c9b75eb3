//! Fetches a broker's metrics as a scraper does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Options with which a broker shows its metrics on some free port of this machine.
pub const SHOWN: [&str; 6] = [
    "--set",
    "metricsExporterType=PROM",
    "--set",
    "metricsPromExporterHost=127.0.0.1",
    "--set",
    "metricsPromExporterPort=0",
];
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker of this start page shows them.
pub fn address(page: &str) -> Result<String> {
    let rest = page.split_once("http://").context("the start page tells of no metrics")?.1;
    Ok(rest.split_once("/metrics").context("metrics are shown elsewhere")?.0.to_owned())
}

/// Sends a request and reads the answer, status line and all.
pub fn request(address: &str, method: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The lines of all series.
pub fn scrape(address: &str) -> Result<String> {
    let answer = request(address, "GET", "/metrics")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(body.to_owned())
}

/// The value of the one series that has this name and, somewhere, each of these labels.
pub fn value(scraped: &str, name: &str, labels: &[&str]) -> Result<f64> {
    let is_it =
        |line: &&str| line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label));
    let lines: Vec<&str> = scraped.lines().filter(is_it).collect();
    ensure!(lines.len() == 1, "{} series {name} with {labels:?} in:\n{scraped}", lines.len());
    lines[0].rsplit(' ').next().context("no value")?.parse().with_context(|| lines[0].to_owned())
}
