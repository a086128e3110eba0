//! Certificates for a test.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use std::fs;
use std::path::Path;
use symphony_tls::{Identity, TlsFiles};

/// An authority of the test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A role at 127.0.0.1 with a certificate of this authority, which trusts another one.
    pub(crate) fn role(&self, trusts: &Authority, files: &Path, name: &str) -> Identity {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |kind: &str, text: &str| {
            let path = files.join(format!("{name}.{kind}"));
            fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            certificate: write("pem", &certificate.pem()),
            key: write("key", &key.serialize_pem()),
            ca: Some(write("ca", &trusts.pem)),
        };
        Identity::open(files).unwrap()
    }
}
