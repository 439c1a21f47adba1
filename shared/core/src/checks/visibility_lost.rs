//! `visibility.lost`: does a read fail that other checks depend on?
//!
//! A call that works again has no result, which resolves its alert, unless another call fails: then this one may not have
//! been tried, and its alert keeps firing.

use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status};
use crate::snapshot::CallError;

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "visibility.lost",
    severities: &[(Severity::Warning, "always")],
    fails_when: "a read of EC2 or Elastic Load Balancing that checks depend on keeps failing; one alert per call",
    impact: "Nothing changes for dbt. The checks that depend on this read are *unknown*, so a failure there would go \
             unnoticed.",
    fix_in_short: "allow the function's role the named call again",
    can_flap: true,
    cloudtrail_events: &[],
    group: Group::Visibility,
    evaluate,
};

/// One result per call that failed.
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let mut calls: Vec<&CallError> = context.failed_calls.iter().collect();
    calls.sort_by_key(|error| error.call);
    calls.dedup_by_key(|error| error.call);
    calls.into_iter().map(|error| CheckResult::new(&SPEC, error.call, Status::fail(finding(error)))).collect()
}

fn finding(error: &CallError) -> Finding {
    let CallError { call, error, denied } = error;
    let action = if *denied {
        format!(
            "Allow the function's role to call {call} again: check its own policies as the stack sets them, its permissions \
             boundary, and the organization's policies."
        )
    } else {
        "If this lasts, check AWS's health page for the Region, and the function's log.".to_owned()
    };
    Finding {
        severity: Severity::Warning,
        summary: format!("the guard cannot see: {call} fails"),
        impact:
            "Nothing changes for dbt, but what depends on this read is unknown: a failure there would go unnoticed."
                .to_owned(),
        evidence: vec![format!("AWS said: {error}")],
        remedy: Remedy { action, command: None, console: None },
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Topology;
    use crate::testing::{call_error, failure, with_context};

    #[test]
    fn one_alert_per_call_names_the_action() {
        let connections = call_error("ec2:DescribeVpcEndpointConnections");
        let health = call_error("elasticloadbalancing:DescribeTargetHealth");
        let failed_calls = [health.clone(), connections, health];
        let results = with_context(&Topology::default(), |context| {
            evaluate(CheckContext { failed_calls: &failed_calls, ..context })
        });
        let resources: Vec<&str> = results.iter().map(|result| result.resource.as_str()).collect();
        assert_eq!(resources, ["ec2:DescribeVpcEndpointConnections", "elasticloadbalancing:DescribeTargetHealth"]);
        let finding = failure(results[0].status.clone()).unwrap();
        assert!(finding.remedy.action.contains("ec2:DescribeVpcEndpointConnections"));
    }
}
