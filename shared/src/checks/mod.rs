//! The checks: what must be true for dbt to get through. Pure: a snapshot in, observations out.

pub mod acceptance;
pub mod broad_rule;
pub mod connections;
pub mod cross_zone;
mod inbound;
pub mod internal_network;
pub mod listener_port;
pub mod network_path;
pub mod notification;
pub mod principals;
pub mod private_dns;
pub mod regions;
pub mod security_groups;
pub mod service;
pub mod target_health;
pub mod visibility;
pub mod zones;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Policy;
use crate::ids::{Arn, ServiceId};
use crate::snapshot::{Description, EndpointService, LoadBalancer, Paths, TargetGroup};
use crate::trigger::Change;

/// The catalogue. Ids are stable: people write filters and runbooks against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The endpoint service is gone, or not available.
    ServiceAvailable,
    /// Requests are let in without anybody accepting them.
    ServiceAcceptanceRequired,
    /// The allowed principals are not exactly dbt's.
    ServicePrincipals,
    /// The private DNS name is not verified.
    ServicePrivateDns,
    /// EC2 does not tell the guard what happens to connections.
    ServiceNotification,
    /// dbt connects from a Region that the service does not support.
    ServiceRegions,
    /// An endpoint of an account that is not dbt's asks or is connected.
    ConnectionStranger,
    /// dbt's own connection is rejected, failed, expired, stuck, or could not be accepted.
    ConnectionDbt,
    /// The load balancer is not an internal Network Load Balancer, or not active.
    LoadBalancerInternalNetwork,
    /// Cross-zone load balancing is off, in effect, for a target group that dbt's traffic reaches.
    LoadBalancerCrossZone,
    /// A zone that dbt can enter by has no healthy target.
    LoadBalancerZones,
    /// The load balancer's security groups keep dbt out.
    LoadBalancerSecurityGroups,
    /// The load balancer's security groups let more in than dbt.
    LoadBalancerBroadRule,
    /// No listener takes dbt's connections on a port where dbt expects one.
    ListenerPort,
    /// A target group that dbt's traffic reaches has targets that do not serve.
    TargetGroupHealth,
    /// A network ACL or a missing route keeps the load balancer from its targets.
    NetworkPath,
    /// A read that checks depend on fails.
    VisibilityLost,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 17] = [
        Self::ServiceAvailable,
        Self::ServiceAcceptanceRequired,
        Self::ServicePrincipals,
        Self::ServicePrivateDns,
        Self::ServiceNotification,
        Self::ServiceRegions,
        Self::ConnectionStranger,
        Self::ConnectionDbt,
        Self::LoadBalancerInternalNetwork,
        Self::LoadBalancerCrossZone,
        Self::LoadBalancerZones,
        Self::LoadBalancerSecurityGroups,
        Self::LoadBalancerBroadRule,
        Self::ListenerPort,
        Self::TargetGroupHealth,
        Self::NetworkPath,
        Self::VisibilityLost,
    ];

    /// The stable id.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::ServiceAvailable => "service.available",
            Self::ServiceAcceptanceRequired => "service.acceptance-required",
            Self::ServicePrincipals => "service.principals",
            Self::ServicePrivateDns => "service.private-dns",
            Self::ServiceNotification => "service.notification",
            Self::ServiceRegions => "service.regions",
            Self::ConnectionStranger => "connection.stranger",
            Self::ConnectionDbt => "connection.dbt",
            Self::LoadBalancerInternalNetwork => "load-balancer.internal-network",
            Self::LoadBalancerCrossZone => "load-balancer.cross-zone",
            Self::LoadBalancerZones => "load-balancer.zones",
            Self::LoadBalancerSecurityGroups => "load-balancer.security-groups",
            Self::LoadBalancerBroadRule => "load-balancer.broad-rule",
            Self::ListenerPort => "listener.port",
            Self::TargetGroupHealth => "target-group.health",
            Self::NetworkPath => "network-path",
            Self::VisibilityLost => "visibility.lost",
        }
    }

    /// Whether what it looks at comes and goes by itself, so that one look proves little: such alerts wait for
    /// `ALERT_AFTER` and `RESOLVE_AFTER`. The others report settings and states that somebody changed; they fire and
    /// resolve at the first look.
    #[must_use]
    pub fn wavers(self) -> bool {
        matches!(self, Self::TargetGroupHealth | Self::LoadBalancerZones | Self::VisibilityLost)
    }

    /// The calls that change what drift-watcher looks at for this check, by CloudTrail's name. The stack's rule rings it
    /// for these, and only for these.
    #[must_use]
    pub fn events(self) -> &'static [&'static str] {
        match self {
            Self::ServiceAvailable => &["DeleteVpcEndpointServiceConfigurations"],
            Self::ServiceAcceptanceRequired | Self::ServiceRegions | Self::LoadBalancerInternalNetwork => {
                &["ModifyVpcEndpointServiceConfiguration"]
            }
            Self::ServicePrincipals => &["ModifyVpcEndpointServicePermissions"],
            Self::ServicePrivateDns => {
                &["ModifyVpcEndpointServiceConfiguration", "StartVpcEndpointServicePrivateDnsVerification"]
            }
            Self::ServiceNotification => &[
                "CreateVpcEndpointConnectionNotification",
                "DeleteVpcEndpointConnectionNotifications",
                "ModifyVpcEndpointConnectionNotification",
            ],
            Self::LoadBalancerCrossZone => {
                &["CreateListener", "ModifyListener", "ModifyLoadBalancerAttributes", "ModifyTargetGroupAttributes"]
            }
            Self::LoadBalancerSecurityGroups | Self::LoadBalancerBroadRule => &[
                "AuthorizeSecurityGroupIngress",
                "CreateListener",
                "ModifyListener",
                "ModifyManagedPrefixList",
                "ModifySecurityGroupRules",
                "RestoreManagedPrefixListVersion",
                "RevokeSecurityGroupIngress",
                "SetSecurityGroups",
            ],
            Self::ListenerPort => &["CreateListener", "DeleteListener", "ModifyListener"],
            Self::NetworkPath => &[
                "AssociateRouteTable",
                "CreateNetworkAclEntry",
                "CreateRoute",
                "DeleteNetworkAclEntry",
                "DeleteRoute",
                "DeleteVpcPeeringConnection",
                "DisableVgwRoutePropagation",
                "DisassociateRouteTable",
                "ReplaceNetworkAclAssociation",
                "ReplaceNetworkAclEntry",
                "ReplaceRoute",
                "ReplaceRouteTableAssociation",
                "SetSubnets",
            ],
            // Not drift-watcher's, or nobody's change.
            Self::ConnectionStranger
            | Self::ConnectionDbt
            | Self::LoadBalancerZones
            | Self::TargetGroupHealth
            | Self::VisibilityLost => &[],
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// How bad it is for dbt. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will hurt, or hurts a little.
    Warning,
    /// dbt cannot connect, or somebody else can.
    Critical,
}

impl Severity {
    /// The lower-case word, as in message attributes.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One check's result for one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Which check.
    pub check: Check,
    /// The resource it looked at: an ARN or an id. With [`Status::Unknown`], the endpoint service's id where the
    /// resources themselves could not be listed.
    pub resource: String,
    /// The result.
    pub status: Status,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail(Box<Finding>),
    /// It could not be told, and why. Never the same as [`Status::Pass`].
    Unknown(String),
}

/// What is wrong, in the reader's words. Kept in the table, so that an alert can be told again by a later run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// One line with the numbers in it.
    pub summary: String,
    /// What it means for dbt.
    pub meaning: String,
    /// What was seen, a line each.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub remedy: Remedy,
    /// The change in AWS that brought it about, where CloudTrail told of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Change>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// In a sentence or two.
    pub what: String,
    /// The exact AWS CLI command, if one does it or shows more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Where to look in the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
}

