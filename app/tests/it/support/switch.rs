//! A target that is well or not, as the test says.

use super::servers::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncWriteExt;

/// An HTTP server that answers 200 or 503 as it is told.
pub async fn http(well: bool) -> (Server, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(well));
    let switch = well.clone();
    let server = Server::tcp(move |mut stream| {
        let well = switch.load(Ordering::SeqCst);
        async move {
            super::servers::read_head(&mut stream).await;
            let answer = if well { "HTTP/1.1 200 OK\r\n" } else { "HTTP/1.1 503 Out of Order\r\n" };
            let _ = stream.write_all(format!("{answer}Content-Length: 2\r\nConnection: close\r\n\r\nok").as_bytes()).await;
        }
    })
    .await;
    (server, well)
}
