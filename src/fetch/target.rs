//! Where to ask: a TCP address or a unix socket, as operators write it.

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
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Target {
    /// The Host header it is asked with.
    #[must_use]
    pub fn host_header(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.host_header()),
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
        if text.starts_with("https://") {
            return Err("https is not yet supported; ask over loopback or a unix socket".to_owned());
        }
        let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let wrong = || format!("`{text}` is not http://host:port or unix:/path");
        let authority: http::uri::Authority = rest.parse().map_err(|_| wrong())?;
        if authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Tcp { host, port: authority.port_u16().unwrap_or(80) })
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
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
        ];
        for (written, read) in rows {
            assert_eq!(written.parse::<Target>().map(|target| target.to_string()).as_deref(), Ok(read));
        }
        for wrong in ["unix:", "https://a", "http://", "http://u@h:1", "http://a b"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
