//! Where to ask: a TCP address, with TLS or without, or a unix socket, as operators write it.
//!
//! It exists so that an address means the same to every asker. It must never keep a path, which may
//! hold a secret, nor accept a password in an address.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `http://host:port`.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// `https://host:port`.
    Tls {
        /// Name or address, without brackets; the certificate must be for it.
        host: String,
        /// Port.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Target {
    /// The Host header it is asked with.
    #[must_use]
    pub fn host_header(&self) -> String {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Tls { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Where a whole `http://` or `https://` address leads, and the path with its query to ask for.
    ///
    /// # Errors
    /// One sentence without the address, which may hold a secret.
    pub fn of_url(url: &str) -> Result<(Self, String), String> {
        let wrong = || "it is no http:// or https:// address".to_owned();
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let target = Self::of_authority(scheme == "https", authority).ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        if matches!(scheme, "http" | "https") { Ok((target, path)) } else { Err(wrong()) }
    }

    fn of_authority(tls: bool, authority: &http::uri::Authority) -> Option<Self> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(if tls { Self::Tls { host, port } } else { Self::Tcp { host, port } })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.host_header()),
            Self::Tls { .. } => write!(f, "https://{}", self.host_header()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err("write unix:/path/to/socket".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        let wrong = || format!("`{text}` is not http://host:port, https://host:port or unix:/path");
        let authority = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
        Self::of_authority(tls, &authority).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_operators_write_them() {
        let rows = [
            ("http://127.0.0.1:9901", "http://127.0.0.1:9901"),
            ("http://127.0.0.1:9901/", "http://127.0.0.1:9901"),
            ("localhost:9901", "http://localhost:9901"),
            ("http://[::1]:9901", "http://[::1]:9901"),
            ("http://proxy", "http://proxy:80"),
            ("https://proxy", "https://proxy:443"),
            ("https://[::1]:9901/", "https://[::1]:9901"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
        ];
        for (written, read) in rows {
            assert_eq!(written.parse::<Target>().map(|target| target.to_string()).as_deref(), Ok(read));
        }
        for wrong in ["unix:", "https://", "https://u:p@h", "http://", "http://u@h:1", "http://a b"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn whole_addresses_lead_somewhere_and_ask_for_something() {
        let rows = [
            ("http://gate:8080/ok?x=1", "http://gate:8080", "/ok?x=1"),
            ("http://gate", "http://gate:80", "/"),
            ("https://hooks.example.com/services/T0", "https://hooks.example.com:443", "/services/T0"),
        ];
        for (url, target, path) in rows {
            let (found, asked) = Target::of_url(url).expect(url);
            assert_eq!((found.to_string().as_str(), asked.as_str()), (target, path));
        }
        for wrong in ["gate", "ftp://gate/s3cret", "https://u:s3cret@gate/", "/s3cret", "unix:/s3cret"] {
            let why = Target::of_url(wrong).expect_err(wrong);
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
