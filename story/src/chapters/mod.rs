//! The story: events at an endpoint service, and the guard's actions and messages.
//!
//! `make demo` shows the story on a local AWS, a flow runs it as a test, and `make verify` plays it on AWS itself. A
//! chapter knows only its [`StoryStage`] and its [`Scene`].

pub mod connections;
pub mod health;
pub mod settings;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::stage::{Interrupted, Party, SentAlert, StoryStage, Wanted, eventually, named_by, remedy};

/// The longest wait of one request for new messages: short enough for Ctrl-C.
const WAIT: Duration = Duration::from_secs(5);

/// The resources of the chapters.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// `vpce-svc-…`
    pub service: String,
    /// `com.amazonaws.vpce.REGION.vpce-svc-…`
    pub service_name: String,
    /// The load balancer's ARN.
    pub load_balancer: String,
    /// The load balancer's security group, which allows [`Scene::cidr`] on port 5432.
    pub security_group: String,
    /// The ARN of the listener on port 5432.
    pub listener: String,
    /// The target group's ARN.
    pub target_group: String,
    /// The network that dbt connects from.
    pub cidr: &'static str,
    /// The alert on a failing target: its label and its numbers.
    pub unhealthy: (&'static str, &'static str),
    /// The administrator's name in an alert; `None` if no trail records changes.
    pub administrator: Option<String>,
}

/// The creator of an endpoint to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requester {
    /// dbt, for the company.
    Dbt,
    /// dbt, for another of its customers: the endpoint is in the same account.
    OtherCustomer,
    /// An account that is neither dbt's nor known.
    Untrusted,
}

impl Requester {
    /// The party whose account has the endpoint.
    pub fn party(self) -> Party {
        match self {
            Self::Dbt | Self::OtherCustomer => Party::Consumer,
            Self::Untrusted => Party::Untrusted,
        }
    }
}

/// A planned chapter.
#[derive(Clone, Copy)]
pub struct Chapter {
    /// The event.
    pub title: &'static str,
    /// The expected consequence.
    pub expected: &'static str,
    /// Causes the event and waits for its consequence.
    pub play: fn(&mut ChapterRun<'_>) -> Result<()>,
}

/// The outcome of a chapter.
#[derive(Debug)]
pub enum ChapterOutcome {
    /// As expected.
    AsExpected,
    /// Not as expected.
    Failed(anyhow::Error),
    /// Not played, for this reason.
    Skipped(String),
}

/// A command of the AWS CLI and AWS's answer.
#[derive(Debug)]
pub struct Exchange {
    /// The party whose credentials the command had.
    pub party: Party,
    /// The command.
    pub command: String,
    /// The last answer, or the error.
    pub answer: Result<Value, String>,
    /// The number of calls until this answer.
    pub times: usize,
}

/// An answer to a question that AWS's documentation leaves open, or the reason why the run did not see one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The question: an id in `verify/assumptions`.
    pub assumption: &'static str,
    /// AWS's answer, or the reason why it was not seen.
    pub seen: Result<Value, String>,
}

/// A played chapter with everything that happened in it.
#[derive(Debug)]
pub struct ChapterResult {
    /// The event.
    pub title: &'static str,
    /// The expected consequence.
    pub expected: &'static str,
    /// Whether the consequence followed.
    pub outcome: ChapterOutcome,
    /// The chapter's duration.
    pub took: Duration,
    /// The calls to AWS.
    pub exchanges: Vec<Exchange>,
    /// The guard's messages, each with the time since the step that caused it.
    pub alerts: Vec<(SentAlert, Duration)>,
    /// Measurements and texts worth reading: a name and a text.
    pub facts: Vec<(String, String)>,
    /// Answers to questions that AWS's documentation leaves open.
    pub sights: Vec<Sight>,
}

impl ChapterResult {
    /// Whether the chapter ended as expected. A skipped chapter has not failed.
    pub fn is_ok(&self) -> bool {
        !matches!(self.outcome, ChapterOutcome::Failed(_))
    }

    /// The chapter's outcome as a result. A skipped chapter is an error too.
    pub fn into_result(self) -> Result<()> {
        match self.outcome {
            ChapterOutcome::AsExpected => Ok(()),
            ChapterOutcome::Failed(error) => Err(error.context(self.title)),
            ChapterOutcome::Skipped(reason) => Err(anyhow::anyhow!("{}: skipped, {reason}", self.title)),
        }
    }

    fn new(title: &'static str, expected: &'static str) -> Self {
        let (outcome, took) = (ChapterOutcome::AsExpected, Duration::ZERO);
        let (exchanges, alerts, facts, sights) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { title, expected, outcome, took, exchanges, alerts, facts, sights }
    }
}

/// Follows the story as it happens.
pub trait StoryObserver {
    /// A chapter with this title begins.
    fn began(&mut self, title: &str);

