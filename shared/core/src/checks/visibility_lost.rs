//! `visibility.lost`: a read that other checks depend on fails, so their results are unknown.

use crate::check::{Branch, CheckResult, Finding, Group, Remedy, Severity, Spec, Status, WhenMissing};
use crate::snapshot::{CallError, Calls, ErrorKind};

/// The catalogue's row. It is about the run, not about one endpoint service: see [`of_calls`].
pub(crate) const SPEC: Spec = Spec {
    id: "visibility.lost",
    in_short: "The guard can read what its checks need.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "a read of EC2, Elastic Load Balancing, ACM or CloudWatch that checks depend on keeps failing; one alert per call",
    failing_word: "failing",
    impact: "dbt is not affected. The checks that depend on this read are *unknown*, so a failure there would go \
             unnoticed.",
    can_flap: true,
    when_missing: WhenMissing::NotAsked,
    group: Group::Visibility,
    branch: Branch::Guard,
    can_stop_dbt: false,
    ..Spec::USUAL
};

/// One result per call of the run.
pub fn of_calls(calls: &Calls) -> Vec<CheckResult> {
    let status = |(call, error): (&&'static str, &Option<CallError>)| match error {
        Some(error) => Status::fail(finding(error)),
        None => Status::pass(format!("{call} works")),
    };
    calls.iter().map(|call| CheckResult::new(&SPEC, *call.0, status(call))).collect()
}

fn finding(error: &CallError) -> Finding {
    let (call, denied) = (error.call, error.is_denied());
    let is_malformed = error.kind == ErrorKind::Malformed;
    let accepting = match call {
        "ec2:DescribeVpcEndpointConnections" if is_malformed => {
            " Until it can be read, the guard cannot accept dbt's requests on the service that the error names, or on \
             any service if it names none."
        }
        "ec2:DescribeVpcEndpointConnections" => " Until the call works, the guard cannot accept dbt's requests.",
        _ => "",
    };
    let action = if denied {
        format!(
            "Allow the function's role to call {call} again. A role that the stack created allows it, so check whether \
             someone changed the role, its permissions boundary, or your organization's policies. A role of your own \
             needs what privatelink-guard policy --role prints."
        )
    } else if error.is_throttled() {
        "Other tools use up the account's API limit; the guard paces its own calls. If this lasts, look up in \
         CloudTrail who makes this call, or choose slower schedules."
            .to_owned()
    } else if is_malformed {
        "The guard could not read the answer; the evidence says why. If it names a proxy or a truncated answer, check \
         the function's network and AWS_ENDPOINT_URL. Otherwise, if this lasts, update privatelink-guard; if that does \
         not help, report it with the function's log."
            .to_owned()
    } else {
        "If this lasts, check the AWS Health Dashboard for the Region and the function's log.".to_owned()
    };
    Finding::new(
        Severity::Warning,
        match () {
            () if denied => format!("{call} is denied"),
            () if is_malformed => format!("{call}: the answer cannot be read"),
            () => format!("{call} fails"),
        },
        format!(
            "Existing connections keep working. But checks that depend on this call are unknown{}, so a failure would go \
             unnoticed.{accepting}",
            if is_malformed { ", or only those of the resource that the error names" } else { "" }
        ),
        Remedy::new(&action, None, None),
    )
    .with_evidence(vec![format!("error: {}", error.reason())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{call_error, only_finding};

    #[test]
    fn each_call_has_a_result_and_a_failure_names_the_action() {
        let (listing, health) = ("ec2:DescribeVpcEndpointConnections", "elasticloadbalancing:DescribeTargetHealth");
        let calls = [(listing, Some(call_error(listing))), (health, None)].into();
        let results = of_calls(&calls);
        let [CheckResult { resource, status: Status::Fail(finding), .. }, passing] = &results[..] else {
            panic!("{results:?}")
        };
        assert_eq!(resource, listing);
        assert!(finding.remedy.action.contains(listing), "{}", finding.remedy.action);
        assert!(finding.impact.ends_with("the guard cannot accept dbt's requests."), "{}", finding.impact);
        let refused = CallError::new(health, ErrorKind::Refused("Throttling".to_owned()), "Rate exceeded");
        let refused = only_finding(of_calls(&[(health, Some(refused))].into()));
        assert!(refused.remedy.action.contains("CloudTrail"), "{}", refused.remedy.action);
        let malformed = CallError::new(listing, ErrorKind::Malformed, "a connection of vpce-svc-1 is incomplete");
        let malformed = only_finding(of_calls(&[(listing, Some(malformed))].into()));
        assert!(malformed.impact.contains("on the service that the error names"), "{}", malformed.impact);
        assert!(malformed.remedy.action.contains("update privatelink-guard"), "{}", malformed.remedy.action);
        let other = of_calls(&[(health, Some(call_error(health)))].into());
        assert!(!only_finding(other).impact.contains("accept"));
        assert_eq!((passing.resource.as_str(), &passing.status), (health, &Status::pass(format!("{health} works"))));
    }
}
