//! Certificates in a scrape: until when they are good, and whether what is on the disk is served.
//!
//! It must never show more of a certificate than its file's name.

use super::exposition::Exposition;
use crate::model::names;

/// One certificate that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateSeries {
    /// Its file as configured.
    pub file: String,
    /// Unix seconds at which it ends.
    pub not_after: i64,
    /// Whether its files changed and cannot replace it.
    pub refused: bool,
}

/// Families of certificates.
pub fn render(out: &mut Exposition, certificates: &[CertificateSeries]) {
    out.family(&names::CERTIFICATE_EXPIRY);
    for one in certificates {
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds fits a float")]
        out.number(&names::CERTIFICATE_EXPIRY, &[&one.file], one.not_after as f64);
    }
    out.family(&names::CERTIFICATE_REFUSED);
    for one in certificates {
        out.count(&names::CERTIFICATE_REFUSED, &[&one.file], u64::from(one.refused));
    }
}
