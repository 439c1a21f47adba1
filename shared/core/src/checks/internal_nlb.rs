//! `load-balancer.internal-nlb`: is the service's load balancer an internal Network Load Balancer, and active?

use crate::check::restore::list_load_balancers;
use crate::check::{CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};
use crate::ids::ServiceId;
use crate::snapshot::{Description, LoadBalancer};

pub(crate) const SPEC: Spec = Spec {
    id: "load-balancer.internal-nlb",
    in_short: "The load balancer is an internal, active Network Load Balancer.",
    severities: &[(Severity::Critical, "always")],
    fails_when: "the endpoint service has no load balancer, or one that is not a Network Load Balancer, not \
                 `internal`, or not `active`",
    failing_word: "failing",
    impact: "Without an active Network Load Balancer, some or all of dbt's connections fail. With an internet-facing \
             one, dbt connects, but your service can also be reached from the internet.",
    cloudtrail_events: &["ModifyVpcEndpointServiceConfiguration"],
    evaluate,
    ..Spec::USUAL
};

/// One result per load balancer; one for the service if it has none.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/create-endpoint-service.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let results =
        context.per_load_balancer(&SPEC, |load_balancer, description| judge(load_balancer, description, context));
    if results.is_empty() {
        return context.for_service(&SPEC, |service| Status::fail(no_load_balancer(&service.id, context)));
    }
    results
}

fn judge(load_balancer: &LoadBalancer, description: &Description, context: CheckContext<'_>) -> Status {
    let problems = problems(description);
    if problems.is_empty() {
        return Status::pass(format!("{} is an active, internal Network Load Balancer", load_balancer.name()));
    }
    let Description { kind, scheme, state, .. } = description;
    let joined = |text: fn(&Shortcoming) -> &str, with: &str| problems.iter().map(text).collect::<Vec<_>>().join(with);
    Status::fail(
        Finding::new(
            Severity::Critical,
            format!("{} {}", load_balancer.name(), joined(|problem| &problem.summary, " and ")),
            joined(|problem| problem.impact, " "),
            Remedy::new(
                &joined(|problem| problem.action, " "),
                Some(
                    Command::new("elbv2 describe-load-balancers", context.region)
                        .option("load-balancer-arns", &load_balancer.arn),
                ),
                context.region.load_balancer(&load_balancer.arn),
            ),
        )
        .with_evidence(vec![format!("type {kind}, scheme {scheme}, state {state}")])
        .with_parts(problems.iter().map(|problem| problem.part))
        .stopping_dbt(problems.iter().any(|problem| problem.stops_dbt)),
    )
}

/// One way in which a load balancer is not an active, internal Network Load Balancer.
struct Shortcoming {
    part: &'static str,
    stops_dbt: bool,
    summary: String,
    impact: &'static str,
    action: &'static str,
}

/// All problems, and not only the first.
fn problems(description: &Description) -> Vec<Shortcoming> {
    let Description { kind, scheme, state, .. } = description;
    let is_network = kind == "network";
    let kind = (!is_network).then(|| Shortcoming {
        part: "type",
        stops_dbt: true,
        summary: format!("is of type '{kind}', not 'network'"),
        impact: "dbt cannot connect: interface endpoints work only with Network Load Balancers.",
        action: "Create a new endpoint service with an internal Network Load Balancer, and send dbt Support its name.",
    });
    // A Gateway Load Balancer has no scheme.
    let scheme = ((is_network || !scheme.is_empty()) && scheme != "internal").then(|| Shortcoming {
        part: "scheme",
        stops_dbt: false,
        summary: format!("is {scheme}, not internal"),
        impact: "Your service can be reached from the internet as well.",
        action: "A scheme cannot be changed. Create an internal Network Load Balancer with the same listeners and add \
                 it to the endpoint service (modify-vpc-endpoint-service-configuration \
                 --add-network-load-balancer-arns). AWS does not remove the old one while endpoints are connected: \
                 plan an outage. The runbook has the steps.",
    });
    let state = (state != "active").then(|| Shortcoming {
        part: "state",
        stops_dbt: true,
        summary: format!("is '{state}', not active"),
        impact: "dbt's connections may fail: the load balancer is not fully working.",
        action: "If it does not become active within minutes, check that its subnets have free addresses, and ask AWS \
                 Support.",
    });
    [kind, scheme, state].into_iter().flatten().collect()
}

