//! `listener.certificate`: are the certificates of each TLS listener valid, for how long, and does one of them cover
//! the private DNS name?
//!
//! A listener presents the certificate that covers the name a client asks for (SNI), and its default certificate if
//! none does. ACM renews the certificates that it issued, if it can validate their names; imported ones expire. A
//! certificate outside ACM (an IAM server certificate) is not read and therefore unknown.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/tls-listener-certificates.html>

use jiff::SignedDuration;

use crate::check::{CheckContext, CheckResult, Command, Finding, PartStatus, Remedy, Severity, Spec, Status};
use crate::snapshot::{Certificate, Listener, LoadBalancer, Unread, known};
use crate::text::count;

/// Remaining validity below which the alert is a warning, and below which it is critical.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
const CRITICAL_BEFORE: SignedDuration = SignedDuration::from_hours(3 * 24);

pub(crate) const SPEC: Spec = Spec {
    id: "listener.certificate",
    in_short: "TLS certificates are usable, and valid for 30 more days.",
    severities: &[
        (
            Severity::Critical,
            "a certificate is not valid, expires within 3 days, or has a key that the load balancer cannot use",
        ),
        (Severity::Warning, "a certificate expires within 30 days, or none covers the private DNS name"),
    ],
    fails_when: "a certificate that a TLS listener presents to dbt is not valid, expires within 30 days, has a key \
                 that a Network Load Balancer cannot use, or does not cover the service's private DNS name",
    failing_word: "failing",
    impact: "dbt's TLS connections fail: always with an unusable key, otherwise only if dbt verifies the certificate.",
    cloudtrail_events: &[
        "AddListenerCertificates",
        "CreateListener",
        "ImportCertificate",
        "ModifyListener",
        "RemoveListenerCertificates",
    ],
    can_stop_dbt: false,
    evaluate,
    ..Spec::USUAL
};

/// One result per load balancer with a TLS listener that serves dbt: the worst one. The result belongs to the load
/// balancer, so that replacing a certificate ends the alert on the old one.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let load_balancers = match context.load_balancers(&SPEC) {
        Ok(load_balancers) => load_balancers,
        Err(unlisted) => return vec![unlisted],
    };
    let result = |load_balancer: &LoadBalancer| {
        let status = worst(load_balancer, context)?;
        Some(CheckResult::new(&SPEC, &load_balancer.arn, status))
    };
    load_balancers.into_iter().filter_map(result).collect()
}

/// The part of the finding for one certificate, and the certificate's status.
type Judged = (String, Status);

/// The status of the most urgent certificate, with the other failing or unknown certificates as further parts; `None`
/// without a TLS listener.
fn worst(load_balancer: &LoadBalancer, context: CheckContext<'_>) -> Option<Status> {
    let listeners = match &load_balancer.listeners {
        Ok(listeners) => listeners,
        Err(error) => return Some(Unread::from(error).into()),
    };
    let ports = context.ports();
    let serving = listeners.iter().filter(|listener| listener.serves(&ports) && listener.certificate.is_some());
    let mut all: Vec<Judged> = serving.flat_map(|listener| judge(load_balancer, listener, context)).collect();
    all.sort_by_key(|(_, status)| rank(status));
    let mut all = all.into_iter();
    let (_, first) = all.next()?;
    Some(all.fold(first, with_further_part))
}

/// The first status. If it fails, a second status that does not pass becomes a part, so that a message is sent when
/// another certificate begins to fail.
fn with_further_part(first: Status, (part, second): Judged) -> Status {
    let Status::Fail(mut first) = first else { return first };
    match second {
        Status::Fail(second) if !first.parts.contains_key(&part) => {
            first.evidence.push(format!("also: {}", second.summary));
            first.parts.extend(second.parts);
            first.ids.extend(second.ids);
        }
        Status::Unknown(why) => drop(first.parts.entry(part).or_insert(PartStatus::Unknown(why))),
        Status::Fail(_) | Status::Pass(_) | Status::NotAsked => {}
    }
    Status::Fail(first)
}

