//! A company that shares a Postgres with dbt, set up as dbt's guide says.

use anyhow::Result;
use serde_json::Value;

use crate::local_aws::{LocalAws, Who, text};
use crate::{COMPANY, DBT, REGION, STRANGER, mail};

/// The company's side: an internal Network Load Balancer with three targets behind an endpoint service.
#[derive(Debug, Clone)]
pub struct Company {
    /// `vpce-svc-…`
    pub service: String,
    /// `com.amazonaws.vpce.REGION.vpce-svc-…`, what a consumer asks for.
    pub service_name: String,
    /// The VPC.
    pub vpc: String,
    /// The load balancer's subnets, in zones a and b.
    pub subnets: [String; 2],
    /// The load balancer's ARN.
    pub load_balancer: String,
    /// The load balancer's security group, which lets [`DBT_CIDR`] in on 5432.
    pub security_group: String,
    /// The network ACL of the load balancer's and the targets' subnets.
    pub network_acl: String,
    /// The listener's ARN.
    pub listener: String,
    /// The target group's ARN.
    pub target_group: String,
    /// The root of the company's account.
    pub root: Who,
    /// An administrator with a user of their own.
    pub admin: Who,
}

/// The network dbt connects from.
pub const DBT_CIDR: &str = "10.1.2.0/24";

/// The addresses of the company's servers.
pub const TARGETS: [&str; 3] = ["172.31.0.10", "172.31.16.10", "172.31.16.11"];

