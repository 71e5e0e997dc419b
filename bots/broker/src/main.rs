//! A broker that speaks Kafka's protocol, for as long as whoever started it lives: the other end of standard input is held there, and
//! closes with that process, however it ends.
//!
//! Its storage ends for good when a client goes away before it was answered (tansu 0.6: `ChannelRequestService` returns when it cannot send
//! its response), and clients are killed here on purpose. So clients talk to `FRONT`, which passes everything on to the broker at `INNER`,
//! and holds that connection for a while after the client's has ended.

use std::io;
use std::process::{ExitCode, exit};
use std::time::Duration;
use tokio::io::{copy, sink};
use tokio::net::{TcpListener, TcpStream};

/// The broker has answered whatever it was asked within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    // It serves nobody any more when one of its tasks has panicked, and would go on so for ever. Another process finds everything in the file.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}\n{}", std::backtrace::Backtrace::capture());
        exit(101);
    }));
    std::thread::spawn(|| {
        // An error is an end too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        exit(0);
    });
    let (Ok(front), Ok(inner)) = (std::env::var("FRONT"), std::env::var("INNER")) else {
        eprintln!("FRONT and INNER must be set: two addresses, host:port");
        return ExitCode::from(2);
    };
    tokio::spawn(async move {
        if let Err(error) = serve(&front, inner).await {
            eprintln!("listening on {front}: {error}");
            exit(1);
        }
    });
    match tansu_cli::Cli::main().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(front: &str, inner: String) -> io::Result<()> {
    let listener = TcpListener::bind(front).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(pass(client, inner.clone()));
    }
}

/// Passes everything on, both ways.
async fn pass(client: TcpStream, inner: String) -> io::Result<()> {
    let broker = TcpStream::connect(inner).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let back = tokio::spawn(async move {
        // Until one of them is gone; what the broker still says then is for nobody.
        if copy(&mut from_broker, &mut to_client).await.is_err() {
            let _ = copy(&mut from_broker, &mut sink()).await;
        }
    });
    let _ = copy(&mut from_client, &mut to_broker).await;
    let _ = tokio::time::timeout(ANSWERED_WITHIN, back).await;
    Ok(())
}