/// The urgency of a status.
fn rank(status: &Status) -> u8 {
    match status {
        Status::Fail(finding) if finding.severity == Severity::Critical => 0,
        Status::Fail(_) => 1,
        Status::Unknown(_) => 2,
        Status::NotAsked => 3,
        Status::Pass(_) => 4,
    }
}

/// The status of each certificate that the listener can present to dbt. With a private DNS name, these are the
/// certificates that cover it; without one, or if none covers it, all of them.
fn judge(load_balancer: &LoadBalancer, listener: &Listener, context: CheckContext<'_>) -> Vec<Judged> {
    let place = format!("{}:{}", load_balancer.name(), listener.port);
    if let Err(why) = known(listener.certificates_by_name.as_ref()) {
        return vec![(Finding::REST.to_owned(), why.into())];
    }
    let read = |arn| (arn, certificate(arn, &place, context));
    let all: Vec<_> = listener.certificates().map(read).collect();
    let name = private_dns_name(context);
    let misses = |certificate: &Certificate| name.is_some_and(|name| !certificate.covers(name));
    let is_covered = all.iter().any(|(_, read)| read.as_ref().is_ok_and(|certificate| !misses(certificate)));
    // An unreadable certificate may cover the name, too.
    let counts = |read: &Result<&Certificate, Unread>| {
        !is_covered || !read.as_ref().is_ok_and(|certificate| misses(certificate))
    };
    let judged = |(arn, read): (&str, Result<&Certificate, Unread>)| match read {
        Ok(certificate) => (part(&place, arn), validity(certificate, arn, &place, listener, context)),
        Err(why) => (part(&place, arn), why.into()),
    };
    let names: Vec<String> =
        all.iter().flat_map(|(_, read)| read.iter().flat_map(|certificate| certificate.names.clone())).collect();
    let mut judged: Vec<Judged> = all.into_iter().filter(|(_, read)| counts(read)).map(judged).collect();
    let all_pass = judged.iter().all(|(_, status)| matches!(status, Status::Pass(_)));
    if let Some(name) = name.filter(|_| !is_covered && all_pass) {
        judged.push((format!("{place} without {name}"), uncovered(name, &names, &place, listener, context)));
    }
    judged
}

fn part(place: &str, arn: &str) -> String {
    format!("{place} {arn}")
}

/// The certificate, or the reason why it is unknown.
fn certificate<'a>(arn: &str, place: &str, context: CheckContext<'a>) -> Result<&'a Certificate, Unread> {
    if let Some((_, path)) = arn.split_once(":server-certificate/") {
        let name = path.rsplit('/').next().unwrap_or(path);
        return Err(format!("certificate {name} of {place} is in IAM: the guard does not read its dates").into());
    }
    if !arn.contains(":acm:") {
        return Err(format!("a certificate of {place} is not in ACM").into());
    }
    known(context.topology.certificates.get(arn))
}

/// The status of a certificate: whether the load balancer can use it, whether it is valid, and for how long.
fn validity(
    certificate: &Certificate,
    arn: &str,
    place: &str,
    listener: &Listener,
    context: CheckContext<'_>,
) -> Status {
    let left = certificate.not_after.duration_since(context.now);
    let has_usable_key = certificate.has_usable_key();
    let key = certificate.key_algorithm.as_deref().unwrap_or("an algorithm that ACM does not name");
    let (severity, problem, impact) = if has_usable_key == Some(false) {
        (Severity::Critical, format!("has an unusable key: {key}"), UNUSABLE_KEY)
    } else if certificate.status != "ISSUED" && left.is_positive() {
        (Severity::Critical, format!("is '{}', not issued", certificate.status), NOT_VALID)
    } else if !left.is_positive() {
        (Severity::Critical, "has expired".to_owned(), NOT_VALID)
    } else if left <= WARN_BEFORE {
        let severity = if left <= CRITICAL_BEFORE { Severity::Critical } else { Severity::Warning };
        (severity, format!("expires in {}", days(left)), EXPIRING)
    } else if has_usable_key.is_none() {
        return Status::Unknown(format!("the load balancer may not support the key of {place}'s certificate: {key}"));
    } else {
        return Status::pass(format!("certificate of {place} is valid for {}", days(left)));
    };
    let role = match listener.certificate.as_deref() == Some(arn) {
        true => "default certificate of the listener",
        false => "certificate of the listener for the names below",
    };
    Status::fail(
        Finding::new(severity, format!("certificate of {place} {problem}"), impact, remedy(certificate, arn, context))
            .with_evidence(vec![
                format!("{role}: {arn}"),
                format!("key: {key}"),
                format!("status: {}, expires: {:.0}", certificate.status, certificate.not_after),
                format!("names: {}", certificate.names.join(", ")),
            ])
            .with_parts([part(place, arn)])
            .about([arn]),
    )
}

