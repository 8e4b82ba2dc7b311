//! Who a certificate says its owner is, as SIP reads it (RFC 5922 §7.1 and §7.2).

use std::net::IpAddr;

use rustls_pki_types::{CertificateDer, IpAddr as PkiIp, ServerName};
use sps_ipc::tls::MAX_NAMES;
use webpki::EndEntityCert;

/// The SIP domain identities of a certificate, in lower case: hosts of `sip:` URIs without a user; only where there are none,
/// the DNS names. The common name is never looked at.
///
/// Not for `sips:` URIs: §7.1 takes the scheme `sip` alone, which stands for TLS as well.
pub fn domains(certificate: &EndEntityCert<'_>) -> Vec<String> {
    let uris: Vec<String> = certificate
        .valid_uri_names()
        .filter_map(sip_host)
        .take(MAX_NAMES)
        .collect();
    if !uris.is_empty() {
        return uris;
    }
    certificate.valid_dns_names().map(plain).take(MAX_NAMES).collect()
}

/// All names, of whatever kind, that a client may ask for.
pub fn all_names(certificate: &EndEntityCert<'_>) -> Vec<String> {
    let mut names: Vec<String> = certificate.valid_uri_names().filter_map(sip_host).collect();
    for name in certificate.valid_dns_names().map(plain) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether the certificate is that of `name`, and if not, who it says it is.
///
/// An address counts by an address in the certificate, unless that has SIP URIs. (RFC 5922 knows no addresses; private
/// networks do.)
pub fn check(certificate: &EndEntityCert<'_>, name: &ServerName<'_>) -> Result<(), Vec<String>> {
    let found = domains(certificate);
    let good = match name {
        // §7.2: in their entirety. A wildcard is a name of its own that no host has.
        ServerName::DnsName(name) => found.contains(&plain(name.as_ref())),
        ServerName::IpAddress(ip) => {
            let ip = to_std(*ip);
            found.contains(&ip.to_string()) || bears(certificate, ip)
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(found) }
}

/// Everything that the peer at `remote` has proved to be.
pub fn proved(certificate: &CertificateDer<'_>, remote: IpAddr) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let mut names = domains(&certificate);
    let remote = remote.to_canonical();
    if bears(&certificate, remote) {
        names.push(remote.to_string());
    }
    names
}

fn bears(certificate: &EndEntityCert<'_>, ip: IpAddr) -> bool {
    certificate.valid_uri_names().filter_map(sip_host).next().is_none()
        && certificate
            .verify_is_valid_for_subject_name(&ServerName::IpAddress(ip.into()))
            .is_ok()
}

/// The host of `sip:HOST…`; none where there is a user or another scheme.
fn sip_host(uri: &str) -> Option<String> {
    let scheme = uri.get(..4)?;
    if !scheme.eq_ignore_ascii_case("sip:") || uri.contains('@') {
        return None;
    }
    let rest = uri[4..].split([';', '?']).next()?;
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => rest.split(':').next()?,
    };
    (!host.is_empty()).then(|| plain(host))
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn to_std(ip: PkiIp) -> IpAddr {
    IpAddr::from(ip)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn certificate(names: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "cn.example.com");
        params.subject_alt_names = names.to_vec();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn is(certificate: &CertificateDer<'_>, name: &str) -> bool {
        let parsed = EndEntityCert::try_from(certificate).unwrap();
        check(&parsed, &ServerName::try_from(name.to_owned()).unwrap()).is_ok()
    }

    /// RFC 5922 §7.1
    #[test]
    fn sip_uris_come_before_dns_names() {
        let both = certificate(&[
            dns("dns.example.com"),
            uri("SIP:Example.com"),
            uri("sips:secure.example.com"),
        ]);
        assert!(is(&both, "example.com"));
        assert!(!is(&both, "dns.example.com"), "a SIP URI is there: only those count");
        assert!(!is(&both, "secure.example.com"), "sips is no scheme for an identity");
        let user = certificate(&[uri("sip:alice@example.com"), dns("dns.example.com")]);
        assert!(!is(&user, "example.com"), "a user is no domain");
        assert!(is(&user, "dns.example.com") && is(&user, "DNS.example.com"));
        let odd = certificate(&[uri("sip:example.com:5061;transport=tls"), uri("sip:[2001:db8::1]")]);
        assert!(is(&odd, "example.com") && is(&odd, "2001:db8::1"));
    }

    /// RFC 5922 §7.2
    #[test]
    fn names_match_whole_and_no_wildcard_does() {
        let wild = certificate(&[dns("*.example.com"), dns("a.example.com")]);
        assert!(is(&wild, "a.example.com"));
        assert!(!is(&wild, "b.example.com"));
        assert!(!is(&wild, "example.com"));
        let plain = certificate(&[dns("example.com")]);
        assert!(!is(&plain, "sip.example.com") && !is(&plain, "ample.com"));
    }

    #[test]
    fn the_common_name_is_nobody() {
        assert!(!is(&certificate(&[]), "cn.example.com"));
        assert!(!is(&certificate(&[dns("x.example.com")]), "cn.example.com"));
    }

    #[test]
    fn an_address_counts_by_an_address() {
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        let bare = certificate(&[SanType::IpAddress(ip)]);
        assert!(is(&bare, "192.0.2.7") && !is(&bare, "192.0.2.8"));
        assert_eq!(proved(&bare, ip), ["192.0.2.7"]);
        assert!(proved(&bare, "192.0.2.8".parse().unwrap()).is_empty());
        let with_uri = certificate(&[SanType::IpAddress(ip), uri("sip:example.com")]);
        assert!(!is(&with_uri, "192.0.2.7"));
        assert_eq!(proved(&with_uri, ip), ["example.com"]);
    }
}
