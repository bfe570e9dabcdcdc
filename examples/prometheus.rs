//! Shows the metrics to Prometheus: `cargo run --example prometheus [ADDRESS]`, then fetch the URL that it prints.
//!
//! On five nodes in memory two tasks contend for a lock, for as long as the program runs.

use std::{env, error::Error, time::Duration};

use metrics_exporter_prometheus::PrometheusBuilder;
use redlock::{MemoryBackend, Redlock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let redlock = Redlock::new((0..5).map(|_| MemoryBackend::new()))?;
    for _ in 0..2 {
        tokio::spawn(contend(redlock.clone()));
    }

    let address = env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/metrics", listener.local_addr()?);
    loop {
        let (mut socket, _) = listener.accept().await?;
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await?;
        let body = metrics.render();
        let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n";
        socket.write_all(format!("{head}{body}").as_bytes()).await?;
    }
}

async fn contend(redlock: Redlock) {
    loop {
        let held = redlock.using("demo", Duration::from_secs(1), async |_| {
            sleep(Duration::from_millis(400)).await;
        });
        if let Err(error) = held.await {
            eprintln!("{error}");
        }
        sleep(Duration::from_millis(50)).await;
    }
}