/// The Region and partition that commands and console links are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    partition: String,
    region: String,
    console: Option<&'static str>,
}

impl Place {
    /// The place a resource's ARN names.
    #[must_use]
    pub fn of(arn: &Arn) -> Self {
        // https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html, "Management Console" per partition
        let console = match arn.partition() {
            "aws" => Some("console.aws.amazon.com"),
            "aws-cn" => Some("console.amazonaws.cn"),
            "aws-us-gov" => Some("console.amazonaws-us-gov.com"),
            _ => None,
        };
        Self { partition: arn.partition().to_owned(), region: arn.region().to_owned(), console }
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, …
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The Region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The endpoint service in the VPC console.
    #[must_use]
    pub fn endpoint_service(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("EndpointServices:search={id}"))
    }

    /// The target group in the EC2 console.
    #[must_use]
    pub fn target_group(&self, arn: &Arn) -> Option<String> {
        self.link("ec2", &format!("TargetGroup:targetGroupArn={arn}"))
    }

    /// The load balancer in the EC2 console.
    #[must_use]
    pub fn load_balancer(&self, arn: &Arn) -> Option<String> {
        self.link("ec2", &format!("LoadBalancer:loadBalancerArn={arn}"))
    }

    /// The security group in the EC2 console.
    #[must_use]
    pub fn security_group(&self, id: &str) -> Option<String> {
        self.link("ec2", &format!("SecurityGroup:groupId={id}"))
    }

