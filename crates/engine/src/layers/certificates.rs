//! What a server shows to its clients over TLS, and what it asks of them; and what nodes show each other.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
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
    /// Authorities whose certificates other nodes show on links; `None`: there are no links over TLS.
    pub nodes: Option<&'a [u8]>,
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

/// The same, ready for handshakes.
pub struct Prepared {
    pub clients: Arc<ServerConfig>,
    pub links: Option<LinkTls>,
}

/// Both ends of links: each node shows its certificate, and asks for the other's.
#[derive(Clone)]
pub struct LinkTls {
    pub accepting: Arc<ServerConfig>,
    pub dialling: Arc<ClientConfig>,
}

impl Certificates<'_> {
    pub fn prepare(&self) -> Result<Prepared, TlsError> {
        let clients = match &self.clients {
            None => None,
            Some(clients) => Some((roots(clients.authorities)?, clients.required)),
        };
        let links = match self.nodes {
            None => None,
            Some(authorities) => {
                let roots = roots(authorities)?;
                Some(LinkTls {
                    accepting: self.serve(Some((roots.clone(), true)))?,
                    dialling: self.dial(roots)?,
                })
            }
        };
        Ok(Prepared {
            clients: self.serve(clients)?,
            links,
        })
    }

    /// `clients`: whose certificates are asked for, and whether one must be shown.
    fn serve(&self, clients: Option<(RootCertStore, bool)>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (chain, key) = self.own()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some((roots, required)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| format!("the client_ca file: {error}"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(misfit)?;
        config.session_storage = ServerSessionMemoryCache::new(REMEMBERED);
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        // One ticket is enough for one connection at a time, and each costs a write and 200 bytes.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    fn dial(&self, roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
        let (chain, key) = self.own()?;
        let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = builder
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(misfit)?;
        Ok(Arc::new(config))
    }

    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = read_certificates(self.chain, "the certificate file")?;
        let key = PrivateKeyDer::from_pem_slice(self.key)
            .map_err(|error| format!("the key file has no private key in PEM: {error}"))?;
        Ok((chain, key))
    }
}

fn misfit(error: rustls::Error) -> TlsError {
    format!("certificate and key do not fit: {error}")
}

fn roots(authorities: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in read_certificates(authorities, "the client_ca file")? {
        roots
            .add(authority)
            .map_err(|error| format!("the client_ca file: {error}"))?;
    }
    Ok(roots)
}

fn read_certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{what} has no certificate in PEM")),
        Err(error) => Err(format!("{what} is no PEM: {error}")),
    }
}
