//! `spsroute list`, and how routes are shown everywhere.

use crate::failure::{self, stored};
use serde::Serialize;
use sps_cli::{Exit, Failure, Output, Table};
use sps_conf::Paths;
use sps_route::{Attributes, DomainPattern, Pattern, Route, Selector};
use sps_wire::flow::Transport;

/// A route as scripts see it. The names are promised in spsroute(1).
#[derive(Debug, Serialize)]
pub struct Shown {
    id: u64,
    /// Unset for a domain route.
    pattern: Option<String>,
    /// Unset for a number route.
    domain: Option<String>,
    next_hop: String,
    transport: Option<&'static str>,
    priority: u16,
    weight: u16,
    attributes: Attributes,
}

impl From<Route> for Shown {
    fn from(route: Route) -> Shown {
        let (pattern, domain) = match &route.selector {
            Selector::Number(pattern) => (Some(pattern.to_string()), None),
            Selector::Domain(domain) => (None, Some(domain.to_string())),
        };
        Shown {
            id: route.id,
            pattern,
            domain,
            next_hop: route.hop.to_string(),
            transport: route.transport.map(Transport::as_str),
            priority: route.priority,
            weight: route.weight,
            attributes: route.attributes,
        }
    }
}

/// Lists the routes that lie within a pattern or domain, or all.
pub fn list(paths: &Paths, out: Output, within: Option<&str>) -> Result<(), Failure> {
    let within = within.map(Within::parse).transpose()?;
    let store = failure::open(paths)?;
    let mut shown: Vec<Shown> = Vec::new();
    store
        .for_each(|route| {
            if within.as_ref().is_none_or(|within| within.covers(&route.selector)) {
                shown.push(route.into());
            }
            Ok(())
        })
        .map_err(|error| stored(error, "list the routes"))?;
    if shown.is_empty() && !out.is_json() {
        out.note(if within.is_some() {
            "no such routes"
        } else {
            "no routes yet"
        });
        return Ok(());
    }
    out.show(&shown, |shown| table(shown))
}

/// For people.
pub fn table(routes: &[Shown]) -> Table {
    let mut table = Table::new(["ID", "PATTERN", "NEXT-HOP", "TRANSPORT", "PRIORITY", "WEIGHT"]).right([0, 4, 5]);
    for route in routes {
        let domain = route.domain.as_ref().map(|domain| format!("@{domain}"));
        table.row([
            route.id.to_string(),
            route.pattern.clone().or(domain).unwrap_or_default(),
            route.next_hop.clone(),
            route.transport.unwrap_or("-").to_string(),
            route.priority.to_string(),
            route.weight.to_string(),
        ]);
    }
    table
}

/// What the listing is confined to.
enum Within {
    Numbers(Pattern),
    Domains(DomainPattern),
    /// `*` is both.
    All,
}

impl Within {
    fn parse(text: &str) -> Result<Within, Failure> {
        if text == "*" {
            return Ok(Within::All);
        }
        let bad_number = match text.parse() {
            Ok(pattern) => return Ok(Within::Numbers(pattern)),
            Err(bad) => bad,
        };
        let looks_like_number = text.starts_with(['+', '.']) || text.starts_with(|c: char| c.is_ascii_digit());
        match text.strip_prefix('@').unwrap_or(text).parse() {
            Ok(domain) => Ok(Within::Domains(domain)),
            Err(_) if looks_like_number => Err(Failure::new(Exit::Data, bad_number.to_string())),
            Err(bad) => Err(Failure::new(Exit::Data, bad.to_string())),
        }
    }

    fn covers(&self, selector: &Selector) -> bool {
        match (self, selector) {
            (Within::All, _) => true,
            (Within::Numbers(wide), Selector::Number(narrow)) => wide.covers(narrow),
            (Within::Domains(wide), Selector::Domain(narrow)) => wide.covers(narrow),
            (Within::Numbers(_), Selector::Domain(_)) | (Within::Domains(_), Selector::Number(_)) => false,
        }
    }
}
