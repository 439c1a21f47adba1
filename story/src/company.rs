//! A company that shares a service with dbt, set up after dbt's guide.

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::local_aws::{Caller, LocalAws, concurrently, eventually, text};
use crate::mail::Mailbox;
use crate::{COMPANY, DBT, REGION, UNTRUSTED};

/// The company's side: an internal Network Load Balancer with three targets behind an endpoint service.
#[derive(Debug, Clone)]
pub struct Company {
    /// `vpce-svc-…`
    pub service: String,
    /// `com.amazonaws.vpce.REGION.vpce-svc-…`
    pub service_name: String,
    /// The VPC.
    pub vpc: String,
    /// The load balancer's subnets, in zones a and b.
    pub subnets: [String; 2],
    /// The load balancer's ARN.
    pub load_balancer: String,
    /// The load balancer's security group, which allows [`DBT_CIDR`] on port 5432.
    pub security_group: String,
    /// The network ACL of the load balancer's and the targets' subnets.
    pub network_acl: String,
    /// The listener's ARN.
    pub listener: String,
    /// The target group's ARN.
    pub target_group: String,
    /// The servers' security group.
    pub servers: String,
    /// The root user of the company's account.
    pub root: Caller,
    /// An administrator's IAM user.
    pub admin: Caller,
}

/// The network that dbt connects from.
pub const DBT_CIDR: &str = "10.1.2.0/24";

/// The addresses of the company's servers.
pub const TARGETS: [&str; 3] = ["172.31.0.10", "172.31.16.10", "172.31.16.11"];

/// The network of the VPC that the servers and the load balancers are in.
const SERVERS_CIDR: &str = "172.31.0.0/16";

/// Creates the servers' network interfaces, and their security group, which admits load balancers. Returns the group's
/// id.
fn set_up_servers(aws: &LocalAws) -> Result<String> {
    let root = Caller::root(COMPANY);
    let run = |arguments: &[&str]| aws.aws(&root, arguments);
    let subnets = run(&["ec2", "describe-subnets"])?;
    let vpc = text(&subnets, "/Subnets/0/VpcId")?;
    #[rustfmt::skip]
    let created = run(&["ec2", "create-security-group", "--group-name", "servers", "--description", "servers", "--vpc-id", &vpc])?;
    let group = text(&created, "/GroupId")?;
    for port in ["5432", "443"] {
        #[rustfmt::skip]
        run(&["ec2", "authorize-security-group-ingress", "--group-id", &group, "--protocol", "tcp", "--port", port,
            "--cidr", SERVERS_CIDR])?;
    }
    let (first, second) = (text(&subnets, "/Subnets/0/SubnetId")?, text(&subnets, "/Subnets/1/SubnetId")?);
    for (address, subnet) in TARGETS.iter().zip([&first, &second, &second]) {
        #[rustfmt::skip]
        run(&["ec2", "create-network-interface", "--subnet-id", subnet, "--private-ip-address", address, "--groups", &group])?;
    }
    Ok(group)
}

impl Company {
    /// Sets up the service and the resources behind it, all named `name`.
    pub fn set_up(aws: &LocalAws, name: &str) -> Result<Self> {
        Self::set_up_service(aws, name, &set_up_servers(aws)?)
    }

    fn set_up_service(aws: &LocalAws, name: &str, servers: &str) -> Result<Self> {
        let root = Caller::root(COMPANY);
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
        let admin =
            Caller::with_key(&text(&key, "/AccessKey/AccessKeyId")?, &text(&key, "/AccessKey/SecretAccessKey")?);
        let subnets = [first, second];
        #[rustfmt::skip]
        let company = Self {
            service, service_name, vpc, subnets, load_balancer, security_group, network_acl, listener, target_group, root, admin,
            servers: servers.to_owned(),
        };
        Ok(company)
    }

    /// Sets up two services at the same time.
    pub fn set_up_two(aws: &LocalAws, names: [&str; 2]) -> Result<[Self; 2]> {
        let servers = set_up_servers(aws)?;
        let services = concurrently(2, |number| Self::set_up_service(aws, names[number], &servers))?;
        services.try_into().map_err(|_| anyhow!("two services were set up"))
    }

