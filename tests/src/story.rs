//! The story of the demo: what happens to an endpoint service, and what the guard does and sends. The demo shows it and a
//! test runs it; both fail if a chapter does not end as expected.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::COMPANY;
use crate::cli;
use crate::company::{Company, DBT_CIDR, TARGETS};
use crate::local_aws::{Caller, LocalAws, eventually, top};
use crate::mail::{Mail, Mailbox};
use crate::stack::{self, Stack};

/// How many seconds a minute of the schedules lasts.
pub const MINUTE: u32 = 3;

/// Follows the story as it happens.
pub trait Observer {
    /// A step begins; `commands` are what a person would type.
    fn step(&mut self, what: &str, commands: &[String]);
    /// A command printed these lines, among others.
    fn printed(&mut self, lines: &[&str]);
    /// The guard sent an email.
    fn sent(&mut self, mail: &Mail, after: Duration);
    /// A chapter ended.
    fn ended(&mut self, chapter: &Chapter);
}

/// A chapter and how it ended.
#[derive(Debug)]
pub struct Chapter {
    /// What happens.
    pub title: &'static str,
    /// What must follow.
    pub expected: &'static str,
    /// Whether it followed.
    pub result: Result<()>,
    /// How long that took.
    pub took: Duration,
}

/// What the story needs before it begins.
#[derive(Debug)]
pub struct Demo {
    /// The local AWS.
    pub aws: LocalAws,
    /// The company.
    pub company: Company,
    /// The guard's stack.
    pub stack: Stack,
}

impl Demo {
    /// Starts the local AWS, sets up the company, builds and deploys the guard.
    ///
    /// # Errors
    /// If any of it fails.
    pub fn set_up(observer: &mut impl Observer) -> Result<Self> {
        observer.step("Starting the local AWS", &[]);
        let aws = LocalAws::start(MINUTE)?;
        observer.step("A company sets up its service for dbt: load balancer, three targets, endpoint service", &[]);
        let company = Company::set_up(&aws, "postgres")?;
        observer.step("Building the guard", &["sam build".to_owned()]);
        stack::build(&aws)?;
        observer.step("Deploying the guard", &["sam deploy".to_owned()]);
        let stack = Stack::deploy(&aws, "privatelink-guard", &[&company.service], &[])?;
        Ok(Self { aws, company, stack })
    }

    /// Runs all chapters.
    ///
    /// # Errors
    /// If the local AWS fails. A chapter that does not end as expected has the error in its result.
    pub fn run(&mut self, observer: &mut impl Observer) -> Result<Vec<Chapter>> {
        let Self { aws, company, stack } = self;
        let mut story = Story { aws, company, observer, chapters: Vec::new() };
        story.connection_requests()?;
        story.targets()?;
        story.cross_zone()?;
        story.changed_settings()?;
        story.observer.step(
            "The company lets the guard switch cross-zone load balancing back on",
            &["make deploy SET=CrossZone=enforce".to_owned()],
        );
        *stack = Stack::deploy(aws, "privatelink-guard", &[&company.service], &[("CrossZone", "enforce")])?;
        story.enforced_cross_zone()?;
        Ok(story.chapters)
    }
}

struct Story<'a, O> {
    aws: &'a LocalAws,
    company: &'a Company,
    observer: &'a mut O,
    chapters: Vec<Chapter>,
}