    /// A step begins; `commands` are those that a person would type.
    fn step(&mut self, what: &str, commands: &[String]);
    /// A command printed these lines and others.
    fn printed(&mut self, lines: &[&str]);
    /// The guard sent a message.
    fn sent(&mut self, alert: &SentAlert, after: Duration);
    /// A chapter ended.
    fn ended(&mut self, chapter: &ChapterResult);
}

/// The story so far. Chapters leave their endpoints to later ones.
pub struct Story<'a> {
    stage: &'a dyn StoryStage,
    scene: &'a Scene,
    observer: &'a mut dyn StoryObserver,
    endpoints: BTreeMap<Requester, String>,
}

impl<'a> Story<'a> {
    /// Begins the story.
    pub fn new(stage: &'a dyn StoryStage, scene: &'a Scene, observer: &'a mut dyn StoryObserver) -> Self {
        Self { stage, scene, observer, endpoints: BTreeMap::new() }
    }

    /// Announces a step between two chapters.
    pub fn step(&mut self, what: &str, commands: &[String]) {
        self.observer.step(what, commands);
    }

    /// Plays a chapter and returns its result, good or bad.
    pub fn play(&mut self, chapter: Chapter) -> ChapterResult {
        self.play_with((chapter.title, chapter.expected), chapter.play)
    }

    /// Plays a chapter that only this stage has: its title, its expected consequence, and its steps.
    pub fn play_with(
        &mut self,
        (title, expected): (&'static str, &'static str),
        play: impl FnOnce(&mut ChapterRun<'_>) -> Result<()>,
    ) -> ChapterResult {
        self.observer.began(title);
        let began = Instant::now();
        let since = self.stage.alerts(Duration::ZERO).ok().and_then(|alerts| alerts.last().map(|alert| alert.number));
        let mut run = ChapterRun {
            stage: self.stage,
            scene: self.scene,
            observer: &mut *self.observer,
            endpoints: &mut self.endpoints,
            chapter: ChapterResult::new(title, expected),
            since: since.unwrap_or_default(),
            step_began: began,
        };
        let result = play(&mut run);
        let mut played = run.chapter;
        played.took = began.elapsed();
        if let Err(error) = result {
            played.outcome = ChapterOutcome::Failed(error);
        }
        self.observer.ended(&played);
        played
    }

    /// Skips a chapter: its title, and its expected consequence.
    pub fn skip(&mut self, (title, expected): (&'static str, &'static str), reason: &str) -> ChapterResult {
        self.observer.began(title);
        let outcome = ChapterOutcome::Skipped(reason.to_owned());
        let played = ChapterResult { outcome, ..ChapterResult::new(title, expected) };
        self.observer.ended(&played);
        played
    }
}

/// A running chapter.
pub struct ChapterRun<'a> {
    stage: &'a dyn StoryStage,
    /// The resources of the story.
    pub scene: &'a Scene,
    observer: &'a mut dyn StoryObserver,
    endpoints: &'a mut BTreeMap<Requester, String>,
    chapter: ChapterResult,
    /// The number of the last message before this chapter.
    since: i64,
    step_began: Instant,
}

