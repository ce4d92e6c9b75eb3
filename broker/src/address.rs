//! The address that clients are told: they read it from the name server's route and connect to it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// An address and why it was taken; the start page shows both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Where clients reach this broker.
    pub ip: IpAddr,
    /// How it was found.
    pub reason: AddressReason,
}

/// How the advertised address was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressReason {
    /// The setting `brokerIP1` names it.
    Configured,
    /// It belongs to this network interface, the first one that reaches other machines.
    Interface(String),
    /// This machine has no other address.
    OnlyLoopback,
}

impl fmt::Display for AddressReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("brokerIP1"),
            Self::Interface(name) => {
                write!(f, "first address that other machines reach, interface {name}; brokerIP1 sets another")
            }
            Self::OnlyLoopback => f.write_str("this machine has no other; brokerIP1 sets one"),
        }
    }
}

impl Advertised {
    /// The configured address, or the first one of this machine that others can reach.
    pub fn find(configured: Option<IpAddr>) -> Self {
        if let Some(ip) = configured {
            return Self { ip, reason: AddressReason::Configured };
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "the network interfaces cannot be listed");
            Vec::new()
        });
        let mut reachable = interfaces.iter().filter(|interface| match interface.ip() {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(_) => false,
        });
        match reachable.next() {
            Some(interface) => Self { ip: interface.ip(), reason: AddressReason::Interface(interface.name.clone()) },
            None => Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), reason: AddressReason::OnlyLoopback },
        }
    }
}
