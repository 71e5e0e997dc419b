//! A link to a server that the test can cut and mend, as a network does.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay on a port of its own.
pub struct Link {
    pub address: SocketAddr,
    up: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// To the server at that address.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (up, seen) = watch::channel(true);
        let task = tokio::spawn(async move {
            let mut relayed = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let mut seen = seen.clone();
                relayed.spawn(async move {
                    if !*seen.borrow() {
                        return;
                    }
                    tokio::select! {
                        // Both ends see the connection end when this returns.
                        _ = seen.wait_for(|up| !up) => {}
                        () = relay(near, server) => {}
                    }
                });
            }
        });
        Self { address, up, task }
    }

    /// To a database; and the URL by which it is reached over the link.
    pub async fn to_database(url: &str) -> (Self, String) {
        let mut url = url::Url::parse(url).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432)).parse().unwrap();
        let link = Self::to(server).await;
        url.set_port(Some(link.address.port())).unwrap();
        (link, url.into())
    }

    /// Ends every connection, and lets no new one through.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}

async fn relay(mut near: TcpStream, server: SocketAddr) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    // Either end may go first.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
