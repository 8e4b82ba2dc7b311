//! The bytes of the configured files made into what rustls works with. A pair that does not belong together, or a file that
//! holds something else, is told by its name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sps_conf::{Material, Pair, Pem};
use sps_ipc::tls_ctl::Certificate;
use webpki::EndEntityCert;

use crate::{der, identity};

/// What we show of ourselves: a certificate for each name, and the first one for everybody else.
#[derive(Debug)]
pub struct Shown {
    default: Arc<CertifiedKey>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

/// Why the files will not do, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {text}")]
pub struct Unfit {
    file: String,
    text: String,
}

fn unfit(file: &Pem, text: impl Into<String>) -> Unfit {
    Unfit {
        file: file.path.display().to_string(),
        text: text.into(),
    }
}

impl Shown {
    /// From the pairs in order; of two that bear the same name the first is chosen. Gives what the operator may see as well.
    pub fn new(material: &Material) -> Result<(Self, Vec<Certificate>), Unfit> {
        let mut by_name = HashMap::new();
        let mut default = None;
        let mut told = Vec::new();
        for pair in &material.certificates {
            let (key, certificate) = load(pair)?;
            for name in &certificate.names {
                by_name.entry(name.clone()).or_insert_with(|| key.clone());
            }
            default.get_or_insert(key);
            told.push(certificate);
        }
        let default = default.ok_or(Unfit {
            file: "[[tls.certificate]]".into(),
            text: "there is none".into(),
        })?;
        Ok((Self { default, by_name }, told))
    }

    fn by_name(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            // Clients other than SIP's take a wildcard for one label.
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.by_name(name));
        Some(named.unwrap_or(&self.default).clone())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.default
            .key
            .choose_scheme(schemes)
            .is_some()
            .then(|| self.default.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The certificates of CAs. A file without one is no list of CAs.
pub fn authorities(file: &Pem) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let found = certificates(file)?;
    if found.is_empty() && !file.bytes.is_empty() {
        return Err(unfit(
            file,
            "there is no certificate in it, expected those of CAs (PEM)",
        ));
    }
    Ok(found)
}

fn load(pair: &Pair) -> Result<(Arc<CertifiedKey>, Certificate), Unfit> {
    let chain = certificates(&pair.certificate)?;
    let Some(first) = chain.first() else {
        return Err(unfit(
            &pair.certificate,
            "there is no certificate in it, expected ours and then its chain (PEM, -----BEGIN CERTIFICATE-----)",
        ));
    };
    let mut names = {
        let parsed = EndEntityCert::try_from(first).map_err(|error| {
            unfit(
                &pair.certificate,
                format!("its first certificate cannot be read ({error})"),
            )
        })?;
        identity::all_names(&parsed)
    };
    for name in &pair.names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut expires_at_s = i64::MAX;
    for certificate in &chain {
        let validity = der::validity(certificate)
            .ok_or_else(|| unfit(&pair.certificate, "it tells no time until which it holds"))?;
        expires_at_s = expires_at_s.min(*validity.end());
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key.bytes).map_err(|error| {
        let text = match error {
            pem::Error::NoItemsFound if find(&pair.key.bytes, b"ENCRYPTED PRIVATE KEY") => {
                "the private key in it is encrypted, expected one without a passphrase: openssl pkey -in FILE -out NEW"
                    .to_owned()
            }
            pem::Error::NoItemsFound => {
                "there is no private key in it, expected one (PEM, -----BEGIN PRIVATE KEY-----)".to_owned()
            }
            other => format!("it cannot be read ({other})"),
        };
        unfit(&pair.key, text)
    })?;
    let key = any_supported_type(&key).map_err(|_| {
        unfit(
            &pair.key,
            "the private key is of a kind that is not supported, expected RSA (2048 to 8192 bits), ECDSA (P-256, P-384) or Ed25519",
        )
    })?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let text = format!(
                "this key does not belong to the first certificate in {}, expected the one it was made with",
                pair.certificate.path.display()
            );
            return Err(unfit(&pair.key, text));
        }
        Err(error) => return Err(unfit(&pair.certificate, error.to_string())),
    }
    let told = Certificate {
        file: pair.certificate.path.display().to_string(),
        names,
        expires_at_s,
    };
    Ok((Arc::new(key), told))
}

fn certificates(file: &Pem) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    CertificateDer::pem_slice_iter(&file.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unfit(file, format!("it is no PEM ({error})")))
}

fn find(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    use super::*;

    fn file(path: &str, text: &str) -> Pem {
        Pem {
            path: path.into(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn pair(made: &Made<rcgen::KeyPair>, key: &str) -> Pair {
        Pair {
            certificate: file("c.pem", &made.cert.pem()),
            key: file("k.pem", key),
            names: vec!["further.example".into()],
        }
    }

    fn material(pairs: Vec<Pair>) -> Material {
        Material {
            certificates: pairs,
            ca: Pem::default(),
        }
    }

    #[test]
    fn a_certificate_is_chosen_by_its_names_and_the_first_is_for_all_others() {
        let one = generate_simple_self_signed(["one.example".to_owned()]).unwrap();
        let two = generate_simple_self_signed(["two.example".to_owned(), "*.wild.example".to_owned()]).unwrap();
        let pairs = vec![
            pair(&one, &one.signing_key.serialize_pem()),
            pair(&two, &two.signing_key.serialize_pem()),
        ];
        let (shown, told) = Shown::new(&material(pairs)).unwrap();
        let is_two = |name: &str| shown.by_name(name).is_some_and(|key| key.cert[0] == *two.cert.der());
        assert!(is_two("two.example") && is_two("TWO.example.") && is_two("a.wild.example"));
        assert!(!is_two("one.example") && !is_two("a.b.wild.example"));
        assert!(!is_two("further.example"), "the first that bears a name");
        assert_eq!(shown.default.cert[0], *one.cert.der());
        assert_eq!(told[0].names, ["one.example", "further.example"]);
    }

    #[test]
    fn what_does_not_belong_together_is_told_by_name() {
        let one = generate_simple_self_signed(["one.example".to_owned()]).unwrap();
        let two = generate_simple_self_signed(["two.example".to_owned()]).unwrap();
        let key = one.signing_key.serialize_pem();
        let says = |pair: Pair| Shown::new(&material(vec![pair])).unwrap_err().to_string();
        let text = says(pair(&two, &key));
        assert!(text.starts_with("k.pem: ") && text.contains("c.pem"), "{text}");
        assert!(says(pair(&one, &one.cert.pem())).contains("there is no private key"));
        assert!(says(pair(&one, "")).contains("there is no private key"));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(says(pair(&one, encrypted)).contains("passphrase"));
        let mut swapped = pair(&one, &key);
        swapped.certificate.bytes = key.into_bytes();
        assert!(says(swapped).contains("there is no certificate"));
        let mut cut = pair(&one, &one.signing_key.serialize_pem());
        cut.certificate.bytes.truncate(200);
        assert!(says(cut).starts_with("c.pem: "));
        assert!(
            authorities(&file("ca.pem", "nothing"))
                .unwrap_err()
                .to_string()
                .contains("ca.pem")
        );
        assert!(authorities(&Pem::default()).unwrap().is_empty());
    }
}
