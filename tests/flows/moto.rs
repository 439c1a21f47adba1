//! A second opinion on the local AWS: moto, an independent emulator. For one company, `check` must find the same on
//! both, except for facts that moto lacks. These are listed here with the results of `check`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use story::company::{Company, DBT_CIDR, TARGETS};
use story::local_aws::{Caller, LocalAws, concurrently, text};
use story::{COMPANY, DBT, command};

/// Checks with their resources, and the reason why moto leaves them unknown.
type Unknown = (&'static [&'static str], &'static str);

/// moto has no connections of endpoint services and answers with HTTP 500 and a web page.
const CONNECTIONS: Unknown =
    (&["connection.absent SERVICE", "connection.dbt SERVICE", "connection.untrusted SERVICE"], NOT_AWS);
const REGIONS: Unknown = (&["service.regions SERVICE"], NOT_AWS);
const NOT_AWS: &str = "ec2:DescribeVpcEndpointConnections failed: the answer (HTTP 500) is not in AWS's form. Usually a proxy \
     answered, or an emulator that does not know this call: check AWS_ENDPOINT_URL and any proxy";

/// moto does not return the IP address types of an endpoint service.
const ADDRESS_TYPES: Unknown =
    (&["service.available SERVICE"], "EC2 does not say which IP address types the endpoint service accepts");

/// moto creates no network interfaces for a load balancer.
const PATHS: Unknown = (
    &[
        "network-path postgres",
        "network-path web",
        "target-group.security-groups postgres",
        "target-group.security-groups web",
    ],
    "EC2 shows no network interface of LOAD_BALANCER",
);

/// moto does not return an IP target's zone.
const ZONES: Unknown = (&["load-balancer.zones postgres"], "the zones of the healthy targets are unknown");

/// The administrator's breaks, in turn, with the checks that fail from then on. No failure hides a later one.
type Break = fn(&Side) -> Result<()>;
const BREAKS: [(&str, Break); 11] = [
    ("service.principals SERVICE: fail critical", |side| side.company.allow_every_account(&side.aws)),
    ("service.acceptance-required SERVICE: fail critical", |side| {
        side.company.modify_service(&side.aws, "--no-acceptance-required")
    }),
    ("load-balancer.security-groups postgres: fail critical", |side| side.company.remove_dbt_rule(&side.aws)),
    ("load-balancer.broad-rule postgres: fail warning", |side| {
        side.company.allow_ingress(&side.aws, "443", "0.0.0.0/0")
    }),
    ("load-balancer.outbound postgres: fail critical", |side| side.company.remove_outbound_rule(&side.aws)),
    ("target-group.security-groups postgres: fail critical", |side| {
        side.company.change_servers_rule(&side.aws, "revoke-security-group-ingress")
    }),
    ("network-path postgres: fail warning", |side| side.company.deny_in_network_acl(&side.aws)),
    ("target-group.health web: fail critical", Side::stop_instance),
    ("target-group.health postgres: fail critical", |side| {
        TARGETS.iter().try_for_each(|address| side.company.deregister_target(&side.aws, &format!("Id={address}")))
    }),
    ("listener.port postgres: fail critical", |side| side.company.delete_listener(&side.aws)),
    ("load-balancer.internal-nlb public: fail critical", Side::add_public_load_balancer),
];

#[test]
fn check_agrees_on_moto_and_on_the_local_aws() -> Result<()> {
    let both = Both::set_up()?;
    let found = both.agree_but_for(&[CONNECTIONS, REGIONS, ADDRESS_TYPES, PATHS])?;
    ensure!(found["listener.certificate postgres"] == "pass", "{found:#?}");
    both.moto.add_interfaces()?;
    both.agree_but_for(&[CONNECTIONS, REGIONS, ADDRESS_TYPES])?;
    both.each(|side| side.company.set_cross_zone(&side.aws, false))?;
    let found = both.agree_but_for(&[CONNECTIONS, REGIONS, ADDRESS_TYPES, ZONES])?;
    ensure!(found["load-balancer.cross-zone postgres"].starts_with("fail warning"), "{found:#?}");
    both.each(|side| side.company.set_cross_zone(&side.aws, true))?;
    for (fails, break_it) in BREAKS {
        both.each(break_it)?;
        let found = both.agree_but_for(&[CONNECTIONS, REGIONS, ADDRESS_TYPES])?;
        let fails_now = found.iter().any(|(of, verdict)| format!("{of}: {verdict}").starts_with(fails));
        ensure!(fails_now, "{fails} is not in {found:#?}");
    }
    both.each(|side| {
        let delete = "ec2 delete-vpc-endpoint-service-configurations --service-ids";
        side.company.change(&side.aws, &format!("{delete} {}", side.company.service))
    })?;
    let found = both.agree_but_for(&[CONNECTIONS])?;
    ensure!(found["service.available SERVICE"].starts_with("fail critical"), "{found:#?}");
    Ok(())
}

/// The verdict of each check on each resource: `pass`, `fail critical: …`, `unknown: …`.
type Verdicts = BTreeMap<String, String>;

struct Both {
    moto: Side,
    local: Side,
}

impl Both {
    fn set_up() -> Result<Self> {
        let start = |number| if number == 0 { LocalAws::moto() } else { LocalAws::start(60) };
        let [moto, local] = pair(|number| Side::set_up(start(number)?))?;
        Ok(Self { moto, local })
    }

