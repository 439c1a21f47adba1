//! The Region that commands and console links are for.

use crate::ids::Arn;

/// The Region and partition that commands and console links are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    partition: String,
    name: String,
    console: Option<&'static str>,
}

impl Region {
    /// The Region `name` in `partition`.
    #[must_use]
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
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// `eu-central-1`, …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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
        let region = &self.name;
        self.console.map(|domain| format!("https://{region}.{domain}/{console}/home?region={region}#{fragment}"))
    }
}
