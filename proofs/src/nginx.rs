//! A real nginx as target, on ports and in a folder of its own.

use crate::child::{Guard, on_core, until};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Where its files are and where it listens.
pub struct Nginx {
    dir: PathBuf,
    program: PathBuf,
    core: Option<usize>,
    /// HTTP.
    pub http: u16,
    /// HTTPS, with a P-256 certificate, TLS 1.3 only, no resumption.
    pub https: u16,
}

impl Nginx {
    /// Writes configuration and certificate into `dir`; starts nothing.
    pub fn prepare(dir: &Path, core: Option<usize>) -> Result<Self> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].iter().map(PathBuf::from).find(|p| p.exists());
        let program = program.context("nginx is missing (Debian package nginx-light)")?;
        std::fs::create_dir_all(dir)?;
        let (http, https) = (crate::child::free_port()?, crate::child::free_port()?);
        let authority = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(dir.join("ca.pem"), params.self_signed(&authority)?.pem())?;
        let issuer = rcgen::Issuer::new(params, authority);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?.signed_by(&key, &issuer)?;
        std::fs::write(dir.join("cert.pem"), leaf.pem())?;
        std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
        let root = dir.display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/error.log crit;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n\
               access_log off; keepalive_timeout 30s; server_tokens off;\n\
               client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
               server {{ listen 127.0.0.1:{http} backlog=8192; location / {{ default_type text/plain; return 200 ok; }} }}\n\
               server {{ listen 127.0.0.1:{https} ssl backlog=8192; ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem;\n\
                 ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off;\n\
                 location / {{ default_type text/plain; return 200 ok; }} }}\n\
             }}\n"
        );
        std::fs::write(dir.join("nginx.conf"), config)?;
        Ok(Self { dir: dir.to_owned(), program, core, http, https })
    }

    /// The authority that issued its certificate, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Starts it and waits until it listens.
    pub fn start(&self) -> Result<Guard> {
        let child = on_core(self.core, &self.program)
            .arg("-p")
            .arg(&self.dir)
            .arg("-c")
            .arg(self.dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting nginx")?;
        let guard = Guard(child);
        let (http, https) = (self.http, self.https);
        let listening = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        until(Duration::from_secs(10), "the start of nginx", || (listening(http) && listening(https)).then_some(()))?;
        Ok(guard)
    }
}
