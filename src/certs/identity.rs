//! Who a client proved to be, as upstreams are told: the elements of `X-Forwarded-Client-Cert`.
//!
//! The form is Envoy's: `Hash`, `Subject` (RFC 4514), `URI` and `DNS`. It is written from a verified
//! certificate alone. It must never let a name look like another element.

use std::fmt::Write as _;

use http::HeaderValue;
use sha2::{Digest, Sha256};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Most names of each kind that are told.
const MAX_NAMES: usize = 16;
/// Longest value told, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// The header's value for a verified certificate; `None` when it cannot be read or is too long.
#[must_use]
pub fn header(der: &[u8]) -> Option<HeaderValue> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let mut text = "Hash=".to_owned();
    for byte in Sha256::digest(der) {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, ";Subject={}", quoted(&distinguished(cert.subject())));
    let listed = cert.subject_alternative_name().ok().flatten();
    let names = || listed.iter().flat_map(|names| &names.value.general_names);
    let uris = names().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    for uri in uris.take(MAX_NAMES) {
        let _ = write!(text, ";URI={}", quoted(uri));
    }
    let hosts =
        names().filter_map(|name| if let GeneralName::DNSName(one) = name { Some(*one) } else { None });
    for host in hosts.take(MAX_NAMES) {
        let _ = write!(text, ";DNS={}", quoted(host));
    }
    (text.len() <= MAX_BYTES).then(|| HeaderValue::try_from(text).ok()).flatten()
}

/// A name as RFC 4514 writes it, but in the certificate's order.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for attribute in name.iter_attributes() {
        let kind = oid2abbrev(attribute.attr_type(), oid_registry())
            .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{kind}=");
        for one in attribute.as_str().unwrap_or("?").chars() {
            if matches!(one, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                text.push('\\');
            }
            text.push(one);
        }
    }
    text
}

/// In quotes, with what would end them escaped and nothing that is not printable ASCII.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for one in text.chars() {
        match one {
            '"' | '\\' => {
                out.push('\\');
                out.push(one);
            }
            ' '..='~' => out.push(one),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}
