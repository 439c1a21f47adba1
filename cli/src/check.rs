//! `check`: the whole checklist for each endpoint service, observed and evaluated as in the functions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, ensure};
use guard_aws::observe::{Observer, Scope, pace};
use guard_core::admission::{admit, held_by_the_list};
use guard_core::alerts::connection::remembered;
use guard_core::alerts::record::stored_path;
use guard_core::alerts::silencing;
use guard_core::catalogue::{checks_of, evaluate_checks};
use guard_core::check::{Branch, Check, CheckContext, CheckResult, Finding, Group, Need, Remedy, Status};
use guard_core::config::{BadConfiguration, Policy};
use guard_core::ids::{AccountId, Arn, ServiceId};
use guard_core::snapshot::Topology;
use guard_core::text::strip_invisible;
use jiff::Timestamp;

use crate::BadUsage;
use crate::args::Subject;
use crate::memory::GuardMemory;
use crate::report::{CheckReport, ServiceReport};
use crate::session::{Session, explained};
use crate::stack::DeployedStack;

/// The endpoint services to check, or a load balancer without one, and the expectations for them.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// The expectations, with the services to check. Without principals, nothing tells which accounts are dbt's.
    pub policy: Policy,
    /// The guard's stack; empty if the user named none.
    pub stack: DeployedStack,
    /// A load balancer without an endpoint service, checked instead of services.
    load_balancer: Option<Arn>,
}

/// The stack's parameters that hold expectations, with their variables. `CrossZone` counts only if it is `ignore`,
/// since this command changes nothing.
const PARAMETERS: [(&str, &str); 10] = [
    ("EndpointServiceIds", "ENDPOINT_SERVICE_IDS"),
    ("DbtPrincipals", "DBT_PRINCIPALS"),
    ("KnownAccounts", "KNOWN_ACCOUNTS"),
    ("MaxDbtEndpoints", "MAX_DBT_ENDPOINTS"),
    ("ExpectedEndpoints", "EXPECTED_ENDPOINTS"),
    ("ListenerPorts", "LISTENER_PORTS"),
    ("DbtCidrs", "DBT_CIDRS"),
    ("CrossZone", "CROSS_ZONE"),
    ("DryRun", "DRY_RUN"),
    ("ExpectTrafficEvery", "EXPECT_TRAFFIC_EVERY"),
];

/// The flag of each variable, for messages.
const FLAGS: [(&str, &str); 7] = [
    ("ENDPOINT_SERVICE_IDS", "--service"),
    ("DBT_PRINCIPALS", "--dbt-principal"),
    ("KNOWN_ACCOUNTS", "--known-account"),
    ("MAX_DBT_ENDPOINTS", "--max-dbt-endpoints"),
    ("EXPECTED_ENDPOINTS", "--expected-endpoints"),
    ("LISTENER_PORTS", "--ports"),
    ("DBT_CIDRS", "--cidrs"),
];

impl Expectations {
    /// Expectations from the flags; the stack supplies what the flags leave open, and the account the services.
    ///
    /// # Errors
    /// If a value is malformed, or if there is nothing to check.
    pub async fn new(session: &Session, subject: &Subject, load_balancer: Option<Arn>) -> Result<Self> {
        let stack = match &subject.stack {
            Some(name) => {
                let stack = DeployedStack::read(session, name).await?;
                // A stack that is not the guard's would leave everything open, and the command would check the whole
                // account.
                stack.output("StateTableName")?;
                stack
            }
            None => DeployedStack::default(),
        };
        let mut values = variables(subject, &stack);
        if load_balancer.is_some() {
            values.remove("ENDPOINT_SERVICE_IDS");
        } else if !values.contains_key("ENDPOINT_SERVICE_IDS") {
            values.insert("ENDPOINT_SERVICE_IDS", services_of_account(session).await?);
        }
        Ok(Self { stack, ..Self::from_values(values, load_balancer)? })
    }

