//! A certificate authority of a test's own, and the files that a server and its clients need of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

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
        Self::of(directory, name, params(name, &[]))
    }

    /// One whose time is long over.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn expired(directory: &Path, name: &str) -> Self {
        Self::of(directory, name, long_ago(params(name, &[])))
    }

    fn of(directory: &Path, name: &str, mut params: CertificateParams) -> Self {
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
        self.sign_params(name, params(name, holds))
    }

    /// As [`Authority::sign`], but the certificate has expired long ago.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn sign_expired(&self, name: &str, holds: &[&str]) -> (PathBuf, PathBuf) {
        self.sign_params(name, long_ago(params(name, holds)))
    }

    /// Makes a certificate that holds these names and addresses, and has signed itself: `<name>.pem` and `<name>.key`,
    /// as `openssl req -x509` makes them.
    ///
    /// # Panics
    ///
    /// When the directory cannot be written to.
    pub fn sign_itself(directory: &Path, name: &str, holds: &[&str]) -> (PathBuf, PathBuf) {
        let mut params = params(name, holds);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.self_signed(&key).expect("a certificate can sign itself");
        let files = (format!("{name}.pem"), format!("{name}.key"));
        write(directory, &files.0, &certificate.pem());
        write(directory, &files.1, &key.serialize_pem());
        (directory.join(files.0), directory.join(files.1))
    }

    fn sign_params(&self, name: &str, params: CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority can sign");
        let files = (format!("{name}.pem"), format!("{name}.key"));
        write(&self.directory, &files.0, &certificate.pem());
        write(&self.directory, &files.1, &key.serialize_pem());
        (self.directory.join(files.0), self.directory.join(files.1))
    }
}

/// The same for a month that is over.
fn long_ago(mut params: CertificateParams) -> CertificateParams {
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    params
}

fn params(name: &str, holds: &[&str]) -> CertificateParams {
    let holds: Vec<String> = holds.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(holds).expect("names that certificates can hold");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(directory: &Path, name: &str, pem: &str) {
    // As certbot and Kubernetes do it: a whole new file, which only its owner may read.
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    fs::write(&new, pem).expect("the directory can be written to");
    #[cfg(unix)]
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("an own file can be made private");
    fs::rename(&new, &path).expect("a file can be renamed");
}
