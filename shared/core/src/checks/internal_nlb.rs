//! `load-balancer.internal-nlb`: is the load balancer behind the service an internal Network Load Balancer, and active?

use super::catalogue::{ALWAYS, Absence};
use super::{CheckContext, CheckResult, Finding, Group, Remedy, Severity, Spec, Status};
use crate::snapshot::{Description, LoadBalancer};

/// The catalogue's row.
pub(super) const SPEC: Spec = Spec {
    id: "load-balancer.internal-nlb",
    severities: &[(Severity::Critical, "always")],
    fails_when: "the endpoint service has no load balancer, or one that is not a Network Load Balancer, not \
                 `internal`, or not `active`",
    impact: "Without an active Network Load Balancer, some or all of dbt's connections fail. With an internet-facing \
             one, dbt connects, but your service can also be reached from the internet.",
    fix_in_short: "put an active, internal Network Load Balancer behind the service",
    can_flap: false,
    can_be_provoked: false,
    absence: Absence::Gone,
    is_watched: ALWAYS,
    cloudtrail_events: &["ModifyVpcEndpointServiceConfiguration"],
    group: Group::Settings,
    evaluate,
};

/// One result per load balancer, and one for the service, which must have one.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/create-endpoint-service.html>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    let results = context.per_load_balancer(&SPEC, |balancer, description| judge(balancer, description, context));
    if results.is_empty() {
        return context.for_service(&SPEC, |_| Status::fail(no_load_balancer(context)));
    }
    results
}

fn judge(balancer: &LoadBalancer, description: &Description, context: CheckContext<'_>) -> Status {
    let Description { kind, scheme, state, .. } = description;
    let (name, region) = (balancer.name(), context.region.name());
    let (problem, impact, action) = if kind != "network" {
        (
            format!("{name} is a load balancer of type '{kind}', not 'network'"),
            "dbt cannot connect: it needs an interface endpoint, which leads to Network Load Balancers alone.",
            "Put a Network Load Balancer behind the service instead.",
        )
    } else if scheme != "internal" {
        (
            format!("{name} is '{scheme}', not internal"),
            "dbt connects, but your service can be reached from the internet as well.",
            "A scheme cannot be changed. Create an internal Network Load Balancer with the same listeners, add it to the \
             service (modify-vpc-endpoint-service-configuration --add-network-load-balancer-arns), and only when dbt's \
             connections go through it take this one out.",
        )
    } else if state != "active" {
        (
            format!("{name} is '{state}', not active"),
            "dbt's connections fail, or some of them: AWS cannot run the load balancer as it should.",
            "If it does not become active within minutes, see that its subnets have free addresses, and ask AWS Support.",
        )
    } else {
        return Status::Pass;
    };
    let show = format!("aws elbv2 describe-load-balancers --region {region} --load-balancer-arns {}", balancer.arn);
    Status::Fail(Box::new(Finding {
        severity: Severity::Critical,
        summary: problem,
        impact: impact.to_owned(),
        evidence: vec![format!("type {kind}, scheme {scheme}, state {state}")],
        remedy: Remedy {
            action: action.to_owned(),
            command: Some(show),
            console: context.region.load_balancer(&balancer.arn),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }))
}

fn no_load_balancer(context: CheckContext<'_>) -> Finding {
    Finding {
        severity: Severity::Critical,
        summary: "no load balancer is behind the endpoint service".to_owned(),
        impact: "dbt cannot connect: nothing takes its connections.".to_owned(),
        evidence: Vec::new(),
        remedy: Remedy {
            action: "Put an internal Network Load Balancer behind it; set its ARN in this command.".to_owned(),
            command: Some(format!(
                "aws ec2 modify-vpc-endpoint-service-configuration --region {} --service-id {} \
                 --add-network-load-balancer-arns ARN",
                context.region.name(),
                context.service
            )),
            console: context.region.endpoint_service(context.service.as_str()),
        },
        cause: None,
        parts: Vec::new(),
        related: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Topology;
    use crate::testing::{call_error, endpoint_service, failures, load_balancer, topology, with_context};

    fn like(change: impl FnOnce(&mut Description)) -> LoadBalancer {
        let mut balancer = load_balancer("pg", vec![]);
        change(balancer.description.as_mut().unwrap());
        balancer
    }

    fn told(balancers: Vec<LoadBalancer>) -> Vec<String> {
        let results = with_context(&topology(endpoint_service(), balancers), evaluate);
        failures(&results).into_iter().map(|(_, summary)| summary.to_owned()).collect()
    }

    #[test]
    fn type_scheme_and_state_must_be_right() {
        assert_eq!(told(vec![like(|_| {})]), [""; 0]);
        let gateway = like(|own| (own.kind, own.scheme) = ("gateway".to_owned(), String::new()));
        assert_eq!(told(vec![gateway]), ["pg is a load balancer of type 'gateway', not 'network'"]);
        let public = like(|own| own.scheme = "internet-facing".to_owned());
        assert_eq!(told(vec![public]), ["pg is 'internet-facing', not internal"]);
        for state in ["provisioning", "active_impaired", "failed", ""] {
            let idle = like(|own| own.state = state.to_owned());
            assert_eq!(told(vec![idle]), [format!("pg is '{state}', not active")]);
        }
    }

    #[test]
    fn a_service_must_have_one_and_all_of_them_count() {
        assert_eq!(told(vec![]), ["no load balancer is behind the endpoint service"]);
        let idle =
            LoadBalancer { arn: load_balancer("idle", vec![]).arn, ..like(|own| own.state = "failed".to_owned()) };
        assert_eq!(told(vec![like(|_| {}), idle]), ["idle is 'failed', not active"]);
    }

    #[test]
    fn what_could_not_be_read_is_unknown() {
        let call = "elasticloadbalancing:DescribeLoadBalancers";
        let blind = LoadBalancer { description: Err(call_error(call)), ..like(|_| {}) };
        let seen = topology(endpoint_service(), [blind]);
        let unlisted = Topology { services: Some(Err(call_error(call))), ..seen.clone() };
        let gone = Topology { services: Some(Ok([].into())), ..seen.clone() };
        for topology in [seen, unlisted, gone] {
            let statuses: Vec<Status> =
                with_context(&topology, evaluate).into_iter().map(|found| found.status).collect();
            assert!(matches!(statuses[..], [Status::Unknown(_)]), "{statuses:?}");
        }
    }
}
