//! What a process shows of itself and whom it trusts, always as its files are now.

use crate::error::TlsError;
use crate::expiry::{ExpiryWarning, utc};
use crate::own::certified_key;
use crate::pem::{AUTHORITY, CERTIFICATE, content};
use crate::provider;
use crate::trust::Authorities;
use crate::watch::{FileLook, FileWatch, FilesSeen};
use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Where certificate, key and authorities are, all in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, first, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
    /// The authorities whose certificates peers have to show. Without it a server lets in clients
    /// that show none, and a client trusts no server.
    pub ca: Option<PathBuf>,
}

impl TlsFiles {
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.ca).cloned()
    }
}

/// What this process shows of itself and whom it trusts. Clones are the same identity.
///
/// The files are looked at twice a second; when they have changed they are read, and connections
/// that are made from then on see what is new. New files that cannot be used are told of in the
/// log, and what was there before stays in use. So do warnings that a certificate will expire.
#[derive(Clone)]
pub struct Identity {
    files: Arc<TlsFiles>,
    current: Arc<ArcSwap<Ends>>,
    /// Looks for changes as long as one clone is there.
    _watch: Arc<FileWatch>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files, and looks for changes of them from then on.
    ///
    /// # Errors
    /// A file cannot be read or used, or the key is of another certificate; names the file.
    pub fn open(files: TlsFiles) -> Result<Identity, TlsError> {
        let seen = FilesSeen::now(files.paths());
        let loaded = Loaded::read(&files)?;
        let current = Arc::new(ArcSwap::new(Arc::new(loaded.ends)));
        let files = Arc::new(files);
        let mut renewing = Renewing {
            files: Arc::clone(&files),
            current: Arc::clone(&current),
            expiries: loaded.expiries,
        };
        // The first look warns of what expires soon: by then the log of a process that is just
        // starting is there.
        let watch = FileWatch::start("tls-files", seen, move |look| renewing.look(look))?;
        Ok(Identity { files, current, _watch: Arc::new(watch) })
    }

    /// Whether peers have to show a certificate of an authority that is trusted here.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.files.ca.is_some()
    }

    /// For the accepting end of a connection, as the files are now. No application protocol (ALPN)
    /// is set; a clone can be given some.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    /// For the end that connects, as the files are now.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().client)
    }
}

/// Both ends as the files were when they were last read.
struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// What was read of the files.
struct Loaded {
    ends: Ends,
    expiries: Vec<ExpiryWarning>,
    /// When the first of the own certificates ends.
    ends_at: SystemTime,
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Loaded, TlsError> {
        let (certified, validity) = certified_key(&files.certificate, &files.key)?;
        let authorities = files.ca.as_deref().map(Authorities::read).transpose()?;
        let mut expiries =
            vec![ExpiryWarning::new(CERTIFICATE, files.certificate.clone(), validity)];
        if let (Some(path), Some(authorities)) = (&files.ca, &authorities) {
            expiries.push(ExpiryWarning::new(AUTHORITY, path.clone(), authorities.validity));
        }
        let roots = authorities.map(|authorities| authorities.roots);
        let shown = Arc::new(SingleCertAndKey::from(certified));
        let wrong = |error: rustls::Error| {
            content(CERTIFICATE, &files.certificate, format!("cannot be used: {error}"))
        };
        let ends = Ends {
            server: Arc::new(server(&shown, roots.clone()).map_err(wrong)?),
            client: Arc::new(client(shown, roots).map_err(wrong)?),
        };
        Ok(Loaded { ends, expiries, ends_at: validity.ends })
    }
}

fn server(
    shown: &Arc<SingleCertAndKey>,
    roots: Option<Arc<RootCertStore>>,
) -> Result<ServerConfig, rustls::Error> {
    let is_mutual = roots.is_some();
    let verifier: Arc<dyn ClientCertVerifier> = match roots {
        Some(roots) => WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?,
        None => Arc::new(NoClientAuth),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(shown) as _);
    if is_mutual {
        // A resumed session is not checked again: a certificate that has expired since, or is of a
        // CA that has been taken away, would still be let in.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn client(
    shown: Arc<SingleCertAndKey>,
    roots: Option<Arc<RootCertStore>>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.unwrap_or_else(|| Arc::new(RootCertStore::empty())))
        .with_client_cert_resolver(shown);
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Keeps an identity as its files are.
struct Renewing {
    files: Arc<TlsFiles>,
    current: Arc<ArcSwap<Ends>>,
    expiries: Vec<ExpiryWarning>,
}

impl Renewing {
    fn look(&mut self, look: FileLook) {
        let now = SystemTime::now();
        if look == FileLook::Changed {
            match self.renew(now) {
                Ok(()) => {
                    let path = self.files.certificate.display();
                    tracing::info!("the certificate {path} was read anew");
                }
                Err(error) => tracing::error!("{error}; what was in use before stays in use"),
            }
        }
        self.warn(now);
    }

    fn renew(&mut self, now: SystemTime) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.files)?;
        if loaded.ends_at <= now {
            let path = self.files.certificate.clone();
            return Err(TlsError::Expired { path, expired: utc(loaded.ends_at) });
        }
        self.expiries = loaded.expiries;
        self.current.store(Arc::new(loaded.ends));
        Ok(())
    }

    fn warn(&mut self, now: SystemTime) {
        for told in self.expiries.iter_mut().filter_map(|expiry| expiry.due(now)) {
            tracing::warn!("{told}");
        }
    }
}
