//! target-follower where public followers of a hostname fail. Each scenario has a target group and a hostname of its
//! own; they are played side by side, and end as one table.
//!
//! A minute lasts six seconds here, so a run begins every six seconds; that two look-ups are ten seconds apart, and that
//! calls are waited for, takes real seconds. An instance may make a call to ELB a second, so six groups share a stack.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use story::COMPANY;
use story::company::Company;
use story::database::{Database, NamedGroup};
use story::local_aws::{Caller, LocalAws, PATIENCE, concurrently, eventually, list, poll_every, quoted, text};
use story::mail::{Mail, Mailbox};
use story::stack::GuardFunction::{DriftWatcher, HealthWatcher, TargetFollower};
use story::stack::{self, GuardStack, scheduled_event};

const MINUTE: u32 = 6;

/// Seconds after which the follower has seen an answer twice, and has followed it.
const SEEN: i64 = 25;

/// Seconds after which calls that were made before are waited for no longer, and the next ones have been made.
const SETTLED: i64 = 55;

/// The stacks, each with its parameters.
const STACKS: [(&str, &[(&str, &str)]); 4] = [
    ("replace-1", &[("FollowHostnames", "replace")]),
    ("replace-2", &[("FollowHostnames", "replace")]),
    ("register", &[("FollowHostnames", "register")]),
    ("dry-run", &[("FollowHostnames", "replace"), ("DryRun", "true")]),
];

/// What a scenario's hostname is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// A name of the company's own, which stands for these addresses at first.
    Own(&'static str),
    /// An RDS Multi-AZ DB instance's.
    MultiAz,
    /// An Aurora cluster's writer's.
    Writer,
    /// An Aurora cluster's readers'.
    Readers,
}

/// A scenario and its outcome. Addresses are letters, in the order of their appearance: the first target is A.
struct Scenario {
    name: &'static str,
    /// The number of its stack.
    stack: usize,
    hostname: Name,
    play: fn(&mut Play<'_>) -> Result<()>,
    /// The follower's calls, without repetitions.
    calls: &'static [&'static str],
    /// The targets at the end, but for draining ones.
    targets: &'static str,
    notices: &'static [&'static str],
    /// Alerts among others, each with its label.
    alerts: &'static [(&'static str, &'static str)],
}

const REGISTER: &str = "RegisterTargets";
const DEREGISTER: &str = "DeregisterTargets";

