//! The stages of routing by name, and the ear that `spsroute explain` puts to them.

use std::fmt;

/// Where in the route a decision was made, in the order of the way through the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Is the Request-URI one we can route at all (RFC 3261 §16.3 steps 1 and 2)?
    RequestUri,
    /// May this source use us to reach others?
    Access,
    /// The request bears a flow token of ours: back along that flow.
    Flow,
    /// A Route header remains after §16.4: its top URI is the next hop.
    RouteHeader,
    /// Bindings of the registry.
    Registry,
    /// A static route on the digits of the user part.
    NumberRoute,
    /// A static route on the host part.
    DomainRoute,
    /// The host part is an address: nothing to ask.
    Address,
    /// The host part is a name: RFC 3263.
    Dns,
}

impl Stage {
    /// The word in the access log and in `spsroute explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestUri => "request-uri",
            Stage::Access => "access",
            Stage::Flow => "flow",
            Stage::RouteHeader => "route-header",
            Stage::Registry => "registry",
            Stage::NumberRoute => "number-route",
            Stage::DomainRoute => "domain-route",
            Stage::Address => "address",
            Stage::Dns => "dns",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Hears what each stage found. On the call path there is none, and nothing is formatted.
pub trait Trace {
    /// One finding of one stage, in the order they were made.
    fn note(&mut self, stage: Stage, finding: fmt::Arguments<'_>);
}

/// Collects the findings as text.
impl Trace for Vec<(Stage, String)> {
    fn note(&mut self, stage: Stage, finding: fmt::Arguments<'_>) {
        self.push((stage, finding.to_string()));
    }
}
