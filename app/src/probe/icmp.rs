//! ICMP: a few echo requests, how many came back, how long they took, and how much that varies.
//!
//! One reply is enough to be up, unless `max_loss` or `max_jitter` ask for more. The time of an attempt is the mean round
//! trip, not the seconds that several requests are spread over.

use super::dial::{self, IP_VERSION, Laps, is_host};
use super::echo::{Echo, NONCE};
use super::{Attempt, Hop, IcmpFacts, Probe, ProbeConfig, ProbeContext, Resolved};
use crate::config::decode::{Fields, Key, Node, Problems, duration, integer, parsed, show_duration};
use crate::config::tagged::Kind;
use crate::net::{Family, Fault};
use async_trait::async_trait;
use std::io::{Error, ErrorKind};
use std::time::{Duration, Instant};
use watchkeeper_core::{Dur, Reason};

/// More requests in one attempt would be a flood; monitors that want finer loss figures look more often.
const COUNT_MAX: i64 = 100;
/// The largest payload that one IPv4 packet holds (RFC 791).
const SIZE_MAX: i64 = 65_507;

/// Keys of `icmp:`.
pub const KEYS: &[Key] = &[
    Key { name: "host", form: "a host name or an address", default: "", doc: "Who is asked to echo." },
    Key { name: "count", form: "a whole number from 1 to 100", default: "1", doc: "Echo requests in one attempt." },
    Key { name: "interval", form: "a duration from 10ms to 10s", default: "200ms", doc: "Between two requests." },
    Key { name: "wait", form: "a duration from 10ms to 1m", default: "2s", doc: "A reply that takes longer is lost." },
    Key { name: "size", form: "a whole number from 8 to 65507", default: "56", doc: "Bytes of payload in each request." },
    Key { name: "max_loss", form: "a whole number from 0 to 99", default: "99", doc: "Lost packets in percent; more is down." },
    Key { name: "max_jitter", form: "a duration from 1us to 1m", default: "", doc: "Mean deviation of the round trip; more is down." },
    IP_VERSION,
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "icmp",
    doc: "Echo requests (ping).",
    keys: KEYS,
    sections: &[],
    examples: &[("host", "192.0.2.1")],
    address: &["host"],
    decode: |node, problems| Config::decode(node, problems).map(ProbeConfig::Icmp),
};

/// What `icmp:` says.
#[derive(Clone, Debug)]
pub struct Config {
    host: String,
    count: u16,
    interval: Duration,
    wait: Duration,
    size: usize,
    max_loss_permille: u16,
    max_jitter: Option<Dur>,
    family: Family,
}

impl Config {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, KEYS, problems)?;
        let host = fields.require("host", problems).and_then(|n| parsed(n, "a host name or an address", problems, host));
        let mut number = |key, default, range| fields.get(key).map_or(Some(default), |n| integer(n, range, problems));
        let count = number("count", 1, 1..=COUNT_MAX);
        let size = number("size", 56, NONCE as i64..=SIZE_MAX);
        let max_loss = number("max_loss", 99, 0..=99);
        let mut time = |key, default, range| fields.get(key).map_or(Some(default), |n| duration(n, range, problems).map(to_std));
        let interval = time("interval", Duration::from_millis(200), Dur::millis(10)..=Dur::secs(10));
        let wait = time("wait", Duration::from_secs(2), Dur::millis(10)..=Dur::secs(60));
        let max_jitter = match fields.get("max_jitter") {
            Some(node) => duration(node, Dur(1)..=Dur::secs(60), problems).map(Some),
            None => Some(None),
        };
        let family = dial::ip_version(&fields, problems);
        Some(Self {
            host: host?,
            count: u16::try_from(count?).ok()?,
            interval: interval?,
            wait: wait?,
            size: usize::try_from(size?).ok()?,
            max_loss_permille: u16::try_from(max_loss? * 10).ok()?,
            max_jitter: max_jitter?,
            family: family?,
        })
    }

    /// What is watched.
    pub fn target(&self) -> String {
        format!("icmp://{}", self.host)
    }

    /// Ready to attempt.
    pub fn build(&self) -> Box<dyn Probe> {
        Box::new(IcmpProbe { config: self.clone() })
    }
}

fn host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<std::net::IpAddr>().is_ok();
    (address || is_host(bare) && !bare.contains(':')).then(|| bare.to_owned())
}

