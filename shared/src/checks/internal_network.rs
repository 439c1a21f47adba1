//! `load-balancer.internal-network`: is what stands behind the service an internal Network Load Balancer, at work?

use super::{Check, Finding, Observation, Remedy, Severity, Status, View, observed};
use crate::snapshot::{Description, LoadBalancer};

/// One observation per load balancer, and one for the service, which must have one.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/create-endpoint-service.html>
#[must_use]
pub fn evaluate(view: View<'_>) -> Vec<Observation> {
    let check = Check::LoadBalancerInternalNetwork;
    let mut observations = view.per_load_balancer(check, |balancer, description| judge(balancer, description, view));
    if observations.is_empty() {
        let none = view.of_service(check, |_| Status::Fail(Box::new(no_load_balancer(view))));
        observations.push(observed(check, view.service, none.status));
    }
    observations
}

fn judge(balancer: &LoadBalancer, description: &Description, view: View<'_>) -> Status {
    let Description { kind, scheme, state, .. } = description;
    let (name, region) = (balancer.name(), view.place.region());
    let (problem, meaning, what) = if kind != "network" {
        (
            format!("{name} is a load balancer of type '{kind}', not 'network'"),
            "dbt cannot connect: it needs an interface endpoint, which leads to Network Load Balancers alone.",
            "Put a Network Load Balancer behind the service in its place.",
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
        meaning: meaning.to_owned(),
        evidence: vec![format!("type {kind}, scheme {scheme}, state {state}")],
        remedy: Remedy { what: what.to_owned(), command: Some(show), console: view.place.load_balancer(&balancer.arn) },
        cause: None,
    }))
}

fn no_load_balancer(view: View<'_>) -> Finding {
    Finding {
        severity: Severity::Critical,
        summary: "no load balancer is behind the endpoint service".to_owned(),
        meaning: "dbt cannot connect: nothing takes its connections.".to_owned(),
        evidence: Vec::new(),
        remedy: Remedy {
            what: "Put an internal Network Load Balancer behind it; set its ARN in this command.".to_owned(),
            command: Some(format!(
                "aws ec2 modify-vpc-endpoint-service-configuration --region {} --service-id {} \
                 --add-network-load-balancer-arns ARN",
                view.place.region(),
                view.service
            )),
            console: view.place.endpoint_service(view.service.as_str()),
        },
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Paths;
    use crate::testing::{endpoint_service, failures, load_balancer, paths, unseen, view};

    fn like(change: impl FnOnce(&mut Description)) -> LoadBalancer {
        let mut balancer = load_balancer("pg", vec![]);
        change(balancer.description.as_mut().unwrap());
        balancer
    }

    fn told(balancers: Vec<LoadBalancer>) -> Vec<String> {
        let observations = view(&paths(endpoint_service(), balancers), evaluate);
        failures(&observations).into_iter().map(|(_, summary)| summary.to_owned()).collect()
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
        let blind = LoadBalancer { description: Err(unseen(call)), ..like(|_| {}) };
        let seen = paths(endpoint_service(), [blind]);
        let unlisted = Paths { services: Err(unseen(call)), ..seen.clone() };
        let gone = Paths { services: Ok([].into()), ..seen.clone() };
        for paths in [seen, unlisted, gone] {
            let statuses: Vec<Status> = view(&paths, evaluate).into_iter().map(|found| found.status).collect();
            assert!(matches!(statuses[..], [Status::Unknown(_)]), "{statuses:?}");
        }
    }
}