#[rustfmt::skip]
const SCENARIOS: [Scenario; 14] = [
    Scenario {
        name: "failover", stack: 0, hostname: Name::MultiAz, play: failover,
        calls: &[REGISTER, DEREGISTER], targets: "B",
        notices: &["registering B in failover", "deregistering A from failover"], alerts: &[],
    },
    Scenario {
        name: "failback", stack: 0, hostname: Name::MultiAz, play: failback_while_the_old_target_drains,
        calls: &[REGISTER, DEREGISTER, REGISTER, DEREGISTER], targets: "A",
        notices: &["registering B in failback", "deregistering A from failback",
                   "registering A in failback", "deregistering B from failback"], alerts: &[],
    },
    Scenario {
        name: "two-addresses", stack: 1, hostname: Name::Own("AB"), play: one_of_two_addresses_changes,
        calls: &[REGISTER, DEREGISTER], targets: "BC",
        notices: &["registering C in two-addresses", "deregistering A from two-addresses"], alerts: &[],
    },
    Scenario {
        name: "dns-lag", stack: 0, hostname: Name::Writer, play: dns_lags_behind_the_failover,
        calls: &[REGISTER, DEREGISTER], targets: "B",
        notices: &["registering B in dns-lag", "deregistering A from dns-lag"], alerts: &[],
    },
    Scenario {
        name: "reader", stack: 1, hostname: Name::Readers, play: is_left_alone,
        calls: &[], targets: "A", notices: &[], alerts: &[],
    },
    Scenario {
        name: "no-answer", stack: 1, hostname: Name::Own("A"), play: dns_has_no_answer,
        calls: &[], targets: "A", notices: &[], alerts: &[],
    },
    Scenario {
        name: "public", stack: 1, hostname: Name::Own("A"), play: dns_answers_with_a_public_address,
        calls: &[], targets: "A", notices: &[], alerts: &[],
    },
    Scenario {
        name: "lost-answer", stack: 1, hostname: Name::Own("A"), play: the_answer_to_the_call_is_lost,
        calls: &[REGISTER, DEREGISTER], targets: "B",
        notices: &["registering B in lost-answer", "deregistering A from lost-answer"], alerts: &[],
    },
    Scenario {
        name: "refused", stack: 0, hostname: Name::Own("A"), play: the_call_is_refused_for_a_while,
        calls: &["RegisterTargets AccessDenied", REGISTER, DEREGISTER], targets: "B",
        notices: &["registering B in refused", "deregistering A from refused"],
        alerts: &[("CRITICAL", "no target of refused matches its hostname's addresses"),
                  ("RESOLVED", "targets of refused match its hostname's addresses")],
    },
    Scenario {
        name: "person", stack: 0, hostname: Name::Own("A"), play: a_person_deregisters_the_wanted_target_twice,
        calls: &[REGISTER], targets: "",
        notices: &["registering A in person, which somebody deregistered"],
        alerts: &[("CRITICAL", "no target of person matches its hostname's addresses")],
    },
    Scenario {
        name: "flapping", stack: 0, hostname: Name::Own("A"), play: the_fourth_change_within_an_hour,
        // The last call is for E, once a person has registered it, and then deregistered it.
        calls: &[REGISTER], targets: "E",
        notices: &["registering B in flapping", "registering C in flapping", "registering D in flapping",
                   "registering E in flapping, which somebody deregistered"],
        alerts: &[("CRITICAL", "flapping is not followed: over 3 changes in an hour"),
                  ("RESOLVED", "targets of flapping match its hostname's addresses")],
    },
    Scenario {
        name: "at-once", stack: 1, hostname: Name::Own("A"), play: two_runs_begin_at_once,
        calls: &[REGISTER, DEREGISTER], targets: "B",
        notices: &["registering B in at-once", "deregistering A from at-once"], alerts: &[],
    },
    Scenario {
        name: "register-only", stack: 2, hostname: Name::Own("A"), play: nothing_is_deregistered,
        calls: &[REGISTER], targets: "AB", notices: &["registering B in register-only"], alerts: &[],
    },
    Scenario {
        name: "reported-only", stack: 3, hostname: Name::Own("A"), play: nothing_is_changed,
        calls: &[], targets: "A", notices: &["would register B in reported-only"], alerts: &[],
    },
];

fn failover(play: &mut Play<'_>) -> Result<()> {
    play.fails_over("A")?;
    play.until_replaced("A", "B")
}

fn failback_while_the_old_target_drains(play: &mut Play<'_>) -> Result<()> {
    // A drains for as long as the scenario lasts.
    let delay = "--attributes Key=deregistration_delay.timeout_seconds,Value=3600";
    let modify = format!("elbv2 modify-target-group-attributes --target-group-arn {}", play.group.arn);
    play.flow.company.change(&play.flow.aws, &format!("{modify} {delay}"))?;
    failover(play)?;
    play.sets("A", "healthy")?;
    ensure!(play.targets()?.contains(&("A".to_owned(), "draining".to_owned())), "A does not drain");
    play.fails_over("B")?;
    play.until_replaced("B", "A")
}

fn one_of_two_addresses_changes(play: &mut Play<'_>) -> Result<()> {
    play.answers("BC")?;
    play.until_replaced("A", "C")
}

fn dns_lags_behind_the_failover(play: &mut Play<'_>) -> Result<()> {
    let lag = json!({"name": play.group.hostname, "answer": play.addresses, "seconds": 20});
    play.flow.aws.control("dns", &lag)?;
    // An Aurora cluster's old writer stays healthy, as a reader: only DNS can tell.
    play.database_fails_over()?;
    play.until_replaced("A", "B")
}

fn is_left_alone(play: &mut Play<'_>) -> Result<()> {
    play.until_run_after(SETTLED)
}

fn dns_has_no_answer(play: &mut Play<'_>) -> Result<()> {
    for failure in ["servfail", "empty", "nxdomain"] {
        play.flow.aws.answer_dns(&play.group.hostname, &[failure])?;
        play.until_run_after(SEEN)?;
    }
    Ok(())
}

