//! Whose certificates are believed: chains that lead to a CA of ours, for the purpose at hand.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::{der, identity};

/// The CAs in force, and how chains to them are looked at.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// Certificates that the operator put into the file one by one: good as they are, for those who show them.
    listed: HashSet<CertificateDer<'static>>,
    /// What we tell clients that we believe.
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// From the certificates of CAs. `listed`: these very certificates are also good for a peer, which self-signed ones are made for
    /// (`openssl req -x509` calls each a CA). Those that cannot be read are left out; gives how many.
    pub fn new(certificates: Vec<CertificateDer<'static>>, listed: bool) -> (Self, usize) {
        let anchors: Vec<_> = certificates
            .iter()
            .filter_map(|der| Some(webpki::anchor_from_trusted_cert(der).ok()?.to_owned()))
            .collect();
        let unreadable = certificates.len() - anchors.len();
        let subjects = anchors
            .iter()
            .map(|anchor| DistinguishedName::in_sequence(anchor.subject.as_ref()))
            .collect();
        let trust = Self {
            anchors,
            listed: if listed {
                certificates.into_iter().collect()
            } else {
                HashSet::new()
            },
            subjects,
            algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        };
        (trust, unreadable)
    }

    /// How many CAs there are.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether the chain that a peer showed is good now. Says nothing about names.
    pub fn check(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let parsed = EndEntityCert::try_from(certificate).map_err(to_rustls)?;
        if self.listed.contains(certificate) {
            return in_time(certificate, now);
        }
        parsed
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                chain,
                now,
                SipUsage(purpose),
                None,
                None,
            )
            .map(drop)
            .map_err(to_rustls)
    }
}

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// By who accepted the connection.
    Server,
    /// By who opened it.
    Client,
}

/// What extendedKeyUsage may say: nothing at all, the purpose itself, any purpose, or SIP (RFC 5924 §4.1).
#[derive(Debug, Clone, Copy)]
struct SipUsage(Purpose);

/// id-kp-serverAuth, id-kp-clientAuth, id-kp-sipDomain (RFC 5924), anyExtendedKeyUsage (RFC 5280 §4.2.1.12).
const SERVER_AUTH: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];
const SIP_DOMAIN: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 20];
const ANY: [usize; 5] = [2, 5, 29, 37, 0];

impl ExtendedKeyUsageValidator for SipUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        // Departs from RFC 5924 §5, which lets a certificate with other purposes through for SIP only if it names SIP: no public CA
        // issues those. A server's certificate serves it as a client too: one domain, one certificate, both ways (RFC 5922 §7.5).
        let wanted: &[&[usize]] = match self.0 {
            Purpose::Server => &[&SERVER_AUTH, &SIP_DOMAIN, &ANY],
            Purpose::Client => &[&CLIENT_AUTH, &SERVER_AUTH, &SIP_DOMAIN, &ANY],
        };
        let mut some = false;
        for purpose in purposes {
            some = true;
            let purpose = purpose?.to_decoded_oid();
            if wanted.contains(&&purpose[..]) {
                return Ok(());
            }
        }
        if some {
            Err(webpki::Error::RequiredEkuNotFoundContext(
                webpki::RequiredEkuNotFoundContext {
                    required: match self.0 {
                        Purpose::Server => webpki::KeyUsage::server_auth(),
                        Purpose::Client => webpki::KeyUsage::client_auth(),
                    },
                    present: Vec::new(),
                },
            ))
        } else {
            Ok(())
        }
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = der::validity(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < *validity.start() {
        Err(CertificateError::NotValidYet.into())
    } else if now > *validity.end() {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

/// So that the peer gets the alert that fits.
fn to_rustls(error: webpki::Error) -> Error {
    use webpki::Error::*;
    let error = match error {
        BadDer | BadDerTime | TrailingData(_) => CertificateError::BadEncoding,
        CertExpired { .. } | InvalidCertValidity => CertificateError::Expired,
        CertNotValidYet { .. } => CertificateError::NotValidYet,
        CertRevoked => CertificateError::Revoked,
        UnknownIssuer => CertificateError::UnknownIssuer,
        InvalidSignatureForPublicKey => CertificateError::BadSignature,
        RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(error)
}

/// Looks at servers that we connect to.
#[derive(Debug)]
pub struct Servers {
    pub trust: Arc<Trust>,
    /// Unset: every certificate will do.
    pub verify: bool,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.verify {
            return Ok(ServerCertVerified::assertion());
        }
        self.trust.check(certificate, chain, now, Purpose::Server)?;
        let parsed = EndEntityCert::try_from(certificate).map_err(to_rustls)?;
        match identity::check(&parsed, name) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(presented) => Err(CertificateError::NotValidForNameContext {
                expected: name.to_owned(),
                presented,
            }
            .into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// Looks at clients that show a certificate.
#[derive(Debug)]
pub struct Clients {
    pub trust: Arc<Trust>,
    /// Who shows none is not let in.
    pub required: bool,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The list of a whole system is longer than many clients can read, and tells nothing.
        if self.trust.subjects.len() <= MAX_HINTS {
            &self.trust.subjects
        } else {
            &[]
        }
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.check(certificate, chain, now, Purpose::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// CAs that clients are told of.
const MAX_HINTS: usize = 16;