fn no_load_balancer(service: &ServiceId, context: CheckContext<'_>) -> Finding {
    Finding::new(
        Severity::Critical,
        "the endpoint service has no load balancer",
        "dbt cannot connect: nothing receives its connections.",
        Remedy::new(
            "In the console, add an internal Network Load Balancer to the endpoint service. The command lists yours; if the right one \
             is not there, create it first.",
            Some(list_load_balancers(context)),
            context.region.endpoint_service(service.as_str()),
        ),
    )
    .stopping_dbt(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::testing::{
        endpoint_service, failure, load_balancer, only_status, parts, summaries, topology, with_context,
    };

    /// A load balancer that passes, with this change.
    fn changed(change: impl FnOnce(&mut Description)) -> LoadBalancer {
        let mut load_balancer = load_balancer("pg", vec![]);
        change(load_balancer.description.as_mut().unwrap());
        load_balancer
    }

    fn results(load_balancers: Vec<LoadBalancer>) -> Vec<CheckResult> {
        with_context(&topology(endpoint_service(), load_balancers), evaluate)
    }

    #[test]
    fn a_load_balancer_must_be_an_active_internal_nlb() {
        assert_eq!(summaries(&results(vec![changed(|_| {})])), [""; 0]);
        let gateway = changed(|nlb| (nlb.kind, nlb.scheme) = ("gateway".to_owned(), String::new()));
        assert_eq!(summaries(&results(vec![gateway])), ["pg is of type 'gateway', not 'network'"]);
        let public = changed(|nlb| nlb.scheme = "internet-facing".to_owned());
        assert_eq!(summaries(&results(vec![public])), ["pg is internet-facing, not internal"]);
        for state in ["provisioning", "active_impaired", "failed", ""] {
            let inactive = changed(|nlb| nlb.state = state.to_owned());
            assert_eq!(summaries(&results(vec![inactive])), [format!("pg is '{state}', not active")]);
        }
    }

    #[test]
    fn all_problems_are_parts_of_one_finding() {
        let problems = changed(|description| {
            (description.scheme, description.state) = ("internet-facing".to_owned(), "failed".to_owned());
        });
        let topology = topology(endpoint_service(), [problems]);
        let finding = failure(only_status(with_context(&topology, evaluate))).unwrap();
        assert_eq!(finding.summary, "pg is internet-facing, not internal and is 'failed', not active");
        assert_eq!(parts(&finding), ["scheme", "state"]);
        let public = |kind: &str| {
            let public = changed(|nlb| (nlb.kind, nlb.scheme) = (kind.to_owned(), "internet-facing".to_owned()));
            failure(results(vec![public]).remove(0).status).unwrap()
        };
        assert_eq!(parts(&public("application")), ["scheme", "type"]);
        let unnamed = changed(|nlb| nlb.scheme = String::new());
        assert_eq!(
            parts(&failure(results(vec![unnamed]).remove(0).status).unwrap()),
            ["scheme"],
            "not said to be internal"
        );
    }

    #[test]
    fn every_load_balancer_of_a_service_counts() {
        assert_eq!(summaries(&results(vec![])), ["the endpoint service has no load balancer"]);
        let idle =
            LoadBalancer { arn: load_balancer("idle", vec![]).arn, ..changed(|nlb| nlb.state = "failed".to_owned()) };
        assert_eq!(summaries(&results(vec![changed(|_| {}), idle])), ["idle is 'failed', not active"]);
    }
}