fn dns_answers_with_a_public_address(play: &mut Play<'_>) -> Result<()> {
    play.flow.aws.answer_dns(&play.group.hostname, &["203.0.113.7"])?;
    play.until_run_after(SETTLED)
}

fn the_answer_to_the_call_is_lost(play: &mut Play<'_>) -> Result<()> {
    let fault = json!({"action": "elasticloadbalancing:RegisterTargets", "resource": play.group.arn, "lost": true});
    play.flow.aws.control("fault", &fault)?;
    play.answers("B")?;
    play.until("B to be registered", |targets| has(targets, "B"))?;
    play.until_run_after(0)?;
    play.flow.aws.clear_faults()?;
    play.until_replaced("A", "B")
}

/// The administrator denies the call to the follower's role, as an organization's policy could.
fn the_call_is_refused_for_a_while(play: &mut Play<'_>) -> Result<()> {
    let statement =
        json!({"Effect": "Deny", "Action": "elasticloadbalancing:RegisterTargets", "Resource": play.group.arn});
    let policy = json!({"Version": "2012-10-17", "Statement": [statement]});
    let named = format!("--role-name {} --policy-name deny", play.role()?);
    let (aws, company) = (&play.flow.aws, &play.flow.company);
    company.change(aws, &format!("iam put-role-policy {named} --policy-document {}", quoted(&policy)))?;
    play.answers("B")?;
    let alert = play.until_alert("not followed: AWS refused it: ")?;
    ensure!(alert.to_string().contains("AccessDenied"), "{alert}");
    ensure!(command(&alert).contains("aws elbv2 register-targets"), "{alert}");
    company.change(aws, &format!("iam delete-role-policy {named}"))?;
    play.until_replaced("A", "B")?;
    play.until_alert("targets of refused match").map(drop)
}

fn a_person_deregisters_the_wanted_target_twice(play: &mut Play<'_>) -> Result<()> {
    play.until_run_after(SEEN)?;
    play.person("deregister", "A")?;
    play.until("A to be registered once more", |targets| has(targets, "A"))?;
    play.person("deregister", "A")?;
    play.until_run_after(SETTLED)?;
    let alert = play.until_alert("not followed: somebody deregistered the address twice")?;
    ensure!(command(&alert).contains("aws elbv2 register-targets"), "{alert}");
    Ok(())
}

fn the_fourth_change_within_an_hour(play: &mut Play<'_>) -> Result<()> {
    for address in ["B", "C", "D"] {
        play.answers(address)?;
        play.until(&format!("{address} to be registered"), |targets| has(targets, address))?;
    }
    play.answers("E")?;
    play.until_alert("flapping is not followed: over 3 changes in an hour")?;
    // A person does what the alert asks for. The follower then keeps E registered.
    play.person("register", "E")?;
    play.person("deregister", "ABCD")?;
    play.until_alert("targets of flapping match")?;
    play.until_run_after(0)?;
    play.person("deregister", "E")?;
    play.until("E to be registered once more", |targets| is_healthy(targets, "E"))
}

fn two_runs_begin_at_once(play: &mut Play<'_>) -> Result<()> {
    play.answers("B")?;
    eventually("a run to register B", || {
        concurrently(2, |_| play.stack.invoke(&play.flow.aws, TargetFollower, &scheduled_event()))?;
        Ok((!play.calls()?.is_empty()).then_some(()))
    })?;
    play.until_replaced("A", "B")?;
    ensure!(play.calls()?.len() == 2, "each call is made once");
    Ok(())
}

fn nothing_is_deregistered(play: &mut Play<'_>) -> Result<()> {
    play.answers("B")?;
    play.until("B to be healthy", |targets| is_healthy(targets, "B"))?;
    play.until_run_after(SETTLED)
}

fn nothing_is_changed(play: &mut Play<'_>) -> Result<()> {
    // A is wanted as far as anybody can do something about it.
    let address = play.address('B');
    play.flow.aws.answer_dns(&play.group.hostname, &[&address])?;
    play.until_run_after(SETTLED)
}

/// One flow, since all scenarios share its set-up and its minutes.
#[test]
fn the_follower_stands_where_others_fall() -> Result<()> {
    let flow = Flow::set_up()?;
    let outcomes = flow.play()?;
    println!("{}", table(&outcomes));
    outcomes.iter().try_for_each(Outcome::ensure_as_expected)
}

