//! Who is told what rollouts do, as compiled: an identity, and where to send.
//!
//! It must never hold a secret that a file keeps, nor show an address that may be one.

/// Receivers of one process at most: every notice is kept once for each of them.
pub const MAX_RECEIVERS: usize = 16;

/// Who is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Receiver {
    /// What makes it the same one after a reload and a restart: its kind and address as written.
    pub id: String,
    /// How it is reached.
    pub way: Way,
}

/// How a receiver is reached.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// Slack's incoming webhooks.
    Slack {
        /// File with the address.
        url_file: String,
    },
    /// Anything that takes JSON.
    Webhook {
        /// Where, with its environment expanded.
        url: String,
        /// File with the key of the signature.
        secret_file: Option<String>,
    },
}

impl Receiver {
    /// How it is named where anybody may read it: without a path, which may be a secret.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.way {
            Way::Slack { url_file } => format!("slack of {url_file}"),
            Way::Webhook { url, .. } => {
                let uri = url.parse::<http::Uri>().ok();
                format!("webhook at {}", uri.as_ref().and_then(http::Uri::host).unwrap_or_default())
            }
        }
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.label())
    }
}
