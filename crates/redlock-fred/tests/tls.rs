//! `rediss://`, over rustls.
#![cfg(feature = "tls-rustls")]

mod common;

use std::{fs, sync::Arc};

use common::{TTL, alone, works};
use fred::{
    rustls::{ClientConfig, RootCertStore, crypto::ring},
    types::config::{Config, TlsConnector},
};
use redlock_core::Error;
use redlock_fred::{FredNode, fred};
use redlock_test::server::RedisServer;

#[tokio::test]
async fn tls_with_a_certificate_of_ones_own() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert_file = file("cert.pem", &made.cert.pem());
    let key_file = file("key.pem", &made.signing_key.serialize_pem());
    let server = RedisServer::start_tls(&cert_file, &key_file);
    let url = format!("rediss://localhost:{}", server.address().port());

    let untrusted = alone(FredNode::new(&url).unwrap());
    let error = untrusted.try_acquire("a", TTL).await.unwrap_err();
    assert!(matches!(error, Error::NoQuorum(_)), "{error}");
    assert!(error.to_string().to_lowercase().contains("cert"), "{error}");

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let rustls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = Config::from_url(&url).unwrap();
    config.tls = Some(TlsConnector::from(rustls).into());
    let trusted = alone(FredNode::builder().config(config).unwrap());
    works(&trusted, &["a"]).await;
}
