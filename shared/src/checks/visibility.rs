//! `visibility.lost`: a read that other checks depend on fails, so that they cannot tell.

use super::{Check, Finding, Observation, Remedy, Severity, Status};
use crate::snapshot::Unseen;

/// One observation per call that failed. A call that works again is absent here, which resolves its alert.
#[must_use]
pub fn evaluate<'a>(failed: impl IntoIterator<Item = &'a Unseen>) -> Vec<Observation> {
    let mut calls: Vec<&Unseen> = failed.into_iter().collect();
    calls.sort_by_key(|unseen| unseen.call);
    calls.dedup_by_key(|unseen| unseen.call);
    calls
        .into_iter()
        .map(|unseen| Observation {
            check: Check::VisibilityLost,
            resource: unseen.call.to_owned(),
            status: Status::Fail(Box::new(finding(unseen))),
        })
        .collect()
}

fn finding(unseen: &Unseen) -> Finding {
    let Unseen { call, error, denied } = unseen;
    let what = if *denied {
        format!(
            "Let the function's role do {call} again: see which policy denies it, the role's own as the stack sets it, its \
             boundary, or one of the organization's."
        )
    } else {
        "If this lasts, look at AWS's health page for the Region, and at the function's log.".to_owned()
    };
    Finding {
        severity: Severity::Warning,
        summary: format!("the guard cannot see: {call} fails"),
        meaning: "Nothing changes for dbt, but what depends on this read is unknown: a failure there would go unseen."
            .to_owned(),
        evidence: vec![format!("AWS said: {error}")],
        remedy: Remedy { what, command: None, console: None },
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::unseen;

    #[test]
    fn one_alert_per_call_names_the_action() {
        let (listing, health) =
            (unseen("ec2:DescribeVpcEndpointConnections"), unseen("elasticloadbalancing:DescribeTargetHealth"));
        let observations = evaluate([&health, &listing, &health]);
        let resources: Vec<&str> = observations.iter().map(|observation| observation.resource.as_str()).collect();
        assert_eq!(resources, ["ec2:DescribeVpcEndpointConnections", "elasticloadbalancing:DescribeTargetHealth"]);
        let Status::Fail(finding) = &observations[0].status else { panic!("it fails") };
        assert!(finding.remedy.what.contains("ec2:DescribeVpcEndpointConnections"));
    }
}