/// A company with a load balancer for all scenarios, and the stacks that follow its target groups.
struct Flow {
    aws: LocalAws,
    company: Company,
    groups: Vec<(NamedGroup, Option<Database>)>,
}

impl Flow {
    fn set_up() -> Result<Self> {
        let aws = LocalAws::start(MINUTE)?;
        // The set-up makes more calls at once than AWS allows.
        aws.control("limits", &json!({"off": true}))?;
        let (company, groups) = thread::scope(|scope| {
            let build = scope.spawn(|| stack::build(&aws));
            let company = Company::set_up(&aws, "databases")?;
            let groups = concurrently(SCENARIOS.len(), |number| set_up_group(&aws, &company, number))?;
            build.join().map_err(|_| anyhow!("the build panicked"))??;
            anyhow::Ok((company, groups))
        })?;
        // CloudTrail is late, so that the follower's own changes start no other function.
        aws.delay("cloudtrail", Duration::from_hours(1))?;
        aws.delay("targets", Duration::from_secs(3))?;
        aws.control("limits", &json!({"on": true}))?;
        Ok(Self { aws, company, groups })
    }

    /// Deploys all stacks, and plays the scenarios of each as soon as it is there.
    fn play(&self) -> Result<Vec<Outcome>> {
        // SAM creates its bucket with the first one.
        let first = self.deploy(0)?;
        let outcomes = concurrently(STACKS.len(), |number| {
            let stack = if number == 0 { first.clone() } else { self.deploy(number)? };
            let scenarios: Vec<usize> = of_stack(number).collect();
            let outcomes = concurrently(scenarios.len(), |index| self.play_one(&stack, scenarios[index]))?;
            self.ensure_a_run_reads_each_group_and_name_once(&stack, number)?;
            Ok(outcomes)
        })?;
        let mut outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        outcomes.sort_by_key(|outcome| SCENARIOS.iter().position(|scenario| scenario.name == outcome.scenario.name));
        Ok(outcomes)
    }

    fn deploy(&self, number: usize) -> Result<GuardStack> {
        let followed: Vec<&str> = of_stack(number).map(|scenario| self.groups[scenario].0.arn.as_str()).collect();
        let followed = followed.join(",");
        let (name, parameters) = STACKS[number];
        let usual = [
            ("FollowTargetGroups", followed.as_str()),
            ("ListenerPorts", ""),
            ("AcceptorSchedule", "rate(2 hours)"),
            ("HealthSchedule", "rate(2 hours)"),
            ("DriftSchedule", "rate(2 hours)"),
            ("AlertAfter", "1"),
            ("ResolveAfter", "1"),
        ];
        let stack = GuardStack::deploy(&self.aws, name, &[&self.company.service], &[parameters, &usual].concat())?;
        stack.run(&self.aws, DriftWatcher)?;
        Ok(stack)
    }

    fn play_one(&self, stack: &GuardStack, number: usize) -> Result<Outcome> {
        let scenario = &SCENARIOS[number];
        let (group, database) = self.groups[number].clone();
        let addresses = group.first.clone();
        let wanted = (0..addresses.len()).map(letter).collect();
        let watch = Watch { wanted, has_one: false, lost: 0, acts: Vec::new() };
        let mut play = Play { flow: self, stack, scenario, number, group, database, addresses, watch };
        play.targets()?;
        (scenario.play)(&mut play).and_then(|()| play.outcome()).with_context(|| {
            let seen = (play.targets(), play.messages(), play.calls());
            format!("{}: {seen:?}", scenario.name)
        })
    }

