//! The console's certificate, taken up anew when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{StartError, TlsFiles};

pub struct Certificate {
    files: TlsFiles,
    current: ArcSwap<Loaded>,
}

struct Loaded {
    changed: [Option<SystemTime>; 2],
    config: Arc<ServerConfig>,
}

impl Certificate {
    pub fn read(files: TlsFiles) -> Result<Self, StartError> {
        let current = ArcSwap::from_pointee(Loaded::read(&files)?);
        Ok(Self { files, current })
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// After an error the former certificate stays.
    pub fn refresh(&self) -> Result<(), StartError> {
        if self.current.load().changed != changed(&self.files) {
            self.current.store(Loaded::read(&self.files)?.into());
            tracing::info!("a changed certificate is in use");
        }
        Ok(())
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, StartError> {
        let changed = changed(files);
        let certificate = &files.certificate;
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
            .map_err(|error| unusable(certificate, error))?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| unusable(&files.key, error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(certificate, error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| unusable(certificate, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { changed, config: Arc::new(config) })
    }
}

fn changed(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    [modified(&files.certificate), modified(&files.key)]
}

fn unusable(path: &Path, problem: impl ToString) -> StartError {
    StartError::File { path: path.to_owned(), problem: problem.to_string() }
}
