//! The file that tells other programs where the server listens.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use symphony_frontend::Addresses;

/// A file that will hold the ports once the server is ready, and is not there before.
#[derive(Debug)]
pub(crate) struct PortsFile {
    path: PathBuf,
    /// Written under another name first, so that a program that waits for the file finds it whole.
    unfinished: PathBuf,
    file: File,
}

impl PortsFile {
    /// Makes sure of the place, before models take minutes to load, and takes away what an
    /// earlier server left there.
    ///
    /// # Errors
    /// The file cannot be written; names it.
    pub(crate) fn prepare(path: PathBuf) -> Result<PortsFile> {
        let mut name = path.clone().into_os_string();
        name.push(".part");
        let unfinished = PathBuf::from(name);
        let cannot = || cannot_write(&path);
        let file = File::create(&unfinished).with_context(cannot)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(cannot),
            _ => Ok(PortsFile { path, unfinished, file }),
        }
    }

    /// The server is ready.
    ///
    /// # Errors
    /// The file cannot be written; names it.
    pub(crate) fn publish(self, addresses: Addresses) -> Result<()> {
        let mut ports = serde_json::json!({
            "http": addresses.http.port(),
            "grpc": addresses.grpc.port(),
            "metrics": addresses.metrics.port(),
        });
        if let Some(admin) = addresses.admin {
            ports["admin"] = admin.port().into();
        }
        self.publish_value(&ports)
    }

    /// The process is ready, and is to be found there.
    ///
    /// # Errors
    /// The file cannot be written; names it.
    pub(crate) fn publish_value(mut self, ports: &serde_json::Value) -> Result<()> {
        let written = self.file.write_all(ports.to_string().as_bytes());
        written
            .and_then(|()| std::fs::rename(&self.unfinished, &self.path))
            .with_context(|| cannot_write(&self.path))
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        // Published, it has another name by now.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the ports to {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_once_it_is_published_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.json");
        std::fs::write(&path, "of an earlier server").unwrap();
        let ports = PortsFile::prepare(path.clone()).unwrap();
        assert!(!path.exists());
        let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        ports.publish(Addresses { http: at(1), grpc: at(2), metrics: at(3), admin: None }).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, r#"{"http":1,"grpc":2,"metrics":3}"#);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_stays_behind_of_a_server_that_never_was_ready() {
        let folder = tempfile::tempdir().unwrap();
        drop(PortsFile::prepare(folder.path().join("ports.json")).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = folder.path().join("missing/ports.json");
        let error = PortsFile::prepare(missing.clone()).unwrap_err();
        assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    }
}
