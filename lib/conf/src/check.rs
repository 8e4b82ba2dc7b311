//! Checks that need more than one value: what each alone may be, the reader knows.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use serde_spanned::Spanned;

use crate::read::TlsRead;
use crate::section::Notes;
use crate::{Access, Action, Ca, Cidr, ClientCertificate, Listen, Mode, Transport};

/// A name space is ours once.
pub(crate) fn domains(domain: Option<&Spanned<String>>, domains: &[Spanned<String>], notes: &mut Notes) {
    let mut seen: Vec<&str> = domain.map(|d| d.get_ref().as_str()).into_iter().collect();
    for further in domains {
        let name = further.get_ref().as_str();
        if seen.contains(&name) {
            notes.problem(
                further.span(),
                format!("[server] domains names {name:?} again, expected each domain once"),
            );
        }
        seen.push(name);
    }
}

/// At least one listener; no two on the same address; none beyond loopback that would make us an open relay.
pub(crate) fn listeners(listen: &[Spanned<Listen>], access: &[Spanned<Access>], open_relay: bool, notes: &mut Notes) {
    if listen.is_empty() && notes.problems.is_empty() {
        let text = "there is no usable [[listen]], expected at least one:\n  [[listen]]\n  transport = \"udp\"\n  address = \"127.0.0.1\"";
        notes.problem(0..0, text);
    }
    if let Some(beyond) = listen.get(MAX_LISTENERS) {
        notes.problem(
            beyond.span(),
            format!(
                "there are {} [[listen]], expected at most {MAX_LISTENERS}",
                listen.len()
            ),
        );
        return;
    }
    for (i, one) in listen.iter().enumerate() {
        let this = one.get_ref();
        let clash = listen[..i].iter().find(|other| clashes(this, other.get_ref()));
        if let Some(other) = clash {
            let line = notes.line(&other.span());
            let other = other.get_ref();
            let text = if other.address == this.address {
                format!("[[listen]] {this} is there already (line {line}), expected each address once")
            } else {
                format!(
                    "[[listen]] {this} and {other} (line {line}) overlap, expected either the wildcard or single addresses"
                )
            };
            notes.problem(one.span(), text);
        }
    }
    if open_relay || !access.is_empty() {
        return;
    }
    if let Some(open) = listen.iter().find(|one| !one.get_ref().is_loopback()) {
        let text = format!(
            "[[listen]] {} can be reached from elsewhere, and nothing says who may call through gateways and to foreign domains; \
             expected [[access]] rules for those who may, such as\n  [[access]]\n  source = \"192.0.2.0/24\"\n  action = \"allow\"\n\
             or open_relay = true in [server] if everybody may",
            open.get_ref()
        );
        notes.problem(open.span(), text);
    }
}

/// Each is a socket a worker, and a descriptor handed to the proxy.
const MAX_LISTENERS: usize = 64;

/// Rules are tried one after the other for each request that is not in a dialog.
const MAX_ACCESS_RULES: usize = 4096;

/// Whether both cannot be bound. A wildcard covers the addresses of its own family.
fn clashes(a: &Listen, b: &Listen) -> bool {
    (a.transport == Transport::Udp) == (b.transport == Transport::Udp)
        && a.port == b.port
        && a.port != 0
        && a.address.is_ipv4() == b.address.is_ipv4()
        && (a.address == b.address || a.address.is_unspecified() || b.address.is_unspecified())
}

