//! The Region of commands and console links.

use crate::ids::Arn;

/// The Region and partition of commands and console links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    partition: String,
    name: String,
    console: Option<&'static str>,
}

impl Region {
    /// The Region `name` in `partition`.
    pub fn new(partition: &str, name: &str) -> Self {
        // https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html, "Management Console" per partition
        let console = match partition {
            "aws" => Some("console.aws.amazon.com"),
            "aws-cn" => Some("console.amazonaws.cn"),
            "aws-us-gov" => Some("console.amazonaws-us-gov.com"),
            _ => None,
        };
        Self { partition: partition.to_owned(), name: name.to_owned(), console }
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// `eu-central-1`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The endpoint service in the VPC console.
    pub fn endpoint_service(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("EndpointServices:search={id}"))
    }

    /// The target group in the EC2 console.
    pub fn target_group(&self, arn: &Arn) -> Option<String> {
        self.link("ec2", &format!("TargetGroup:targetGroupArn={arn}"))
    }

    /// The load balancer in the EC2 console.
    pub fn load_balancer(&self, arn: &Arn) -> Option<String> {
        self.link("ec2", &format!("LoadBalancer:loadBalancerArn={arn}"))
    }

    /// The security group in the EC2 console.
    pub fn security_group(&self, id: &str) -> Option<String> {
        self.link("ec2", &format!("SecurityGroup:groupId={id}"))
    }

    /// The network ACL in the VPC console.
    pub fn network_acl(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("NetworkAclDetails:networkAclId={id}"))
    }

    /// The route table in the VPC console.
    pub fn route_table(&self, id: &str) -> Option<String> {
        self.link("vpcconsole", &format!("RouteTableDetails:RouteTableId={id}"))
    }

    fn link(&self, console: &str, fragment: &str) -> Option<String> {
        let region = &self.name;
        self.console.map(|domain| format!("https://{region}.{domain}/{console}/home?region={region}#{fragment}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_links_open_the_resource_in_its_region() {
        let region = Region::new("aws", "eu-central-1");
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:a/b".parse::<Arn>().unwrap();
        let links = [
            ("vpcconsole", "EndpointServices:search=vpce-svc-1", region.endpoint_service("vpce-svc-1")),
            ("ec2", &format!("TargetGroup:targetGroupArn={arn}"), region.target_group(&arn)),
            ("ec2", &format!("LoadBalancer:loadBalancerArn={arn}"), region.load_balancer(&arn)),
            ("ec2", "SecurityGroup:groupId=sg-1", region.security_group("sg-1")),
            ("vpcconsole", "NetworkAclDetails:networkAclId=acl-1", region.network_acl("acl-1")),
            ("vpcconsole", "RouteTableDetails:RouteTableId=rtb-1", region.route_table("rtb-1")),
        ];
        for (console, fragment, link) in links {
            let home = format!("https://eu-central-1.console.aws.amazon.com/{console}/home?region=eu-central-1");
            assert_eq!(link, Some(format!("{home}#{fragment}")));
        }
    }

    #[test]
    fn a_known_partition_has_its_own_console() {
        let link = |partition: &str| {
            let region = Region::new(partition, "r-1");
            assert_eq!((region.partition(), region.name()), (partition, "r-1"));
            region.security_group("sg-1")
        };
        let starts = |partition: &str, start: &str| link(partition).is_some_and(|link| link.starts_with(start));
        assert!(starts("aws-cn", "https://r-1.console.amazonaws.cn/"));
        assert!(starts("aws-us-gov", "https://r-1.console.amazonaws-us-gov.com/"));
        assert_eq!(link("aws-iso"), None);
    }
}
