//! `listener.certificate`: is the certificate of each TLS listener valid, and for how long, and does it cover the private
//! DNS name?
//!
//! Only the default certificate of a listener counts, not those it adds by name (SNI). ACM renews the certificates that it
//! issued, if it can validate their names; imported ones expire. A certificate outside ACM (an IAM server certificate)
//! cannot be read: unknown.

use jiff::SignedDuration;

use super::spec::{ALWAYS, Absence};
use super::{CheckContext, CheckResult, Command, Finding, Group, Remedy, Severity, Spec, Status, count};
use crate::snapshot::{Certificate, Listener, LoadBalancer, known};

/// Before it expires, a warning; and then a critical alert.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
const CRITICAL_BEFORE: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "listener.certificate",
    severities: &[
        (Severity::Critical, "the certificate is not valid, or expires within 3 days"),
        (Severity::Warning, "it expires within 30 days, or does not cover the private DNS name"),
    ],
    fails_when: "the certificate of a TLS listener is not valid, expires within 30 days, or does not cover the service's \
                 private DNS name",
    was: "failing",
    impact: "Once the certificate has expired, or if it does not cover the name that dbt uses, dbt's TLS connections \
             fail.",
    fix_in_short: "import a new certificate, or let ACM renew it",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &["CreateListener", "ModifyListener"],
    group: Group::Settings,
    evaluate,
};

/// One result per load balancer with a TLS listener that serves dbt: its worst one's. It stands for the load balancer, so
/// that a certificate that is replaced ends the alert about its predecessor.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let load_balancers = match context.topology.load_balancers_of(context.service) {
        Ok(load_balancers) => load_balancers,
        Err(why) => return vec![CheckResult::new(&SPEC, context.service, Status::Unknown(why))],
    };
    let result = |load_balancer: &LoadBalancer| {
        let status = worst(load_balancer, context)?;
        Some(CheckResult::new(&SPEC, &load_balancer.arn, status))
    };
    load_balancers.into_iter().filter_map(result).collect()
}

/// The status of the TLS listener that needs attention first; none without such a listener.
fn worst(load_balancer: &LoadBalancer, context: CheckContext<'_>) -> Option<Status> {
    let listeners = match &load_balancer.listeners {
        Ok(listeners) => listeners,
        Err(error) => return Some(Status::Unknown(error.to_string())),
    };
    let judged = listeners
        .iter()
        .filter(|listener| listener.serves())
        .filter_map(|listener| listener.certificate.as_deref().map(|arn| judge(load_balancer, listener, arn, context)));
    judged.min_by_key(rank)
}

/// What counts first.
fn rank(status: &Status) -> u8 {
    match status {
        Status::Fail(finding) if finding.severity == Severity::Critical => 0,
        Status::Fail(_) => 1,
        Status::Unknown(_) => 2,
        Status::Pass(_) => 3,
    }
}

fn judge(load_balancer: &LoadBalancer, listener: &Listener, arn: &str, context: CheckContext<'_>) -> Status {
    let place = format!("{}:{}", load_balancer.name(), listener.port);
    if !arn.contains(":acm:") {
        return Status::Unknown(format!("the certificate of {place} is not in ACM"));
    }
    let certificate = match known(context.topology.certificates.get(arn)) {
        Ok(certificate) => certificate,
        Err(why) => return Status::Unknown(why),
    };
    let left = certificate.not_after.duration_since(context.now);
    let uncovered = private_dns_name(context).filter(|name| !certificate.covers(name));
    let (severity, summary, action) = if certificate.status != "ISSUED" && left.is_positive() {
        (
            Severity::Critical,
            format!("certificate of {place} is '{}', not issued", certificate.status),
            renewal(certificate),
        )
    } else if !left.is_positive() {
        (Severity::Critical, format!("certificate of {place} has expired"), renewal(certificate))
    } else if left <= WARN_BEFORE {
        let severity = if left <= CRITICAL_BEFORE { Severity::Critical } else { Severity::Warning };
        (severity, format!("certificate of {place} expires in {}", days(left)), renewal(certificate))
    } else if let Some(name) = uncovered {
        let action = "Request or import a certificate for this name, and set it on the listener.";
        (Severity::Warning, format!("certificate of {place} does not cover {name}"), action)
    } else {
        return Status::pass(format!("certificate of {place} is valid for {}", days(left)));
    };
    Status::fail(Finding {
        severity,
        summary,
        impact: SPEC.impact.to_owned(),
        evidence: vec![
            format!("default certificate of the listener: {arn}"),
            format!("status: {}, expires: {:.0}", certificate.status, certificate.not_after),
            format!("names: {}", certificate.names.join(", ")),
        ],
        remedy: Remedy::new(
            action,
            Some(Command::new("acm describe-certificate", context.region).option("certificate-arn", arn)),
            None,
        ),
        cause: None,
        parts: uncovered.map(|name| format!("name {name}")).into_iter().collect(),
        related: Vec::new(),
    })
}

