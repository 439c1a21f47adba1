//! `service.principals`: may dbt ask, and nobody else?

use super::catalogue::{ALWAYS, Absence};
use super::{CheckContext, CheckResult, Finding, Group, Region, Remedy, Severity, Spec, Status, limited};
use crate::config::{Policy, Principal};
use crate::ids::{AccountId, Arn};
use crate::snapshot::known;

/// Evidence lines per alert; the rest is counted.
const MAX_PRINCIPALS: usize = 20;

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "service.principals",
    severities: &[
        (Severity::Critical, "dbt is missing, or `*` is allowed"),
        (Severity::Warning, "other principals besides dbt's"),
    ],
    fails_when: "the allowed principals are not exactly dbt's",
    impact: "If dbt is missing, it cannot create an endpoint; existing connections keep working. If others are \
             allowed, nothing changes for dbt, but they can send connection requests.",
    fix_in_short: "`modify-vpc-endpoint-service-permissions`",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &["ModifyVpcEndpointServicePermissions"],
    group: Group::Settings,
    evaluate,
};

/// The result for the endpoint service, from its allowed principals as EC2 lists them.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_service(&SPEC, |service| match known(service.principals.as_ref()) {
        Ok(allowed) => judge(allowed, context),
        Err(why) => Status::Unknown(why),
    })
}

