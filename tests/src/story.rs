//! The story: what befalls an endpoint service, and what the guard does and says of it. The demo shows it, a test plays
//! it; both fail if a chapter ends otherwise than it should.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::company::{Company, DBT_CIDR, TARGETS};
use crate::local_aws::{LocalAws, eventually};
use crate::mail::{self, Mail};
use crate::stack::{self, Stack};

/// Seconds that a minute of the local AWS's schedules lasts.
pub const MINUTE: u32 = 3;

/// What watches the story being played.
pub trait Audience {
    /// Something is about to be done; `commands` are what a person would type.
    fn step(&mut self, what: &str, commands: &[String]);
    /// The guard said something.
    fn heard(&mut self, mail: &Mail, after: Duration);
    /// A chapter has ended.
    fn ended(&mut self, chapter: &Chapter);
}

/// One chapter and how it ended.
#[derive(Debug)]
pub struct Chapter {
    /// What happened.
    pub title: &'static str,
    /// What had to follow.
    pub expected: &'static str,
    /// What followed, or what did not.
    pub result: Result<String>,
    /// How long it took until it had followed.
    pub took: Duration,
}

/// The stage: everything up to the moment the first request arrives.
#[derive(Debug)]
pub struct Stage {
    /// The local AWS.
    pub aws: LocalAws,
    /// The company.
    pub company: Company,
    /// The guard's stack.
    pub stack: Stack,
}

impl Stage {
    /// Starts the local AWS, founds the company, builds and deploys the guard.
    ///
    /// # Errors
    /// If any of it fails.
    pub fn set(audience: &mut impl Audience) -> Result<Self> {
        audience.step("Starting the local AWS", &[]);
        let aws = LocalAws::start(MINUTE)?;
        audience.step("A company sets up its service for dbt: load balancer, three targets, endpoint service", &[]);
        let company = Company::found(&aws, "postgres")?;
        audience.step("Building the guard", &["sam build".to_owned()]);
        stack::build(&aws)?;
        audience.step("Deploying the guard", &["sam deploy".to_owned()]);
        let stack = Stack::deploy(&aws, "privatelink-guard", &[&company.service], &[])?;
        Ok(Self { aws, company, stack })
    }

    /// Plays all chapters.
    ///
    /// # Errors
    /// If the local AWS itself fails; a chapter that ends wrongly is in its result.
    pub fn play(&mut self, audience: &mut impl Audience) -> Result<Vec<Chapter>> {
        let Self { aws, company, stack } = self;
        let mut play = Play { aws, company, audience, chapters: Vec::new() };
        play.who_asks()?;
        play.targets()?;
        play.cross_zone()?;
        play.tidied_up()?;
        play.audience.step(
            "The company lets the guard mend cross-zone load balancing by itself",
            &["make deploy SET=CrossZone=enforce".to_owned()],
        );
        *stack = Stack::deploy(aws, "privatelink-guard", &[&company.service], &[("CrossZone", "enforce")])?;
        play.mended_by_itself()?;
        Ok(play.chapters)
    }
}

/// The story being played.
struct Play<'a, A> {
    aws: &'a LocalAws,
    company: &'a Company,
    audience: &'a mut A,
    chapters: Vec<Chapter>,
}