/// A listener for TLS needs something to show, and what is shown needs a listener.
pub(crate) fn tls(listen: &[Spanned<Listen>], read: &TlsRead, notes: &mut Notes) {
    if let Some(beyond) = read.certificates.get(MAX_CERTIFICATES) {
        let text = format!("expected at most {MAX_CERTIFICATES} [[tls.certificate]]");
        notes.problem(beyond.clone(), text);
    }
    for one in listen {
        if one.get_ref().client_certificate.is_some() && one.get_ref().transport != Transport::Tls {
            let text = format!(
                "[[listen]] {} has client_certificate, expected it at listeners with transport = \"tls\" only",
                one.get_ref()
            );
            notes.problem(one.span(), text);
        }
    }
    let mut listeners = listen.iter().filter(|one| one.get_ref().transport == Transport::Tls);
    let Some(first) = listeners.next() else {
        if let Some(certificate) = read.certificates.first() {
            let text = "[[tls.certificate]] is not used: there is no [[listen]] with transport = \"tls\", and without one TLS is \
                        spoken neither inwards nor outwards";
            notes.warning(certificate.clone(), text);
        }
        return;
    };
    if read.certificates.is_empty() && notes.problems.iter().all(|problem| problem.warning) {
        let text = format!(
            "[[listen]] {} has no certificate to show, expected\n  [[tls.certificate]]\n  certificate = \"tls/cert.pem\"\n  \
             key = \"tls/key.pem\"",
            first.get_ref()
        );
        notes.problem(first.span(), text);
    }
    if !read.tls.verify_server {
        let text =
            "[tls] verify_server = false: whoever sits between us and another server can read and change everything";
        notes.warning(read.verify_server_at.clone(), text);
    }
    let asks = |one: &Spanned<Listen>| {
        let mode = one.get_ref().client_certificate.unwrap_or(read.tls.client_certificate);
        mode == ClientCertificate::Require
    };
    if read.tls.ca == Ca::System && (asks(first) || listeners.any(asks)) {
        let text = "[tls] client_certificate = \"require\" with ca = \"system\" lets in everybody who has a certificate of any \
                    public CA; ca = \"FILE\" names those that you mean";
        notes.warning(read.span.clone(), text);
    }
}

/// Each is looked through for a name at every handshake that begins.
const MAX_CERTIFICATES: usize = 256;

/// A server that is nothing but a registrar must be one.
pub(crate) fn registrar_alone(mode: Mode, enabled: &Spanned<bool>, notes: &mut Notes) {
    if mode == Mode::Registrar && !enabled.get_ref() {
        notes.problem(
            enabled.span(),
            "[registrar] enabled is false and [proxy] mode is \"registrar\": nothing would be served, expected one of them otherwise",
        );
    }
}

/// Rules that can never be reached, or that say nothing because everything is open.
pub(crate) fn access(access: &[Spanned<Access>], open_relay: bool, open_relay_at: Range<usize>, notes: &mut Notes) {
    if let Some(beyond) = access.get(MAX_ACCESS_RULES) {
        notes.problem(
            beyond.span(),
            format!(
                "there are {} [[access]] rules, expected at most {MAX_ACCESS_RULES}",
                access.len()
            ),
        );
        return;
    }
    for (i, rule) in access.iter().enumerate() {
        let this = rule.get_ref();
        let earlier = access[..i]
            .iter()
            .find(|earlier| covers(earlier.get_ref().source, this.source));
        if let Some(earlier) = earlier {
            let line = notes.line(&earlier.span());
            let text = format!(
                "[[access]] {} never decides: {} (line {line}) comes first and covers it; the first rule that matches wins",
                this.source,
                earlier.get_ref().source
            );
            if earlier.get_ref().source == this.source {
                notes.problem(rule.span(), text);
            } else {
                notes.warning(rule.span(), text);
            }
        }
    }
    if open_relay && access.iter().any(|rule| rule.get_ref().action == Action::Allow) {
        notes.warning(open_relay_at, "open_relay = true opens gateways and foreign domains to everybody: [[access]] rules that allow say nothing");
    }
}

/// Whether all of `inner` lies in `outer`.
fn covers(outer: Cidr, inner: Cidr) -> bool {
    outer.prefix <= inner.prefix && outer.contains(inner.address)
}

/// T1 is a round trip, T2 the longest wait (RFC 3261 §17.1.2.1): the other way round nothing would ever be repeated right.
pub(crate) fn timers(t1: &Spanned<u64>, t2: &Spanned<u64>, notes: &mut Notes) {
    if t1.get_ref() > t2.get_ref() {
        let text = format!(
            "[proxy] t1_ms = {} is longer than t2_ms = {}, expected t1_ms <= t2_ms",
            t1.get_ref(),
            t2.get_ref()
        );
        notes.problem(later(t1, t2), text);
    }
}