    /// On a stored path, a run of the follower makes one call for each group and one look-up for each name. The SDK may
    /// have repeated a call, so this goes for one of three runs.
    fn ensure_a_run_reads_each_group_and_name_once(&self, stack: &GuardStack, number: usize) -> Result<()> {
        let since = Timestamp::now();
        let runs = eventually("three more runs", || {
            let runs = self.runs(stack)?.into_iter().filter(|(began, _)| *began > since).collect::<Vec<_>>();
            Ok((runs.len() >= 3).then_some(runs))
        })?;
        let groups = || of_stack(number).map(|scenario| &self.groups[scenario].0);
        let read = |NamedGroup { arn, .. }: &NamedGroup| format!("elasticloadbalancing:DescribeTargetHealth {arn}");
        let asked = |NamedGroup { hostname, .. }: &NamedGroup| format!("A {hostname}");
        let mut expected: Vec<String> = groups().map(read).chain(groups().map(asked)).collect();
        expected.sort_unstable();
        let seen = runs.into_iter().map(|period| self.reads(number, period)).collect::<Result<Vec<_>>>()?;
        ensure!(seen.contains(&expected), "not {expected:#?}, but {seen:#?}");
        Ok(())
    }

    /// When the finished runs of a stack's follower began and ended.
    fn runs(&self, stack: &GuardStack) -> Result<Vec<(Timestamp, Timestamp)>> {
        let (name, runs) = (stack.name_of(TargetFollower)?, self.aws.invocations()?);
        let period = |run: &Value| {
            let began: Timestamp = text(run, "/time")?.parse()?;
            let took = SignedDuration::from_millis(run["duration_ms"].as_i64().context("a duration")?);
            Ok((began, began + took))
        };
        runs.iter().filter(|run| run["function"] == name).map(period).collect()
    }

    /// What a stack's follower asked AWS and DNS meanwhile, but for its table, in the order of the alphabet.
    fn reads(&self, number: usize, (from, to): (Timestamp, Timestamp)) -> Result<Vec<String>> {
        let is_meanwhile = |row: &&Value| {
            let time = row["time"].as_str().and_then(|time| time.parse().ok());
            time.is_some_and(|time: Timestamp| (from..=to).contains(&time))
        };
        let word = |row: &Value, pointer: &str| row.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let calls = self.aws.control("requests", &json!({"principal": role_prefix(number)}))?;
        let calls = list(&calls).filter(is_meanwhile).filter(|call| call["service"] != "dynamodb");
        let call = |call: &Value| {
            let [service, action, arn] = ["/service", "/action", "/arns/0"].map(|pointer| word(call, pointer));
            format!("{service}:{action} {arn}")
        };
        let lookups = self.aws.control("lookups", &json!({}))?;
        let is_own = |lookup: &&Value| of_stack(number).any(|it| lookup["name"] == self.groups[it].0.hostname.as_str());
        let lookups = list(&lookups).filter(is_meanwhile).filter(is_own).filter(|lookup| lookup["type"] == "A");
        let mut reads: Vec<String> =
            calls.map(call).chain(lookups.map(|lookup| format!("A {}", word(lookup, "/name")))).collect();
        reads.sort_unstable();
        Ok(reads)
    }
}

/// The numbers of a stack's scenarios.
fn of_stack(number: usize) -> impl Iterator<Item = usize> {
    (0..SCENARIOS.len()).filter(move |scenario| SCENARIOS[*scenario].stack == number)
}

