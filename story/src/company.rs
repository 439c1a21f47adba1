//! A company that shares a service with dbt, set up after dbt's guide.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use crate::local_aws::{Caller, LocalAws, concurrently, eventually, list, text};
use crate::mail::Mailbox;
use crate::{COMPANY, DBT, REGION};

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
    /// An administrator's IAM user.
    pub admin: Caller,
}

/// The network that dbt connects from.
pub const DBT_CIDR: &str = "10.1.2.0/24";

/// The addresses of the company's servers.
pub const TARGETS: [&str; 3] = ["172.31.0.10", "172.31.16.10", "172.31.16.11"];

/// The network of the VPC that the servers and the load balancers are in.
const SERVERS_CIDR: &str = "172.31.0.0/16";

/// The policy of an administrator.
const ADMIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// Creates the servers' network interfaces, and their security group, which admits load balancers. Returns the group's
/// id.
fn set_up_servers(aws: &LocalAws) -> Result<String> {
    let run = |line: &str| aws.aws(&Caller::root(COMPANY), line);
    let subnets = run("ec2 describe-subnets")?;
    let vpc = text(&subnets, "/Subnets/0/VpcId")?;
    let created = run(&format!("ec2 create-security-group --group-name servers --description servers --vpc-id {vpc}"))?;
    let group = text(&created, "/GroupId")?;
    for port in ["5432", "443"] {
        let allow = format!("ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port {port}");
        run(&format!("{allow} --cidr {SERVERS_CIDR}"))?;
    }
    let (first, second) = (text(&subnets, "/Subnets/0/SubnetId")?, text(&subnets, "/Subnets/1/SubnetId")?);
    for (address, subnet) in TARGETS.iter().zip([&first, &second, &second]) {
        let place = format!("--subnet-id {subnet} --private-ip-address {address} --groups {group}");
        run(&format!("ec2 create-network-interface {place}"))?;
    }
    Ok(group)
}

impl Company {
    /// Sets up the service and the resources behind it, all named `name`.
    pub fn set_up(aws: &LocalAws, name: &str) -> Result<Self> {
        Self::set_up_service(aws, name, &set_up_servers(aws)?)
    }

    fn set_up_service(aws: &LocalAws, name: &str, servers: &str) -> Result<Self> {
        let run = |line: &str| aws.aws(&Caller::root(COMPANY), line);
        let subnets = run("ec2 describe-subnets")?;
        let (vpc, first, second) = (
            text(&subnets, "/Subnets/0/VpcId")?,
            text(&subnets, "/Subnets/0/SubnetId")?,
            text(&subnets, "/Subnets/1/SubnetId")?,
        );
        let created = run(&format!("ec2 create-security-group --group-name {name} --description dbt --vpc-id {vpc}"))?;
        let security_group = text(&created, "/GroupId")?;
        let filter = format!("Name=association.subnet-id,Values={first}");
        let found = run(&format!("ec2 describe-network-acls --filters {filter}"))?;
        let network_acl = text(&found, "/NetworkAcls/0/NetworkAclId")?;
        let place = format!("--scheme internal --subnets {first} {second} --security-groups {security_group}");
        let created = run(&format!("elbv2 create-load-balancer --name {name} --type network {place}"))?;
        let load_balancer = text(&created, "/LoadBalancers/0/LoadBalancerArn")?;
        let tags = format!("ResourceType=vpc-endpoint-service,Tags=[{{Key=Name,Value={name}}}]");
        let created = run(&format!(
            "ec2 create-vpc-endpoint-service-configuration --acceptance-required \
             --network-load-balancer-arns {load_balancer} --tag-specifications {tags}"
        ))?;
        let mut company = Self {
            service: text(&created, "/ServiceConfiguration/ServiceId")?,
            service_name: text(&created, "/ServiceConfiguration/ServiceName")?,
            vpc,
            subnets: [first, second],
            load_balancer,
            security_group,
            network_acl,
            listener: String::new(),
            target_group: String::new(),
            servers: servers.to_owned(),
            admin: aws.create_user(COMPANY, &format!("network-admin-{name}"), &[ADMIN])?,
        };
        company.set_cross_zone(aws, true)?;
        company.allow_ingress(aws, "5432", DBT_CIDR)?;
        company.target_group = company.create_target_group(aws, name)?;
        company.register_target(aws, &TARGETS.map(|address| format!("Id={address}")).join(" "))?;
        company.listener = company.add_listener(aws, "5432", &company.target_group)?;
        company.modify_permissions(aws, &format!("--add-allowed-principals arn:aws:iam::{DBT}:root"))?;
        Ok(company)
    }

