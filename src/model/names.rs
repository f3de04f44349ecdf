//! Every metric name, once. deploy/ and the docs are tested against this list.
//!
//! A name must never be spelled anywhere else.

/// Name, kind, labels and help text of one metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Prometheus metric name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names in output order.
    pub labels: &'static [&'static str],
    /// One line of help.
    pub help: &'static str,
}

macro_rules! families {
    ($($const:ident = $name:literal, $kind:literal, [$($label:literal),*], $help:literal;)+) => {
        $(#[doc = $help] pub const $const: Family = Family {
            name: $name, kind: $kind, labels: &[$($label),*], help: $help,
        };)+
        /// Every family this program can expose.
        pub const ALL: &[Family] = &[$($const),+];
    };
}

families! {
    REQUESTS = "switchback_requests_total", "counter", ["route", "arm", "upstream", "code", "outcome"], "Exchanges by chosen arm, answering upstream, status class the client saw and what the arm deserved.";
    REQUEST_DURATION = "switchback_request_duration_seconds", "histogram", ["route", "arm", "upstream"], "Request head to end of response.";
    UPSTREAM_DURATION = "switchback_upstream_duration_seconds", "histogram", ["route", "arm", "upstream"], "Request sent to response head, connect time excluded.";
    IN_FLIGHT = "switchback_requests_in_flight", "gauge", ["route", "arm", "upstream"], "Exchanges begun and not ended.";
    UPSTREAM_LIMIT = "switchback_upstream_limit", "gauge", ["upstream", "kind"], "Configured limits of an upstream.";
    ENDPOINT_HEALTHY = "switchback_endpoint_healthy", "gauge", ["upstream", "endpoint"], "1 for an endpoint that is used, 0 for one that probes or its answers took out; only where endpoints are watched.";
    ENDPOINT_EJECTIONS = "switchback_endpoint_ejections_total", "counter", ["upstream", "endpoint", "reason"], "Times an endpoint was taken out for its answers, by the last failure.";
    FAIL_OPEN = "switchback_upstream_fail_open_total", "counter", ["upstream"], "Requests sent to an endpoint although all of the upstream were out.";
    BREAKER_STATE = "switchback_breaker_state", "gauge", ["upstream", "state"], "1 for the state a breaker is in (`closed`, `open`, `half_open`), 0 for every other.";
    BREAKER_OPENINGS = "switchback_breaker_openings_total", "counter", ["upstream", "reason"], "Times a breaker opened: `error_rate`, `half_open` (a request of a trial failed), `operator`.";
    UPSTREAM_FAILURES = "switchback_upstream_failures_total", "counter", ["route", "arm", "upstream", "reason"], "Exchanges in which an attempt on the chosen arm failed, by the first cause; upstream is the one that failed.";
    CHOICES = "switchback_choices_total", "counter", ["route", "arm", "reason", "rule"], "Arms chosen, by reason and override rule.";
    SPLIT_WEIGHT = "switchback_split_weight_ratio", "gauge", ["route", "arm"], "Configured share of an arm, 0 to 1.";
    SPLIT_OBSERVED = "switchback_split_observed_ratio", "gauge", ["route", "arm"], "Share of the last minute's requests an arm received, 0 to 1.";
    ARM_INFO = "switchback_arm_info", "gauge", ["route", "arm", "upstream", "role", "version"], "1 for every arm, with its role.";
    ROLLOUT_STATE = "switchback_rollout_state", "gauge", ["route", "state"], "1 for the state a rollout is in, 0 for every other.";
    ROLLOUT_STEP = "switchback_rollout_step", "gauge", ["route"], "Step of a rollout, from 0.";
    ROLLOUT_EVIDENCE = "switchback_rollout_evidence_log", "gauge", ["route", "metric"], "Natural logarithm of the evidence against the canary; metric `all` is the total of what can decide, `threshold` what convicts.";
    ROLLOUT_DETECTABLE = "switchback_rollout_detectable_ratio", "gauge", ["route"], "Smallest ratio of bad shares that would have shown in the step by now.";
    ROLLOUT_DURATION = "switchback_rollout_duration_seconds", "gauge", ["route"], "Time the run of a rollout took so far, or in all.";
    ROLLOUT_TRANSITIONS = "switchback_rollout_transitions_total", "counter", ["route", "from", "to", "actor", "reason"], "Decisions about rollouts.";
    SLO_BURN = "switchback_slo_burn_rate", "gauge", ["route", "objective", "window"], "Times the rate that spends exactly the error budget, over 5m, 30m, 1h, 6h and 3d.";
    SLO_BUDGET = "switchback_slo_budget_remaining_ratio", "gauge", ["route", "objective", "window"], "Share of the error budget that is left of its window, below 0 when overspent.";
    ROLLOUT_EXCESS = "switchback_rollout_excess_failures_total", "counter", ["route"], "Failures beyond stable's share that canaries caused before they were put back; may have a fraction.";
    ROLLOUT_DETECTION = "switchback_rollout_detection_seconds", "gauge", ["route"], "Of the last revert: from the canary's first bad outcome in the step to the verdict.";
    ROLLOUT_RECOVERY = "switchback_rollout_recovery_seconds", "gauge", ["route"], "Of the last revert: from the canary's first bad outcome in the step to weight 0.";
    MIRROR_DIFFERENCES = "switchback_mirror_differences_total", "counter", ["route", "upstream", "kind"], "Differences between clients' answers and those of a mirror, by kind; noise is among them.";
    RETRIES = "switchback_retries_total", "counter", ["route", "arm", "reason"], "Attempts beyond the first.";
    RETRIES_DENIED = "switchback_retries_denied_total", "counter", ["reason"], "Requests not sent again although their route asks for it.";
    MIRROR_REQUESTS = "switchback_mirror_requests_total", "counter", ["route", "upstream", "result"], "Requests drawn to be copied, by the upstream meant and what became of the copy.";
    MIRROR_DURATION = "switchback_mirror_duration_seconds", "histogram", ["route", "upstream"], "Copy sent to response head, connect time excluded.";
    REJECTED = "switchback_rejected_total", "counter", ["reason"], "Requests refused before any arm was charged.";
    RATE_LIMITED = "switchback_rate_limited_total", "counter", ["route"], "Requests over the rate limit of a route; `switchback_rejected_total` counts them too.";
    HANDSHAKES_REFUSED = "switchback_handshakes_refused_total", "counter", ["reason"], "Connections closed before a request because TLS or the PROXY protocol's header failed, by reason.";
    RATE_LIMIT_FULL = "switchback_rate_limit_full_total", "counter", [], "Requests let through because a rate limit had no room for their key.";
    UNROUTED = "switchback_unrouted_total", "counter", ["reason"], "Requests no route or arm owned.";
    RELOAD_OK = "switchback_config_last_reload_successful", "gauge", [], "1 when the last attempt to load the configuration succeeded.";
    RELOAD_TIME = "switchback_config_last_reload_success_timestamp_seconds", "gauge", [], "Unix time of the last successful load.";
    RELOADS = "switchback_config_reloads_total", "counter", ["result"], "Attempts to load the configuration, by result.";
    CONFIG_GENERATION = "switchback_config_generation", "gauge", [], "Generation of the published plan.";
    STATE_WRITE_FAILURES = "switchback_state_write_failures_total", "counter", [], "Writes of the state that failed; while it rises, nothing gives a canary more.";
    CONNECTIONS = "switchback_connections", "gauge", ["listener"], "Open client connections.";
    CERTIFICATE_EXPIRY = "switchback_tls_certificate_expiry_timestamp_seconds", "gauge", ["certificate"], "Unix time at which the certificate that is served ends, by its file.";
    CERTIFICATE_REFUSED = "switchback_tls_certificate_refused", "gauge", ["certificate"], "1 while the changed files of a certificate cannot replace the one that is served.";
    BUILD_INFO = "switchback_build_info", "gauge", ["version"], "1, with the version of the program.";
    LOG_DROPPED = "switchback_access_log_dropped_total", "counter", [], "Access log lines dropped because the writer could not keep up.";
    SPANS_DROPPED = "switchback_spans_dropped_total", "counter", [], "Spans dropped because the collector was away or could not keep up.";
    PROCESS_CPU = "process_cpu_seconds_total", "counter", [], "User and system CPU time of the process.";
    PROCESS_RSS = "process_resident_memory_bytes", "gauge", [], "Resident memory of the process.";
    PROCESS_FDS = "process_open_fds", "gauge", [], "Open file descriptors.";
    PROCESS_MAX_FDS = "process_max_fds", "gauge", [], "Limit on open file descriptors.";
    PROCESS_START = "process_start_time_seconds", "gauge", [], "Unix time at which the process started.";
}
