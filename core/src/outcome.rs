//! What one attempt found: [`Outcome`], with closed lists of why.
//!
//! `Down` says that the target is at fault, `Unknown` that *we* could not look. The codes are stored,
//! so a number is never reused; the words are part of the API and of metric labels.

use serde::{Deserialize, Serialize};

/// The result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target did what was expected.
    Up,
    /// The target is at fault.
    Down(Reason),
    /// We could not look: never alerts as the target, is not counted in uptime, touches no streak.
    Unknown(Blind),
}

impl Outcome {
    /// `up`, `down` or `unknown`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down(_) => "down",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The stored form: 0 up, 1 down, 2 unknown, with the code of why (0 for up).
    pub const fn codes(self) -> (i16, i16) {
        match self {
            Self::Up => (0, 0),
            Self::Down(reason) => (1, reason.code()),
            Self::Unknown(blind) => (2, blind.code()),
        }
    }

    /// Reads the stored form back; `None` for codes this version does not know.
    pub fn from_codes(outcome: i16, why: i16) -> Option<Self> {
        match outcome {
            0 => Some(Self::Up),
            1 => Reason::from_code(why).map(Self::Down),
            2 => Blind::from_code(why).map(Self::Unknown),
            _ => None,
        }
    }

    /// Why it is not up, as a word: `dns_nxdomain`, `no_route`, …
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Self::Up => None,
            Self::Down(reason) => Some(reason.as_str()),
            Self::Unknown(blind) => Some(blind.as_str()),
        }
    }
}