fn set_up_group(aws: &LocalAws, company: &Company, number: usize) -> Result<(NamedGroup, Option<Database>)> {
    let Scenario { name, hostname, .. } = SCENARIOS[number];
    let database = match hostname {
        Name::Own(_) => None,
        Name::MultiAz => Some(Database::multi_az(company, aws, name)?),
        Name::Writer | Name::Readers => Some(Database::aurora(company, aws, name)?),
    };
    let own = format!("{name}.db.example.com");
    let named = database
        .as_ref()
        .and_then(|it| if hostname == Name::Readers { it.readers.clone() } else { Some(it.hostname.clone()) });
    let named = named.unwrap_or(own);
    if let Name::Own(letters) = hostname {
        let addresses: Vec<String> = letters.chars().map(|letter| own_address(number, letter)).collect();
        aws.answer_dns(&named, &addresses.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let group = NamedGroup::set_up(company, aws, name, &named)?;
    company.add_listener(aws, &(6000 + number).to_string(), &group.arn)?;
    Ok((group, database))
}

/// An address in a scenario's own network, in the VPC.
fn own_address(scenario: usize, letter: char) -> String {
    format!("172.31.{}.{}", scenario + 1, u32::from(letter) - u32::from('A') + 10)
}

fn letter(index: usize) -> String {
    char::from(b'A' + u8::try_from(index).unwrap_or_default()).to_string()
}

/// The beginning of the name of a stack's follower's role.
fn role_prefix(stack: usize) -> String {
    format!("{}-TargetFollowerRole", STACKS[stack].0)
}

/// A running scenario.
struct Play<'a> {
    flow: &'a Flow,
    stack: &'a GuardStack,
    scenario: &'static Scenario,
    number: usize,
    group: NamedGroup,
    database: Option<Database>,
    /// The addresses in the order of their appearance: A, B, C.
    addresses: Vec<String>,
    watch: Watch,
}

/// What is watched of a group.
struct Watch {
    /// The addresses that its name really stands for.
    wanted: Vec<String>,
    /// Whether a wanted target has been healthy since the name changed, or a person deregistered the target.
    has_one: bool,
    /// How often the group has lost its last healthy wanted target since. While a database is away it has none to lose.
    lost: usize,
    /// When DNS showed another answer, and when a person changed targets: the time, and whether it was DNS.
    acts: Vec<(Timestamp, bool)>,
}

/// Targets, by letter, with their health.
type Targets = Vec<(String, String)>;

fn has(targets: &Targets, address: &str) -> bool {
    targets.iter().any(|(target, health)| target == address && health != "draining")
}

fn is_healthy(targets: &Targets, address: &str) -> bool {
    targets.iter().any(|(target, health)| target == address && health == "healthy")
}

fn command(alert: &Value) -> &str {
    alert["remedy"]["command"].as_str().unwrap_or_default()
}

impl Play<'_> {
    fn role(&self) -> Result<String> {
        let (name, root) = (STACKS[self.scenario.stack].0, Caller::root(COMPANY));
        let describe = format!("cloudformation describe-stack-resource --stack-name {name}");
        let found = self.flow.aws.aws(&root, &format!("{describe} --logical-resource-id TargetFollowerRole"))?;
        text(&found, "/StackResourceDetail/PhysicalResourceId")
    }

    /// The address with this letter; a new one of the scenario's own network.
    fn address(&mut self, wanted: char) -> String {
        let index = usize::from(u8::try_from(wanted).unwrap_or(b'A') - b'A');
        while self.addresses.len() <= index {
            let next = u8::try_from(self.addresses.len()).unwrap_or_default();
            self.addresses.push(own_address(self.number, char::from(b'A' + next)));
        }
        self.addresses[index].clone()
    }

    fn addresses_of(&mut self, letters: &str) -> Vec<String> {
        letters.chars().map(|letter| self.address(letter)).collect()
    }

    fn letter_of(&self, address: &str) -> String {
        self.addresses.iter().position(|it| it == address).map_or_else(|| address.to_owned(), letter)
    }

    /// Lets the name stand for other addresses.
    fn answers(&mut self, letters: &str) -> Result<()> {
        let addresses = self.addresses_of(letters);
        self.flow.aws.answer_dns(&self.group.hostname, &addresses.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.changed(letters.chars().map(|letter| letter.to_string()).collect());
        Ok(())
    }

    fn changed(&mut self, wanted: Vec<String>) {
        self.watch.acts.push((Timestamp::now(), true));
        (self.watch.wanted, self.watch.has_one) = (wanted, false);
    }

    /// Fails the database over. Until DNS shows another address, the old one does not answer.
    fn fails_over(&mut self, old: &str) -> Result<()> {
        self.sets(old, "unhealthy")?;
        self.watch.has_one = false;
        self.database_fails_over()
    }

    fn database_fails_over(&mut self) -> Result<()> {
        let database = self.database.as_ref().context("the scenario has a database")?;
        let addresses = database.fails_over(&self.flow.company, &self.flow.aws)?;
        let new: Vec<String> = addresses.iter().filter(|it| !self.addresses.contains(it)).cloned().collect();
        self.addresses.extend(new);
        let wanted = addresses.iter().map(|address| self.letter_of(address)).collect();
        self.changed(wanted);
        Ok(())
    }

    fn sets(&mut self, letter: &str, health: &str) -> Result<()> {
        let addresses = self.addresses_of(letter);
        addresses.iter().try_for_each(|address| self.group.set_health(&self.flow.aws, address, health))
    }

    /// A person registers or deregisters targets.
    fn person(&mut self, change: &str, letters: &str) -> Result<()> {
        let addresses = self.addresses_of(letters);
        self.group.change(&self.flow.company, &self.flow.aws, change, &addresses)?;
        self.watch.acts.push((Timestamp::now(), false));
        self.watch.has_one = false;
        Ok(())
    }

    /// The targets now. A loss lasts until the next change, at least forty seconds, so that asking once a second sees it.
    fn targets(&mut self) -> Result<Targets> {
        let describe = format!("elbv2 describe-target-health --target-group-arn {}", self.group.arn);
        let found = self.flow.aws.aws(&Caller::root(COMPANY), &describe)?;
        let targets: Targets = list(&found["TargetHealthDescriptions"])
            .map(|row| Ok((self.letter_of(&text(row, "/Target/Id")?), text(row, "/TargetHealth/State")?)))
            .collect::<Result<_>>()?;
        let has_one = self.watch.wanted.iter().any(|wanted| is_healthy(&targets, wanted));
        self.watch.lost += usize::from(self.watch.has_one && !has_one);
        self.watch.has_one = has_one;
        Ok(targets)
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Targets) -> bool) -> Result<()> {
        poll_every(Duration::from_secs(1), PATIENCE, what, || Ok(is_so(&self.targets()?).then_some(())))
    }

    fn until_replaced(&mut self, old: &str, new: &str) -> Result<()> {
        let what = format!("{new} to replace {old}");
        self.until(&what, |targets| is_healthy(targets, new) && !has(targets, old))
    }

    /// Waits for the end of a run of the follower that began this many seconds from now, or later.
    fn until_run_after(&mut self, seconds: i64) -> Result<()> {
        let since = Timestamp::now() + SignedDuration::from_secs(seconds);
        poll_every(Duration::from_secs(1), PATIENCE, &format!("a run {seconds} s later"), || {
            self.targets()?;
            Ok(self.flow.runs(self.stack)?.iter().any(|(began, _)| *began > since).then_some(()))
        })
    }

    /// Runs health-watcher until it has sent an alert with these words about the group.
    fn until_alert(&mut self, words: &str) -> Result<Value> {
        poll_every(Duration::from_secs(2), PATIENCE, &format!("an alert with '{words}'"), || {
            self.targets()?;
            self.stack.run(&self.flow.aws, HealthWatcher)?;
            Ok(self.messages()?.into_iter().find(|alert| alert.to_string().contains(words)))
        })
    }

    /// The follower's calls that change the group's targets: each with its time, and with its error's code.
    fn calls(&self) -> Result<Vec<(Timestamp, String)>> {
        let made = self.flow.aws.control("requests", &json!({"principal": role_prefix(self.scenario.stack)}))?;
        let is_ours = |call: &&Value| list(&call["arns"]).any(|arn| arn == self.group.arn.as_str());
        let is_change = |call: &&Value| [REGISTER, DEREGISTER].iter().any(|action| call["action"] == *action);
        let changes = list(&made).filter(is_ours).filter(is_change);
        let call = |call: &Value| {
            let error = call["error"].as_str().map(|error| format!(" {error}")).unwrap_or_default();
            Ok((text(call, "/time")?.parse()?, text(call, "/action")? + &error))
        };
        changes.map(call).collect()
    }

    /// The transitions that were sent about the group's hostname.
    fn messages(&self) -> Result<Vec<Value>> {
        let sent = Mailbox::from_the_start(&self.flow.aws).messages()?;
        let transitions = sent
            .iter()
            .filter_map(Mail::alert)
            .flat_map(|alert| list(&alert["transitions"]).cloned().collect::<Vec<_>>());
        let is_ours = |it: &Value| it["check"] == "target-group.hostname" && it["resource"] == self.group.arn.as_str();
        Ok(transitions.filter(is_ours).collect())
    }

    fn outcome(&mut self) -> Result<Outcome> {
        let targets = self.targets()?;
        let in_use: BTreeSet<&str> =
            targets.iter().filter(|(_, health)| health != "draining").map(|(letter, _)| letter.as_str()).collect();
        let (mut notices, mut alerts) = (Vec::new(), Vec::new());
        for message in self.messages()? {
            let mut summary = text(&message, "/summary")?;
            for (index, address) in self.addresses.iter().enumerate() {
                summary = summary.replace(&format!("{address}:5432"), &letter(index));
            }
            match message["kind"].as_str() {
                Some("notice") => notices.push(summary),
                Some("firing") => alerts.push((text(&message, "/severity")?.to_uppercase(), summary)),
                kind => alerts.push((kind.unwrap_or_default().to_uppercase(), summary)),
            }
        }
        let calls = self.calls()?;
        let acts = &self.watch.acts;
        let ends = acts.iter().map(|(at, _)| *at).skip(1).chain([Timestamp::MAX]);
        let of_dns = acts.iter().zip(ends).filter(|((_, is_dns), _)| *is_dns).map(|((from, _), to)| (*from, to));
        let registered = |(from, to): (Timestamp, Timestamp)| {
            let (at, _) = calls.iter().find(|(at, call)| (from..to).contains(at) && call.starts_with(REGISTER))?;
            Some(at.duration_since(from).as_secs_f64())
        };
        let seconds = of_dns.filter_map(registered).collect();
        Ok(Outcome {
            scenario: self.scenario,
            seconds,
            calls: calls.into_iter().map(|(_, call)| call).collect(),
            targets: in_use.into_iter().collect(),
            notices,
            alerts,
            lost: self.watch.lost,
        })
    }
}