impl<A: Audience> Play<'_, A> {
    /// Who asks to connect.
    fn who_asks(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        let mut dbt_endpoint = String::new();
        self.chapter("dbt asks to connect", "accepted within seconds, a notice", |scene| {
            scene.step(
                "dbt creates an endpoint to the company's service, from its own account",
                &[format!("aws ec2 create-vpc-endpoint --service-name {}", company.service_name)],
            );
            dbt_endpoint = company.dbt_connects(aws)?;
            scene.state(company, &dbt_endpoint, "available")?;
            scene.hears("[NOTICE]", &format!("dbt is connected through {dbt_endpoint}"))
        })?;
        let service = &company.service;
        let mut stranger = String::new();
        self.chapter(
            "a stranger asks, since somebody allowed everybody",
            "left waiting, a critical alert and a warning",
            |scene| {
                scene.step(
                    "an administrator is careless",
                    &[format!(
                        "aws ec2 modify-vpc-endpoint-service-permissions --service-id {service} --add-allowed-principals '*'"
                    )],
                );
                company.allow_anybody(aws)?;
                scene.hears("[CRITICAL]", "anybody may ask")?;
                scene.step("a stranger creates an endpoint, from yet another account", &[]);
                stranger = company.stranger_connects(aws)?;
                scene.hears("[WARNING]", &format!("asks to connect ({stranger})"))?;
                let state = company.state(aws, &stranger)?;
                ensure!(state == "pendingAcceptance", "the stranger's request is {state}");
                Ok(())
            },
        )
    }

    /// What becomes of targets.
    fn targets(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter("a target fails", "a warning with the numbers", |scene| {
            scene.step(&format!("{} no longer answers its health checks", TARGETS[0]), &[]);
            company.set_health(aws, TARGETS[0], "unhealthy")?;
            scene.hears("[WARNING]", "1 of 3 targets down")
        })?;
        self.chapter("the target recovers", "resolved", |scene| {
            scene.step(&format!("{} answers again", TARGETS[0]), &[]);
            company.set_health(aws, TARGETS[0], "healthy")?;
            scene.hears("[RESOLVED]", "1 of 3 targets down")
        })
    }

    /// Cross-zone load balancing, off and on.
    fn cross_zone(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter(
            "somebody turns cross-zone load balancing off",
            "an alert that names who; resolved when it is on again",
            |scene| {
                let command = |on| {
                    format!(
                        "aws elbv2 modify-load-balancer-attributes --load-balancer-arn {} --attributes \
                         Key=load_balancing.cross_zone.enabled,Value={on}",
                        company.load_balancer
                    )
                };
                scene.step("network-admin turns it off", &[command(false)]);
                company.set_cross_zone(aws, false)?;
                scene.hears("[WARNING]", "user/network-admin-postgres")?;
                scene.step("network-admin turns it on again", &[command(true)]);
                company.set_cross_zone(aws, true)?;
                scene.hears("[RESOLVED]", "cross-zone is off")
            },
        )
    }

    /// What an administrator breaks who tidies up.
    fn tidied_up(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter(
            "somebody takes dbt out of the load balancer's security group",
            "a critical alert that names who, with the command that mends it",
            |scene| {
                scene.step(
                    "network-admin tidies up",
                    &[format!(
                        "aws ec2 revoke-security-group-ingress --group-id {} --protocol tcp --port 5432 --cidr {DBT_CIDR}",
                        company.security_group
                    )],
                );
                let heard = scene.heard;
                company.shut_dbt_out(aws)?;
                scene.hears("[CRITICAL]", "user/network-admin-postgres")?;
                scene.follows(company, heard, "load-balancer.security-groups", "keep dbt out")?;
                scene.hears("[RESOLVED]", "keep dbt out")
            },
        )?;
        self.chapter(
            "somebody deletes the listener dbt connects to",
            "a critical alert that names the port; resolved when it is back",
            |scene| {
                scene.step(
                    "network-admin deletes it",
                    &[format!("aws elbv2 delete-listener --listener-arn {}", company.listener)],
                );
                company.stop_listening(aws)?;
                scene.hears("[CRITICAL]", "no listener serves port 5432 of postgres")?;
                scene.step("network-admin creates it again", &[]);
                company.listen(aws)?;
                scene.hears("[RESOLVED]", "no listener serves port 5432 of postgres")
            },
        )?;
        self.chapter(
            "a network ACL comes between load balancer and targets",
            "a warning with the rule, and the command that overrules it",
            |scene| {
                scene.step(
                    "network-admin denies port 5432 in the subnets' network ACL",
                    &[format!(
                        "aws ec2 create-network-acl-entry --network-acl-id {} --ingress --rule-number 90 --protocol tcp \
                         --port-range From=5432,To=5432 --cidr-block 0.0.0.0/0 --rule-action deny",
                        company.network_acl
                    )],
                );
                let heard = scene.heard;
                company.deny_in_network_acl(aws)?;
                scene.hears("[WARNING]", "is denied by rule 90")?;
                scene.follows(company, heard, "network-path", "a network ACL blocks")?;
                scene.hears("[RESOLVED]", "a network ACL blocks")
            },
        )
    }

    /// What the guard mends by itself.
    fn mended_by_itself(&mut self) -> Result<()> {
        let (aws, company) = (self.aws, self.company);
        self.chapter("somebody turns it off again", "switched back on, and told who it was", |scene| {
            scene.step("network-admin turns it off once more", &[]);
            company.set_cross_zone(aws, false)?;
            scene.hears("[WARNING]", "over: cross-zone is off")?;
            ensure!(company.cross_zone(aws)?, "cross-zone load balancing is still off");
            Ok(())
        })
    }

    fn chapter(
        &mut self,
        title: &'static str,
        expected: &'static str,
        play: impl FnOnce(&mut Scene<'_, A>) -> Result<()>,
    ) -> Result<()> {
        let began = Instant::now();
        let mut scene = Scene { aws: self.aws, heard: mail::last(self.aws)?, audience: self.audience, began };
        let result = play(&mut scene).map(|()| expected.to_owned());
        let chapter = Chapter { title, expected, result, took: began.elapsed() };
        self.audience.ended(&chapter);
        self.chapters.push(chapter);
        Ok(())
    }
}

/// A chapter being played.
struct Scene<'a, A> {
    aws: &'a LocalAws,
    audience: &'a mut A,
    heard: i64,
    began: Instant,
}

impl<A: Audience> Scene<'_, A> {
    fn step(&mut self, what: &str, commands: &[String]) {
        self.audience.step(what, commands);
        self.began = Instant::now();
    }

    /// The administrator pastes the command that the alert printed.
    fn follows(&mut self, company: &Company, heard: i64, check: &str, words: &str) -> Result<()> {
        let command = mail::command(self.aws, heard, check, words)?;
        self.step("network-admin pastes the command from the alert", &[command]);
        company.follow(self.aws, heard, check, words).map(drop)
    }

    /// Waits for a connection to reach a state.
    fn state(&self, company: &Company, endpoint: &str, state: &str) -> Result<()> {
        eventually(&format!("{endpoint} to be {state}"), 30, || {
            Ok((company.state(self.aws, endpoint)? == state).then_some(()))
        })
    }

    /// Waits for an email with this label in its subject and these words in its body. What comes before it is shown too.
    fn hears(&mut self, label: &str, words: &str) -> Result<()> {
        eventually(&format!("an email that says {label} and '{words}'"), 40, || {
            for mail in mail::emails_since(self.aws, self.heard)? {
                self.heard = mail.number;
                self.audience.heard(&mail, self.began.elapsed());
                if mail.subject.contains(label) && mail.says(label, words) {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
    }
}