impl<'a> ChapterRun<'a> {
    /// The stage of the story.
    pub fn stage(&self) -> &'a dyn StoryStage {
        self.stage
    }

    /// Announces the next step. The guard's messages are timed from here.
    pub fn step(&mut self, what: &str, commands: &[String]) {
        self.observer.step(what, commands);
        self.step_began = Instant::now();
    }

    /// Runs a party's command and shows it.
    pub fn act(&mut self, party: Party, what: &str, arguments: &[&str]) -> Result<Value> {
        self.step(what, &[shown(arguments)]);
        self.ask(party, arguments)
    }

    /// Asks AWS with a party's credentials.
    pub fn ask(&mut self, party: Party, arguments: &[&str]) -> Result<Value> {
        if self.stage.is_interrupted() {
            return Err(Interrupted.into());
        }
        let answer = self.stage.aws(party, arguments);
        self.record(party, shown(arguments), &answer);
        answer
    }

    /// Records an answer. A repeated question keeps only its last answer, in the place of the first.
    fn record(&mut self, party: Party, command: String, answer: &Result<Value>) {
        let answer = answer.as_ref().cloned().map_err(|error| format!("{error:#}"));
        let exchanges = &mut self.chapter.exchanges;
        match exchanges.last_mut().filter(|last| last.party == party && last.command == command) {
            Some(last) => (last.answer, last.times) = (answer, last.times + 1),
            None => exchanges.push(Exchange { party, command, answer, times: 1 }),
        }
    }

    /// Also counts messages from before this chapter, for messages that the guard sends once, as soon as it can.
    pub fn count_from_the_start(&mut self) {
        self.since = 0;
    }

    /// Notes a measurement or a text worth reading.
    pub fn note(&mut self, name: &str, text: impl Into<String>) {
        self.chapter.facts.push((name.to_owned(), text.into()));
    }

    /// Keeps AWS's answer to a question that its documentation leaves open.
    pub fn saw(&mut self, assumption: &'static str, value: Value) {
        self.chapter.sights.push(Sight { assumption, seen: Ok(value) });
    }

    /// Keeps the reason why such an answer was not seen.
    pub fn did_not_see(&mut self, assumption: &'static str, why: &str) {
        self.chapter.sights.push(Sight { assumption, seen: Err(why.to_owned()) });
    }

    /// The time since the last step began.
    pub fn since_step(&self) -> Duration {
        self.step_began.elapsed()
    }

    /// The endpoint that this requester created last.
    pub fn endpoint(&self, requester: Requester) -> Result<String> {
        self.endpoints.get(&requester).cloned().context("it has no endpoint: the chapter that creates it failed")
    }

    /// Asks until AWS answers as expected.
    pub fn ask_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        arguments: &[&str],
        answer: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let stage = self.stage;
        eventually(stage, what, limit, || Ok(answer(&self.ask(Party::Provider, arguments)?)))
    }

    /// Waits for a transition and returns it. The observer also sees the messages before it.
    pub fn wait_for(&mut self, label: &str, check: &str, words: &str) -> Result<Value> {
        let limit = self.stage.limits().alert;
        self.wait_for_within(limit, Wanted { label, check, words })
    }

    /// Waits with another limit than that of an alert.
    pub fn wait_for_within(&mut self, limit: Duration, wanted: Wanted<'_>) -> Result<Value> {
        let Wanted { label, check, words } = wanted;
        let stage = self.stage;
        eventually(stage, &format!("[{label}] {check} with '{words}'"), limit, || {
            self.receive()?;
            // A message counts once: its report on an earlier change does not answer a later one.
            let mut received =
                self.chapter.alerts.iter().map(|(alert, _)| alert).filter(|alert| alert.number > self.since);
            let found = received.find_map(|alert| Some((alert.number, alert.find(wanted)?.clone())));
            Ok(found.map(|(number, transition)| {
                self.since = number - 1;
                transition
            }))
        })
    }

    /// Waits for a message of this chapter that names the administrator in an alert on this check.
    pub fn wait_for_cause(&mut self, check: &str) -> Result<()> {
        let Some(administrator) = self.scene.administrator.clone() else {
            self.note("Who made the change", "not named: no trail records management events in this Region");
            return Ok(());
        };
        let (stage, limit) = (self.stage, self.stage.limits().trail);
        eventually(stage, &format!("an alert on {check} that names {administrator}"), limit, || {
            self.receive()?;
            let mut named = self.chapter.alerts.iter().filter_map(|(alert, _)| named_by(alert, check));
            Ok(named.any(|principal| principal.ends_with(&administrator)).then_some(()))
        })?;
        let after = format!("{:.1} s after the change", self.since_step().as_secs_f32());
        self.note("Who made the change", format!("named {after}"));
        Ok(())
    }

    /// Shows and keeps the guard's new messages.
    fn receive(&mut self) -> Result<()> {
        let last = self.chapter.alerts.last().map_or(self.since, |(alert, _)| alert.number.max(self.since));
        for alert in self.stage.alerts(WAIT)?.into_iter().filter(|alert| alert.number > last) {
            let after = self.step_began.elapsed();
            self.observer.sent(&alert, after);
            self.chapter.alerts.push((alert, after));
        }
        Ok(())
    }

    /// Runs the alert's command as the administrator; the first if there are several.
    pub fn run_remedy(&mut self, transition: &Value) -> Result<()> {
        let command = remedy(transition).and_then(|commands| commands.lines().next());
        let command = command.context("the alert has no command")?.to_owned();
        self.run_printed(&command)
    }

    /// Runs another printed command of the alert as the administrator.
    pub fn run_printed(&mut self, command: &str) -> Result<()> {
        let command = command.to_owned();
        self.step("network-admin runs the command from the alert", std::slice::from_ref(&command));
        let done = self.stage.shell(&command);
        self.record(
            Party::Provider,
            command,
            &done.as_ref().map(|()| Value::Null).map_err(|e| anyhow::anyhow!("{e:#}")),
        );
        done
    }

    /// Checks the path with the command as the administrator, if the command was built. It must print `expected`.
    pub fn check(&mut self, what: &str, expected: &str) -> Result<()> {
        let Some((command, tree)) = self.stage.check()? else { return Ok(()) };
        self.step(what, &[command]);
        let worth_showing = |line: &&str| line.contains(expected) || line.contains(" pass, ");
        self.observer.printed(&tree.lines().filter(worth_showing).collect::<Vec<_>>());
        ensure!(tree.contains(expected), "the command did not print '{expected}':\n{tree}");
        Ok(())
    }
}

/// A command in the form that a person types.
fn shown(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            (*argument).to_owned()
        } else {
            format!("'{argument}'")
        }
    });
    format!("aws {}", quoted.collect::<Vec<_>>().join(" "))
}