impl<O: Observer> Story<'_, O> {
    fn connection_requests(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter("nobody has asked to connect yet", "the guard says that it waits, and for whom", |run| {
            run.wait_for_email("[INFO]", "waiting for dbt's connection request")
        })?;
        self.chapter("dbt requests a connection", "accepted within seconds, a notice", |run| {
            run.step(
                "dbt creates an endpoint to the company's service, from its own account",
                &[format!("aws ec2 create-vpc-endpoint --service-name {}", company.service_name)],
            );
            let endpoint = company.dbt_connects(aws)?;
            company.wait_for_state(aws, &endpoint, "available")?;
            run.wait_for_email("[NOTICE]", &format!("dbt is connected through {endpoint}"))
        })?;
        self.chapter(
            "an untrusted account requests a connection, since every account is allowed to",
            "left pending, a critical alert and a warning",
            |run| {
                let service = &company.service;
                run.step(
                    "network-admin allows every account",
                    &[format!(
                        "aws ec2 modify-vpc-endpoint-service-permissions --service-id {service} --add-allowed-principals '*'"
                    )],
                );
                company.allow_every_account(aws)?;
                run.wait_for_email("[CRITICAL]", "any AWS account may request a connection")?;
                run.step("an untrusted account creates an endpoint", &[]);
                let endpoint = company.untrusted_connects(aws)?;
                run.wait_for_email("[WARNING]", "requests a connection")?;
                let state = company.state(aws, &endpoint)?;
                ensure!(state == "pendingAcceptance", "the untrusted account's request is {state}");
                Ok(())
            },
        )
    }

    fn targets(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter("a target fails", "a warning with the numbers", |run| {
            run.step(&format!("{} fails its health checks", TARGETS[0]), &[]);
            company.set_health(aws, TARGETS[0], "unhealthy")?;
            run.wait_for_email("[WARNING]", "1 of 3 targets unhealthy")
        })?;
        self.chapter("the target recovers", "resolved", |run| {
            run.step(&format!("{} passes its health checks again", TARGETS[0]), &[]);
            company.set_health(aws, TARGETS[0], "healthy")?;
            run.wait_for_email("[RESOLVED]", "1 of 3 targets unhealthy")
        })
    }

    fn cross_zone(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter(
            "somebody switches cross-zone load balancing off",
            "an alert that names who did it; resolved when it is on again",
            |run| {
                let command = |on| {
                    format!(
                        "aws elbv2 modify-load-balancer-attributes --load-balancer-arn {} --attributes \
                         Key=load_balancing.cross_zone.enabled,Value={on}",
                        company.load_balancer
                    )
                };
                run.step("network-admin switches it off", &[command(false)]);
                company.set_cross_zone(aws, false)?;
                run.wait_for_email("[WARNING]", "user/network-admin-postgres")?;
                run.step("network-admin switches it on again", &[command(true)]);
                company.set_cross_zone(aws, true)?;
                run.wait_for_email("[RESOLVED]", "cross-zone is off")
            },
        )
    }

    fn changed_settings(&mut self) -> Result<()> {
        self.removed_rule()?;
        self.deleted_listener()?;
        self.network_acl()
    }

    fn removed_rule(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter(
            "somebody removes dbt from the load balancer's security group",
            "a critical alert that names who did it, with the command that fixes it",
            |run| {
                run.step(
                    "network-admin removes the rule",
                    &[format!(
                        "aws ec2 revoke-security-group-ingress --group-id {} --protocol tcp --port 5432 --cidr {DBT_CIDR}",
                        company.security_group
                    )],
                );
                let mailbox = run.mailbox;
                company.remove_dbt_rule(aws)?;
                run.wait_for_email("[CRITICAL]", "user/network-admin-postgres")?;
                run.run_printed_command(company, mailbox, "load-balancer.security-groups", "security group blocks dbt")?;
                run.wait_for_email("[RESOLVED]", "security group blocks dbt")
            },
        )
    }

    fn deleted_listener(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter(
            "somebody deletes the listener that dbt connects to",
            "a critical alert that names the port, and the command finds the same; resolved when it is back",
            |run| {
                run.check(aws, "before that, network-admin checks the whole path", "✓ pass  listener.port")?;
                run.step(
                    "network-admin deletes it",
                    &[format!("aws elbv2 delete-listener --listener-arn {}", company.listener)],
                );
                company.delete_listener(aws)?;
                run.wait_for_email("[CRITICAL]", "postgres does not listen for dbt on port 5432")?;
                run.check(aws, "network-admin checks again", "✗ fail, critical  listener.port")?;
                run.step("network-admin creates it again", &[]);
                company.create_listener(aws)?;
                run.wait_for_email("[RESOLVED]", "postgres does not listen for dbt on port 5432")
            },
        )
    }

    fn network_acl(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter(
            "a network ACL blocks the way from the load balancer to the targets",
            "a warning with the rule, and the command that overrides it",
            |run| {
                run.step(
                    "network-admin denies port 5432 in the subnets' network ACL",
                    &[format!(
                        "aws ec2 create-network-acl-entry --network-acl-id {} --ingress --rule-number 90 --protocol tcp \
                         --port-range From=5432,To=5432 --cidr-block 0.0.0.0/0 --rule-action deny",
                        company.network_acl
                    )],
                );
                let mailbox = run.mailbox;
                company.deny_in_network_acl(aws)?;
                run.wait_for_email("[WARNING]", "is denied by rule 90")?;
                run.run_printed_command(company, mailbox, "network-path", "network ACL blocks")?;
                run.wait_for_email("[RESOLVED]", "network ACL blocks")
            },
        )
    }

    fn enforced_cross_zone(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter("somebody switches it off again", "switched back on, and an email says who did it", |run| {
            run.step("network-admin switches it off once more", &[]);
            company.set_cross_zone(aws, false)?;
            run.wait_for_email("[WARNING]", "It was: cross-zone is off")?;
            ensure!(company.cross_zone(aws)?, "cross-zone load balancing is still off");
            Ok(())
        })
    }

    fn chapter(
        &mut self,
        title: &'static str,
        expected: &'static str,
        play: impl FnOnce(&mut Run<'_, O>) -> Result<()>,
    ) -> Result<()> {
        let began = Instant::now();
        let mut run = Run { mailbox: Mailbox::from_now(self.aws)?, observer: self.observer, step_began: began };
        let result = play(&mut run);
        let chapter = Chapter { title, expected, result, took: began.elapsed() };
        self.observer.ended(&chapter);
        self.chapters.push(chapter);
        Ok(())
    }
}

