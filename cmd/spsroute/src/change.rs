//! `spsroute add` and `spsroute remove`, and telling the proxy.

use crate::Add;
use crate::failure::{self, stored};
use crate::list::Shown;
use serde::Serialize;
use sps_cli::{Exit, Failure, OrFail, Output};
use sps_conf::Paths;
use sps_ipc::ask::Asker;
use sps_ipc::proxy_ctl::{REPLY_TIMEOUT, Reply, Request};
use sps_route::{Attributes, HopAddress, Route, Selector};
use sps_store::{Added, NewRoute, RouteStore};
use sps_wire::flow::Transport;
use std::io::ErrorKind;

/// What `add --json` prints.
#[derive(Serialize)]
struct Outcome {
    /// `added`, `exists` or `changed`.
    outcome: &'static str,
    route: Shown,
}

pub fn add(paths: &Paths, out: Output, add: &Add) -> Result<(), Failure> {
    let wanted = wanted(add)?;
    let mut store = failure::open(paths)?;
    let added = store.add(&wanted).map_err(|error| stored(error, "add the route"))?;
    let (outcome, id) = match &added {
        Added::New(id) => ("added", *id),
        Added::Same(id) => ("exists", *id),
        Added::Changed(old) => ("changed", old.id),
    };
    let NewRoute {
        selector,
        hop,
        transport,
        priority,
        weight,
        attributes,
    } = wanted;
    let route = Route {
        id,
        selector,
        hop,
        transport,
        priority,
        weight,
        attributes,
    };
    let what = format!("{} to {}", route.selector, route.hop);
    out.note(&match &added {
        Added::New(_) => format!("route {id} added: {what}"),
        Added::Same(_) => format!("route {id} exists already: {what}"),
        Added::Changed(old) => format!(
            "route {id} changed: {what}, priority {} (was {}), weight {} (was {})",
            priority, old.priority, weight, old.weight
        ),
    });
    if !matches!(added, Added::Same(_)) {
        tell_proxy(paths, out, &store)?;
    }
    match out.is_json() {
        true => out.json(&Outcome {
            outcome,
            route: route.into(),
        }),
        false => out.text(&format!("{id}\n")),
    }
}

pub fn remove(paths: &Paths, out: Output, id: u64) -> Result<(), Failure> {
    let mut store = failure::open(paths)?;
    let failed = |error| stored(error, "remove the route");
    match store.remove(id).map_err(failed)? {
        Some(route) => {
            out.note(&format!("route {id} removed: {} to {}", route.selector, route.hop));
            tell_proxy(paths, out, &store)?;
            if out.is_json() {
                out.json(&Shown::from(route))
            } else {
                Ok(())
            }
        }
        // Ids are never used twice: this one has been removed before, and that is what was asked for.
        None if store.was_given(id).map_err(failed)? => {
            out.note(&format!("route {id} was removed before"));
            if out.is_json() {
                out.json(&None::<Shown>)
            } else {
                Ok(())
            }
        }
        None => Err(Failure::new(Exit::NoInput, format!("there is no route {id}")).cure("see: spsroute list")),
    }
}

/// Tells a running proxy that there are new routes. It looks at the same file and would see them by itself, unless the
/// file was made anew; so what goes wrong here is told and is no failure.
pub fn tell_proxy(paths: &Paths, out: Output, store: &RouteStore) -> Result<(), Failure> {
    let version = store.version().map_err(|error| stored(error, "read the version"))?;
    let asked = Asker::connect(&Paths::proxy_ctl(&paths.current()), REPLY_TIMEOUT)
        .and_then(|mut asker| asker.ask::<_, Reply>(&Request::RoutesChanged { version }));
    match asked {
        Ok(Reply::Done) => {}
        Ok(Reply::Refused { reason, .. }) => out.note(&format!("stored, but the proxy says: {reason}")),
        Ok(Reply::Explained { .. } | Reply::Figures(_) | Reply::Lifted(_) | Reply::Bans(..)) => {
            out.note("stored, but the proxy gives another answer than asked for")
        }
        Err(error) if is_not_running(&error) => {}
        Err(error) => out.note(&format!("stored, but the proxy did not confirm: {error}")),
    }
    Ok(())
}

/// Nobody there to be told.
pub fn is_not_running(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn wanted(add: &Add) -> Result<NewRoute, Failure> {
    let usage = |text: &str| Err(Failure::new(Exit::Usage, text).cure("see: spsroute add --help"));
    let (pattern, hop) = match (&add.domain, &add.second) {
        (None, Some(hop)) => (Some(&add.first), hop),
        (Some(_), None) => (None, &add.first),
        (None, None) => return usage("a next hop is missing"),
        (Some(_), Some(_)) => return usage("a route is for numbers or for a domain, not for both"),
    };
    let data = |what: &str, error: &dyn std::fmt::Display| Failure::new(Exit::Data, format!("{what}: {error}"));
    let selector = match (pattern, &add.domain) {
        (Some(pattern), _) => pattern
            .parse()
            .map(Selector::Number)
            .map_err(|error| data("pattern", &error))?,
        (None, Some(domain)) => domain
            .parse()
            .map(Selector::Domain)
            .map_err(|error| data("domain", &error))?,
        (None, None) => return usage("a pattern is missing"),
    };
    let hop: HopAddress = hop.parse().or_fail(Exit::Data, "next hop")?;
    let transport = add.transport.as_deref().map(parse_transport).transpose();
    Ok(NewRoute {
        selector,
        hop,
        transport: transport.map_err(|error| Failure::new(Exit::Data, error))?,
        priority: add.priority,
        weight: add.weight,
        attributes: Attributes::new(),
    })
}

/// A transport by its name, in any case.
pub fn parse_transport(text: &str) -> Result<Transport, String> {
    Transport::from_bytes(text.as_bytes()).ok_or_else(|| format!("transport: `{text}` is not udp, tcp or tls"))
}