    /// Sets up two services at the same time.
    pub fn set_up_two(aws: &LocalAws, names: [&str; 2]) -> Result<[Self; 2]> {
        let servers = set_up_servers(aws)?;
        let services = concurrently(2, |number| Self::set_up_service(aws, names[number], &servers))?;
        services.try_into().map_err(|_| anyhow!("two services were set up"))
    }

    /// Creates an account's endpoint to the service.
    pub fn connect_from(&self, aws: &LocalAws, account: &str, region: &str) -> Result<String> {
        let caller = Caller::root(account);
        let vpc = text(&aws.aws(&caller, &format!("ec2 describe-vpcs --region {region}"))?, "/Vpcs/0/VpcId")?;
        let create = format!("ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc} --region {region}");
        let service = format!("--service-name {} --service-region {REGION}", self.service_name);
        text(&aws.aws(&caller, &format!("{create} {service}"))?, "/VpcEndpoint/VpcEndpointId")
    }

    /// Creates dbt's endpoint.
    pub fn dbt_connects(&self, aws: &LocalAws) -> Result<String> {
        self.connect_from(aws, DBT, REGION)
    }

    /// Accepts an endpoint as the administrator, and waits until it is connected.
    pub fn accept(&self, aws: &LocalAws, endpoint: &str) -> Result<()> {
        let command = format!("ec2 accept-vpc-endpoint-connections --service-id {}", self.service);
        self.change(aws, &format!("{command} --vpc-endpoint-ids {endpoint}"))?;
        self.wait_for_state(aws, endpoint, "available")
    }

    /// The state of an endpoint's connection in the company's view.
    pub fn state(&self, aws: &LocalAws, endpoint: &str) -> Result<String> {
        let filter = format!("Name=service-id,Values={}", self.service);
        let selected = format!("VpcEndpointConnections[?VpcEndpointId=='{endpoint}']");
        let command = format!("ec2 describe-vpc-endpoint-connections --filters {filter} --query \"{selected}\"");
        text(&aws.aws(&Caller::root(COMPANY), &command)?, "/0/VpcEndpointState")
    }

    /// Waits until an endpoint's connection has this state.
    pub fn wait_for_state(&self, aws: &LocalAws, endpoint: &str, state: &str) -> Result<()> {
        eventually(&format!("{endpoint} to be {state}"), || Ok((self.state(aws, endpoint)? == state).then_some(())))
    }

    /// Runs an AWS CLI command as the administrator and returns its output.
    pub fn administer(&self, aws: &LocalAws, line: &str) -> Result<Value> {
        aws.aws(&self.admin, line)
    }