/// What happened in a scenario.
struct Outcome {
    scenario: &'static Scenario,
    /// For each change in DNS that was followed, the seconds until `RegisterTargets`.
    seconds: Vec<f64>,
    calls: Vec<String>,
    targets: String,
    notices: Vec<String>,
    alerts: Vec<(String, String)>,
    lost: usize,
}

impl Outcome {
    fn ensure_as_expected(&self) -> Result<()> {
        let Self { scenario, .. } = self;
        let name = scenario.name;
        let mut calls = self.calls.clone();
        calls.dedup();
        ensure!(calls == scenario.calls, "{name}: the calls {:?}", self.calls);
        ensure!(self.targets == scenario.targets, "{name}: the targets {}", self.targets);
        ensure!(self.notices == scenario.notices, "{name}: the notices {:#?}", self.notices);
        for (label, words) in scenario.alerts {
            let is_sent = self.alerts.iter().any(|(kind, summary)| kind == label && summary.contains(words));
            ensure!(is_sent, "{name}: no [{label}] {words} in {:#?}", self.alerts);
        }
        ensure!(self.lost == 0, "{name}: the last healthy target was lost {} times", self.lost);
        Ok(())
    }

    /// The calls in order, each with the number of its repetitions.
    fn calls_in_short(&self) -> String {
        let mut parts: Vec<(&str, usize)> = Vec::new();
        for call in &self.calls {
            match parts.last_mut().filter(|(last, _)| last == call) {
                Some((_, times)) => *times += 1,
                None => parts.push((call, 1)),
            }
        }
        let part = |(call, times): (&str, usize)| {
            let call = call.replace("Targets", "").to_lowercase();
            if times == 1 { call } else { format!("{times} × {call}") }
        };
        parts.into_iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

/// The outcomes, one line each, and what was sent about them.
fn table(outcomes: &[Outcome]) -> String {
    let row = |name: &str, seconds: &str, lost: &str, targets: &str, calls: &str, messages: &str| {
        format!("{name:14}  {seconds:17}  {lost:4}  {targets:7}  {calls:48}  {messages}\n")
    };
    let rows = outcomes.iter().map(|it| {
        let seconds: Vec<String> = it.seconds.iter().map(|seconds| format!("{seconds:.0}")).collect();
        let mut alerts: BTreeMap<&str, usize> = BTreeMap::new();
        for (label, _) in &it.alerts {
            *alerts.entry(label).or_default() += 1;
        }
        let alerts = alerts.iter().map(|(label, count)| format!("{count} {label}"));
        let messages: Vec<String> = [format!("{} NOTICE", it.notices.len())].into_iter().chain(alerts).collect();
        let lost = it.lost.to_string();
        row(it.scenario.name, &seconds.join(", "), &lost, &it.targets, &it.calls_in_short(), &messages.join(", "))
    });
    let head = row("scenario", "s to registration", "lost", "targets", "calls", "messages");
    [head].into_iter().chain(rows).collect()
}
