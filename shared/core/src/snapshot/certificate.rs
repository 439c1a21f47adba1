//! The certificates of TLS listeners.

use jiff::Timestamp;

/// A certificate, as ACM describes it.
/// <https://docs.aws.amazon.com/acm/latest/APIReference/API_CertificateDetail.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `ISSUED`, `EXPIRED`, `REVOKED`, …, as ACM wrote it.
    pub status: String,
    pub not_after: Timestamp,
    /// Its names, possibly with a leading `*.`.
    pub names: Vec<String>,
    /// Whether it was imported, in which case ACM does not renew it.
    pub imported: bool,
    /// The algorithm and size of its key, as ACM wrote it: `RSA-2048`, `EC_prime256v1`, ….
    pub key_algorithm: Option<String>,
}

impl Certificate {
    /// Whether a Network Load Balancer can use its key; `None` if unknown. The load balancer takes RSA keys of up to
    /// 3072 bits and the curves P-256, P-384 and P-521. ACM takes more, and writes `RSA-2048` where its model has
    /// `RSA_2048`.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/tls-listener-certificates.html>
    pub fn has_usable_key(&self) -> Option<bool> {
        let algorithm = self.key_algorithm.as_deref()?.replace('-', "_");
        match algorithm.strip_prefix("RSA_") {
            Some(bits) => bits.parse().ok().map(|bits: u32| bits <= 3072),
            None => ["EC_prime256v1", "EC_secp384r1", "EC_secp521r1"].contains(&algorithm.as_str()).then_some(true),
        }
    }

    /// Whether it covers `name`. A wildcard covers one label.
    /// <https://docs.aws.amazon.com/acm/latest/userguide/acm-certificate-characteristics.html>
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
            let status = "ISSUED".to_owned();
            Certificate { status, not_after, names, imported: false, key_algorithm: None }.covers(name)
        };
        assert!(covers("pg.example.com", "PG.example.com"));
        assert!(covers("*.example.com", "pg.example.com"));
        assert!(!covers("*.example.com", "a.pg.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("pg.example.com", "example.com"));
        assert!(covers("*.example.com", "*.example.com"), "a private DNS name may be a wildcard itself");
    }
}
