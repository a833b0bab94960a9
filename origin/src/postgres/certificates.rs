//! The server's certificate, verified as libpq (by OpenSSL) does it.
//!
//! `webpki` verifies chains, but refuses some certificates of which the Postgres world has many: a self-signed one that
//! is given as its own CA (the Postgres manual's recipe makes such), one that may sign others, and X.509 version 1.
//! These are verified here, where a CA file itself holds the certificate, or the one that signed it. Wherever `webpki`
//! is more lenient than OpenSSL, about what is in the CA file, that is checked here first.

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use std::net::IpAddr;
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::oid::db::rfc5280::{
    ID_CE_BASIC_CONSTRAINTS, ID_CE_EXT_KEY_USAGE, ID_CE_KEY_USAGE, ID_CE_NAME_CONSTRAINTS,
    ID_CE_SUBJECT_ALT_NAME, ID_KP_SERVER_AUTH,
};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

/// The critical extensions that are judged here; any other one makes a certificate unusable.
const KNOWN_EXTENSIONS: [ObjectIdentifier; 4] =
    [ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE, ID_CE_EXT_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME];

/// An extension of old, by which a certificate may be none of a server's; it is not read here.
const NETSCAPE_CERT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113730.1.1");

/// The certificates that are trusted: those of a CA file, or the system's.
#[derive(Debug)]
pub(super) struct Trusted {
    certificates: Vec<(CertificateDer<'static>, Certificate)>,
}

impl Trusted {
    /// Trusts these certificates, which must be readable.
    ///
    /// # Errors
    /// What is wrong with the first that is not.
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let parse = |der: CertificateDer<'static>| {
            let parsed = Certificate::from_der(&der).map_err(|error| error.to_string())?;
            Ok((der, parsed))
        };
        Ok(Self { certificates: certificates.into_iter().map(parse).collect::<Result<_, String>>()? })
    }

    /// The same, leaving out what cannot be read: nobody can mend the system's own certificates.
    pub(super) fn of_system(certificates: Vec<CertificateDer<'static>>) -> Self {
        let parse = |der: CertificateDer<'static>| Some((der.clone(), Certificate::from_der(&der).ok()?));
        Self { certificates: certificates.into_iter().filter_map(parse).collect() }
    }

    /// Verifies that the certificate is trusted now, by itself or by a chain that ends in a self-signed one.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let leaf = parse(end_entity)?;
        if !may_serve(&leaf) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        let refused = match self.verify_by_webpki(end_entity, intermediates, now, algorithms) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        check_validity(&leaf, now)?;
        if !has_known_extensions(&leaf) {
            return Err(refused);
        }
        let is_trusted = self.valid(now).any(|(der, root)| {
            let is_itself = der == end_entity && is_self_issued(root);
            is_itself
                || is_issuer(root, 0)
                    && !has_extension(root, ID_CE_NAME_CONSTRAINTS)
                    && leaf.tbs_certificate.issuer == root.tbs_certificate.subject
                    && is_signed_by(&leaf, root, algorithms)
        });
        if is_trusted { Ok(()) } else { Err(refused) }
    }

    fn verify_by_webpki(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        // What `webpki` does not look at in a trusted certificate, OpenSSL does: its validity, whether it may sign
        // others, and how long a chain may be. One that is not self-signed may only lead to one that is. Nor does it
        // look at the key usage of those between.
        let read = |der: &CertificateDer<'_>| Certificate::from_der(der).ok();
        let between = intermediates.iter().filter_map(read);
        let between = between.filter(|certificate| !is_self_issued(certificate)).count();
        let mut roots = RootCertStore::empty();
        let signs = |der: &&CertificateDer<'_>| read(der).is_some_and(|certificate| may_sign(&certificate));
        let mut chain: Vec<CertificateDer<'_>> = intermediates.iter().filter(signs).cloned().collect();
        for (der, certificate) in self.valid(now) {
            if is_issuer(certificate, between) {
                roots.add(der.clone())?;
            } else if !is_self_issued(certificate) && may_sign(certificate) {
                chain.push(der.clone());
            }
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &chain, now, algorithms.all)
    }

    fn valid(&self, now: UnixTime) -> impl Iterator<Item = &(CertificateDer<'static>, Certificate)> {
        self.certificates.iter().filter(move |(_, certificate)| check_validity(certificate, now).is_ok())
    }
}

