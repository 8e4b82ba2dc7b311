//! Why a connection did not come about, in words for the error log: what the peer did, and what was expected.

use std::error::Error as _;
use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// What rustls said, if it was rustls.
pub fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What went wrong.
pub fn explain(error: &io::Error) -> String {
    match tls_error(error) {
        Some(error) => explain_tls(error),
        None => match error.kind() {
            ErrorKind::UnexpectedEof => "the peer hung up in the middle of the handshake".into(),
            ErrorKind::ConnectionReset => "the peer cut the connection".into(),
            _ => error.to_string(),
        },
    }
}

fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => "the peer does not speak TLS (plain SIP at a port for TLS?)".into(),
        Error::AlertReceived(alert) => format!("the peer refused: {}", alert_words(*alert)),
        Error::NoCertificatesPresented => "the peer showed no certificate, expected one (client_certificate)".into(),
        Error::PeerIncompatible(what) => {
            format!("nothing in common with the peer: {what:?}; expected TLS 1.2 or 1.3 with an AEAD suite")
        }
        Error::InvalidCertificate(error) => format!("the peer's certificate will not do: {}", certificate_words(error)),
        Error::DecryptError => "bytes were changed on their way, or lost".into(),
        other => other.to_string(),
    }
}

fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet (are the clocks right?)".into()
        }
        CertificateError::UnknownIssuer => "no CA that we believe has signed it (ca in [tls])".into(),
        CertificateError::BadSignature => {
            "no CA that we believe has signed it: one of that name is known and has another key (ca in [tls])".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not made for this (extendedKeyUsage)".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("it bears no name, expected {}", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<&str> = presented.iter().take(NAMES_SHOWN).map(String::as_str).collect();
            format!(
                "it is for {}, expected {} (RFC 5922: whole names, SIP URIs first, no wildcards)",
                presented.join(", "),
                expected.to_str()
            )
        }
        CertificateError::Other(other) => other.source().map_or_else(|| other.to_string(), ToString::to_string),
        other => format!("{other:?}"),
    }
}

/// Names of a certificate in one line of the log.
const NAMES_SHOWN: usize = 8;

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "it does not believe the CA of our certificate".into(),
        AlertDescription::CertificateRequired => "it wants a certificate of ours".into(),
        AlertDescription::CertificateExpired => "our certificate has expired".into(),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "our certificate will not do for it".into()
        }
        AlertDescription::ProtocolVersion => "no version of TLS in common".into(),
        other => format!("alert {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_meet_most_is_told_in_words() {
        let words = |error: Error| explain(&io::Error::new(ErrorKind::InvalidData, error));
        assert!(words(InvalidMessage::InvalidContentType.into()).contains("plain SIP"));
        assert!(words(CertificateError::Expired.into()).contains("expired"));
        assert!(words(Error::AlertReceived(AlertDescription::UnknownCA)).contains("CA of our certificate"));
        let names = CertificateError::NotValidForNameContext {
            expected: "b.example".try_into().unwrap(),
            presented: vec!["a.example".into()],
        };
        let text = words(names.into());
        assert!(text.contains("it is for a.example, expected b.example"), "{text}");
        assert!(explain(&ErrorKind::UnexpectedEof.into()).contains("hung up"));
    }
}
