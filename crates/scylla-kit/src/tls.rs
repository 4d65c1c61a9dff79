//! The encryption of the connections: rustls with ring, given by hand so that nothing depends on a provider installed for the process.

use std::{fs::File, io::BufReader, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{Error, config::Tls};

/// `None` when encryption is off.
pub(crate) fn client(tls: &Tls) -> Result<Option<Arc<ClientConfig>>, Error> {
    if tls.ca_file == Path::new("") {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca_file)? {
        roots.add(certificate).map_err(|error| unreadable(&tls.ca_file, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| Error::Refused(format!("TLS: {error}")))?.with_root_certificates(roots);
    let config = if tls.certificate_file == Path::new("") {
        builder.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|error| unreadable(&tls.key_file, &error))?;
        let chain = certificates(&tls.certificate_file)?;
        builder.with_client_auth_cert(chain, key).map_err(|error| unreadable(&tls.certificate_file, &error))?
    };
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(BufReader::new(file)).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unreadable(path, &"no certificate in it")),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Refused(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_no_encryption_and_a_wrong_one_is_named() {
        assert!(client(&Tls::default()).expect("off").is_none());
        let tls = Tls { ca_file: "/nowhere/ca.pem".into(), ..Tls::default() };
        let error = client(&tls).expect_err("no such file");
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
        let tls = Tls { ca_file: concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(), ..Tls::default() };
        let error = client(&tls).expect_err("no certificate");
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