fn to_std(d: Dur) -> Duration {
    Duration::from_micros(u64::try_from(d.0).unwrap_or(0))
}

struct IcmpProbe {
    config: Config,
}

#[async_trait]
impl Probe for IcmpProbe {
    async fn attempt(&self, cx: &ProbeContext) -> Attempt {
        let config = &self.config;
        let mut hop = Hop { url: config.target(), ..Hop::default() };
        let mut laps = Laps::start();
        let found = cx.net.resolve(&config.host, config.family, cx.path, cx.deadline).await;
        hop.dns_us = laps.lap();
        let echo = found.and_then(|found| {
            hop.resolved = Resolved::of(&found);
            let none = || Fault::down(Reason::DnsNoAnswer, format!("{} has no address", config.host));
            let address = found.addresses.first().copied().ok_or_else(none)?;
            hop.address = Some(address.to_string());
            cx.guard.check(address)?;
            Echo::open(address)
        });
        let echo = match echo {
            Ok(echo) => echo,
            Err(fault) => return dial::ended(hop, Some(fault)),
        };
        let mut volley = Volley::default();
        let own = volley.run(&echo, config, cx.deadline).await.err();
        let facts = volley.facts(echo.kind.as_str());
        hop.first_byte_us = if facts.received > 0 { facts.rtt_us } else { laps.lap() };
        let fault = own.or_else(|| config.judge(&facts, &volley).err());
        Attempt { icmp: Some(facts), ..dial::ended(hop, fault) }
    }
}