/// Verifies that the certificate is for a host, by libpq's rule: names of the host's own kind in the certificate
/// decide, and the common name only where there is none.
///
/// # Errors
/// Where it is for another one.
pub(super) fn verify_name(end_entity: &CertificateDer<'_>, host: &str) -> Result<(), Error> {
    let certificate = parse(end_entity)?;
    let address: Option<IpAddr> = host.parse().ok();
    let names = certificate.tbs_certificate.get::<SubjectAltName>();
    let names = names.map_err(|_| Error::from(CertificateError::BadEncoding))?.map(|(_, names)| names.0);
    let mut has_own_kind = false;
    for name in names.unwrap_or_default() {
        match name {
            GeneralName::DnsName(name) => {
                has_own_kind |= address.is_none();
                if is_name_of(name.as_str(), host, address.is_none()) {
                    return Ok(());
                }
            }
            GeneralName::IpAddress(octets) => {
                has_own_kind |= address.is_some();
                if address.is_some_and(|address| is_address(octets.as_bytes(), address)) {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    let common_name = common_name(&certificate).filter(|_| !has_own_kind);
    match common_name.is_some_and(|name| is_name_of(&name, host, address.is_none())) {
        true => Ok(()),
        false => Err(CertificateError::NotValidForName.into()),
    }
}

/// Whether `webpki` reads the certificate: not where it is of version 1, or has an unknown critical extension.
pub(super) fn is_known_to_webpki(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_ok()
}

/// Whether a message is signed with the certificate's key.
pub(super) fn is_signed_with_key_of(
    certificate: &CertificateDer<'_>,
    message: &[u8],
    signature: &[u8],
    algorithm: &dyn SignatureVerificationAlgorithm,
) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let key = &certificate.tbs_certificate.subject_public_key_info;
    let is_of_key =
        key.algorithm.to_der().is_ok_and(|key| is_algorithm(&key, &algorithm.public_key_alg_id()));
    let bytes = key.subject_public_key.as_bytes().filter(|_| is_of_key);
    bytes.is_some_and(|bytes| algorithm.verify_signature(bytes, message, signature).is_ok())
}

/// The certificate's public key, encoded.
///
/// # Errors
/// Where the certificate cannot be read.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    let key = parse(certificate)?.tbs_certificate.subject_public_key_info.to_der();
    key.map_err(|_| CertificateError::BadEncoding.into())
}

fn parse(der: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding.into())
}

fn check_validity(certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
    let (now, validity) = (Duration::from_secs(now.as_secs()), &certificate.tbs_certificate.validity);
    if now < validity.not_before.to_unix_duration() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.to_unix_duration() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.issuer == certificate.tbs_certificate.subject
}

fn has_extension(certificate: &Certificate, oid: ObjectIdentifier) -> bool {
    certificate.tbs_certificate.extensions.iter().flatten().any(|extension| extension.extn_id == oid)
}

/// Whether a trusted certificate is self-signed and may sign others, with so many between.
fn is_issuer(certificate: &Certificate, between: usize) -> bool {
    let fields = &certificate.tbs_certificate;
    if !is_self_issued(certificate) {
        return false;
    }
    if fields.version != Version::V3 {
        return true;
    }
    if !may_sign(certificate) {
        return false;
    }
    match fields.get::<BasicConstraints>() {
        Ok(Some((_, constraints))) => {
            constraints.ca && constraints.path_len_constraint.is_none_or(|most| between <= most.into())
        }
        // OpenSSL takes the right to sign certificates for it.
        Ok(None) => has_extension(certificate, ID_CE_KEY_USAGE),
        Err(_) => false,
    }
}

/// Whether a certificate's key may sign others, as far as its key usage says so.
fn may_sign(certificate: &Certificate) -> bool {
    let usage = certificate.tbs_certificate.get::<KeyUsage>();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
}

/// Whether nothing critical stands in a certificate that is not judged here.
fn has_known_extensions(certificate: &Certificate) -> bool {
    let is_known =
        |extension: &Extension| !extension.critical || KNOWN_EXTENSIONS.contains(&extension.extn_id);
    certificate.tbs_certificate.extensions.iter().flatten().all(is_known)
}

/// Whether a certificate may be that of a TLS server, as far as it says so.
fn may_serve(certificate: &Certificate) -> bool {
    let fields = &certificate.tbs_certificate;
    let (usage, purposes) = (fields.get::<KeyUsage>(), fields.get::<ExtendedKeyUsage>());
    let (Ok(usage), Ok(purposes)) = (usage, purposes) else { return false };
    !has_extension(certificate, NETSCAPE_CERT_TYPE)
        && usage.is_none_or(|(_, usage)| {
            usage.digital_signature() || usage.key_encipherment() || usage.key_agreement()
        })
        && purposes.is_none_or(|(_, purposes)| purposes.0.contains(&ID_KP_SERVER_AUTH))
}

fn is_signed_by(certificate: &Certificate, issuer: &Certificate, known: &WebPkiSupportedAlgorithms) -> bool {
    let signed = || {
        let key = &issuer.tbs_certificate.subject_public_key_info;
        let (key_algorithm, key_bytes) = (key.algorithm.to_der().ok()?, key.subject_public_key.as_bytes()?);
        if certificate.signature_algorithm != certificate.tbs_certificate.signature {
            return None;
        }
        let algorithm = certificate.signature_algorithm.to_der().ok()?;
        let (message, signature) =
            (certificate.tbs_certificate.to_der().ok()?, certificate.signature.as_bytes()?);
        let mut fitting = known.all.iter().filter(|known| {
            is_algorithm(&algorithm, &known.signature_alg_id())
                && is_algorithm(&key_algorithm, &known.public_key_alg_id())
        });
        fitting.find(|known| known.verify_signature(key_bytes, &message, signature).is_ok())
    };
    signed().is_some()
}

/// Whether an encoded AlgorithmIdentifier has this content: what follows its tag and length, which fits into a byte.
fn is_algorithm(encoded: &[u8], content: &[u8]) -> bool {
    encoded.get(2..) == Some(content)
}

/// Whether a name of a certificate is the host's; `*.` at its start stands for one label.
fn is_name_of(name: &str, host: &str, wildcards: bool) -> bool {
    if name.contains('\0') {
        return false;
    }
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(parent), Some((label, rest))) => {
            wildcards && !parent.is_empty() && !label.is_empty() && parent.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

fn is_address(octets: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => octets == address.octets(),
        IpAddr::V6(address) => octets == address.octets(),
    }
}

/// The first common name of the subject.
fn common_name(certificate: &Certificate) -> Option<String> {
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let value = &parts.into_iter().find(|part| part.oid == COMMON_NAME)?.value;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_libpq_matches_them() {
        for (name, host, expected) in [
            ("db.example", "DB.example", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", ".example", false),
            ("*.example", "example", false),
            ("*.", "db.", false),
            ("d*.example", "db.example", false),
            ("db.example\0.evil", "db.example", false),
        ] {
            assert_eq!(is_name_of(name, host, true), expected, "{name} {host}");
        }
        assert!(!is_name_of("*.0.0.1", "127.0.0.1", false));
    }
}
