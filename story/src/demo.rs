//! The demo's story: on a local AWS, with a company of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::chapters::{Chapter, Scene, Story, connections, database, health, settings};
use crate::command;
use crate::company::{self, Company, DBT_CIDR, TARGETS};
use crate::database::{Database, NamedGroup};
use crate::local_aws::{Caller, LocalAws, text};
use crate::mail::{Mail, Mailbox};
use crate::outcome::ChapterResult;
use crate::stack::{self, GuardStack};
use crate::stage::{Limits, Party, SentAlert, StoryStage};
use crate::terminal::Terminal;
use crate::top;
use crate::{COMPANY, DBT, UNTRUSTED};

/// The seconds that a minute of the schedules lasts.
pub const MINUTE: u32 = 3;

/// The port on which dbt reaches the database, once the company shares it.
const DATABASE_PORT: &str = "5433";

/// The chapters before the guard may change more than connections.
const CHAPTERS: [Chapter; 13] = [
    connections::WAITING,
    connections::DBT_REQUESTS,
    connections::OTHER_CUSTOMER_REQUESTS,
    connections::OTHER_CUSTOMER_IS_REJECTED,
    connections::EVERY_ACCOUNT_ALLOWED,
    connections::UNTRUSTED_REQUESTS,
    health::TARGET_FAILS,
    STATUS,
    health::TARGET_RECOVERS,
    settings::CROSS_ZONE,
    settings::REMOVED_RULE,
    settings::DELETED_LISTENER,
    NETWORK_ACL,
];

/// The chapters after the guard may switch cross-zone load balancing itself, and follow the database's hostname. Before it
/// deregisters the old address, another one is played.
const LATER_CHAPTERS: [Chapter; 3] = [database::FAILS_OVER, ENFORCED_CROSS_ZONE, database::OLD_ADDRESS];

const STATUS: Chapter = Chapter {
    title: "what does the guard know now?",
    expected: "one screen: what fires, dbt's endpoints, the functions' last runs, and who receives the alerts",
    play: |run| {
        let asks = "network-admin asks the guard";
        let screen = run.ask_guard("status", asks, "1 of 3 targets unhealthy")?.unwrap_or_default();
        run.print(&screen);
        for expected in
            ["✗ warning  postgres: ", ": available since", "✓ health-watcher: last run ", "confirmed subscription"]
        {
            ensure!(screen.contains(expected), "no '{expected}' in:\n{screen}");
        }
        Ok(())
    },
};

const NETWORK_ACL: Chapter = Chapter {
    title: "a network ACL blocks the way from the load balancer to the targets",
    expected: "a warning with the rule, and the command that overrides it",
    play: |run| {
        let balancer = format!("elbv2 describe-load-balancers --load-balancer-arns {}", run.scene.load_balancer);
        let balancer = run.ask(Party::Provider, &balancer)?;
        let subnet = text(&balancer, "/LoadBalancers/0/AvailabilityZones/0/SubnetId")?;
        let filter = format!("Name=association.subnet-id,Values={subnet}");
        let lists = run.ask(Party::Provider, &format!("ec2 describe-network-acls --filters {filter}"))?;
        let deny = company::deny_in(&text(&lists, "/NetworkAcls/0/NetworkAclId")?);
        run.act(Party::Provider, "network-admin denies port 5432 in the subnets' network ACL", &deny)?;
        let alert = run.wait_for("WARNING", "network-path", "is denied by rule 90")?;
        run.run_remedy(&alert)?;
        run.wait_for("RESOLVED", "network-path", "").map(drop)
    },
};

const ENFORCED_CROSS_ZONE: Chapter = Chapter {
    title: "somebody switches it off again",
    expected: "switched back on, and an email says who did it",
    play: |run| {
        settings::set_cross_zone(run, "network-admin switches it off once more", false)?;
        run.wait_for("WARNING", settings::CROSS_ZONE_CHECK, "")?;
        let attributes = run.ask(Party::Provider, &company::describe_attributes(&run.scene.load_balancer))?;
        ensure!(company::is_cross_zone_on(&attributes), "cross-zone load balancing is still off");
        Ok(())
    },
};

/// The setup of the story.
#[derive(Debug)]
pub struct Demo {
    /// The local AWS.
    pub aws: LocalAws,
    /// The company.
    pub company: Company,
    /// The guard's stack.
    pub stack: GuardStack,
    database: Database,
    /// The target group with the database's address, to which no listener forwards at first.
    orders: NamedGroup,
}

impl Demo {
    /// Starts the local AWS, sets up the company, and builds and deploys the guard.
    pub fn set_up(terminal: &Terminal) -> Result<Self> {
        terminal.step("Starting the local AWS", &[]);
        let aws = LocalAws::start(MINUTE)?;
        terminal.step("A company sets up its service for dbt: load balancer, three targets, endpoint service", &[]);
        let company = Company::set_up(&aws, "postgres")?;
        let database = Database::multi_az(&company, &aws, "orders")?;
        let orders = NamedGroup::set_up(&company, &aws, "orders", &database.hostname)?;
        terminal.step("Building the guard", &["sam build".to_owned()]);
        stack::build(&aws)?;
        terminal.step("Deploying the guard", &["sam deploy".to_owned()]);
        let stack = GuardStack::deploy(&aws, "privatelink-guard", &[&company.service], &[])?;
        Ok(Self { aws, company, stack, database, orders })
    }

