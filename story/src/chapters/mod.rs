//! The story: events at an endpoint service, and the guard's actions and messages.
//!
//! `make demo` shows the story on a local AWS, a flow runs it as a test, and `make verify` plays it on AWS itself. A
//! chapter knows only its [`StoryStage`] and its [`Scene`].

pub mod connections;
pub mod database;
pub mod health;
pub mod settings;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::outcome::{ChapterOutcome, ChapterResult, Exchange, Sight};
use crate::stage::{Interrupted, Party, StoryStage, Wanted, eventually, named_by, remedy};
use crate::terminal::Terminal;

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
    /// The target group that follows a database's hostname, and the command that fails the database over.
    pub database: Option<(String, String)>,
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

/// The story so far. Chapters leave their endpoints to later ones.
pub struct Story<'a> {
    stage: &'a dyn StoryStage,
    scene: &'a Scene,
    terminal: Terminal,
    endpoints: BTreeMap<Requester, String>,
}

impl<'a> Story<'a> {
    /// Begins the story.
    pub fn new(stage: &'a dyn StoryStage, scene: &'a Scene, terminal: Terminal) -> Self {
        Self { stage, scene, terminal, endpoints: BTreeMap::new() }
    }

    /// Plays a chapter and returns its result, good or bad.
    pub fn play(&mut self, chapter: Chapter) -> ChapterResult {
        self.terminal.began(chapter.title);
        let began = Instant::now();
        let since = self.stage.alerts(Duration::ZERO).ok().and_then(|alerts| alerts.last().map(|alert| alert.number));
        let mut run = ChapterRun {
            stage: self.stage,
            scene: self.scene,
            terminal: self.terminal.clone(),
            endpoints: &mut self.endpoints,
            chapter: ChapterResult::new(chapter.title, chapter.expected, ChapterOutcome::AsExpected),
            since: since.unwrap_or_default(),
            shown: since.unwrap_or_default(),
            step_began: began,
        };
        let result = (chapter.play)(&mut run);
        let mut played = run.chapter;
        played.took = began.elapsed();
        if let Err(error) = result {
            played.outcome = ChapterOutcome::Failed(format!("{error:#}"));
        }
        self.terminal.ended(&played);
        played
    }

    /// Skips a chapter.
    pub fn skip(&self, chapter: Chapter, reason: &str) -> ChapterResult {
        self.terminal.began(chapter.title);
        let played = ChapterResult::new(chapter.title, chapter.expected, ChapterOutcome::Skipped(reason.to_owned()));
        self.terminal.ended(&played);
        played
    }
}

/// A running chapter.
pub struct ChapterRun<'a> {
    stage: &'a dyn StoryStage,
    /// The resources of the story.
    pub scene: &'a Scene,
    terminal: Terminal,
    endpoints: &'a mut BTreeMap<Requester, String>,
    chapter: ChapterResult,
    /// The number of the last message that does not count for this chapter.
    since: i64,
    /// The number of the last message before this chapter, which an earlier chapter has shown.
    shown: i64,
    step_began: Instant,
}

impl<'a> ChapterRun<'a> {
    /// The stage of the story.
    pub fn stage(&self) -> &'a dyn StoryStage {
        self.stage
    }

    /// Announces the next step. The guard's messages are timed from here.
    pub fn step(&mut self, what: &str, commands: &[String]) {
        self.terminal.step(what, commands);
        self.step_began = Instant::now();
    }

    /// Runs a party's command line of the AWS CLI and shows it.
    pub fn act(&mut self, party: Party, what: &str, line: &str) -> Result<Value> {
        self.step(what, &[format!("aws {line}")]);
        self.ask(party, line)
    }

    /// Asks AWS with a party's credentials.
    pub fn ask(&mut self, party: Party, line: &str) -> Result<Value> {
        if self.stage.is_interrupted() {
            return Err(Interrupted.into());
        }
        let answer = self.stage.aws(party, line);
        self.record(party, format!("aws {line}"), &answer);
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

    /// Keeps AWS's answers to a question that its documentation leaves open, or the reason why there are none.
    pub fn sees(&mut self, assumption: &'static str, seen: Result<Vec<Value>, String>) {
        self.chapter.sights.push(Sight { assumption, seen });
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
        line: &str,
        answer: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        eventually(self.stage, what, limit, || Ok(answer(&self.ask(Party::Provider, line)?)))
    }

    /// Waits for a transition and returns it. The messages before it are shown, too.
    pub fn wait_for(&mut self, label: &str, check: &str, words: &str) -> Result<Value> {
        let limit = self.stage.limits().alert;
        self.wait_for_within(limit, Wanted { label, check, words })
    }

    /// Waits with another limit than that of an alert.
    pub fn wait_for_within(&mut self, limit: Duration, wanted: Wanted<'_>) -> Result<Value> {
        let Wanted { label, check, words } = wanted;
        eventually(self.stage, &format!("[{label}] {check} with '{words}'"), limit, || {
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
        let limit = self.stage.limits().trail;
        eventually(self.stage, &format!("an alert on {check} that names {administrator}"), limit, || {
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
            if alert.number > self.shown {
                self.terminal.sent(&alert, after);
            }
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
        let printed = self.ask_guard("check", what, expected)?;
        let worth_showing = |line: &&str| line.contains(expected) || line.contains(" pass, ");
        self.terminal.printed(printed.iter().flat_map(|tree| tree.lines()).filter(worth_showing));
        Ok(())
    }

    /// Shows what a command printed.
    pub fn print(&self, printed: &str) {
        self.terminal.printed(printed.lines());
    }

    /// The output of `check` or `status` as the administrator, if the command was built. It must print `expected`.
    pub fn ask_guard(&mut self, command: &str, what: &str, expected: &str) -> Result<Option<String>> {
        let Some((line, printed)) = self.stage.guard_command(command)? else { return Ok(None) };
        self.step(what, &[line]);
        ensure!(printed.contains(expected), "the command did not print '{expected}':\n{printed}");
        Ok(Some(printed))
    }
}
