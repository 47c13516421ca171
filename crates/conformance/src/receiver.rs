//! The accounts' own HTTPS server, outside every region, which the regions
//! tell of events.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::net::OUTSIDE;

pub const PORT: u16 = 9443;

/// No event is longer.
const LONGEST: usize = 64 << 10;

pub struct Receiver {
    /// Whole requests.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Receiver {
    /// With the certificate of `certificates/console.pem`. Its threads end with
    /// the process.
    pub fn start(certificates: &Path) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificates.join("console.pem"))?;
        let key = PrivateKeyDer::from_pem_file(certificates.join("console.key"))?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>()?, key)?;
        let config = Arc::new(config);
        let listener = TcpListener::bind((OUTSIDE, PORT))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, heard) = (Arc::clone(&config), Arc::clone(&heard));
                // Whoever hangs up in the middle is told again later.
                thread::spawn(move || serve(stream, config, &heard));
            }
        });
        Ok(Self { heard: all })
    }

    /// What a region has told so far.
    pub fn heard_from(&self, region: &str) -> Vec<Vec<u8>> {
        let line = format!("POST /{region} ");
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|request| request.starts_with(line.as_bytes())).cloned().collect()
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, heard: &Mutex<Vec<Vec<u8>>>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut octets = Vec::new();
    let mut chunk = [0; 4096];
    while octets.len() < LONGEST {
        let read = stream.read(&mut chunk)?;
        let Some(more) = chunk.get(..read).filter(|more| !more.is_empty()) else { break };
        octets.extend_from_slice(more);
        while let Some(length) = request(&octets)? {
            let request = octets.drain(..length).collect();
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            stream.flush()?;
        }
    }
    Ok(())
}

/// The length of the request that octets begin with, once it is there.
fn request(octets: &[u8]) -> Result<Option<usize>> {
    let Some(head) = octets.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(octets.get(..head).unwrap_or_default()).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = length.context("a request without length")?.trim().parse()?;
    let whole = head + 4 + body;
    Ok((octets.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        let whole = b"POST /us1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(request(whole).unwrap(), Some(whole.len()));
        assert_eq!(request(&whole[..whole.len() - 1]).unwrap(), None);
        assert!(request(b"POST / HTTP/1.1\r\n\r\n").is_err());
    }
}
