//! Ports to listen on.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::id,
    sync::atomic::{AtomicU16, Ordering},
};

/// A port that is free now, below the range from which the system takes ports for outgoing
/// connections, so that it is still free when a server is restarted on it.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 11_000;
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (id().wrapping_mul(131) + step) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("below 2^16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