    /// The network ACL in the VPC console.
    #[must_use]
    pub fn network_acl(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("NetworkAclDetails:networkAclId={id}"))
    }

    /// The route table in the VPC console.
    #[must_use]
    pub fn route_table(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("RouteTableDetails:RouteTableId={id}"))
    }

    fn link(&self, console: &str, fragment: &str) -> Option<String> {
        let region = &self.region;
        self.console.map(|domain| format!("https://{region}.{domain}/{console}/home?region={region}#{fragment}"))
    }
}

/// What the checks of one endpoint service look at: what was seen, and what must be.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The endpoint service.
    pub service: &'a ServiceId,
    /// What was seen.
    pub paths: &'a Paths,
    /// What must be.
    pub policy: &'a Policy,
    /// The Region that commands and links are for.
    pub place: &'a Place,
}

impl<'a> View<'a> {
    /// Every check of the settings but cross-zone load balancing, which depends on what the guard does about it.
    #[must_use]
    pub fn settings(self) -> Vec<Observation> {
        let one = [
            service::evaluate(self),
            acceptance::evaluate(self),
            principals::evaluate(self),
            private_dns::evaluate(self),
            regions::evaluate(self),
        ];
        let several = [
            internal_network::evaluate(self),
            security_groups::evaluate(self),
            broad_rule::evaluate(self),
            listener_port::evaluate(self),
            network_path::evaluate(self),
        ];
        one.into_iter().chain(notification::evaluate(self)).chain(several.into_iter().flatten()).collect()
    }

    /// Every check of what comes and goes by itself.
    #[must_use]
    pub fn health(self) -> Vec<Observation> {
        target_health::evaluate(self).into_iter().chain(zones::evaluate(self)).collect()
    }

    /// The observation of `check` for the service itself; [`Status::Unknown`] where it could not be described.
    fn of_service(self, check: Check, judge: impl Fn(&'a EndpointService) -> Status) -> Observation {
        let status = self.paths.service(self.service).map_or_else(Status::Unknown, judge);
        observed(check, self.service, status)
    }

    /// One observation of `check` per load balancer behind the service; [`Status::Unknown`] where they could not be listed.
    fn per_load_balancer(
        self,
        check: Check,
        judge: impl Fn(&'a LoadBalancer, &'a Description) -> Status,
    ) -> Vec<Observation> {
        let balancers = match self.paths.behind(self.service) {
            Ok(balancers) => balancers,
            Err(why) => return vec![observed(check, self.service, Status::Unknown(why))],
        };
        let status = |balancer: &'a LoadBalancer| match &balancer.description {
            Ok(description) => judge(balancer, description),
            Err(unseen) => Status::Unknown(unseen.to_string()),
        };
        balancers.into_iter().map(|balancer| observed(check, &balancer.arn, status(balancer))).collect()
    }

    /// One observation of `check` per target group behind the service; [`Status::Unknown`] for the service where they
    /// could not be listed.
    fn per_target_group(
        self,
        check: Check,
        judge: impl Fn(&'a LoadBalancer, &'a TargetGroup) -> Status,
    ) -> Vec<Observation> {
        let balancers = match self.paths.behind(self.service) {
            Ok(balancers) => balancers,
            Err(why) => return vec![observed(check, self.service, Status::Unknown(why))],
        };
        let mut observations = Vec::new();
        for balancer in balancers {
            match &balancer.target_groups {
                Err(unseen) => {
                    observations.push(observed(check, self.service, Status::Unknown(unseen.to_string())));
                }
                Ok(groups) => {
                    observations.extend(groups.iter().map(|group| observed(check, &group.arn, judge(balancer, group))));
                }
            }
        }
        observations
    }

    /// Notes `change` on each failed finding that it can have brought about: a call of those that its check depends on,
    /// which names what the finding is about.
    pub fn name_the_cause(self, observations: &mut [Observation], change: &Change) {
        name_the_cause(observations, change, |check, resource, finding| {
            check.events().contains(&change.event_name.as_str()) && self.names(change, resource, finding)
        });
    }