/// RFC 3261 §16.6 step 11: Timer C is longer than three minutes.
pub(crate) fn timer_c(timer_c: &Spanned<u64>, notes: &mut Notes) {
    if *timer_c.get_ref() <= 180 {
        let text = format!(
            "[proxy] timer_c_s = {}: RFC 3261 wants more than 180 seconds; phones that ring longer are cut off",
            timer_c.get_ref()
        );
        notes.warning(timer_c.span(), text);
    }
}

/// min <= default <= max.
pub(crate) fn expires(min: &Spanned<u64>, default: &Spanned<u64>, max: &Spanned<u64>, notes: &mut Notes) {
    let named = [
        ("min_expires_s", min),
        ("default_expires_s", default),
        ("max_expires_s", max),
    ];
    // The pair that is furthest apart says most: one complaint is enough.
    for (low, high) in [(0, 2), (0, 1), (1, 2)] {
        let ((low_key, low), (high_key, high)) = (named[low], named[high]);
        if low.get_ref() > high.get_ref() {
            let text = format!(
                "[registrar] {low_key} = {} is more than {high_key} = {}, expected min_expires_s <= default_expires_s <= max_expires_s",
                low.get_ref(),
                high.get_ref()
            );
            notes.problem(later(low, high), text);
            return;
        }
    }
}

/// More than a hundred networks are looked through for each new source; many more want another list than this.
const MAX_FRIENDS: usize = 1024;

pub(crate) fn friends(friends: &[Spanned<Cidr>], notes: &mut Notes) {
    if let Some(beyond) = friends.get(MAX_FRIENDS) {
        let text = format!(
            "[guard] friends has {} entries, expected at most {MAX_FRIENDS}",
            friends.len()
        );
        notes.problem(beyond.span(), text);
    }
    if let Some(all) = friends.iter().find(|friend| friend.get_ref().prefix == 0) {
        let text =
            "[guard] friends names everybody: nobody will ever be banned; enabled = false says the same in plain words";
        notes.warning(all.span(), text);
    }
}

/// A ban that begins longer than it may become.
pub(crate) fn bans(ban: &Spanned<u64>, max_ban: &Spanned<u64>, notes: &mut Notes) {
    if ban.get_ref() > max_ban.get_ref() {
        let text = format!(
            "[guard] ban_s = {} is more than max_ban_s = {}, expected ban_s <= max_ban_s",
            ban.get_ref(),
            max_ban.get_ref()
        );
        notes.problem(later(ban, max_ban), text);
    }
}

/// Each server once.
pub(crate) fn dns_servers(servers: &[Spanned<SocketAddr>], notes: &mut Notes) {
    let mut seen = HashSet::new();
    for server in servers {
        if !seen.insert(server.get_ref()) {
            notes.problem(
                server.span(),
                format!(
                    "[dns] servers names {} again, expected each server once",
                    server.get_ref()
                ),
            );
        }
    }
}

/// A question that is given up before its first server may have answered is never answered.
pub(crate) fn dns_timeouts(timeout: &Spanned<u64>, total: &Spanned<u64>, notes: &mut Notes) {
    if timeout.get_ref() > total.get_ref() {
        let text = format!(
            "[dns] timeout_ms = {} is longer than total_timeout_ms = {}, expected timeout_ms <= total_timeout_ms",
            timeout.get_ref(),
            total.get_ref()
        );
        notes.problem(later(timeout, total), text);
    }
}

/// Two logs cannot share a file: lines of one would tear the other's.
pub(crate) fn logs(access: Option<&Spanned<PathBuf>>, error: Option<&Spanned<PathBuf>>, notes: &mut Notes) {
    let name =
        |path: Option<&Spanned<PathBuf>>, default: &str| path.map_or_else(|| default.into(), |p| p.get_ref().clone());
    let (access_file, error_file): (PathBuf, PathBuf) = (name(access, "access_log"), name(error, "error_log"));
    if access_file == error_file {
        let span = error.or(access).map_or(0..0, Spanned::span);
        notes.problem(
            span,
            format!("[log] access_log and error_log are both {access_file:?}, expected two files"),
        );
    }
}

/// The place to point at when two values do not go together: what stands further down was written last.
fn later(a: &Spanned<u64>, b: &Spanned<u64>) -> Range<usize> {
    if a.span().start >= b.span().start {
        a.span()
    } else {
        b.span()
    }
}
