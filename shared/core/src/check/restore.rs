//! The commands that restore missing parts of a path from drift-watcher's record.

use super::protocols::negotiating;
use super::{CheckContext, Command};
use crate::ids::Arn;
use crate::snapshot::{Listener, LoadBalancer, Target, TargetGroup, TargetKind};

/// The action if the last targets are known.
const REGISTER_AGAIN: &str = "If Auto Scaling, ECS or Kubernetes registers the targets, look there first. Otherwise \
                              register them again, unless somebody removed them on purpose: the command names those \
                              that were there last.";

/// The command that registers the group's last targets, with its action; `None` if they are unknown. Terminated
/// instances are left out.
pub(crate) fn register_again(group: &TargetGroup, context: CheckContext<'_>) -> Option<(String, Command)> {
    let path = context.last_path?;
    let mut last = path.last_targets(&group.arn);
    last.retain(|target| !target.is_terminated);
    let gone_since = path.gone_since(&group.arn).filter(|_| group.kind == TargetKind::Ip);
    let age = gone_since.map(|since| {
        format!(" They were there until {since:.0}: make sure that no other workload has these addresses now.")
    });
    let register = Command::new("elbv2 register-targets", context.region)
        .option("target-group-arn", &group.arn)
        .options("targets", last.iter().map(|target| as_registered(group, target)));
    (!last.is_empty()).then(|| (format!("{REGISTER_AGAIN}{}", age.unwrap_or_default()), register))
}

/// A target with the port and the zone that ELB reports. Without them, deregistering can succeed without an effect, and
/// an address outside the VPC cannot be registered. An instance takes no zone.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html>
pub(crate) fn as_registered(group: &TargetGroup, target: &Target) -> String {
    let zone = target.zone.as_deref().filter(|_| group.kind == TargetKind::Ip);
    target_argument(&target.id, target.port, zone)
}

/// A target in the AWS CLI's form.
pub(crate) fn target_argument(id: &str, port: Option<u16>, zone: Option<&str>) -> String {
    let port = port.map(|port| format!(",Port={port}")).unwrap_or_default();
    let zone = zone.map(|zone| format!(",AvailabilityZone={zone}")).unwrap_or_default();
    format!("Id={id}{port}{zone}")
}

/// The load balancer's last listeners on these ports, or on any port if `ports` is empty.
pub(crate) fn last_listeners<'a>(
    load_balancer: &LoadBalancer,
    ports: &[u16],
    context: CheckContext<'a>,
) -> Vec<&'a Listener> {
    let last = context.last_path.map(|path| path.last_listeners(&load_balancer.arn)).unwrap_or_default();
    last.into_iter().filter(|listener| ports.is_empty() || ports.contains(&listener.port)).collect()
}

/// The command that recreates a listener; `None` if it forwarded to several target groups, whose weights are unknown.
pub(crate) fn listen_again(load_balancer: &Arn, listener: &Listener, context: CheckContext<'_>) -> Option<Command> {
    let [group] = &listener.forwards_to.as_ref().ok()?[..] else { return None };
    let is_tls = listener.protocol == "TLS" && negotiating(listener.port).is_none();
    let protocol = if listener.protocol == "TLS" && !is_tls { "TCP" } else { &listener.protocol };
    let certificate = listener.certificate.as_deref().filter(|_| is_tls);
    Some(create_listener(load_balancer, (protocol, listener.port), group, certificate, context))
}

/// The command that creates a listener.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateListener.html>
pub(crate) fn create_listener(
    load_balancer: &Arn,
    (protocol, port): (&str, u16),
    group: &Arn,
    certificate: Option<&str>,
    context: CheckContext<'_>,
) -> Command {
    Command::new("elbv2 create-listener", context.region)
        .option("load-balancer-arn", load_balancer)
        .option("protocol", protocol)
        .option("port", port)
        .option("default-actions", format!("Type=forward,TargetGroupArn={group}"))
        .options("certificates", certificate.map(|arn| format!("CertificateArn={arn}")))
}

/// The command that puts the load balancers now using these target groups behind the service; without any, it has no
/// effect. The old load balancer stays: AWS does not remove it while endpoints are connected.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html#associate-load-balancer>
pub(crate) fn follow_the_groups<'a>(
    groups: impl IntoIterator<Item = &'a Arn>,
    context: CheckContext<'_>,
) -> Option<Command> {
    let using_them = Command::new("elbv2 describe-target-groups", context.region)
        .options("target-group-arns", groups)
        .literal("--query 'TargetGroups[].LoadBalancerArns[]' --output text");
    let add = Command::new("ec2 modify-vpc-endpoint-service-configuration", context.region)
        .option("service-id", context.service?)
        .option_of("add-network-load-balancer-arns", &using_them);
    Some(add)
}

/// The command that lists the internal Network Load Balancers, newest last.
pub(crate) fn list_load_balancers(context: CheckContext<'_>) -> Command {
    Command::new("elbv2 describe-load-balancers", context.region).literal(
        "--query \"sort_by(LoadBalancers[?Type=='network']|[?Scheme=='internal'],&CreatedTime)\
         [].[CreatedTime,VpcId,LoadBalancerName,LoadBalancerArn]\" --output text",
    )
}

pub(crate) fn list_target_groups(context: CheckContext<'_>) -> Command {
    Command::new("elbv2 describe-target-groups", context.region)
        .literal("--query 'TargetGroups[].[TargetGroupName,Protocol,Port,VpcId,TargetGroupArn]' --output text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::target_health;
    use crate::snapshot::StoredPath;
    use crate::testing::{
        at, endpoint_service, failure, load_balancer, only_status, service, target, target_group, topology,
        with_context,
    };

    #[test]
    fn an_empty_group_gets_its_last_targets_back() {
        let read = |group: TargetGroup| topology(endpoint_service(), [load_balancer("pg", vec![group])]);
        let command = |kind: TargetKind, last: &[Target], now: &[Target]| {
            let group = |targets: &[Target]| TargetGroup { kind, targets: Ok(targets.to_vec()), ..target_group("pg") };
            let path = StoredPath::new(&read(group(last)), &service(1), at(8, 45), at(8, 45)).unwrap();
            let finding = with_context(&read(group(now)), |context| {
                failure(only_status((target_health::SPEC.evaluate)(CheckContext { last_path: Some(&path), ..context })))
                    .unwrap()
            });
            finding.remedy.command
        };
        let outside = Target { zone: Some("all".to_owned()), ..target(2, "unhealthy") };
        let last = [target(1, "healthy"), outside];
        let register = "--targets Id=10.0.0.1,Port=5432,AvailabilityZone=eu-central-1a \
                        Id=10.0.0.2,Port=5432,AvailabilityZone=all";
        for now in [vec![], vec![target(1, "draining"), target(2, "draining")]] {
            let command = command(TargetKind::Ip, &last, &now).unwrap();
            assert!(command.starts_with("aws elbv2 register-targets") && command.ends_with(register), "{command}");
        }
        let instance = Target { id: "i-1".to_owned(), ..target(1, "healthy") };
        let registered = command(TargetKind::Instance, &[instance], &[]).unwrap();
        assert!(registered.ends_with("--targets Id=i-1,Port=5432"), "an instance takes no zone: {registered}");
        let nothing_lost = command(TargetKind::Ip, &last, &[target(1, "unhealthy"), target(2, "draining")]).unwrap();
        assert!(nothing_lost.starts_with("aws elbv2 describe-target-health"), "{nothing_lost}");
        assert_eq!(command(TargetKind::Ip, &[], &[]), None, "not known, and there is nothing to describe");
    }
}