    fn from_values(mut values: BTreeMap<&'static str, String>, load_balancer: Option<Arn>) -> Result<Self> {
        // Without a guard, nobody accepts a request.
        let has_guard = values.contains_key("DRY_RUN");
        values.entry("DRY_RUN").or_insert_with(|| "true".to_owned());
        let policy = Policy::from_lookup(|name| values.get(name).cloned());
        let policy = policy.map_err(|error| BadUsage(in_flags(&error)))?;
        Ok(Self { policy: Policy { has_guard, ..policy }, stack: DeployedStack::default(), load_balancer })
    }

    /// dbt's accounts, if the user gave them.
    pub fn dbt_accounts(&self) -> Option<&BTreeSet<AccountId>> {
        self.knows_dbt().then_some(&self.policy.dbt_accounts)
    }

    /// Reads AWS and evaluates the checks. Returns the report and the topology behind it.
    ///
    /// # Errors
    /// If AWS answers neither the identity call nor any other.
    pub async fn check(&self, session: &Session) -> Result<(CheckReport, Topology)> {
        let checked_at = Timestamp::now();
        let observer = Observer::new(&session.config, pace::ELB, self.policy.all_ports());
        let read = async {
            match &self.load_balancer {
                Some(arn) => observer.without_service(arn).await,
                None => {
                    let notifications = self.policy.notification_topic.is_some();
                    observer.topology(&self.policy.services, Scope::Everything { notifications }).await
                }
            }
        };
        let (topology, identity, memory) = tokio::join!(read, session.identity(), self.memory(session));
        let identity = match (identity, &topology.services) {
            (Err(error), Some(Err(_))) => return Err(error),
            (identity, _) => identity.ok(),
        };
        let memory = memory?;
        let region = session.region_of(identity.as_ref());
        let context = |service| CheckContext::new(service, &topology, &self.policy, &region, checked_at);
        let services = match &self.load_balancer {
            Some(_) => {
                let results = self.results(context(None));
                let ports = self.policy.listener_ports.for_service(None);
                let report = |load_balancer| ServiceReport::without_service(load_balancer, &ports, results.clone());
                topology.load_balancers.values().map(report).collect()
            }
            None => {
                let report = |service| self.service_report(service, context(Some(service)), memory.as_ref());
                self.policy.services.iter().map(report).collect()
            }
        };
        let runbook = self.stack.parameters.get("RunbookUrl").filter(|address| !address.is_empty()).cloned();
        let account = identity.map(|identity| identity.account);
        Ok((CheckReport { account, region: session.region.clone(), checked_at, runbook, services }, topology))
    }

    /// The report on one endpoint service, with the guard's records if they could be read.
    fn service_report(
        &self,
        service: &ServiceId,
        context: CheckContext<'_>,
        memory: Option<&GuardMemory>,
    ) -> ServiceReport {
        let items = memory.and_then(|memory| memory.of(service));
        let remembered = items.map(remembered);
        let held = match &remembered {
            Some(remembered) => {
                let connections = context.topology.connections.iter().flatten().flatten().cloned().collect::<Vec<_>>();
                admit(&connections, &self.policy, service, remembered.admissions.as_ref(), context.now).hold
            }
            None => held_by_the_list(context.topology, &self.policy, service, context.now),
        };
        let last_path = items.and_then(stored_path);
        let silences = match (items, memory.and_then(GuardMemory::unread)) {
            (Some(items), _) => silencing::describe(items, context.now).collect(),
            (None, Some(why)) => vec![format!("Silences and dbt's earlier connections are unknown. {why}")],
            (None, None) => Vec::new(),
        };
        let context = CheckContext { held: &held, remembered: remembered.as_ref(), last_path, ..context };
        let ports = self.policy.listener_ports.for_service(Some(service));
        ServiceReport { silences, ..ServiceReport::new(service, &ports, context.topology, self.results(context)) }
    }