/// The status if no certificate of the listener covers the private DNS name.
fn uncovered(name: &str, names: &[String], place: &str, listener: &Listener, context: CheckContext<'_>) -> Status {
    let certificates = listener.certificates().count();
    let summary = match certificates {
        1 => format!("certificate of {place} does not cover {name}"),
        several => format!("none of {several} certificates of {place} covers {name}"),
    };
    Status::fail(
        Finding::new(
            Severity::Warning,
            summary,
            ANOTHER_NAME,
            Remedy::new(
                "Request a certificate for this name with the command, or import one. ACM issues it after you create \
                 the CNAME record that it shows. Then add it to the listener.",
                Some(request(name, context)),
                None,
            ),
        )
        .with_evidence(vec![
            format!("listener: {}", listener.arn),
            format!("names with a certificate: {}", names.join(", ")),
        ])
        .with_parts([format!("{place} without {name}")]),
    )
}

/// Requests a certificate with ACM's default key: RSA with 2048 bits.
/// <https://docs.aws.amazon.com/acm/latest/APIReference/API_RequestCertificate.html>
fn request(name: &str, context: CheckContext<'_>) -> Command {
    Command::new("acm request-certificate", context.region)
        .option("domain-name", name)
        .option("validation-method", "DNS")
}

const UNUSABLE_KEY: &str = "TLS handshakes with this certificate fail, although ACM shows it as issued. dbt cannot connect if it gets \
                            this one.";
const NOT_VALID: &str = "dbt's TLS connections fail if dbt verifies the certificate.";
const EXPIRING: &str = "When it expires, dbt's TLS connections fail if dbt verifies the certificate.";
const ANOTHER_NAME: &str = "dbt's TLS connections to this name fail if dbt verifies it.";

/// The renewed certificate keeps its key type.
/// <https://docs.aws.amazon.com/acm/latest/userguide/import-reimport.html>
const ANOTHER_KEY: &str = "A Network Load Balancer supports RSA keys up to 3072 bits, P-256, P-384 and P-521. A \
                           certificate's key cannot be changed, so you need a new certificate. The command requests \
                           one for the first name only: add the others in the evidence with \
                           --subject-alternative-names. ACM issues it after you create the CNAME records that it \
                           shows. Then replace this one, as the runbook shows.";

fn remedy(certificate: &Certificate, arn: &str, context: CheckContext<'_>) -> Remedy {
    match (certificate.has_usable_key(), certificate.names.first()) {
        (Some(false), Some(name)) => Remedy::new(ANOTHER_KEY, Some(request(name, context)), None),
        _ => {
            let describe = Command::new("acm describe-certificate", context.region).option("certificate-arn", arn);
            Remedy::new(renewal(certificate), Some(describe), None)
        }
    }
}

fn renewal(certificate: &Certificate) -> &'static str {
    match certificate.imported {
        true => "It was imported, so ACM does not renew it. Import a new one under the same ARN.",
        false => {
            "If it has not expired, ACM renews it as soon as it can validate its names: check that its CNAME \
             validation records exist. ACM never renews an expired or revoked certificate: request a new one, and add \
             it to the listener."
        }
    }
}

