//! How connections to Postgres are encrypted.

use super::ConfigError;
use super::certificates::{self, Trusted};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912;

/// The ALPN name that Postgres expects where encryption begins without its own negotiation.
const ALPN: &[u8] = b"postgresql";

/// Whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those of a file.
    File(PathBuf),
    /// Those of the operating system.
    System,
}

/// How the server is verified, and the certificate that is shown to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// Whom to trust; without, the certificate is not looked at, which is what libpq's `prefer` and `require` mean.
    pub(super) roots: Option<Roots>,
    /// The host that the certificate must be for, where that matters.
    pub(super) host: Option<String>,
    /// Files of our own certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// Whether the server is told which host is meant.
    pub(super) sni: bool,
    /// Whether encryption begins without Postgres's own negotiation.
    pub(super) is_direct: bool,
}

/// The settings of every encrypted connection.
pub(super) fn client_config(options: TlsOptions) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let trusted = options.roots.as_ref().map(trusted).transpose()?;
    let verifier = Verifier { provider: Arc::clone(&provider), trusted, host: options.host };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, private) = (certificates_of(certificate)?, private_key(key)?);
            let unusable = |error: Error| unusable(key, &error.to_string());
            // Not by `with_client_auth_cert`, which refuses certificates of X.509 version 1.
            let private = provider.key_provider.load_private_key(private).map_err(unusable)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                chain, private,
            ))))
        }
    };
    config.enable_sni = options.sni;
    if options.is_direct {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(Arc::new(config))
}

fn trusted(roots: &Roots) -> Result<Trusted, ConfigError> {
    match roots {
        Roots::File(path) => Trusted::new(certificates_of(path)?).map_err(|reason| unusable(path, &reason)),
        Roots::System => Ok(Trusted::of_system(rustls_native_certs::load_native_certs().certs)),
    }
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let unreadable = |error: rustls::pki_types::pem::Error| unusable(path, &error.to_string());
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    match certificates.is_empty() {
        true => Err(unusable(path, "it holds no certificate")),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let reason = "it holds no private key, or one that is encrypted: decrypt it with `openssl pkey`";
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, &format!("{error}: {reason}")))
}

fn unusable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::CertificateFile { path: path.to_owned(), reason: reason.to_owned() }
}

/// The certificate's hash for `tls-server-end-point` (RFC 5929 §4.1), which ties a SCRAM login to
/// this TLS connection. `None` where the certificate's signature names no hash (Ed25519).
pub(super) fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    const SHA256: [ObjectIdentifier; 3] = [
        // The RFC replaces SHA-1 by SHA-256.
        rfc5912::SHA_1_WITH_RSA_ENCRYPTION,
        rfc5912::SHA_256_WITH_RSA_ENCRYPTION,
        rfc5912::ECDSA_WITH_SHA_256,
    ];
    const SHA384: [ObjectIdentifier; 2] = [rfc5912::SHA_384_WITH_RSA_ENCRYPTION, rfc5912::ECDSA_WITH_SHA_384];
    const SHA512: [ObjectIdentifier; 2] = [rfc5912::SHA_512_WITH_RSA_ENCRYPTION, rfc5912::ECDSA_WITH_SHA_512];
    let algorithm = Certificate::from_der(certificate).ok()?.signature_algorithm.oid;
    match algorithm {
        oid if SHA256.contains(&oid) => Some(Sha256::digest(certificate).to_vec()),
        oid if SHA384.contains(&oid) => Some(Sha384::digest(certificate).to_vec()),
        oid if SHA512.contains(&oid) => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Verifies the server's certificate as far as that is asked for, and always that the server holds its key.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trusted: Option<Trusted>,
    host: Option<String>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trusted) = &self.trusted {
            let algorithms = &self.provider.signature_verification_algorithms;
            trusted.verify(end_entity, intermediates, now, algorithms)?;
        }
        if let Some(host) = &self.host {
            certificates::verify_name(end_entity, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if certificates::is_known_to_webpki(certificate) {
            return verify_tls12_signature(message, certificate, signature, algorithms);
        }
        let schemes = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
        let mut fitting = schemes.flat_map(|(_, fitting)| fitting.iter().copied());
        match fitting.any(|known| {
            certificates::is_signed_with_key_of(certificate, message, signature.signature(), known)
        }) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if certificates::is_known_to_webpki(certificate) {
            return verify_tls13_signature(message, certificate, signature, algorithms);
        }
        let key = SubjectPublicKeyInfoDer::from(certificates::public_key(certificate)?);
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