    /// The records of the deployed guard, if the user named its stack.
    async fn memory(&self, session: &Session) -> Result<Option<GuardMemory>> {
        match self.stack.outputs.is_empty() {
            true => Ok(None),
            false => GuardMemory::load(session, &self.stack).await.map(Some),
        }
    }

    fn knows_dbt(&self) -> bool {
        !self.policy.principals.is_empty()
    }

    /// The results of all checks that apply. Before an endpoint service exists, these are the checks of the path to the
    /// targets.
    fn results(&self, context: CheckContext<'_>) -> Vec<CheckResult> {
        let groups = [Group::Connections, Group::Health, Group::Settings];
        let applies = |check: &Check| context.service.is_some() || check.branch == Branch::Path;
        let needs_dbt = |check: &Check| !self.knows_dbt() && check.needs == Some(Need::DbtPrincipals);
        let checks = checks_of(&groups).into_iter().filter(applies);
        let (unknown, checks): (Vec<Check>, Vec<Check>) = checks.partition(needs_dbt);
        let why = || Status::Unknown("dbt's principal was not given: --dbt-principal".to_owned());
        let service = context.service.into_iter();
        let unknown =
            service.flat_map(|service| unknown.iter().map(move |check| CheckResult::new(check, service, why())));
        let results = evaluate_checks(&checks, context).into_iter().map(|result| self.answered(result));
        results.map(shown).chain(unknown).collect()
    }

    /// The result, or unknown if the result fails only because the user did not give dbt's networks.
    fn answered(&self, result: CheckResult) -> CheckResult {
        let is_open = result.check.needs == Some(Need::DbtCidrs) && self.policy.dbt_cidrs.is_empty();
        match &result.status {
            Status::Fail(finding) if is_open && !finding.stops_dbt => {
                let why = "dbt's networks were not given: --cidrs";
                CheckResult { status: Status::Unknown(why.to_owned()), ..result }
            }
            _ => result,
        }
    }
}

/// The result without invisible characters in AWS's text.
fn shown(result: CheckResult) -> CheckResult {
    let status = match result.status {
        Status::Pass(right) => Status::Pass(strip_invisible(&right)),
        Status::Unknown(why) => Status::Unknown(strip_invisible(&why)),
        Status::NotAsked => Status::NotAsked,
        Status::Fail(finding) => Status::Fail(Box::new(Finding {
            summary: strip_invisible(&finding.summary),
            impact: strip_invisible(&finding.impact),
            remedy: Remedy { action: strip_invisible(&finding.remedy.action), ..finding.remedy },
            evidence: finding.evidence.iter().map(|line| strip_invisible(line)).collect(),
            ..*finding
        })),
    };
    CheckResult { resource: strip_invisible(&result.resource), status, ..result }
}

/// The values of the flags; a flag that is not set takes its value from the stack's parameter.
fn variables(subject: &Subject, stack: &DeployedStack) -> BTreeMap<&'static str, String> {
    let services: Vec<String> = subject.services.iter().map(ToString::to_string).collect();
    let flags = [
        ("ENDPOINT_SERVICE_IDS", services.join(",")),
        ("DBT_PRINCIPALS", subject.dbt_principals.join(",")),
        ("KNOWN_ACCOUNTS", subject.known_accounts.join(",")),
        ("MAX_DBT_ENDPOINTS", subject.max_dbt_endpoints.map(|limit| limit.to_string()).unwrap_or_default()),
        ("EXPECTED_ENDPOINTS", subject.expected_endpoints.clone().unwrap_or_default()),
        ("LISTENER_PORTS", subject.ports.clone().unwrap_or_default()),
        ("DBT_CIDRS", subject.cidrs.clone().unwrap_or_default()),
    ];
    let parameter = |(parameter, variable): (&str, &'static str)| {
        let value = stack.parameters.get(parameter)?;
        (variable != "CROSS_ZONE" || value == "ignore").then(|| (variable, value.clone()))
    };
    let topic = stack.outputs.get("NotificationTopicArn");
    let topic = topic.map(|topic| ("NOTIFICATION_TOPIC_ARN", topic.clone()));
    let mut values: BTreeMap<&'static str, String> =
        PARAMETERS.into_iter().filter_map(parameter).chain(topic).chain(flags.into_iter().filter(is_given)).collect();
    values.retain(|_, value| !value.is_empty());
    // With --service, the stack's values may name services that are not checked.
    if !subject.services.is_empty() {
        let are_given =
            [("LISTENER_PORTS", subject.ports.is_some()), ("EXPECTED_ENDPOINTS", subject.expected_endpoints.is_some())];
        for (variable, _) in are_given.iter().filter(|(_, is_given)| !is_given) {
            values.entry(variable).and_modify(|value| *value = of_services(value, &services));
        }
        values.retain(|_, value| !value.is_empty());
    }
    values
}