    /// Runs all chapters.
    pub fn run(&mut self, terminal: &Terminal) -> Result<Vec<ChapterResult>> {
        let stage = LocalStage { aws: &self.aws, company: &self.company };
        let database = Some((self.orders.arn.clone(), self.database.fail_over.clone()));
        let scene = Scene { database, ..scene(&self.company) };
        let mut story = Story::new(&stage, &scene, terminal.clone());
        let mut played: Vec<ChapterResult> = CHAPTERS.into_iter().map(|chapter| story.play(chapter)).collect();
        terminal.step(
            "The company lets the guard switch cross-zone load balancing back on, and follow the hostname of a database",
            &self.shares_the_database()?,
        );
        let parameters = self.later_parameters();
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.stack = GuardStack::deploy(&self.aws, "privatelink-guard", &[&self.company.service], &parameters)?;
        played.extend(LATER_CHAPTERS.into_iter().map(|chapter| story.play(chapter)));
        Ok(played)
    }

    /// Lets the load balancer forward another port to the database. Returns the command that deploys the guard for it.
    fn shares_the_database(&self) -> Result<[String; 1]> {
        self.company.allow_ingress(&self.aws, DATABASE_PORT, DBT_CIDR)?;
        self.company.add_listener(&self.aws, DATABASE_PORT, &self.orders.arn)?;
        let set: Vec<String> = self.later_parameters().iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok([format!("make deploy SET=\"{}\"", set.join(" "))])
    }

    fn later_parameters(&self) -> [(&'static str, String); 4] {
        [
            ("CrossZone", "enforce".to_owned()),
            ("ListenerPorts", format!("5432+{DATABASE_PORT}")),
            ("FollowHostnames", "replace".to_owned()),
            ("FollowTargetGroups", self.orders.arn.clone()),
        ]
    }
}

fn scene(company: &Company) -> Scene {
    let Company { service, service_name, load_balancer, security_group, listener, target_group, .. } = company.clone();
    Scene {
        service,
        service_name,
        load_balancer,
        security_group,
        listener,
        target_group,
        cidr: DBT_CIDR,
        unhealthy: ("WARNING", "1 of 3 targets unhealthy"),
        administrator: Some("user/network-admin-postgres".to_owned()),
        database: None,
    }
}

/// The local AWS, where an account's id is enough to act as that account.
struct LocalStage<'a> {
    aws: &'a LocalAws,
    company: &'a Company,
}

impl StoryStage for LocalStage<'_> {
    fn aws(&self, party: Party, line: &str) -> Result<Value> {
        let caller = match party {
            Party::Provider => self.company.admin.clone(),
            Party::Consumer => Caller::root(DBT),
            Party::Untrusted => Caller::root(UNTRUSTED),
        };
        self.aws.aws(&caller, line)
    }

    fn shell(&self, line: &str) -> Result<()> {
        self.aws.run_in_shell(&self.company.admin, line)
    }

    fn alerts(&self, _: Duration) -> Result<Vec<SentAlert>> {
        let published = Mailbox::from_the_start(self.aws).messages()?.into_iter();
        let alert = |mail: Mail| {
            let content = mail.alert()?;
            Some(SentAlert { number: mail.number, subject: mail.subject, received: Timestamp::now(), content })
        };
        Ok(published.filter_map(alert).collect())
    }

    fn endpoint_options(&self, party: Party) -> Result<String> {
        Ok(format!("--vpc-id {}", text(&self.aws(party, "ec2 describe-vpcs")?, "/Vpcs/0/VpcId")?))
    }

    fn set_target_health(&self, healthy: bool) -> Result<Vec<String>> {
        self.company.set_health(self.aws, TARGETS[0], if healthy { "healthy" } else { "unhealthy" })?;
        Ok(Vec::new())
    }

    fn guard_command(&self, command: &str) -> Result<Option<(String, String)>> {
        let page = top().join("target/local-aws/check.html");
        let line = format!("{command} --stack privatelink-guard");
        let (line, page) = match command {
            "check" => (format!("{line} --html check.html"), vec!["--html", page.to_str().unwrap_or_default()]),
            _ => (line, Vec::new()),
        };
        let arguments = [&[command, "--stack", "privatelink-guard"], &page[..]].concat();
        let output = command::run(self.aws, &Caller::root(COMPANY), &arguments)?;
        let text = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
        Ok(Some((format!("privatelink-guard {line}"), text)))
    }

    fn limits(&self) -> Limits {
        Limits::LOCAL
    }
}