    /// Whether `change` names the resource, a load balancer that it is a target group of, or an id in the evidence.
    fn names(self, change: &Change, resource: &str, finding: &Finding) -> bool {
        let uses = |balancer: &&LoadBalancer| {
            balancer.target_groups.iter().flatten().any(|group| group.arn.as_str() == resource)
        };
        let balancers = self.paths.behind(self.service).unwrap_or_default();
        let evidence = finding.evidence.iter().flat_map(|line| ids_in(line));
        change.is_about(resource)
            || balancers.into_iter().filter(uses).any(|balancer| change.is_about(balancer.arn.as_str()))
            || evidence.into_iter().any(|id| change.is_about(id))
    }
}

/// Notes `change` on each failed finding that it `concerns`, by check, resource and finding.
pub fn name_the_cause(
    observations: &mut [Observation],
    change: &Change,
    concerns: impl Fn(Check, &str, &Finding) -> bool,
) {
    for Observation { check, resource, status } in observations {
        if let Status::Fail(finding) = status
            && concerns(*check, resource, finding)
        {
            finding.cause = Some(change.clone());
        }
    }
}

fn observed(check: Check, resource: &impl fmt::Display, status: Status) -> Observation {
    Observation { check, resource: resource.to_string(), status }
}

/// The ids of security groups, prefix lists, network ACLs, route tables, peering connections, subnets and notifications in
/// `text`.
fn ids_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| {
        ["sg-", "pl-", "acl-", "rtb-", "pcx-", "subnet-", "vpce-nfn-"].iter().any(|kind| word.starts_with(kind))
    })
}

/// `1 target`, `2 targets`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// At most `most` lines, and how many more there are.
pub(crate) fn some_of(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        let more = lines.len() - most;
        lines.truncate(most);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{endpoint_service, finding, load_balancer, paths, target_group, view};

    /// Whether a finding of `check` on the target group `pg`, with sg-1 in its evidence, is put down to this call.
    fn is_put_down_to(check: Check, event_name: &str, parameters: &str) -> bool {
        let group = target_group("pg");
        let found = Finding { evidence: vec!["security groups: sg-1, sg-2".to_owned()], ..finding(Severity::Critical) };
        let mut observations = [observed(check, &group.arn, Status::Fail(Box::new(found)))];
        let change =
            Change { event_name: event_name.to_owned(), parameters: parameters.to_owned(), ..crate::testing::change() };
        let paths = paths(endpoint_service(), [load_balancer("pg", vec![group])]);
        view(&paths, |view| view.name_the_cause(&mut observations, &change));
        matches!(&observations[0].status, Status::Fail(finding) if finding.cause.is_some())
    }

    #[test]
    fn a_cause_is_a_call_that_the_check_depends_on_and_that_names_what_it_looks_at() {
        use Check::{ListenerPort, LoadBalancerCrossZone, LoadBalancerSecurityGroups};
        let arn = |resource: &str| format!("\"arn:aws:elasticloadbalancing:eu-central-1:111122223333:{resource}\"");
        let balancer = format!("{{\"loadBalancerArn\":{}}}", arn("loadbalancer/net/pg/0123456789abcdef"));
        let another = format!("{{\"loadBalancerArn\":{}}}", arn("loadbalancer/net/other/0123456789abcdef"));
        let listener = format!("{{\"listenerArn\":{}}}", arn("listener/net/pg/0123456789abcdef/fedcba9876543210"));
        let group = r#"{"groupId":"sg-1"}"#;
        assert!(is_put_down_to(LoadBalancerCrossZone, "ModifyLoadBalancerAttributes", &balancer), "its load balancer");
        assert!(is_put_down_to(ListenerPort, "DeleteListener", &listener), "a listener of its load balancer");
        assert!(
            is_put_down_to(LoadBalancerSecurityGroups, "RevokeSecurityGroupIngress", group),
            "an id in the evidence"
        );
        assert!(!is_put_down_to(LoadBalancerCrossZone, "ModifyLoadBalancerAttributes", &another));
        assert!(!is_put_down_to(LoadBalancerSecurityGroups, "RevokeSecurityGroupIngress", r#"{"groupId":"sg-12"}"#));
        assert!(!is_put_down_to(LoadBalancerCrossZone, "RevokeSecurityGroupIngress", group), "another check's call");
    }

    #[test]
    fn ids_are_told_apart() {
        let ids: std::collections::BTreeSet<&str> = Check::ALL.iter().map(|check| check.id()).collect();
        assert_eq!(ids.len(), Check::ALL.len());
    }
}
