//! A real nginx that a test may kill and start again on the same port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A start takes a few milliseconds; beyond this it is broken.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One nginx with its own folder.
pub struct Nginx {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Nginx {
    /// Starts one; `None`, after saying so, when there is none on this machine.
    pub fn start() -> Option<Self> {
        let found = Command::new("nginx").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !found {
            assert!(std::env::var_os("WATCHKEEPER_REQUIRE_ALL").is_none(), "nginx is required here");
            println!("SKIPPED: no nginx (Debian package nginx-light)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let at = folder.path().display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 64; }}
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
               server {{ listen {address}; location / {{ return 200 'ok'; }} }} }}"
        );
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut nginx = Self { address, folder, process: None };
        nginx.revive();
        Some(nginx)
    }

    /// Starts it again; returns when it takes connections.
    pub fn revive(&mut self) {
        let folder = self.folder.path();
        let error_log = format!("{}/error.log", folder.display());
        let process = Command::new("nginx")
            .arg("-e")
            .arg(error_log)
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(began.elapsed() < START_LIMIT, "nginx does not start");
            std::thread::yield_now();
        }
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
