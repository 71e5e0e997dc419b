//! Two network namespaces joined by a link that can be cut: a *node* that watches, and the *world* that it watches.
//!
//! Needs root and `ip` (Debian package iproute2). The world has public addresses of its own (RFC 5737) behind the node's gateway.
//! Sockets are made by threads that enter a namespace for a moment and are used from anywhere. Everything is gone when the
//! value is dropped.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The node's address on the link.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 231, 7, 2);
/// The world's address on the link: the node's gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 231, 7, 1);
/// The node's name server.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);

/// The n-th host of the world, from 1 to 50.
pub const fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, n)
}

static LAID: AtomicU32 = AtomicU32::new(0);

/// How the link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The node's default route is deleted: what is far has no way, the gateway has.
    NoRoute,
    /// The node's end is taken down: nothing has a way.
    LinkDown,
    /// The far end is taken down: everything is sent, and nothing comes back.
    Silence,
}

/// The namespaces.
pub struct Wires {
    node: String,
    world: String,
}

impl Wires {
    /// Makes them, with so many hosts in the world. An error says what is lacking here.
    pub fn lay(hosts: u8) -> Result<Self, String> {
        let name = format!("wk{}x{}", std::process::id(), LAID.fetch_add(1, Ordering::Relaxed));
        let wires = Self { node: format!("{name}n"), world: format!("{name}w") };
        ip(&["netns", "add", &wires.node])?;
        ip(&["netns", "add", &wires.world])?;
        let resolv = wires.etc();
        fs::create_dir_all(&resolv).map_err(|error| format!("{}: {error}", resolv.display()))?;
        fs::write(resolv.join("resolv.conf"), format!("nameserver {NAME_SERVER}\n")).map_err(|error| error.to_string())?;
        wires.in_node(&["link", "add", "wk0", "type", "veth", "peer", "name", "wk1", "netns", &wires.world])?;
        wires.in_node(&["addr", "add", &format!("{NODE}/24"), "dev", "wk0"])?;
        wires.in_world(&["addr", "add", &format!("{GATEWAY}/24"), "dev", "wk1"])?;
        for n in (1..=hosts).map(host).chain([NAME_SERVER]) {
            wires.in_world(&["addr", "add", &format!("{n}/32"), "dev", "lo"])?;
        }
        for (namespace, device) in [(&wires.node, "lo"), (&wires.node, "wk0"), (&wires.world, "lo"), (&wires.world, "wk1")] {
            ip(&["-n", namespace, "link", "set", device, "up"])?;
        }
        wires.add_route()?;
        Ok(wires)
    }

    /// Cuts the link.
    pub fn cut(&self, how: Cut) -> Result<(), String> {
        match how {
            Cut::NoRoute => self.in_node(&["route", "del", "default"]),
            Cut::LinkDown => self.in_node(&["link", "set", "wk0", "down"]),
            Cut::Silence => self.in_world(&["link", "set", "wk1", "down"]),
        }
    }

    /// Mends what was cut so.
    pub fn mend(&self, how: Cut) -> Result<(), String> {
        match how {
            Cut::NoRoute => self.add_route(),
            Cut::LinkDown => {
                self.in_node(&["link", "set", "wk0", "up"])?;
                // The kernel has forgotten it with the link, and then adding it is needed; or not, and then it is harmless.
                let _ = self.add_route();
                Ok(())
            }
            Cut::Silence => self.in_world(&["link", "set", "wk1", "up"]),
        }
    }

    /// Takes a host out of the world: it is silent from now on.
    pub fn remove(&self, n: u8) -> Result<(), String> {
        self.in_world(&["addr", "del", &format!("{}/32", host(n)), "dev", "lo"])
    }

    /// A command that runs in the node's namespace, with its name server.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.node]).arg(program);
        command
    }

    /// A listening socket in the world.
    pub fn listen(&self, address: Ipv4Addr, port: u16) -> std::net::TcpListener {
        inside(&self.world, move || std::net::TcpListener::bind((address, port)))
    }

    /// A datagram socket in the world.
    pub fn datagrams(&self, address: Ipv4Addr, port: u16) -> std::net::UdpSocket {
        inside(&self.world, move || std::net::UdpSocket::bind((address, port)))
    }

    /// A connection from inside the node to itself.
    pub fn connect(&self, port: u16) -> std::io::Result<std::net::TcpStream> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        inside(&self.node, move || Ok(std::net::TcpStream::connect(address)))
    }

    fn add_route(&self) -> Result<(), String> {
        self.in_node(&["route", "add", "default", "via", &GATEWAY.to_string()])
    }

    fn in_node(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.node], args].concat())
    }

    fn in_world(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.world], args].concat())
    }

    /// What `ip netns exec` puts over `/etc`.
    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.node)
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        // As much as was made.
        let _ = ip(&["netns", "del", &self.node]);
        let _ = ip(&["netns", "del", &self.world]);
        let _ = fs::remove_dir_all(self.etc());
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(|error| format!("`ip` cannot be run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
}

/// Does something on a thread of its own in a namespace; a thread that has entered one is not used for anything else.
fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> T {
    let path = Path::new("/run/netns").join(namespace);
    let entered = std::thread::spawn(move || {
        move_into_link_name_space(File::open(path)?.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    });
    entered.join().expect("entering a namespace does not panic").expect("a namespace that we made lets us work in it")
}