fn judge(allowed: &[String], context: CheckContext<'_>) -> Status {
    let CheckContext { service, policy, region, .. } = context;
    let anybody = allowed.iter().any(|principal| principal == "*");
    let missing: Vec<String> = policy
        .principals
        .iter()
        // Even where '*' admits everybody: it must go, and dbt must not go with it.
        .filter(|wanted| !allowed.iter().any(|own| admits(own, wanted)))
        .map(|wanted| arn_of(wanted, region))
        .collect();
    let others: Vec<&str> =
        allowed.iter().map(String::as_str).filter(|own| *own != "*" && !is_dbts(own, policy)).collect();

    let (severity, summary, impact) = if anybody {
        (
            Severity::Critical,
            "anybody may ask to connect ('*' is allowed)".to_owned(),
            "dbt is not affected. But any AWS account can ask now: the guard accepts none but dbt's, and whoever else may \
             accept requests in your account could let anybody in.",
        )
    } else if !missing.is_empty() {
        (
            Severity::Critical,
            format!("dbt may not ask to connect: {} is not an allowed principal", missing.join(", ")),
            "dbt cannot create an endpoint to this service: to dbt, it does not exist. A connection that lives goes on.",
        )
    } else if !others.is_empty() {
        (
            Severity::Warning,
            format!("{} besides dbt may ask to connect", super::count(others.len(), "principal")),
            "Nothing changes for dbt, but others can send connection requests.",
        )
    } else {
        return Status::Pass;
    };
    let mut arguments = Vec::new();
    if !missing.is_empty() {
        arguments.push(format!("--add-allowed-principals {}", missing.join(" ")));
    }
    let excess = allowed.iter().filter(|own| !is_dbts(own, policy)).take(MAX_PRINCIPALS);
    let excess: Vec<String> = excess.map(|own| format!("'{own}'")).collect();
    if !excess.is_empty() {
        arguments.push(format!("--remove-allowed-principals {}", excess.join(" ")));
    }
    Status::Fail(Box::new(Finding {
        severity,
        summary,
        impact: impact.to_owned(),
        evidence: limited(allowed.iter().map(|principal| format!("allowed: {principal}")).collect(), MAX_PRINCIPALS),
        remedy: Remedy {
            action: "Allow dbt's principals alone. This closes no connection that exists.".to_owned(),
            command: Some(format!(
                "aws ec2 modify-vpc-endpoint-service-permissions --region {} --service-id {service} {}",
                region.name(),
                arguments.join(" ")
            )),
            console: region.endpoint_service(service.as_str()),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

/// The account of an allowed principal, and the ARN if it is not the whole account: EC2 lists an account by its root's ARN,
/// or by its bare id.
fn account_of(own: &str) -> Option<(AccountId, Option<Arn>)> {
    if let Ok(account) = own.parse() {
        return Some((account, None));
    }
    let arn: Arn = own.parse().ok()?;
    let account = arn.account().parse().ok()?;
    Some((account, (arn.resource() != "root").then_some(arn)))
}

/// Whether the allowed principal `own` lets `wanted` ask. A role or a user is admitted by its account as well; an account
/// that is configured by its id alone, by any principal of that account.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#add-remove-permissions>
fn admits(own: &str, wanted: &Principal) -> bool {
    account_of(own).is_some_and(|(account, part)| {
        account == wanted.account && (part.is_none() || wanted.arn.is_none() || part == wanted.arn)
    })
}

fn is_dbts(own: &str, policy: &Policy) -> bool {
    account_of(own).is_some_and(|(account, _)| policy.dbt_accounts.contains(&account))
}

fn arn_of(principal: &Principal, region: &Region) -> String {
    match &principal.arn {
        Some(arn) => arn.to_string(),
        None => format!("arn:{}:iam::{}:root", region.partition(), principal.account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{EndpointService, Observed};
    use crate::testing::{call_error, endpoint_service, only_status, settings, topology, with_policy};

    fn status(configured: &str, allowed: Observed<Vec<String>>) -> Status {
        let policy = settings(&[("DBT_PRINCIPALS", configured)]).policy;
        let service = EndpointService { principals: Some(allowed), ..endpoint_service() };
        with_policy(&topology(service, []), &policy, |context| only_status(evaluate(context)))
    }

    const ROOT: &str = "arn:aws:iam::123456789012:root";
    const ROLE: &str = "arn:aws:iam::123456789012:role/dbt";
    const OTHER: &str = "arn:aws:iam::999999999999:root";

    /// The severity, if it fails, for these configured and these allowed principals.
    fn severity(configured: &str, allowed: &[&str]) -> Option<Severity> {
        match status(configured, Ok(allowed.iter().map(ToString::to_string).collect())) {
            Status::Pass => None,
            Status::Fail(finding) => Some(finding.severity),
            Status::Unknown(why) => panic!("unknown: {why}"),
        }
    }

    #[test]
    fn exactly_dbts_principals_pass() {
        let (critical, warning) = (Some(Severity::Critical), Some(Severity::Warning));
        let table: &[(&str, &[&str], Option<Severity>)] = &[
            (ROOT, &[ROOT], None),
            (ROLE, &[ROLE], None),
            (ROLE, &[ROOT], None),
            (ROOT, &[ROLE], critical),
            ("123456789012", &[ROLE], None),
            ("123456789012", &[ROOT], None),
            (ROOT, &[], critical),
            (ROOT, &[OTHER], critical),
            (ROOT, &["*"], critical),
            (ROOT, &["*", ROOT], critical),
            (ROOT, &[OTHER, ROOT], warning),
            (ROOT, &[ROOT, OTHER], warning),
            (ROOT, &[ROOT, "999999999999"], warning),
            (ROOT, &["123456789012"], None),
            (ROLE, &["123456789012"], None),
            (ROLE, &["arn:aws:iam::123456789012:role/another"], critical),
            (ROOT, &[ROOT, ROLE], None),
            ("123456789012,arn:aws:iam::555555555555:root", &[ROOT], critical),
            ("123456789012,arn:aws:iam::555555555555:root", &[ROOT, "arn:aws:iam::555555555555:root"], None),
        ];
        for (configured, allowed, expected) in table {
            assert_eq!(severity(configured, allowed), *expected, "{configured} {allowed:?}");
        }
    }

    #[test]
    fn the_command_mends_it() {
        let allowed = Ok(vec!["*".to_owned(), OTHER.to_owned()]);
        let Status::Fail(finding) = status(ROOT, allowed) else { panic!("it fails") };
        let command = finding.remedy.command.unwrap();
        let expected = format!("--add-allowed-principals {ROOT} --remove-allowed-principals '*' '{OTHER}'");
        assert!(command.ends_with(&expected), "dbt must not go with the others: {command}");
    }

    #[test]
    fn a_failed_read_is_unknown() {
        let failed = Err(call_error("ec2:DescribeVpcEndpointServicePermissions"));
        assert!(matches!(status(ROOT, failed), Status::Unknown(_)));
    }
}