    /// Creates an account's endpoint to the service.
    pub fn connect_from(&self, aws: &LocalAws, account: &str) -> Result<String> {
        self.connect_from_region(aws, account, REGION)
    }

    /// Creates an account's endpoint to the service in another Region.
    pub fn connect_from_region(&self, aws: &LocalAws, account: &str, region: &str) -> Result<String> {
        let caller = Caller::root(account);
        let vpc = text(&aws.aws(&caller, &["ec2", "describe-vpcs", "--region", region])?, "/Vpcs/0/VpcId")?;
        #[rustfmt::skip]
        let created = aws.aws(&caller, &["ec2", "create-vpc-endpoint", "--vpc-endpoint-type", "Interface",
            "--vpc-id", &vpc, "--service-name", &self.service_name, "--region", region, "--service-region", REGION])?;
        text(&created, "/VpcEndpoint/VpcEndpointId")
    }

    /// Creates dbt's endpoint.
    pub fn dbt_connects(&self, aws: &LocalAws) -> Result<String> {
        self.connect_from(aws, DBT)
    }

    /// Creates the untrusted account's endpoint.
    pub fn untrusted_connects(&self, aws: &LocalAws) -> Result<String> {
        self.connect_from(aws, UNTRUSTED)
    }

    /// Deletes an account's endpoints.
    pub fn leave(&self, aws: &LocalAws, account: &str, endpoints: &[String]) -> Result<()> {
        let mut command = vec!["ec2", "delete-vpc-endpoints", "--vpc-endpoint-ids"];
        command.extend(endpoints.iter().map(String::as_str));
        aws.aws(&Caller::root(account), &command).map(drop)
    }

    /// The state of an endpoint's connection in the company's view.
    pub fn state(&self, aws: &LocalAws, endpoint: &str) -> Result<String> {
        let service = format!("Name=service-id,Values={}", self.service);
        let selected = format!("VpcEndpointConnections[?VpcEndpointId=='{endpoint}']");
        let command = ["ec2", "describe-vpc-endpoint-connections", "--filters", &service, "--query", &selected];
        text(&aws.aws(&self.root, &command)?, "/0/VpcEndpointState")
    }

    /// Waits until an endpoint's connection has this state.
    pub fn wait_for_state(&self, aws: &LocalAws, endpoint: &str, state: &str) -> Result<()> {
        eventually(&format!("{endpoint} to be {state}"), || Ok((self.state(aws, endpoint)? == state).then_some(())))
    }

    /// Runs an AWS CLI command as the administrator.
    pub fn administer(&self, aws: &LocalAws, arguments: &[&str]) -> Result<Value> {
        aws.aws(&self.admin, arguments)
    }

    /// Runs an alert's command as the administrator; the first if there are several.
    pub fn run_printed_command(&self, mailbox: Mailbox<'_>, check: &str, words: &str) -> Result<()> {
        mailbox.commands(check, words)?.iter().take(1).try_for_each(|first| self.run_in_shell(mailbox.aws(), first))
    }

    /// Runs a shell command as the administrator.
    pub fn run_in_shell(&self, aws: &LocalAws, command: &str) -> Result<()> {
        aws.run_in_shell(&self.admin, command)
    }

    /// Changes the endpoint service as the administrator.
    pub fn modify_service(&self, aws: &LocalAws, changes: &[&str]) -> Result<()> {
        let command = ["ec2", "modify-vpc-endpoint-service-configuration", "--service-id", &self.service];
        self.administer(aws, &[&command, changes].concat()).map(drop)
    }

    /// Changes the allowed principals of the endpoint service as the administrator.
    pub fn modify_permissions(&self, aws: &LocalAws, changes: &[&str]) -> Result<()> {
        let command = ["ec2", "modify-vpc-endpoint-service-permissions", "--service-id", &self.service];
        self.administer(aws, &[&command, changes].concat()).map(drop)
    }