impl Company {
    /// Founds the company, naming everything after `name`.
    ///
    /// # Errors
    /// If the local AWS refuses a command.
    pub fn found(aws: &LocalAws, name: &str) -> Result<Self> {
        let root = Who::account(COMPANY);
        let run = |arguments: &[&str]| aws.aws(&root, arguments);
        let subnets = run(&["ec2", "describe-subnets"])?;
        let (vpc, first, second) = (
            text(&subnets, "/Subnets/0/VpcId")?,
            text(&subnets, "/Subnets/0/SubnetId")?,
            text(&subnets, "/Subnets/1/SubnetId")?,
        );
        #[rustfmt::skip]
        let created = run(&["ec2", "create-security-group", "--group-name", name, "--description", "dbt", "--vpc-id", &vpc])?;
        let security_group = text(&created, "/GroupId")?;
        #[rustfmt::skip]
        run(&["ec2", "authorize-security-group-ingress", "--group-id", &security_group, "--protocol", "tcp",
            "--port", "5432", "--cidr", DBT_CIDR])?;
        let filter = format!("Name=association.subnet-id,Values={first}");
        let network_acl =
            text(&run(&["ec2", "describe-network-acls", "--filters", &filter])?, "/NetworkAcls/0/NetworkAclId")?;
        #[rustfmt::skip]
        let created = run(&["elbv2", "create-load-balancer", "--name", name, "--type", "network", "--scheme", "internal",
            "--subnets", &first, &second, "--security-groups", &security_group])?;
        let load_balancer = text(&created, "/LoadBalancers/0/LoadBalancerArn")?;
        #[rustfmt::skip]
        run(&["elbv2", "modify-load-balancer-attributes", "--load-balancer-arn", &load_balancer,
            "--attributes", "Key=load_balancing.cross_zone.enabled,Value=true"])?;
        #[rustfmt::skip]
        let created = run(&["elbv2", "create-target-group", "--name", name, "--protocol", "TCP", "--port", "5432",
            "--target-type", "ip", "--vpc-id", &vpc])?;
        let target_group = text(&created, "/TargetGroups/0/TargetGroupArn")?;
        let targets = TARGETS.map(|address| format!("Id={address}"));
        let mut register = vec!["elbv2", "register-targets", "--target-group-arn", &target_group, "--targets"];
        register.extend(targets.iter().map(String::as_str));
        run(&register)?;
        #[rustfmt::skip]
        let created = run(&["elbv2", "create-listener", "--load-balancer-arn", &load_balancer, "--protocol", "TCP",
            "--port", "5432", "--default-actions", &format!("Type=forward,TargetGroupArn={target_group}")])?;
        let listener = text(&created, "/Listeners/0/ListenerArn")?;
        #[rustfmt::skip]
        let created = run(&["ec2", "create-vpc-endpoint-service-configuration", "--acceptance-required",
            "--network-load-balancer-arns", &load_balancer,
            "--tag-specifications", &format!("ResourceType=vpc-endpoint-service,Tags=[{{Key=Name,Value={name}}}]")])?;
        let service = text(&created, "/ServiceConfiguration/ServiceId")?;
        let service_name = text(&created, "/ServiceConfiguration/ServiceName")?;
        #[rustfmt::skip]
        run(&["ec2", "modify-vpc-endpoint-service-permissions", "--service-id", &service,
            "--add-allowed-principals", &format!("arn:aws:iam::{DBT}:root")])?;
        let user = format!("network-admin-{name}");
        run(&["iam", "create-user", "--user-name", &user])?;
        #[rustfmt::skip]
        run(&["iam", "put-user-policy", "--user-name", &user, "--policy-name", "admin", "--policy-document",
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#])?;
        let key = run(&["iam", "create-access-key", "--user-name", &user])?;
        let admin = Who::with_key(&text(&key, "/AccessKey/AccessKeyId")?, &text(&key, "/AccessKey/SecretAccessKey")?);
        let subnets = [first, second];
        #[rustfmt::skip]
        let company = Self {
            service, service_name, vpc, subnets, load_balancer, security_group, network_acl, listener, target_group, root, admin,
        };
        Ok(company)
    }

    /// An endpoint to the company's service, created by somebody in `account`.
    ///
    /// # Errors
    /// If the service does not allow that account.
    pub fn connect_from(&self, aws: &LocalAws, account: &str) -> Result<String> {
        self.connect_from_region(aws, account, REGION)
    }

    /// The same from another Region.
    ///
    /// # Errors
    /// If the service does not allow that account, or does not support that Region.
    pub fn connect_from_region(&self, aws: &LocalAws, account: &str, region: &str) -> Result<String> {
        let who = Who::account(account);
        let vpc = text(&aws.aws(&who, &["ec2", "describe-vpcs", "--region", region])?, "/Vpcs/0/VpcId")?;
        #[rustfmt::skip]
        let created = aws.aws(&who, &["ec2", "create-vpc-endpoint", "--vpc-endpoint-type", "Interface",
            "--vpc-id", &vpc, "--service-name", &self.service_name, "--region", region, "--service-region", REGION])?;
        text(&created, "/VpcEndpoint/VpcEndpointId")
    }

    /// dbt creates an endpoint.
    ///
    /// # Errors
    /// As [`Company::connect_from`].
    pub fn dbt_connects(&self, aws: &LocalAws) -> Result<String> {
        self.connect_from(aws, DBT)
    }

    /// A stranger creates an endpoint.
    ///
    /// # Errors
    /// As [`Company::connect_from`].
    pub fn stranger_connects(&self, aws: &LocalAws) -> Result<String> {
        self.connect_from(aws, STRANGER)
    }

    /// Anybody may ask: what a careless administrator leaves behind.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn allow_anybody(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        aws.aws(&self.admin, &["ec2", "modify-vpc-endpoint-service-permissions", "--service-id", &self.service,
            "--add-allowed-principals", "*"])?;
        Ok(())
    }

    /// The administrator does what `arguments` say to the AWS CLI.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn administer(&self, aws: &LocalAws, arguments: &[&str]) -> Result<Value> {
        aws.aws(&self.admin, arguments)
    }

    /// The administrator pastes the command that an alert printed.
    ///
    /// # Errors
    /// As [`mail::command`], or if the command fails.
    pub fn follow(&self, aws: &LocalAws, heard: i64, check: &str, words: &str) -> Result<String> {
        let command = mail::command(aws, heard, check, words)?;
        aws.paste(&self.admin, &command)?;
        Ok(command)
    }

    /// The administrator adds a port 443 with a target group of one instance, in zone a, and lets dbt in there by a prefix list.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn serve_the_web(&self, aws: &LocalAws) -> Result<()> {
        let run = |arguments: &[&str]| self.administer(aws, arguments);
        #[rustfmt::skip]
        let list = run(&["ec2", "create-managed-prefix-list", "--prefix-list-name", "dbt", "--address-family", "IPv4",
            "--max-entries", "5", "--entries", &format!("Cidr={DBT_CIDR}")])?;
        let list = text(&list, "/PrefixList/PrefixListId")?;
        #[rustfmt::skip]
        run(&["ec2", "authorize-security-group-ingress", "--group-id", &self.security_group, "--ip-permissions",
            &format!("IpProtocol=tcp,FromPort=443,ToPort=443,PrefixListIds=[{{PrefixListId={list}}}]")])?;
        #[rustfmt::skip]
        let instance = run(&["ec2", "run-instances", "--image-id", "ami-12345678", "--subnet-id", &self.subnets[0]])?;
        let instance = text(&instance, "/Instances/0/InstanceId")?;
        #[rustfmt::skip]
        let group = run(&["elbv2", "create-target-group", "--name", "web", "--protocol", "TCP", "--port", "443",
            "--target-type", "instance", "--vpc-id", &self.vpc])?;
        let group = text(&group, "/TargetGroups/0/TargetGroupArn")?;
        run(&["elbv2", "register-targets", "--target-group-arn", &group, "--targets", &format!("Id={instance}")])?;
        self.listen_for(aws, "443", &group)
    }

    /// The administrator takes dbt's rule out of the load balancer's security group.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn shut_dbt_out(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "revoke-security-group-ingress", "--group-id", &self.security_group,
            "--protocol", "tcp", "--port", "5432", "--cidr", DBT_CIDR])?;
        Ok(())
    }

    /// The administrator deletes the listener.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn stop_listening(&self, aws: &LocalAws) -> Result<()> {
        self.administer(aws, &["elbv2", "delete-listener", "--listener-arn", &self.listener])?;
        Ok(())
    }

    /// The administrator creates the listener again.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn listen(&self, aws: &LocalAws) -> Result<()> {
        self.listen_for(aws, "5432", &self.target_group)
    }

    fn listen_for(&self, aws: &LocalAws, port: &str, target_group: &str) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["elbv2", "create-listener", "--load-balancer-arn", &self.load_balancer, "--protocol", "TCP",
            "--port", port, "--default-actions", &format!("Type=forward,TargetGroupArn={target_group}")])?;
        Ok(())
    }

    /// The administrator denies 5432 in the subnets' network ACL, before the rule that allows everything.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn deny_in_network_acl(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "create-network-acl-entry", "--network-acl-id", &self.network_acl, "--ingress",
            "--rule-number", "90", "--protocol", "tcp", "--port-range", "From=5432,To=5432", "--cidr-block", "0.0.0.0/0",
            "--rule-action", "deny"])?;
        Ok(())
    }

    /// The state of an endpoint's connection, as the company sees it.
    ///
    /// # Errors
    /// If there is no such connection.
    pub fn state(&self, aws: &LocalAws, endpoint: &str) -> Result<String> {
        let filters =
            [format!("Name=service-id,Values={}", self.service), format!("Name=vpc-endpoint-id,Values={endpoint}")];
        let seen =
            aws.aws(&self.root, &["ec2", "describe-vpc-endpoint-connections", "--filters", &filters[0], &filters[1]])?;
        text(&seen, "/VpcEndpointConnections/0/VpcEndpointState")
    }

    /// Sets the health of one of the [`TARGETS`].
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn set_health(&self, aws: &LocalAws, target: &str, state: &str) -> Result<()> {
        let mut command =
            vec!["target-health", "--target-group", &self.target_group, "--target", target, "--state", state];
        if state == "unhealthy" {
            command.extend(["--reason", "Target.FailedHealthChecks", "--description", "Health checks failed"]);
        }
        aws.control(&command).map(drop)
    }

    /// The administrator sets the load balancer's cross-zone attribute.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn set_cross_zone(&self, aws: &LocalAws, on: bool) -> Result<()> {
        let attribute = format!("Key=load_balancing.cross_zone.enabled,Value={on}");
        #[rustfmt::skip]
        aws.aws(&self.admin, &["elbv2", "modify-load-balancer-attributes",
            "--load-balancer-arn", &self.load_balancer, "--attributes", &attribute])?;
        Ok(())
    }

    /// Whether the load balancer's cross-zone attribute is on.
    ///
    /// # Errors
    /// If the local AWS refuses.
    pub fn cross_zone(&self, aws: &LocalAws) -> Result<bool> {
        let command = ["elbv2", "describe-load-balancer-attributes", "--load-balancer-arn", &self.load_balancer];
        let answer = aws.aws(&self.root, &command)?;
        let attributes = answer["Attributes"].as_array().cloned().unwrap_or_default();
        Ok(attributes.iter().any(|own| own["Key"] == "load_balancing.cross_zone.enabled" && own["Value"] == "true"))
    }
}
