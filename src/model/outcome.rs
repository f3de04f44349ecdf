//! What one exchange left behind, and the closed label sets it is counted under.
//!
//! Closed enums bound the metric series: a new label value is a code change. They must never be
//! built from request text.

/// Declares an enum whose variants are label values, with `ALL`, `COUNT`, `label` and `index`.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();
            /// The value as it appears in metrics, logs and JSON.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
            /// Position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

labels! {
    /// Class of the status the client saw.
    CodeClass {
        /// 100-199.
        Informational => "1xx",
        /// 200-299.
        Success => "2xx",
        /// 300-399.
        Redirection => "3xx",
        /// 400-499.
        ClientError => "4xx",
        /// 500-599.
        ServerError => "5xx",
        /// The client got no status.
        None => "none",
    }
}

impl CodeClass {
    /// Class of a status code.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::None,
        }
    }
}

labels! {
    /// What the chosen arm deserved.
    Verdict {
        /// The arm answered.
        Ok => "ok",
        /// An attempt on the arm failed, even if another arm saved the client.
        Error => "error",
        /// The client left or broke its own request: neither good nor bad.
        ClientClosed => "client_closed",
    }
}

labels! {
    /// Why an arm was chosen.
    ChoiceReason {
        /// An override rule named it.
        Override => "override",
        /// A valid pin named it.
        Pin => "pin",
        /// The bucket of the sticky key named it.
        Sticky => "sticky",
        /// No key was present: drawn at random.
        Random => "random",
        /// The chosen arm had no endpoint: another arm answered.
        Redistributed => "redistributed",
    }
}

labels! {
    /// Why an attempt on an upstream failed.
    FailureReason {
        /// Nobody accepted the connection.
        Connect => "connect",
        /// The connection was not accepted in time.
        ConnectTimeout => "connect_timeout",
        /// No secure connection: the certificate, the protocol or our own certificate was refused.
        Tls => "tls",
        /// The connection broke before a response head.
        Reset => "reset",
        /// The response head was not valid HTTP.
        BadResponse => "bad_response",
        /// No response head in time.
        Timeout => "timeout",
        /// The response broke off after its head.
        Truncated => "truncated",
        /// The response body stalled.
        Stalled => "stalled",
        /// The arm had no endpoint to try.
        NoEndpoint => "no_endpoint",
        /// The upstream's own limit was reached.
        Overflow => "overflow",
        /// The upstream answered 5xx.
        Status => "status",
        /// The upstream answered a gRPC status that blames the server.
        GrpcStatus => "grpc_status",
        /// The upstream's breaker was open: it was not asked.
        Breaker => "breaker",
    }
}

labels! {
    /// What became of a request that was to be copied. Everything from [`Self::Method`] on was
    /// dropped: the shadow never heard of it.
    ShadowResult {
        /// The shadow answered, and not with 5xx.
        Ok => "ok",
        /// The shadow answered 5xx.
        ServerError => "5xx",
        /// Nobody accepted the connection in time, or the shadow has no address.
        Connect => "connect",
        /// No whole answer in time.
        Timeout => "timeout",
        /// The connection broke before a response head.
        Reset => "reset",
        /// The response head was not valid HTTP.
        BadResponse => "bad_response",
        /// The answer broke off after its head.
        Truncated => "truncated",
        /// The method is not in the list.
        Method => "method",
        /// The client asked for an upgrade.
        Upgrade => "upgrade",
        /// As many copies as are allowed were under way.
        QueueFull => "queue_full",
        /// The shadow has not answered lately: it is tried now and then.
        BackedOff => "backed_off",
        /// The request body is longer than the mirror's bound.
        BodyTooLarge => "body_too_large",
        /// The memory for copies was used up.
        Budget => "budget",
        /// The upstream's own limit was reached by copies alone.
        Overflow => "overflow",
        /// The client, or the primary, did not let the request body end.
        Unfinished => "unfinished",
    }
}

impl ShadowResult {
    /// Whether the shadow never heard of it.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        self.index() >= Self::Method.index()
    }
}

labels! {
    /// A method, as far as failures are told apart by it.
    MethodClass {
        /// GET.
        Get => "GET",
        /// HEAD.
        Head => "HEAD",
        /// POST.
        Post => "POST",
        /// PUT.
        Put => "PUT",
        /// PATCH.
        Patch => "PATCH",
        /// DELETE.
        Delete => "DELETE",
        /// OPTIONS.
        Options => "OPTIONS",
        /// Any other.
        Other => "other",
    }
}