/// The private DNS name that dbt uses, if the service has one.
fn private_dns_name(context: CheckContext<'_>) -> Option<&str> {
    let service = context.endpoint_service().ok()?;
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
    use crate::alerts::lifecycle::{Event, Now, Signal, Thresholds, advance};
    use crate::snapshot::{EndpointService, PrivateDns, Topology};
    use crate::testing::{
        at, call_error, endpoint_service, failure, listener, load_balancer, only_status, parts, target_group, topology,
        with_context,
    };

    const ARN: &str = "arn:aws:acm:eu-central-1:111122223333:certificate/0123";

    fn certificate(status: &str, hours: i64) -> Certificate {
        let not_after: Timestamp = at(9, 0) + SignedDuration::from_hours(hours);
        let (status, names) = (status.to_owned(), vec!["*.example.com".to_owned()]);
        Certificate { status, not_after, names, imported: true, key_algorithm: Some("RSA-2048".to_owned()) }
    }

    /// A load balancer with one TLS listener per certificate.
    fn tls(listeners: &[(u16, &str)]) -> LoadBalancer {
        let group = target_group("pg");
        let tls = |(port, arn): &(u16, &str)| Listener {
            certificate: Some((*arn).to_owned()),
            certificates_by_name: Some(Ok(Vec::new())),
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
    fn an_expiring_certificate_warns_at_30_days() {
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
    fn a_certificate_with_an_unusable_key_is_critical() {
        let status = |algorithm: Option<&str>| {
            let key_algorithm = algorithm.map(ToOwned::to_owned);
            status_of(ARN, Some(Certificate { key_algorithm, ..certificate("ISSUED", 9000) }), None)
        };
        let usable = ["RSA-1024", "RSA_2048", "RSA-3072", "RSA_3072", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"];
        for algorithm in usable {
            assert!(matches!(status(Some(algorithm)), Status::Pass(_)), "{algorithm}");
        }
        for algorithm in [None, Some("ML_DSA_65"), Some("RSA_PSS"), Some("EC_secp256k1")] {
            assert!(matches!(status(algorithm), Status::Unknown(_)), "{algorithm:?}");
        }
        for algorithm in ["RSA-4096", "RSA_4096", "RSA_8192"] {
            let finding = failure(status(Some(algorithm))).unwrap();
            let expected = format!("certificate of pg:443 has an unusable key: {algorithm}");
            assert_eq!((finding.severity, finding.summary), (Severity::Critical, expected));
            let requests = "aws acm request-certificate --region eu-central-1 --domain-name '*.example.com' \
                            --validation-method DNS";
            assert_eq!(finding.remedy.command.as_deref(), Some(requests), "importing it again keeps the key");
        }
    }

    #[test]
    fn a_finding_names_the_certificate_and_its_renewal() {
        let finding = |imported| {
            let expired = Certificate { imported, ..certificate("ISSUED", -1) };
            failure(status_of(ARN, Some(expired), None)).unwrap()
        };
        assert_eq!(finding(true).evidence[0], format!("default certificate of the listener: {ARN}"));
        assert!(finding(true).remedy.action.starts_with("It was imported, so ACM does not renew it."));
        assert!(finding(false).remedy.action.starts_with("If it has not expired, ACM renews it"));
    }

    #[test]
    fn each_failing_certificate_is_a_part_the_worst_first() {
        let hours = [("a", 20 * 24), ("b", 24), ("c", 10 * 24), ("fine", 9000)];
        let read = hours.map(|(id, hours)| (format!("{ARN}{id}"), Ok(certificate("ISSUED", hours))));
        let finding = |listeners: &[(u16, &str)]| {
            let listeners: Vec<(u16, String)> =
                listeners.iter().map(|(port, id)| (*port, format!("{ARN}{id}"))).collect();
            let listeners: Vec<(u16, &str)> = listeners.iter().map(|(port, arn)| (*port, arn.as_str())).collect();
            let topology =
                Topology { certificates: read.clone().into(), ..topology(endpoint_service(), [tls(&listeners)]) };
            failure(with_context(&topology, |context| only_status(evaluate(context)))).unwrap()
        };
        let one = finding(&[(443, "a")]);
        let all = finding(&[(443, "a"), (8443, "b"), (9443, "c"), (10443, "fine")]);
        assert_eq!((all.severity, &*all.summary), (Severity::Critical, "certificate of pg:8443 expires in 24 hours"));
        let expected = [("443", "a"), ("8443", "b"), ("9443", "c")].map(|(port, id)| format!("pg:{port} {ARN}{id}"));
        assert_eq!((parts(&one), parts(&all)), (vec![&*expected[0]], expected.each_ref().map(|part| &**part).to_vec()));
        assert_eq!(all.evidence[4], "also: certificate of pg:443 expires in 20 days");
        assert_eq!(all.evidence.len(), 6);
    }

    #[test]
    fn a_certificate_must_cover_the_private_dns_name() {
        assert_eq!(outcome(certificate("ISSUED", 9000), Some("pg.example.com")), None);
        let uncovered = outcome(certificate("ISSUED", 9000), Some("pg.example.org")).unwrap();
        assert_eq!(uncovered, (Severity::Warning, "certificate of pg:443 does not cover pg.example.org".to_owned()));
    }

    /// The status of a listener with these certificates, the default one first, for the private DNS name
    /// `pg.example.org`. Each certificate has a covered name, a status, and its validity in hours.
    fn several(certificates: &[(&str, &str, i64)]) -> Status {
        let private_dns = Some(PrivateDns { name: "pg.example.org".to_owned(), state: None, record: None });
        let arns: Vec<String> = (0..certificates.len()).map(|number| format!("{ARN}{number}")).collect();
        let mut balancer = tls(&[(443, &arns[0])]);
        // The default certificate can be in the list as well.
        balancer.listeners.as_mut().unwrap()[0].certificates_by_name = Some(Ok(arns.clone()));
        let read = |&(name, status, hours): &(&str, &str, i64)| match name {
            "" => Err(call_error("acm:DescribeCertificate")),
            name => Ok(Certificate { names: vec![name.to_owned()], ..certificate(status, hours) }),
        };
        let certificates = arns.into_iter().zip(certificates.iter().map(read)).collect();
        let service = EndpointService { private_dns, ..endpoint_service() };
        let topology = Topology { certificates, ..topology(service, [balancer]) };
        with_context(&topology, |context| only_status(evaluate(context)))
    }

    fn summary(status: Status) -> Option<String> {
        failure(status).map(|finding| finding.summary)
    }

    #[test]
    fn certificates_that_do_not_cover_the_dns_name_are_ignored() {
        const FINE: (&str, &str, i64) = ("pg.example.org", "ISSUED", 9000);
        let other = |hours| ("other.example.org", "ISSUED", hours);
        assert!(matches!(several(&[other(9000), FINE]), Status::Pass(_)));
        assert!(matches!(several(&[other(-1), FINE]), Status::Pass(_)), "dbt never sees the one that has expired");
        let expires = several(&[other(9000), FINE, ("*.example.org", "ISSUED", 48)]);
        let finding = failure(expires).unwrap();
        assert_eq!(finding.summary, "certificate of pg:443 expires in 2 days", "both cover it");
        assert_eq!(finding.evidence[0], format!("certificate of the listener for the names below: {ARN}2"));
        let uncovered = several(&[other(9000), other(8000)]);
        assert_eq!(summary(uncovered).as_deref(), Some("none of 2 certificates of pg:443 covers pg.example.org"));
    }

    #[test]
    fn an_unread_certificate_may_cover_the_private_dns_name() {
        const UNREAD: (&str, &str, i64) = ("", "", 0);
        assert!(matches!(several(&[("other.example.org", "ISSUED", 9000), UNREAD]), Status::Unknown(_)));
        assert!(matches!(several(&[("pg.example.org", "ISSUED", 9000), UNREAD]), Status::Unknown(_)));
        let expired = several(&[("pg.example.org", "ISSUED", -1), UNREAD]);
        assert_eq!(summary(expired).as_deref(), Some("certificate of pg:443 has expired"));
    }

    #[test]
    fn unlisted_certificates_leave_the_listener_unknown() {
        let status = |listed| {
            let mut balancer = tls(&[(443, ARN)]);
            balancer.listeners.as_mut().unwrap()[0].certificates_by_name = listed;
            let certificates = [(ARN.to_owned(), Ok(certificate("ISSUED", 9000)))].into();
            let topology = Topology { certificates, ..topology(endpoint_service(), [balancer]) };
            with_context(&topology, |context| only_status(evaluate(context)))
        };
        let failed = call_error("elasticloadbalancing:DescribeListenerCertificates");
        assert!(matches!(status(Some(Err(failed))), Status::Unknown(_)));
        assert_eq!(status(None), Status::NotAsked);
    }

    /// One expires tomorrow, the other in ten days; AWS refuses every second read of the first.
    #[test]
    fn a_refused_read_of_one_certificate_sends_no_new_message() {
        let (first, second) = (format!("{ARN}a"), format!("{ARN}b"));
        let finding = |is_read: bool| {
            let refused = || Err(call_error("acm:DescribeCertificate"));
            let certificates = [
                (first.clone(), if is_read { Ok(certificate("ISSUED", 24)) } else { refused() }),
                (second.clone(), Ok(certificate("ISSUED", 240))),
            ];
            let balancer = tls(&[(443, &first), (8443, &second)]);
            let topology = Topology { certificates: certificates.into(), ..topology(endpoint_service(), [balancer]) };
            failure(with_context(&topology, |context| only_status(evaluate(context)))).unwrap()
        };
        let thresholds = Thresholds { alert_after: 1, resolve_after: 1, remind_every: None };
        let (mut alert, mut events) = (None, Vec::new());
        for hour in 0..6 {
            let moment = Now { run: &hour.to_string(), now: at(hour, 0), incident: "incident", silenced: false };
            let finding = finding(hour % 2 == 0);
            let (next, event) = advance(alert.as_ref(), Signal::Failing(&finding), thresholds, moment);
            assert_eq!(
                next.as_ref().map(|alert| alert.finding.severity),
                Some(Severity::Critical),
                "the pager stays on"
            );
            (alert, events) = (next, [events, event.into_iter().collect()].concat());
        }
        assert_eq!(events, [Event::Fired]);
    }

    #[test]
    fn an_unread_certificate_is_an_unknown_part_of_a_finding() {
        let (fails, unread) = (format!("{ARN}a"), format!("{ARN}b"));
        let certificates = [
            (fails.clone(), Ok(certificate("ISSUED", 24))),
            (unread.clone(), Err(call_error("acm:DescribeCertificate"))),
        ];
        let balancer = tls(&[(443, &unread), (8443, &fails)]);
        let topology = Topology { certificates: certificates.into(), ..topology(endpoint_service(), [balancer]) };
        let finding = failure(with_context(&topology, |context| only_status(evaluate(context)))).unwrap();
        assert_eq!(finding.parts.get(&format!("pg:8443 {fails}")), Some(&PartStatus::Failing(Severity::Critical)));
        assert!(matches!(finding.parts.get(&format!("pg:443 {unread}")), Some(PartStatus::Unknown(_))), "{finding:?}");
    }

    #[test]
    fn an_unread_certificate_alone_is_unknown() {
        assert!(matches!(status_of(ARN, None, None), Status::Unknown(_)));
        let in_iam = status_of("arn:aws:iam::111122223333:server-certificate/tls/pg", None, None);
        let why = "certificate pg of pg:443 is in IAM: the guard does not read its dates";
        assert_eq!(in_iam, Status::Unknown(why.to_owned()));
        let plain = topology(endpoint_service(), [load_balancer("pg", vec![target_group("pg")])]);
        assert_eq!(with_context(&plain, evaluate), []);
    }
}