macro_rules! closed {
    ($(#[$outer:meta])* $name:ident { $($variant:ident = $code:literal, $word:literal, $doc:literal;)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $(#[doc = $doc] $variant,)+ }

        impl $name {
            /// Every value, in the order of its code.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stored number; never reused.
            pub const fn code(self) -> i16 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The word in the API, in metrics and in `--json`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// One sentence for a person, without a full stop.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $doc),+ }
            }

            /// The value of a stored number.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

closed! {
    /// Why a target is down. About forty, closed: a new fault gets a name of its own here.
    Reason {
        DnsNxdomain = 1, "dns_nxdomain", "the name does not exist (NXDOMAIN)";
        DnsServfail = 2, "dns_servfail", "the name server failed (SERVFAIL)";
        DnsRefused = 3, "dns_refused", "the name server refused the question (REFUSED)";
        DnsNoAnswer = 4, "dns_no_answer", "the name has no record of the asked type";
        DnsTimeout = 5, "dns_timeout", "the name server did not answer";
        DnsMalformed = 6, "dns_malformed", "the name server's answer made no sense";
        DnsUnexpectedRcode = 7, "dns_unexpected_rcode", "the name server's response code was not the expected one";
        DnsUnexpectedAnswer = 8, "dns_unexpected_answer", "the name server's answer was not the expected one";
        DnsNotListening = 9, "dns_not_listening", "nothing listens on the name server's port";
        TcpRefused = 20, "tcp_refused", "the connection was refused";
        TcpReset = 21, "tcp_reset", "the connection was reset";
        TcpTimeout = 22, "tcp_timeout", "the connection was not answered";
        TcpUnreachable = 23, "tcp_unreachable", "the host answered as unreachable";
        TcpClosed = 24, "tcp_closed", "the connection was closed too early";
        TcpUnexpected = 25, "tcp_unexpected", "the answer on the connection was not the expected one";
        TcpReadTimeout = 26, "tcp_read_timeout", "the expected answer did not come in time";
        TlsRefused = 40, "tls_refused", "the server refused the TLS handshake";
        TlsProtocolTooOld = 41, "tls_protocol_too_old", "the server only speaks TLS versions that are too old";
        TlsExpired = 42, "tls_expired", "the certificate has expired";
        TlsNotYetValid = 43, "tls_not_yet_valid", "the certificate is not valid yet";
        TlsSelfSigned = 44, "tls_self_signed", "the certificate is self-signed";
        TlsUnknownIssuer = 45, "tls_unknown_issuer", "the certificate's issuer is not trusted";
        TlsWrongHost = 46, "tls_wrong_host", "the certificate is for another host";
        TlsBadCertificate = 47, "tls_bad_certificate", "the certificate is not acceptable";
        TlsTimeout = 48, "tls_timeout", "the TLS handshake did not finish in time";
        TlsNotTls = 49, "tls_not_tls", "the server did not answer with TLS";
        StarttlsRefused = 50, "starttls_refused", "the server did not offer or refused STARTTLS";
        HttpFirstByteTimeout = 60, "http_first_byte_timeout", "the response did not begin in time";
        HttpBodyTimeout = 61, "http_body_timeout", "the response body did not end in time";
        HttpBodyTooLarge = 62, "http_body_too_large", "the response body is larger than max_body";
        HttpMalformed = 63, "http_malformed", "the answer is not HTTP";
        HttpClosed = 64, "http_closed", "the connection was closed before the response was complete";
        HttpRedirectLoop = 65, "http_redirect_loop", "the redirects go in a circle";
        HttpTooManyRedirects = 66, "http_too_many_redirects", "there are more redirects than max_redirects";
        HttpBadRedirect = 67, "http_bad_redirect", "the redirect leads nowhere";
        HttpStatus = 68, "http_status", "the status is not an expected one";
        HttpTextMissing = 69, "http_text_missing", "the expected text is missing";
        HttpTextPresent = 70, "http_text_present", "a forbidden text is present";
        HttpPatternMissing = 71, "http_pattern_missing", "nothing matches the expected pattern";
        HttpJson = 72, "http_json", "the JSON is not the expected one";
        HttpHeader = 73, "http_header", "a header is not the expected one";
        HttpProxy = 74, "http_proxy", "the proxy refused to connect to the target";
        IcmpTimeout = 80, "icmp_timeout", "no echo came back";
        IcmpUnreachable = 81, "icmp_unreachable", "the host answered as unreachable";
        IcmpLoss = 82, "icmp_loss", "more packets were lost than allowed";
        IcmpJitter = 83, "icmp_jitter", "the round trip varies more than allowed";
        PushMissed = 90, "push_missed", "the expected push did not come";
        PushFailed = 91, "push_failed", "the push reported a failure";
        WorkerStuck = 100, "worker_stuck", "a request of the worker has been in flight for too long";
        WorkerNotDraining = 101, "worker_not_draining", "the worker has been draining for longer than its grace period";
        WorkerNotReady = 102, "worker_not_ready", "the worker is not ready to take work";
        WorkerBehind = 103, "worker_behind", "more updates wait for the worker than may";
    }
}

impl Reason {
    /// Whether it says only that something did not happen in time: then whoever was late matters.
    pub const fn is_timeout(self) -> bool {
        matches!(
            self,
            Self::DnsTimeout
                | Self::TcpTimeout
                | Self::TcpReadTimeout
                | Self::TlsTimeout
                | Self::HttpFirstByteTimeout
                | Self::HttpBodyTimeout
                | Self::IcmpTimeout
        )
    }
}

closed! {
    /// Why *we* could not look.
    Blind {
        NoRoute = 1, "no_route", "this node has no route to the target's network";
        Permission = 2, "permission", "this node may not open the socket it needs";
        NoResource = 3, "no_resource", "this node is out of sockets, ports or memory";
        NoResolver = 4, "no_resolver", "this node has no name server to ask";
        ForbiddenAddress = 5, "forbidden_address", "the address is one that probes may not reach";
        Late = 6, "late", "this node was too late for the window";
        Store = 7, "store", "this node could not reach its own store";
        NoReceiver = 8, "no_receiver", "no node was there to receive the push";
        Internal = 9, "internal", "the attempt failed inside the node";
        NoNetwork = 10, "no_network", "this node has lost its own network";
        Setup = 11, "setup", "a file or key the attempt needs could not be read";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_codes_read_back_and_words_are_unique() {
        let mut words = std::collections::BTreeSet::new();
        for outcome in Reason::ALL.iter().map(|r| Outcome::Down(*r)).chain(Blind::ALL.iter().map(|b| Outcome::Unknown(*b))) {
            let (kind, why) = outcome.codes();
            assert_eq!(Outcome::from_codes(kind, why), Some(outcome));
            assert!(words.insert(outcome.why()), "{outcome:?} shares its word");
        }
        assert_eq!(Outcome::from_codes(1, 999), None);
    }
}