impl MethodClass {
    /// Class of a method.
    #[must_use]
    pub fn of(method: &str) -> Self {
        let known = Self::ALL.iter().find(|one| one.label() == method);
        known.copied().unwrap_or(Self::Other)
    }
}

/// What went wrong with a bad exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The upstream answered this status.
    Status(u16),
    /// The upstream answered this gRPC status.
    Grpc(u8),
    /// It did not answer, or not to the end.
    Failure(FailureReason),
}

labels! {
    /// Why a request was sent again.
    RetryReason {
        /// The attempt before provably never left.
        Connect => "connect",
        /// The attempt before broke without a byte of an answer.
        Reset => "reset",
        /// The attempt before was answered with a status that the route sends again.
        Status => "status",
        /// The attempt before had no response head within its own time.
        Timeout => "timeout",
        /// The chosen arm had nobody to answer, so another arm was asked.
        Redistributed => "redistributed",
    }
}

labels! {
    /// Why a request was not sent again although its route asks for it.
    DeniedReason {
        /// The budget of retries was spent.
        Budget => "budget",
        /// The request body is longer than the route keeps.
        BodyTooLarge => "body_too_large",
        /// The memory for bodies to be sent again was used up.
        Memory => "memory",
    }
}

labels! {
    /// Why a request was refused before any arm was charged.
    RejectReason {
        /// Host missing, repeated or malformed.
        BadHost => "bad_host",
        /// Request target not allowed.
        BadTarget => "bad_target",
        /// Path refused by the listener's path policy.
        BadPath => "bad_path",
        /// Header refused.
        BadHeader => "bad_header",
        /// Method refused.
        Method => "method",
        /// Expectation other than 100-continue.
        Expectation => "expectation",
        /// Upgrade refused.
        Upgrade => "upgrade",
        /// Too many or too large headers.
        HeadersTooLarge => "headers_too_large",
        /// Target too long.
        TargetTooLong => "target_too_long",
        /// Body over the listener's limit.
        BodyTooLarge => "body_too_large",
        /// The client took too long to send.
        ClientTimeout => "client_timeout",
        /// Over the route's rate.
        RateLimited => "rate_limited",
        /// Too many connections.
        Connections => "connections",
        /// The bytes were not HTTP.
        Malformed => "malformed",
        /// No TLS could be agreed on, or the PROXY protocol's header was not there.
        Handshake => "handshake",
        /// The host is not one that the connection's certificate covers.
        Misdirected => "misdirected",
    }
}

labels! {
    /// Why a connection was closed before its first request could come.
    HandshakeReason {
        /// The client showed no certificate where it must.
        NoCertificate => "no_certificate",
        /// The client's certificate is not one that is trusted.
        Certificate => "certificate",
        /// No protocol that both sides speak (ALPN).
        Protocol => "protocol",
        /// No version, cipher or group of TLS that both sides speak.
        Parameters => "parameters",
        /// The client would not have our certificate, or something else of ours.
        Client => "client",
        /// The bytes were not TLS.
        NotTls => "not_tls",
        /// The client left in the middle.
        Closed => "closed",
        /// It took too long.
        Timeout => "timeout",
        /// Too many were under way on its worker for too long.
        Busy => "busy",
        /// The PROXY protocol's header was wrong.
        ProxyHeader => "proxy_header",
        /// Something else.
        Other => "other",
    }
}

labels! {
    /// Why no route owned a request.
    UnroutedReason {
        /// No route serves this host on this listener.
        Host => "host",
        /// Routes serve the host, none matched the request.
        Match => "match",
        /// The route has no arm of weight above 0.
        NoWeight => "no_weight",
    }
}

/// What one exchange left: everything the ledger needs, exactly once per exchange.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What the client saw.
    pub code: CodeClass,
    /// What the chosen arm deserved.
    pub verdict: Verdict,
    /// Why the chosen arm was chosen.
    pub choice: ChoiceReason,
    /// First failure of an attempt on the chosen arm.
    pub failure: Option<FailureReason>,
    /// From the request head to the end of the response, in nanoseconds.
    pub total_nanos: u64,
    /// From the request sent to the response head, connect time excluded, in nanoseconds.
    pub upstream_nanos: Option<u64>,
    /// Attempts beyond the first, by reason.
    pub retries: [u32; RetryReason::COUNT],
}