/// A chapter that is running.
struct Run<'a, O> {
    mailbox: Mailbox<'a>,
    observer: &'a mut O,
    step_began: Instant,
}

impl<O: Observer> Run<'_, O> {
    fn step(&mut self, what: &str, commands: &[String]) {
        self.observer.step(what, commands);
        self.step_began = Instant::now();
    }

    /// The administrator checks the path with the command, which must print this.
    fn check(&mut self, aws: &LocalAws, what: &str, expected: &str) -> Result<()> {
        let page = top().join("target/local-aws/check.html");
        let page = page.to_string_lossy();
        let arguments = ["check", "--stack", "privatelink-guard", "--html", &page];
        self.step(what, &["privatelink-guard check --stack privatelink-guard --html check.html".to_owned()]);
        let output = cli::run(aws, &Caller::root(COMPANY), &arguments)?;
        let tree = String::from_utf8(output.stdout)?;
        let worth_showing = |line: &&str| line.contains(expected) || line.contains(" pass, ");
        self.observer.printed(&tree.lines().filter(worth_showing).collect::<Vec<_>>());
        ensure!(tree.contains(expected), "{tree}{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The administrator runs the command that an alert in `mailbox` printed.
    fn run_printed_command(&mut self, company: &Company, mailbox: Mailbox<'_>, check: &str, words: &str) -> Result<()> {
        let command = mailbox.command(check, words)?;
        self.step("network-admin runs the command from the alert", &[command]);
        company.run_printed_command(mailbox, check, words)
    }

    /// Waits for an email with this label in its subject and these words. The observer sees those before it as well.
    fn wait_for_email(&mut self, label: &str, words: &str) -> Result<()> {
        eventually(&format!("an email with {label} and '{words}'"), 40, || {
            for mail in self.mailbox.emails()? {
                self.mailbox.skip_to(&mail);
                self.observer.sent(&mail, self.step_began.elapsed());
                if mail.subject.contains(label) && mail.contains(label, words) {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
    }
}
