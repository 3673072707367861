//! What a server shows to its clients over TLS, and what it asks of them.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// Sessions that clients of TLS 1.2 without tickets may take up again; tickets need no memory of ours.
const REMEMBERED: usize = 1024;

/// PEM files' contents.
#[derive(Clone, Copy)]
pub struct Certificates<'a> {
    /// The server's certificate and those between it and its authority.
    pub chain: &'a [u8],
    pub key: &'a [u8],
    pub clients: Option<ClientCertificates<'a>>,
}

/// What clients have to show.
#[derive(Clone, Copy)]
pub struct ClientCertificates<'a> {
    /// Authorities whose certificates are taken.
    pub authorities: &'a [u8],
    /// Those who show none are turned away.
    pub required: bool,
}

/// What is wrong with them; says in which file's contents.
pub type TlsError = String;

impl Certificates<'_> {
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = read_certificates(self.chain, "the certificate file")?;
        let key = PrivateKeyDer::from_pem_slice(self.key)
            .map_err(|error| format!("the key file has no private key in PEM: {error}"))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                for authority in read_certificates(clients.authorities, "the client_ca file")? {
                    roots
                        .add(authority)
                        .map_err(|error| format!("the client_ca file: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match clients.required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| format!("the client_ca file: {error}"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| format!("certificate and key do not fit: {error}"))?;
        config.session_storage = ServerSessionMemoryCache::new(REMEMBERED);
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        // One ticket is enough for one connection at a time, and each costs a write and 200 bytes.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

fn read_certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{what} has no certificate in PEM")),
        Err(error) => Err(format!("{what} is no PEM: {error}")),
    }
}