fn renewal(certificate: &Certificate) -> &'static str {
    match certificate.imported {
        true => "It was imported, so ACM does not renew it. Get a new one, and import it under the same ARN.",
        false => {
            "ACM renews it if it can validate its names: check that the CNAME records of the validation still exist."
        }
    }
}

/// The name that dbt uses, if the service has one.
fn private_dns_name(context: CheckContext<'_>) -> Option<&str> {
    let service = context.topology.service(context.service).ok()?;
    service.private_dns.as_ref().map(|dns| dns.name.as_str())
}

fn days(left: SignedDuration) -> String {
    match left.as_hours() {
        hours @ ..48 => count(usize::try_from(hours).unwrap_or(0), "hour"),
        hours => count(usize::try_from(hours / 24).unwrap_or(0), "day"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::snapshot::{EndpointService, PrivateDns, Topology};
    use crate::testing::{
        at, call_error, endpoint_service, failure, listener, load_balancer, only_status, target_group, topology,
        with_context,
    };

    const ARN: &str = "arn:aws:acm:eu-central-1:111122223333:certificate/0123";

    fn certificate(status: &str, hours: i64) -> Certificate {
        let not_after: Timestamp = at(9, 0) + SignedDuration::from_hours(hours);
        Certificate { status: status.to_owned(), not_after, names: vec!["*.example.com".to_owned()], imported: true }
    }

    /// A load balancer with a TLS listener for each of these certificates.
    fn tls(listeners: &[(u16, &str)]) -> LoadBalancer {
        let group = target_group("pg");
        let tls = |(port, arn): &(u16, &str)| Listener {
            certificate: Some((*arn).to_owned()),
            ..listener("TLS", *port, &group)
        };
        LoadBalancer { listeners: Ok(listeners.iter().map(tls).collect()), ..load_balancer("pg", vec![group.clone()]) }
    }

    fn status_of(arn: &str, certificate: Option<Certificate>, name: Option<&str>) -> Status {
        let balancer = tls(&[(443, arn)]);
        let private_dns =
            name.map(|name| PrivateDns { name: name.to_owned(), state: Some("verified".to_owned()), record: None });
        let service = EndpointService { private_dns, ..endpoint_service() };
        let read = certificate.ok_or_else(|| call_error("acm:DescribeCertificate"));
        let topology = Topology { certificates: [(arn.to_owned(), read)].into(), ..topology(service, [balancer]) };
        with_context(&topology, |context| only_status(evaluate(context)))
    }

    fn outcome(certificate: Certificate, name: Option<&str>) -> Option<(Severity, String)> {
        failure(status_of(ARN, Some(certificate), name)).map(|finding| (finding.severity, finding.summary))
    }

    #[test]
    fn it_warns_thirty_days_before_and_is_critical_three_days_before() {
        let issued = |hours| outcome(certificate("ISSUED", hours), None);
        let fails = |severity, text: &str| Some((severity, format!("certificate of pg:443 {text}")));
        assert_eq!(issued(31 * 24), None);
        assert_eq!(issued(29 * 24), fails(Severity::Warning, "expires in 29 days"));
        assert_eq!(issued(3 * 24), fails(Severity::Critical, "expires in 3 days"));
        assert_eq!(issued(1), fails(Severity::Critical, "expires in 1 hour"));
        assert_eq!(issued(-1), fails(Severity::Critical, "has expired"));
        let revoked = outcome(certificate("REVOKED", 9000), None);
        assert_eq!(revoked, fails(Severity::Critical, "is 'REVOKED', not issued"));
    }

    #[test]
    fn the_worst_listener_counts_and_the_result_stands_for_the_load_balancer() {
        let read = [("a", 9000), ("b", 24)].map(|(id, hours)| (format!("{ARN}{id}"), Ok(certificate("ISSUED", hours))));
        let balancer = tls(&[(443, &format!("{ARN}a")), (8443, &format!("{ARN}b")), (9443, &format!("{ARN}c"))]);
        let arn = balancer.arn.clone();
        let topology = Topology { certificates: read.into(), ..topology(endpoint_service(), [balancer]) };
        let results = with_context(&topology, evaluate);
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].resource, arn.as_str());
        let summary = failure(results[0].status.clone()).map(|finding| finding.summary);
        assert_eq!(summary.as_deref(), Some("certificate of pg:8443 expires in 24 hours"));
    }

    #[test]
    fn it_must_cover_the_private_dns_name() {
        assert_eq!(outcome(certificate("ISSUED", 9000), Some("pg.example.com")), None);
        let uncovered = outcome(certificate("ISSUED", 9000), Some("pg.example.org")).unwrap();
        assert_eq!(uncovered, (Severity::Warning, "certificate of pg:443 does not cover pg.example.org".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_without_a_certificate_there_is_no_result() {
        assert!(matches!(status_of(ARN, None, None), Status::Unknown(_)));
        let elsewhere = "arn:aws:iam::111122223333:server-certificate/x";
        assert!(matches!(status_of(elsewhere, None, None), Status::Unknown(_)));
        let plain = topology(endpoint_service(), [load_balancer("pg", vec![target_group("pg")])]);
        assert_eq!(with_context(&plain, evaluate), []);
    }
}
