//! The certificates of TLS listeners.

use jiff::Timestamp;

/// A certificate, as ACM describes it.
/// <https://docs.aws.amazon.com/acm/latest/APIReference/API_CertificateDetail.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `ISSUED`, `EXPIRED`, `REVOKED`, …, as ACM wrote it.
    pub status: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// The names that it covers; they may begin with `*.`.
    pub names: Vec<String>,
    /// Whether it was imported: then ACM does not renew it.
    pub imported: bool,
}

impl Certificate {
    /// Whether it covers `name`. A wildcard covers one label.
    /// <https://docs.aws.amazon.com/acm/latest/userguide/acm-certificate-characteristics.html>
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| match (pattern.strip_prefix("*."), name.split_once('.')) {
            (Some(domain), Some((_, rest))) => rest.eq_ignore_ascii_case(domain),
            _ => pattern.eq_ignore_ascii_case(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label() {
        let covers = |pattern: &str, name: &str| {
            let names = vec![pattern.to_owned()];
            let not_after = Timestamp::UNIX_EPOCH;
            Certificate { status: "ISSUED".to_owned(), not_after, names, imported: false }.covers(name)
        };
        assert!(covers("pg.example.com", "PG.example.com"));
        assert!(covers("*.example.com", "pg.example.com"));
        assert!(!covers("*.example.com", "a.pg.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("pg.example.com", "example.com"));
        assert!(covers("*.example.com", "*.example.com"), "a private DNS name may be a wildcard itself");
    }
}
