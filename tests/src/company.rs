//! A company that shares a Postgres with dbt, set up as dbt's guide says.

use anyhow::Result;

use crate::local_aws::{LocalAws, Who, text};
use crate::{COMPANY, DBT, STRANGER};

/// The company's side: an internal Network Load Balancer with three targets behind an endpoint service.
#[derive(Debug, Clone)]
pub struct Company {
    /// `vpce-svc-…`
    pub service: String,
    /// `com.amazonaws.vpce.REGION.vpce-svc-…`, what a consumer asks for.
    pub service_name: String,
    /// The load balancer's ARN.
    pub load_balancer: String,
    /// The target group's ARN.
    pub target_group: String,
    /// The root of the company's account.
    pub root: Who,
    /// An administrator with a user of their own.
    pub admin: Who,
}

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
        let created = run(&["elbv2", "create-load-balancer", "--name", name, "--type", "network", "--scheme", "internal",
            "--subnets", &first, &second])?;
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
        run(&["elbv2", "create-listener", "--load-balancer-arn", &load_balancer, "--protocol", "TCP", "--port", "5432",
            "--default-actions", &format!("Type=forward,TargetGroupArn={target_group}")])?;
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
        Ok(Self { service, service_name, load_balancer, target_group, root, admin })
    }

    /// An endpoint to the company's service, created by somebody in `account`.
    ///
    /// # Errors
    /// If the service does not allow that account.
    pub fn connect_from(&self, aws: &LocalAws, account: &str) -> Result<String> {
        let who = Who::account(account);
        let vpc = text(&aws.aws(&who, &["ec2", "describe-vpcs"])?, "/Vpcs/0/VpcId")?;
        #[rustfmt::skip]
        let created = aws.aws(&who, &["ec2", "create-vpc-endpoint", "--vpc-endpoint-type", "Interface",
            "--vpc-id", &vpc, "--service-name", &self.service_name])?;
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