impl Config {
    fn judge(&self, facts: &IcmpFacts, volley: &Volley) -> Result<(), Fault> {
        let (host, sent, received) = (&self.host, facts.sent, facts.received);
        if let (0, Some(error)) = (received, &volley.unreachable) {
            return Err(Fault::down(Reason::IcmpUnreachable, format!("{host}: {error}")));
        }
        if received == 0 {
            return Err(Fault::down(Reason::IcmpTimeout, format!("{host} answered none of {sent} echo requests")));
        }
        if facts.loss_permille > self.max_loss_permille {
            let (loss, most) = (facts.loss_permille / 10, self.max_loss_permille / 10);
            return Err(Fault::down(Reason::IcmpLoss, format!("{host} answered {received} of {sent}: {loss} % lost, {most} % allowed")));
        }
        let jitter = Dur(i64::try_from(facts.jitter_us).unwrap_or(i64::MAX));
        match self.max_jitter {
            Some(most) if jitter > most => {
                let text = format!("the round trip to {host} varies by {}, {} is allowed", show_duration(jitter), show_duration(most));
                Err(Fault::down(Reason::IcmpJitter, text))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The requests of one attempt.
#[derive(Default)]
struct Volley {
    /// When each was sent; the index is the sequence number.
    sent: Vec<Instant>,
    /// The round trip of each that came back, in µs.
    back: Vec<Option<u64>>,
    /// Errors that came back in place of replies.
    refused: usize,
    unreachable: Option<Error>,
}

impl Volley {
    /// Sends at the interval and receives until all are settled or their time is up. An error is our own fault.
    async fn run(&mut self, echo: &Echo, config: &Config, deadline: Instant) -> Result<(), Fault> {
        // The largest reply: with an IPv4 header with all options in front.
        let mut buffer = vec![0_u8; config.size + 8 + 60];
        let count = usize::from(config.count);
        let start = Instant::now();
        loop {
            let now = Instant::now();
            let next = start + config.interval * u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
            if self.sent.len() < count && now >= next && now < deadline {
                let sequence = self.sent.len() as u16;
                self.sent.push(Instant::now());
                self.back.push(None);
                if let Err(error) = echo.send(sequence, config.size).await {
                    self.note(error, config)?;
                }
                continue;
            }
            let last_reply = self.sent.last().map_or(start, |at| *at) + config.wait;
            let settled = self.sent.len() == count && self.received() + self.refused >= count;
            let until = if self.sent.len() < count { next.min(deadline) } else { last_reply.min(deadline) };
            if settled || now >= until {
                return Ok(());
            }
            match tokio::time::timeout_at(until.into(), echo.receive(&mut buffer)).await {
                Ok(Ok(sequence)) => self.take(usize::from(sequence), config.wait),
                Ok(Err(error)) => self.note(error, config)?,
                Err(_elapsed) => {}
            }
        }
    }

    fn take(&mut self, sequence: usize, wait: Duration) {
        let Some(at) = self.sent.get(sequence) else { return };
        let trip = at.elapsed();
        // A second copy of a reply is no second reply; a late one is lost.
        if trip <= wait && self.back[sequence].is_none() {
            self.back[sequence] = Some(u64::try_from(trip.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Sorts an error of the socket: the target's is one packet settled, ours ends the attempt.
    fn note(&mut self, error: Error, config: &Config) -> Result<(), Fault> {
        let theirs = matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::ConnectionRefused);
        if !theirs {
            return Err(Fault::io(&error, Reason::IcmpUnreachable, format_args!("sending echo requests to {}", config.host)));
        }
        self.refused += 1;
        self.unreachable = Some(error);
        Ok(())
    }

    fn received(&self) -> usize {
        self.back.iter().flatten().count()
    }

    fn facts(&self, socket: &str) -> IcmpFacts {
        let trips: Vec<u64> = self.back.iter().flatten().copied().collect();
        let (sent, received) = (self.sent.len(), trips.len());
        let mean = |values: &mut dyn Iterator<Item = u64>| values.sum::<u64>() / (received.max(1) as u64);
        let rtt_us = mean(&mut trips.iter().copied());
        let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        IcmpFacts {
            sent: small(sent),
            received: small(received),
            rtt_us,
            jitter_us: mean(&mut trips.iter().map(|trip| trip.abs_diff(rtt_us))),
            loss_permille: small((sent - received) * 1_000 / sent.max(1)),
            socket: socket.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchkeeper_core::Outcome;

    fn config(max_loss_permille: u16, max_jitter: Option<Dur>) -> Config {
        let second = Duration::from_secs(1);
        Config {
            host: "h".to_owned(),
            count: 4,
            interval: second,
            wait: second,
            size: 56,
            max_loss_permille,
            max_jitter,
            family: Family::Any,
        }
    }

    fn volley(back: &[Option<u64>]) -> Volley {
        Volley { sent: vec![Instant::now(); back.len()], back: back.to_vec(), refused: 0, unreachable: None }
    }

    fn verdict(config: &Config, back: &[Option<u64>]) -> Option<Reason> {
        let volley = volley(back);
        config.judge(&volley.facts("raw"), &volley).err().map(|f| match f.outcome {
            Outcome::Down(reason) => reason,
            other @ (Outcome::Up | Outcome::Unknown(_)) => panic!("{other:?}"),
        })
    }

    #[test]
    fn loss_and_jitter_are_counted_over_what_was_sent_and_received() {
        let facts = volley(&[Some(100), None, Some(300), Some(200)]).facts("raw");
        assert_eq!((facts.sent, facts.received, facts.loss_permille), (4, 3, 250));
        assert_eq!((facts.rtt_us, facts.jitter_us), (200, 66));
        let none = volley(&[None, None]).facts("raw");
        assert_eq!((none.received, none.loss_permille, none.rtt_us, none.jitter_us), (0, 1_000, 0, 0));
    }

    #[test]
    fn unreachable_is_told_unless_something_came_back() {
        let config = config(990, None);
        let noted = |back: &[Option<u64>]| {
            let mut volley = volley(back);
            volley.note(ErrorKind::HostUnreachable.into(), &config).unwrap();
            config.judge(&volley.facts("raw"), &volley).err().map(|f| f.outcome)
        };
        assert_eq!(noted(&[None, None]), Some(Outcome::Down(Reason::IcmpUnreachable)));
        assert_eq!(noted(&[None, Some(100)]), None);
        let own = volley(&[]).note(Error::from_raw_os_error(libc::ENOBUFS), &config).unwrap_err();
        assert_eq!(own.outcome, Outcome::Unknown(watchkeeper_core::Blind::NoResource));
    }

    #[test]
    fn conditions_on_loss_and_jitter_name_their_fault() {
        let back = [Some(100), None, Some(300), Some(200)];
        assert_eq!(verdict(&config(990, None), &back), None);
        assert_eq!(verdict(&config(250, None), &back), None);
        assert_eq!(verdict(&config(240, None), &back), Some(Reason::IcmpLoss));
        assert_eq!(verdict(&config(990, Some(Dur(66))), &back), None);
        assert_eq!(verdict(&config(990, Some(Dur(65))), &back), Some(Reason::IcmpJitter));
        assert_eq!(verdict(&config(990, None), &[None; 4]), Some(Reason::IcmpTimeout));
    }
}
