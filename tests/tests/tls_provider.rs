//! A process of its own: the TLS provider is chosen once per process.

use redlock::RedisNode;

#[test]
fn only_a_node_that_speaks_tls_chooses_a_provider_and_only_if_nobody_has() {
    use rustls::crypto::{CryptoProvider, ring};

    RedisNode::new("redis://127.0.0.1").unwrap();
    assert!(CryptoProvider::get_default().is_none());
    RedisNode::new("rediss://127.0.0.1").unwrap();
    assert!(CryptoProvider::get_default().is_some());
    assert!(ring::default_provider().install_default().is_err());
    RedisNode::new("rediss://127.0.0.1:2").unwrap();
}
