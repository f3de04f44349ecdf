//! The bounds that no configuration changes, as `GET /api/v1/limits` shows them.
//!
//! Each value is the constant that is held to, so that none shown here can be out of date. It must
//! never repeat a number.

use serde_json::{Value, json};

use crate::control::load;
use crate::ledger::limiter;
use crate::model::bounds;
use crate::net::{frames, tls};

/// Every fixed bound, by what it bounds.
pub(super) fn bounds() -> Value {
    json!({
        "tlsHandshakeSeconds": tls::HANDSHAKE.as_secs(),
        "tlsHandshakes": tls::MAX_HANDSHAKES,
        "http2": { "controlFramesPerSecond": frames::MOST_CONTROL, "resetsPerSecond": frames::MOST_RESETS },
        "interimAnswers": bounds::INTERIMS,
        "copiesPerWorker": bounds::COPIES,
        "probes": bounds::PROBES,
        "rateLimitKeys": limiter::MAX_KEYS,
        "config": {
            "fileBytes": load::MAX_FILE_BYTES,
            "files": load::MAX_FILES,
            "listBytes": load::MAX_LIST_BYTES,
        },
        "admin": {
            "bodyBytes": super::asked::MAX_BODY,
            "verbs": super::MAX_VERBS,
            "watchers": super::events::MAX_WATCHERS,
            "watchersWithToken": super::events::KNOWN_WATCHERS,
            "wrongTokensPerMinute": super::auth::MAX_FAILURES,
        },
    })
}
