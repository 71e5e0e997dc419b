//! A link to a server that a proof can cut and mend: ended at once, as by a proxy that dies, or silent, as by a cable that is pulled.

use crate::child::pause;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often what waits behind a silent link looks whether it is mended.
const LOOK: Duration = Duration::from_millis(20);

/// What the link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Passes everything on.
    Open,
    /// Ends every connection, and each new one.
    Ended,
    /// Passes nothing on, and ends nothing; what was held back goes on when it is open again.
    Silent,
}

struct Shared {
    server: u16,
    state: Mutex<State>,
}

struct State {
    way: Way,
    next: u64,
    /// Both ends of every connection.
    connections: BTreeMap<u64, [TcpStream; 2]>,
}

/// A relay on a port of its own; its threads end with the process.
pub struct Link {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

impl Link {
    /// To the server on that port.
    pub fn to(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("opening a port for a link")?;
        let port = listener.local_addr()?.port();
        let state = State { way: Way::Open, next: 0, connections: BTreeMap::new() };
        let shared = Arc::new(Shared { server, state: Mutex::new(state) });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let shared = accepting.clone();
                std::thread::spawn(move || shared.relay(near));
            }
        });
        Ok(Self { port, shared })
    }

    /// From now on it does this.
    pub fn set(&self, way: Way) {
        let mut state = self.shared.lock();
        state.way = way;
        if way == Way::Ended {
            for end in state.connections.values().flatten() {
                // It may have ended by itself.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the link is silent; false if it has ended.
    fn passes(&self) -> bool {
        loop {
            let way = self.lock().way;
            match way {
                Way::Open => return true,
                Way::Ended => return false,
                Way::Silent => pause(LOOK),
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the connection ends here")]
    fn relay(&self, near: TcpStream) {
        if !self.passes() {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", self.server)) else { return };
        // Only small messages go to and fro, each awaited by the other end.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (Ok(one), Ok(other)) = (near.try_clone(), far.try_clone()) else { return };
        let id = {
            let mut state = self.lock();
            state.next += 1;
            let id = state.next;
            state.connections.insert(id, [one, other]);
            id
        };
        std::thread::scope(|scope| {
            scope.spawn(|| self.pass_on(&near, &far));
            self.pass_on(&far, &near);
        });
        self.lock().connections.remove(&id);
    }

    fn pass_on(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = [0; 16_384];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !self.passes() || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // Nothing comes any more, and so nothing is answered.
        let _ = (from.shutdown(Shutdown::Both), self.passes(), to.shutdown(Shutdown::Both));
    }
}