    fn each<T: Send>(&self, task: impl Fn(&Side) -> Result<T> + Sync) -> Result<[T; 2]> {
        pair(|number| task([&self.moto, &self.local][number]))
    }

    /// The results on moto. They must equal those on the local AWS, except that facts which moto lacks are unknown.
    fn agree_but_for(&self, unknown: &[Unknown]) -> Result<Verdicts> {
        let [moto, mut expected] = self.each(Side::check)?;
        for (keys, why) in unknown {
            expected.extend(keys.iter().map(|key| ((*key).to_owned(), format!("unknown: {why}"))));
        }
        let differ = |these: &Verdicts, those: &Verdicts| -> Verdicts {
            these
                .iter()
                .filter(|(key, verdict)| those.get(*key) != Some(verdict))
                .map(|(key, verdict)| (key.clone(), verdict.clone()))
                .collect()
        };
        ensure!(moto == expected, "moto: {:#?}\nexpected: {:#?}", differ(&moto, &expected), differ(&expected, &moto));
        Ok(moto)
    }
}

fn pair<T: Send>(task: impl Fn(usize) -> Result<T> + Sync) -> Result<[T; 2]> {
    concurrently(2, task)?.try_into().map_err(|_| anyhow!("two tasks have two results"))
}

/// An emulator with the company in it: port 5432, and 8443 with TLS, with three addresses; port 443 with one instance.
struct Side {
    aws: LocalAws,
    company: Company,
}

impl Side {
    fn set_up(aws: LocalAws) -> Result<Self> {
        let company = Company::set_up(&aws, "postgres")?;
        company.add_https(&aws)?;
        let side = Self { aws, company };
        side.add_tls()?;
        Ok(side)
    }

    fn add_tls(&self) -> Result<()> {
        let Company { load_balancer, target_group, .. } = &self.company;
        let certificate = self.company.certificate(&self.aws)?;
        let tls = format!("--protocol TLS --port 8443 --certificates CertificateArn={certificate}");
        let action = format!("--default-actions Type=forward,TargetGroupArn={target_group}");
        let create = format!("elbv2 create-listener --load-balancer-arn {load_balancer} {tls} {action}");
        self.company.change(&self.aws, &create)?;
        self.company.allow_ingress(&self.aws, "8443", DBT_CIDR)
    }

    /// The interfaces that ELB creates, one in each of the load balancer's subnets.
    fn add_interfaces(&self) -> Result<()> {
        let Company { load_balancer, subnets, security_group, .. } = &self.company;
        let (_, name) = load_balancer.split_once("loadbalancer/").context("a load balancer's ARN")?;
        for subnet in subnets {
            let place = format!("--subnet-id {subnet} --groups {security_group} --description 'ELB {name}'");
            self.company.change(&self.aws, &format!("ec2 create-network-interface {place}"))?;
        }
        Ok(())
    }

    /// Adds a second load balancer, which is internet-facing, to the service.
    fn add_public_load_balancer(&self) -> Result<()> {
        let Company { subnets: [first, second], security_group, .. } = &self.company;
        let place = format!("--scheme internet-facing --subnets {first} {second} --security-groups {security_group}");
        let create = format!("elbv2 create-load-balancer --name public --type network {place}");
        let arn = text(&self.company.administer(&self.aws, &create)?, "/LoadBalancers/0/LoadBalancerArn")?;
        self.company.modify_service(&self.aws, &format!("--add-network-load-balancer-arns {arn}"))
    }

    fn stop_instance(&self) -> Result<()> {
        let instances = self.company.administer(&self.aws, "ec2 describe-instances")?;
        let instance = text(&instances, "/Reservations/0/Instances/0/InstanceId")?;
        self.company.change(&self.aws, &format!("ec2 stop-instances --instance-ids {instance}"))
    }

    fn check(&self) -> Result<Verdicts> {
        let Company { service, load_balancer, .. } = &self.company;
        let principal = format!("arn:aws:iam::{DBT}:root");
        #[rustfmt::skip]
        let arguments = ["check", "--json", "--service", service, "--dbt-principal", &principal, "--cidrs", DBT_CIDR,
            "--ports", "5432+443+8443"];
        // The SDK would retry HTTP 500, which only costs time here.
        let output = command::command(&self.aws, &Caller::root(COMPANY))?
            .args(arguments)
            .env("AWS_MAX_ATTEMPTS", "1")
            .output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let results = report["services"][0]["results"].as_array().context("results")?;
        let verdict = |result: &Value| {
            let field = |name: &str| result[name].as_str().unwrap_or_default();
            let why = field("reason").replace(load_balancer, "LOAD_BALANCER").replace(service, "SERVICE");
            let verdict = match field("status") {
                "fail" => format!("fail {}: {}", field("severity"), field("summary")),
                "unknown" => format!("unknown: {why}"),
                status => status.to_owned(),
            };
            // `arn:…:targetgroup/NAME/ID`
            let resource = field("resource").rsplit('/').nth(1).unwrap_or("SERVICE");
            (format!("{} {resource}", field("check")), verdict)
        };
        Ok(results.iter().map(verdict).collect())
    }
}
