//! A certificate authority of a test's own, and the files that a server and its clients need of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Signs certificates and writes them into a directory.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
    name: String,
}

impl Authority {
    /// A new one, whose own certificate is `<name>.pem`.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.self_signed(&key).expect("a certificate can sign itself");
        write(directory, &format!("{name}.pem"), &certificate.pem());
        Authority { issuer: Issuer::new(params, key), directory: directory.to_path_buf(), name: name.to_owned() }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate that holds these names and addresses: `<name>.pem` and `<name>.key`.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn sign(&self, name: &str, holds: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params(name, holds).signed_by(&key, &self.issuer).expect("an authority can sign");
        let files = (format!("{name}.pem"), format!("{name}.key"));
        write(&self.directory, &files.0, &certificate.pem());
        write(&self.directory, &files.1, &key.serialize_pem());
        (self.directory.join(files.0), self.directory.join(files.1))
    }
}

fn params(name: &str, holds: &[&str]) -> CertificateParams {
    let holds: Vec<String> = holds.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(holds).expect("names that certificates can hold");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(directory: &Path, name: &str, pem: &str) {
    fs::write(directory.join(name), pem).expect("the directory can be written to");
}