fn is_given((_, value): &(&'static str, String)) -> bool {
    !value.is_empty()
}

/// The parts of a per-service value that belong to `services`; a value for every service stays unchanged.
fn of_services(value: &str, services: &[String]) -> String {
    let is_wanted =
        |item: &&str| item.split_once('=').is_none_or(|(service, _)| services.iter().any(|id| id == service.trim()));
    value.split(',').filter(is_wanted).collect::<Vec<_>>().join(",")
}

async fn services_of_account(session: &Session) -> Result<String> {
    let services = Observer::new(&session.config, pace::ELB, BTreeSet::new()).all_endpoint_services().await;
    let services: BTreeSet<String> =
        services.map_err(|error| anyhow!(explained(&error)))?.keys().map(ToString::to_string).collect();
    ensure!(
        !services.is_empty(),
        "This account has no endpoint service in {}. Is it another Region or profile? Before there is one, give \
         --load-balancer.",
        session.region
    );
    Ok(services.into_iter().collect::<Vec<_>>().join(","))
}

/// The problems of the flags and the stack's parameters, one per line, under the names that the user knows them by.
fn in_flags(error: &BadConfiguration) -> String {
    let lines = error.lines(|variable| {
        let flag = FLAGS.iter().find(|(known, _)| *known == variable).map(|(_, flag)| *flag);
        let parameter = || PARAMETERS.iter().find(|(_, known)| *known == variable).map(|(parameter, _)| *parameter);
        flag.or_else(parameter).unwrap_or(variable)
    });
    let plural = if lines.len() == 1 { "" } else { "s" };
    format!("the flags or the stack's parameters have {} problem{plural}:\n  {}", lines.len(), lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_value_is_named_with_its_flag_or_parameter() {
        let values = [
            ("ENDPOINT_SERVICE_IDS", "vpce-svc-0123456789abcdef0"),
            ("DBT_PRINCIPALS", "123456789012"),
            ("KNOWN_ACCOUNTS", "123456789012"),
            ("LISTENER_PORTS", "vpce-svc-00000000000000001=22"),
            ("DBT_CIDRS", "DBT_PRINCIPALS"),
            ("EXPECT_TRAFFIC_EVERY", "often"),
        ];
        let values = values.map(|(variable, value)| (variable, value.to_owned()));
        let error = Expectations::from_values(values.into(), None).unwrap_err();
        insta::assert_snapshot!(error, @r"
        the flags or the stack's parameters have 4 problems:
          --known-account: 123456789012 is in --dbt-principal; expected accounts that are not dbt's
          --ports: vpce-svc-00000000000000001 is not in --service; expected 5432, or 5432+443, or vpce-svc-a=5432+443,vpce-svc-b=22
          --cidrs: 'DBT_PRINCIPALS' is not a CIDR; expected IPv4 or IPv6 CIDRs such as 10.1.2.0/24, comma-separated
          ExpectTrafficEvery: 'often' is out of range; expected a whole number of hours from 0 (not expected) to 168
        ");
    }
}
