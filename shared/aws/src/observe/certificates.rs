//! ACM: the certificates of TLS listeners.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_acm::types as acm;
use futures_util::future::join_all;
use guard_core::snapshot::{Certificate, Observed};
use jiff::Timestamp;

use super::Observer;
use crate::errors::malformed_response;

const CALL: &str = "acm:DescribeCertificate";

impl Observer {
    /// These certificates, by ARN: one call each. Certificates outside ACM are left out.
    pub(super) async fn certificates(&self, arns: BTreeSet<String>) -> BTreeMap<String, Observed<Certificate>> {
        let in_acm = arns.into_iter().filter(|arn| arn.contains(":acm:"));
        let reads = in_acm.map(|arn| async move { (arn.clone(), self.certificate(&arn).await) });
        join_all(reads).await.into_iter().collect()
    }

    async fn certificate(&self, arn: &str) -> Observed<Certificate> {
        let call = self.acm.describe_certificate().certificate_arn(arn);
        self.call(
            CALL,
            async || call.clone().send().await,
            |response| {
                let certificate = response.certificate().and_then(certificate);
                certificate.ok_or_else(|| malformed_response(CALL, "a certificate lacks its status, type or expiry"))
            },
        )
        .await
    }
}

fn certificate(row: &acm::CertificateDetail) -> Option<Certificate> {
    let names = row.domain_name().into_iter().chain(row.subject_alternative_names().iter().map(String::as_str));
    let names: BTreeSet<String> = names.map(ToOwned::to_owned).collect();
    Some(Certificate {
        status: row.status()?.as_str().to_owned(),
        // 9999-12-31, which means never, exceeds the range of a timestamp.
        not_after: Timestamp::from_second(row.not_after()?.secs()).unwrap_or(Timestamp::MAX),
        names: names.into_iter().collect(),
        imported: *row.r#type()? == acm::CertificateType::Imported,
        key_algorithm: row.key_algorithm().map(|algorithm| algorithm.as_str().to_owned()),
    })
}