    /// Allows every account to connect.
    pub fn allow_every_account(&self, aws: &LocalAws) -> Result<()> {
        self.modify_permissions(aws, &["--add-allowed-principals", "*"])
    }

    /// Allows only dbt to connect again.
    pub fn allow_dbt_only(&self, aws: &LocalAws) -> Result<()> {
        self.modify_permissions(aws, &["--remove-allowed-principals", "*"])
    }

    /// Adds port 443 with a target group of one instance, in zone a, and allows dbt there by a prefix list.
    pub fn add_https(&self, aws: &LocalAws) -> Result<()> {
        let run = |arguments: &[&str]| self.administer(aws, arguments);
        #[rustfmt::skip]
        let list = run(&["ec2", "create-managed-prefix-list", "--prefix-list-name", "dbt", "--address-family", "IPv4",
            "--max-entries", "5", "--entries", &format!("Cidr={DBT_CIDR}")])?;
        let list = text(&list, "/PrefixList/PrefixListId")?;
        #[rustfmt::skip]
        run(&["ec2", "authorize-security-group-ingress", "--group-id", &self.security_group, "--ip-permissions",
            &format!("IpProtocol=tcp,FromPort=443,ToPort=443,PrefixListIds=[{{PrefixListId={list}}}]")])?;
        #[rustfmt::skip]
        let instance = run(&["ec2", "run-instances", "--image-id", "ami-12345678", "--subnet-id", &self.subnets[0],
            "--security-group-ids", &self.servers])?;
        let instance = text(&instance, "/Instances/0/InstanceId")?;
        #[rustfmt::skip]
        let group = run(&["elbv2", "create-target-group", "--name", "web", "--protocol", "TCP", "--port", "443",
            "--target-type", "instance", "--vpc-id", &self.vpc])?;
        let group = text(&group, "/TargetGroups/0/TargetGroupArn")?;
        run(&["elbv2", "register-targets", "--target-group-arn", &group, "--targets", &format!("Id={instance}")])?;
        self.add_listener(aws, "443", &group).map(drop)
    }