    /// Runs an AWS CLI command as the administrator.
    pub fn change(&self, aws: &LocalAws, line: &str) -> Result<()> {
        self.administer(aws, line).map(drop)
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
    pub fn modify_service(&self, aws: &LocalAws, changes: &str) -> Result<()> {
        let command = format!("ec2 modify-vpc-endpoint-service-configuration --service-id {}", self.service);
        self.change(aws, &format!("{command} {changes}"))
    }

    /// Changes the allowed principals of the endpoint service as the administrator.
    pub fn modify_permissions(&self, aws: &LocalAws, changes: &str) -> Result<()> {
        let command = format!("ec2 modify-vpc-endpoint-service-permissions --service-id {}", self.service);
        self.change(aws, &format!("{command} {changes}"))
    }

    /// Allows every account to connect.
    pub fn allow_every_account(&self, aws: &LocalAws) -> Result<()> {
        self.modify_permissions(aws, "--add-allowed-principals '*'")
    }

    /// Adds port 443 with a target group of one instance, in zone a, and allows dbt there by a prefix list.
    pub fn add_https(&self, aws: &LocalAws) -> Result<()> {
        let run = |line: &str| self.administer(aws, line);
        let prefixes = format!("--address-family IPv4 --max-entries 5 --entries Cidr={DBT_CIDR}");
        let prefixes = run(&format!("ec2 create-managed-prefix-list --prefix-list-name dbt {prefixes}"))?;
        let prefixes = format!("PrefixListIds=[{{PrefixListId={}}}]", text(&prefixes, "/PrefixList/PrefixListId")?);
        let rule = format!("IpProtocol=tcp,FromPort=443,ToPort=443,{prefixes}");
        let allow = format!("ec2 authorize-security-group-ingress --group-id {}", self.security_group);
        run(&format!("{allow} --ip-permissions {rule}"))?;
        let place = format!("--subnet-id {} --security-group-ids {}", self.subnets[0], self.servers);
        let instance = run(&format!("ec2 run-instances --image-id ami-12345678 {place}"))?;
        let instance = text(&instance, "/Instances/0/InstanceId")?;
        let settings = format!("--protocol TCP --port 443 --target-type instance --vpc-id {}", self.vpc);
        let group = run(&format!("elbv2 create-target-group --name web {settings}"))?;
        let group = text(&group, "/TargetGroups/0/TargetGroupArn")?;
        run(&format!("elbv2 register-targets --target-group-arn {group} --targets Id={instance}"))?;
        self.add_listener(aws, "443", &group).map(drop)
    }

    /// Adds a rule to the load balancer's security group.
    pub fn allow_ingress(&self, aws: &LocalAws, port: &str, cidr: &str) -> Result<()> {
        let rule = format!("--group-id {} --protocol tcp --port {port} --cidr {cidr}", self.security_group);
        self.change(aws, &format!("ec2 authorize-security-group-ingress {rule}"))
    }

    /// Removes dbt's rule from the load balancer's security group.
    pub fn remove_dbt_rule(&self, aws: &LocalAws) -> Result<()> {
        let rule = format!("--group-id {} --protocol tcp --port 5432 --cidr {DBT_CIDR}", self.security_group);
        self.change(aws, &format!("ec2 revoke-security-group-ingress {rule}"))
    }

    /// Changes the servers' inbound rule that admits load balancers on port 5432.
    pub fn change_servers_rule(&self, aws: &LocalAws, operation: &str) -> Result<()> {
        let rule = format!("--group-id {} --protocol tcp --port 5432 --cidr {SERVERS_CIDR}", self.servers);
        self.change(aws, &format!("ec2 {operation} {rule}"))
    }

    /// Removes the outbound rule of the load balancer's security group.
    pub fn remove_outbound_rule(&self, aws: &LocalAws) -> Result<()> {
        let rule = "IpProtocol=-1,IpRanges=[{CidrIp=0.0.0.0/0}]";
        let revoke = format!("ec2 revoke-security-group-egress --group-id {}", self.security_group);
        self.change(aws, &format!("{revoke} --ip-permissions {rule}"))
    }

    /// Changes the target group's tags: `add-tags` with `Key=…,Value=…`, or `remove-tags` with a key.
    pub fn tag_target_group(&self, aws: &LocalAws, operation: &str, tag: &str) -> Result<()> {
        let option = if operation == "add-tags" { "--tags" } else { "--tag-keys" };
        self.change(aws, &format!("elbv2 {operation} --resource-arns {} {option} {tag}", self.target_group))
    }

    /// Deletes the listener on port 5432.
    pub fn delete_listener(&self, aws: &LocalAws) -> Result<()> {
        self.change(aws, &format!("elbv2 delete-listener --listener-arn {}", self.listener))
    }

    /// Adds a TCP listener and returns its ARN.
    pub fn add_listener(&self, aws: &LocalAws, port: &str, target_group: &str) -> Result<String> {
        let create = format!("elbv2 create-listener --load-balancer-arn {}", self.load_balancer);
        let actions = format!("--default-actions Type=forward,TargetGroupArn={target_group}");
        let created = self.administer(aws, &format!("{create} --protocol TCP --port {port} {actions}"))?;
        text(&created, "/Listeners/0/ListenerArn")
    }

    /// Switches the listener on this port to TLS, with a certificate that expires after this many days.
    pub fn switch_to_tls(&self, aws: &LocalAws, port: u16, days: i64) -> Result<[String; 2]> {
        let certificate = self.certificate(aws)?;
        aws.set_certificate_expiry(&certificate, days)?;
        let listener = self.listener_on(aws, port)?;
        let tls = format!("--protocol TLS --certificates CertificateArn={certificate}");
        self.change(aws, &format!("elbv2 modify-listener --listener-arn {listener} {tls}"))?;
        Ok([listener, certificate])
    }

    /// Switches the listener back to TCP.
    pub fn switch_to_tcp(&self, aws: &LocalAws, listener: &str) -> Result<()> {
        self.change(aws, &format!("elbv2 modify-listener --listener-arn {listener} --protocol TCP"))
    }

    /// The ARN of the listener on this port.
    pub fn listener_on(&self, aws: &LocalAws, port: u16) -> Result<String> {
        let find = format!("elbv2 describe-listeners --load-balancer-arn {}", self.load_balancer);
        let listeners = self.administer(aws, &find)?;
        let on_port = list(&listeners["Listeners"]).find(|listener| listener["Port"] == port);
        text(on_port.unwrap_or(&Value::Null), "/ListenerArn")
    }

    /// Requests a certificate and returns its ARN.
    pub fn certificate(&self, aws: &LocalAws) -> Result<String> {
        let request = "acm request-certificate --domain-name pg.example.com --validation-method DNS";
        text(&self.administer(aws, request)?, "/CertificateArn")
    }

    /// Creates a target group without targets and returns its ARN.
    pub fn create_target_group(&self, aws: &LocalAws, name: &str) -> Result<String> {
        let settings = format!("--protocol TCP --port 5432 --target-type ip --vpc-id {}", self.vpc);
        let created = self.administer(aws, &format!("elbv2 create-target-group --name {name} {settings}"))?;
        text(&created, "/TargetGroups/0/TargetGroupArn")
    }

    /// Sets the IP address type of the load balancer: `ipv4`, or `dualstack`.
    pub fn set_ip_address_type(&self, aws: &LocalAws, kind: &str) -> Result<()> {
        let set = format!("elbv2 set-ip-address-type --load-balancer-arn {}", self.load_balancer);
        self.change(aws, &format!("{set} --ip-address-type {kind}"))
    }

    /// Begins a zonal shift of the load balancer, or ends it.
    pub fn shift_away_from(&self, aws: &LocalAws, zone: Option<&str>) -> Result<()> {
        self.set_attribute(aws, "zonal_shift.config.enabled", "true")?;
        aws.control("zonal-shift", &json!({"load_balancer": self.load_balancer, "away_from": zone})).map(drop)
    }

    /// Denies port 5432 in the subnets' network ACL, before the rule that allows everything.
    pub fn deny_in_network_acl(&self, aws: &LocalAws) -> Result<()> {
        self.change(aws, &deny_in(&self.network_acl))
    }

    /// Deletes the connection notification of the endpoint service.
    pub fn delete_notification(&self, aws: &LocalAws) -> Result<()> {
        let filter = format!("Name=service-id,Values={}", self.service);
        let describe = format!("ec2 describe-vpc-endpoint-connection-notifications --filters {filter}");
        let notification =
            text(&self.administer(aws, &describe)?, "/ConnectionNotificationSet/0/ConnectionNotificationId")?;
        let delete = "ec2 delete-vpc-endpoint-connection-notifications --connection-notification-ids";
        self.change(aws, &format!("{delete} {notification}"))
    }

    /// Creates the connection notification again, for the topic of the other services' notifications.
    pub fn create_notification(&self, aws: &LocalAws) -> Result<()> {
        let found = self.administer(aws, "ec2 describe-vpc-endpoint-connection-notifications")?;
        let topic = text(&found, "/ConnectionNotificationSet/0/ConnectionNotificationArn")?;
        let create = format!("ec2 create-vpc-endpoint-connection-notification --service-id {}", self.service);
        let events = "--connection-events Accept Connect Delete Reject";
        self.change(aws, &format!("{create} --connection-notification-arn {topic} {events}"))
    }

    /// Registers targets: `Id=…,AvailabilityZone=…`.
    pub fn register_target(&self, aws: &LocalAws, target: &str) -> Result<()> {
        let group = &self.target_group;
        self.change(aws, &format!("elbv2 register-targets --target-group-arn {group} --targets {target}"))
    }

    /// Deregisters a target, `Id=…`, which then disappears at once instead of draining for minutes.
    pub fn deregister_target(&self, aws: &LocalAws, target: &str) -> Result<()> {
        let group = &self.target_group;
        self.set_group_attribute(aws, "deregistration_delay.timeout_seconds", "0")?;
        self.change(aws, &format!("elbv2 deregister-targets --target-group-arn {group} --targets {target}"))
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

    /// Enables the load balancer in this number of zones.
    pub fn set_subnets(&self, aws: &LocalAws, number: usize) -> Result<()> {
        let describe = format!("ec2 describe-subnets --filters Name=vpc-id,Values={}", self.vpc);
        let found = self.administer(aws, &describe)?;
        let subnets: Vec<&str> = list(&found["Subnets"]).filter_map(|subnet| subnet["SubnetId"].as_str()).collect();
        let set = format!("elbv2 set-subnets --load-balancer-arn {} --subnets", self.load_balancer);
        self.change(aws, &format!("{set} {}", subnets[..number].join(" ")))
    }

    /// Calls [`Company::set_subnets`], after which the service offers the load balancer's zones.
    pub fn offer_subnets(&self, aws: &LocalAws, number: usize) -> Result<()> {
        self.set_subnets(aws, number)?;
        self.modify_service(aws, &format!("--add-network-load-balancer-arns {}", self.load_balancer))
    }

    /// Changes the health check of the target group.
    pub fn set_health_check(&self, aws: &LocalAws, settings: &str) -> Result<()> {
        self.change(aws, &format!("elbv2 modify-target-group --target-group-arn {} {settings}", self.target_group))
    }

    /// Sets the state of the load balancer.
    pub fn set_load_balancer_state(&self, aws: &LocalAws, state: &str) -> Result<()> {
        aws.control("load-balancer", &json!({"load_balancer": self.load_balancer, "state": state})).map(drop)
    }

    /// Sets the load balancer's cross-zone attribute.
    pub fn set_cross_zone(&self, aws: &LocalAws, on: bool) -> Result<()> {
        self.set_attribute(aws, "load_balancing.cross_zone.enabled", &on.to_string())
    }

    fn set_attribute(&self, aws: &LocalAws, key: &str, value: &str) -> Result<()> {
        let modify = format!("elbv2 modify-load-balancer-attributes --load-balancer-arn {}", self.load_balancer);
        self.change(aws, &format!("{modify} --attributes Key={key},Value={value}"))
    }

    /// Sets an attribute of the target group.
    pub fn set_group_attribute(&self, aws: &LocalAws, key: &str, value: &str) -> Result<()> {
        let modify = format!("elbv2 modify-target-group-attributes --target-group-arn {}", self.target_group);
        self.change(aws, &format!("{modify} --attributes Key={key},Value={value}"))
    }
}

/// The command that describes a load balancer's attributes.
pub fn describe_attributes(load_balancer: &str) -> String {
    format!("elbv2 describe-load-balancer-attributes --load-balancer-arn {load_balancer}")
}

/// Whether cross-zone load balancing is on, in the answer to [`describe_attributes`].
pub fn is_cross_zone_on(answer: &Value) -> bool {
    list(&answer["Attributes"])
        .any(|attribute| attribute["Key"] == "load_balancing.cross_zone.enabled" && attribute["Value"] == "true")
}

/// The command that denies port 5432 in a network ACL, before the rule that allows everything.
pub fn deny_in(network_acl: &str) -> String {
    let rule = "--ingress --rule-number 90 --protocol tcp --port-range From=5432,To=5432 --cidr-block 0.0.0.0/0";
    format!("ec2 create-network-acl-entry --network-acl-id {network_acl} {rule} --rule-action deny")
}