    /// Removes dbt's rule from the load balancer's security group.
    pub fn remove_dbt_rule(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "revoke-security-group-ingress", "--group-id", &self.security_group,
            "--protocol", "tcp", "--port", "5432", "--cidr", DBT_CIDR])?;
        Ok(())
    }

    /// Adds a rule to the load balancer's security group.
    pub fn allow_ingress(&self, aws: &LocalAws, port: &str, cidr: &str) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "authorize-security-group-ingress", "--group-id", &self.security_group,
            "--protocol", "tcp", "--port", port, "--cidr", cidr])?;
        Ok(())
    }

    /// Changes the servers' inbound rule that admits load balancers on port 5432.
    pub fn change_servers_rule(&self, aws: &LocalAws, operation: &str) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", operation, "--group-id", &self.servers, "--protocol", "tcp", "--port", "5432",
            "--cidr", SERVERS_CIDR])?;
        Ok(())
    }

    /// Changes the target group's tags: `add-tags` with `Key=…,Value=…`, or `remove-tags` with a key.
    pub fn tag_target_group(&self, aws: &LocalAws, operation: &str, tag: &str) -> Result<()> {
        let option = if operation == "add-tags" { "--tags" } else { "--tag-keys" };
        self.administer(aws, &["elbv2", operation, "--resource-arns", &self.target_group, option, tag])?;
        Ok(())
    }

    /// Removes the outbound rule of the load balancer's security group.
    pub fn remove_outbound_rule(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "revoke-security-group-egress", "--group-id", &self.security_group,
            "--ip-permissions", "IpProtocol=-1,IpRanges=[{CidrIp=0.0.0.0/0}]"])?;
        Ok(())
    }

    /// Deletes the listener on port 5432.
    pub fn delete_listener(&self, aws: &LocalAws) -> Result<()> {
        self.administer(aws, &["elbv2", "delete-listener", "--listener-arn", &self.listener])?;
        Ok(())
    }

    /// Switches the listener on this port to TLS, with a certificate that expires after this many days.
    pub fn switch_to_tls(&self, aws: &LocalAws, port: u16, days: i64) -> Result<[String; 2]> {
        let certificate = self.certificate(aws, days)?;
        let listener = self.listener_on(aws, port)?;
        #[rustfmt::skip]
        self.administer(aws, &["elbv2", "modify-listener", "--listener-arn", &listener, "--protocol", "TLS",
            "--certificates", &format!("CertificateArn={certificate}")])?;
        Ok([listener, certificate])
    }

    fn listener_on(&self, aws: &LocalAws, port: u16) -> Result<String> {
        let find = ["elbv2", "describe-listeners", "--load-balancer-arn", &self.load_balancer];
        let listeners = self.administer(aws, &find)?;
        let on_port = listeners["Listeners"].as_array().into_iter().flatten().find(|it| it["Port"] == port);
        text(on_port.unwrap_or(&Value::Null), "/ListenerArn")
    }

    /// Sets the idle timeout of the listener on this port.
    pub fn set_idle_timeout(&self, aws: &LocalAws, port: u16, seconds: u32) -> Result<()> {
        let listener = self.listener_on(aws, port)?;
        let attribute = format!("Key=tcp.idle_timeout.seconds,Value={seconds}");
        #[rustfmt::skip]
        let modify = ["elbv2", "modify-listener-attributes", "--listener-arn", &listener, "--attributes", &attribute];
        self.administer(aws, &modify).map(drop)
    }

    /// Switches the listener back to TCP.
    pub fn switch_to_tcp(&self, aws: &LocalAws, listener: &str) -> Result<()> {
        let modify = ["elbv2", "modify-listener", "--listener-arn", listener, "--protocol", "TCP"];
        self.administer(aws, &modify).map(drop)
    }

    /// Adds a certificate to a listener, for clients that ask for its name. It expires after this many days.
    pub fn add_certificate(&self, aws: &LocalAws, listener: &str, days: i64) -> Result<()> {
        let certificate = format!("CertificateArn={}", self.certificate(aws, days)?);
        #[rustfmt::skip]
        let add = ["elbv2", "add-listener-certificates", "--listener-arn", listener, "--certificates", &certificate];
        self.administer(aws, &add).map(drop)
    }

    fn certificate(&self, aws: &LocalAws, days: i64) -> Result<String> {
        #[rustfmt::skip]
        let request = ["acm", "request-certificate", "--domain-name", "pg.example.com", "--validation-method", "DNS"];
        let certificate = text(&self.administer(aws, &request)?, "/CertificateArn")?;
        aws.set_certificate_expiry(&certificate, days)?;
        Ok(certificate)
    }

    /// Deletes a listener.
    pub fn remove_listener(&self, aws: &LocalAws, listener: &str) -> Result<()> {
        self.administer(aws, &["elbv2", "delete-listener", "--listener-arn", listener]).map(drop)
    }

    /// Adds a TCP listener and returns its ARN.
    pub fn add_listener(&self, aws: &LocalAws, port: &str, target_group: &str) -> Result<String> {
        #[rustfmt::skip]
        let created = self.administer(aws, &["elbv2", "create-listener", "--load-balancer-arn", &self.load_balancer, "--protocol", "TCP",
            "--port", port, "--default-actions", &format!("Type=forward,TargetGroupArn={target_group}")])?;
        text(&created, "/Listeners/0/ListenerArn")
    }

    /// Creates a target group without targets and returns its ARN.
    pub fn create_empty_group(&self, aws: &LocalAws, name: &str) -> Result<String> {
        #[rustfmt::skip]
        let created = self.administer(aws, &["elbv2", "create-target-group", "--name", name, "--protocol", "TCP", "--port", "5432",
            "--target-type", "ip", "--vpc-id", &self.vpc])?;
        text(&created, "/TargetGroups/0/TargetGroupArn")
    }

    /// Sets the IP address type of the load balancer: `ipv4`, or `dualstack`.
    pub fn set_ip_address_type(&self, aws: &LocalAws, kind: &str) -> Result<()> {
        #[rustfmt::skip]
        let set = ["elbv2", "set-ip-address-type", "--load-balancer-arn", &self.load_balancer, "--ip-address-type", kind];
        self.administer(aws, &set).map(drop)
    }

    /// Adds a rule to the listener on port 5432 that sends IPv4 connections to another target group, and returns its
    /// ARN.
    pub fn add_ipv4_rule(&self, aws: &LocalAws, target_group: &str) -> Result<String> {
        #[rustfmt::skip]
        let created = self.administer(aws, &["elbv2", "create-rule", "--listener-arn", &self.listener, "--priority", "1",
            "--conditions", r#"[{"Field":"source-ip","SourceIpConfig":{"IpAddressType":"ipv4"}}]"#,
            "--actions", &format!("Type=forward,TargetGroupArn={target_group}")])?;
        text(&created, "/Rules/0/RuleArn")
    }

    /// Begins a zonal shift of the load balancer, or ends it.
    pub fn shift_away_from(&self, aws: &LocalAws, zone: Option<&str>) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["elbv2", "modify-load-balancer-attributes", "--load-balancer-arn", &self.load_balancer,
            "--attributes", "Key=zonal_shift.config.enabled,Value=true"])?;
        aws.control("zonal-shift", &json!({"load_balancer": self.load_balancer, "away_from": zone})).map(drop)
    }

    /// Denies port 5432 in the subnets' network ACL, before the rule that allows everything.
    pub fn deny_in_network_acl(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "create-network-acl-entry", "--network-acl-id", &self.network_acl, "--ingress",
            "--rule-number", "90", "--protocol", "tcp", "--port-range", "From=5432,To=5432", "--cidr-block", "0.0.0.0/0",
            "--rule-action", "deny"])?;
        Ok(())
    }

    /// Deletes the connection notification of the endpoint service.
    pub fn delete_notification(&self, aws: &LocalAws) -> Result<()> {
        let filter = format!("Name=service-id,Values={}", self.service);
        let list =
            self.administer(aws, &["ec2", "describe-vpc-endpoint-connection-notifications", "--filters", &filter])?;
        let notification = text(&list, "/ConnectionNotificationSet/0/ConnectionNotificationId")?;
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "delete-vpc-endpoint-connection-notifications",
            "--connection-notification-ids", &notification])?;
        Ok(())
    }

    /// Creates the connection notification again, for the topic of the other services' notifications.
    pub fn create_notification(&self, aws: &LocalAws) -> Result<()> {
        let list = self.administer(aws, &["ec2", "describe-vpc-endpoint-connection-notifications"])?;
        let topic = text(&list, "/ConnectionNotificationSet/0/ConnectionNotificationArn")?;
        #[rustfmt::skip]
        self.administer(aws, &["ec2", "create-vpc-endpoint-connection-notification", "--service-id", &self.service,
            "--connection-notification-arn", &topic, "--connection-events", "Accept", "Connect", "Delete", "Reject"])?;
        Ok(())
    }

    /// Registers a target: `Id=…,AvailabilityZone=…`.
    pub fn register_target(&self, aws: &LocalAws, target: &str) -> Result<()> {
        let group = &self.target_group;
        self.administer(aws, &["elbv2", "register-targets", "--target-group-arn", group, "--targets", target]).map(drop)
    }

    /// Deregisters a target, `Id=…`, which then disappears at once instead of draining for minutes.
    pub fn deregister_target(&self, aws: &LocalAws, target: &str) -> Result<()> {
        let group = &self.target_group;
        #[rustfmt::skip]
        self.administer(aws, &["elbv2", "modify-target-group-attributes", "--target-group-arn", group,
            "--attributes", "Key=deregistration_delay.timeout_seconds,Value=0"])?;
        self.administer(aws, &["elbv2", "deregister-targets", "--target-group-arn", group, "--targets", target])
            .map(drop)
    }

    /// Sets the health of one of the [`TARGETS`].
    pub fn set_health(&self, aws: &LocalAws, target: &str, state: &str) -> Result<()> {
        let mut health = json!({"target_group": self.target_group, "target": target, "state": state});
        if state == "unhealthy" {
            health["reason"] = "Target.FailedHealthChecks".into();
            health["description"] = "Health checks failed".into();
        }
        aws.control("target-health", &health).map(drop)
    }

    /// Lets AWS count new connections through this endpoint in the minute that ends at `end`.
    pub fn set_new_connections(&self, aws: &LocalAws, endpoint: &str, end: Timestamp) -> Result<()> {
        let dimensions = [format!("Service Id={}", self.service), format!("VPC Endpoint Id={endpoint}")];
        let metric = json!({"namespace": "AWS/PrivateLinkServices", "metric": "NewConnections", "dimensions": dimensions,
            "values": [3], "end": end.to_string()});
        aws.control("metric", &metric).map(drop)
    }

    /// Enables the load balancer in this number of zones.
    pub fn set_subnets(&self, aws: &LocalAws, number: usize) -> Result<()> {
        let filter = format!("Name=vpc-id,Values={}", self.vpc);
        let found = self.administer(aws, &["ec2", "describe-subnets", "--filters", &filter])?;
        let mut set = vec!["elbv2", "set-subnets", "--load-balancer-arn", &self.load_balancer, "--subnets"];
        set.extend((0..number).filter_map(|number| found["Subnets"][number]["SubnetId"].as_str()));
        self.administer(aws, &set).map(drop)
    }

    /// Calls [`Company::set_subnets`], after which the service offers the load balancer's zones.
    pub fn offer_subnets(&self, aws: &LocalAws, number: usize) -> Result<()> {
        self.set_subnets(aws, number)?;
        self.modify_service(aws, &["--add-network-load-balancer-arns", &self.load_balancer])
    }

    /// Changes the health check of the target group.
    pub fn set_health_check(&self, aws: &LocalAws, settings: &[&str]) -> Result<()> {
        let command = ["elbv2", "modify-target-group", "--target-group-arn", &self.target_group];
        self.administer(aws, &[&command, settings].concat()).map(drop)
    }

    /// Sets the state of the load balancer.
    pub fn set_load_balancer_state(&self, aws: &LocalAws, state: &str) -> Result<()> {
        aws.control("load-balancer", &json!({"load_balancer": self.load_balancer, "state": state})).map(drop)
    }

    /// Switches Proxy Protocol on for the target group.
    pub fn switch_proxy_protocol_on(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        let modify = ["elbv2", "modify-target-group-attributes", "--target-group-arn", &self.target_group,
            "--attributes", "Key=proxy_protocol_v2.enabled,Value=true"];
        self.administer(aws, &modify).map(drop)
    }

    /// Sets the load balancer's cross-zone attribute.
    pub fn set_cross_zone(&self, aws: &LocalAws, on: bool) -> Result<()> {
        let attribute = format!("Key=load_balancing.cross_zone.enabled,Value={on}");
        #[rustfmt::skip]
        self.administer(aws, &["elbv2", "modify-load-balancer-attributes", "--load-balancer-arn", &self.load_balancer,
            "--attributes", &attribute])?;
        Ok(())
    }

    /// Switches cross-zone load balancing off for the target group, which overrides the load balancer.
    pub fn override_cross_zone(&self, aws: &LocalAws) -> Result<()> {
        #[rustfmt::skip]
        self.administer(aws, &["elbv2", "modify-target-group-attributes", "--target-group-arn", &self.target_group,
            "--attributes", "Key=load_balancing.cross_zone.enabled,Value=false"])?;
        Ok(())
    }

    /// Whether the load balancer's cross-zone attribute is on.
    pub fn cross_zone(&self, aws: &LocalAws) -> Result<bool> {
        let command = ["elbv2", "describe-load-balancer-attributes", "--load-balancer-arn", &self.load_balancer];
        let answer = aws.aws(&self.root, &command)?;
        let attributes = answer["Attributes"].as_array().cloned().unwrap_or_default();
        let is_on =
            |attribute: &Value| attribute["Key"] == "load_balancing.cross_zone.enabled" && attribute["Value"] == "true";
        Ok(attributes.iter().any(is_on))
    }
}
