//! Histories of runs with every possible failure between them: each true transition must be sent once and in
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use attack::faults::{Fault, FaultPlan, Trouble};
use attack::{Aws, Call, FakeAws, Published, config, play};
use aws_config::SdkConfig;
use guard_aws::invocation::{Deadline, Invocation};
use guard_aws::memory::LoadedState;
use guard_aws::notify::{Firing, News, Notifier, PartitionWork};
use guard_aws::table::StateTable;
use guard_core::alerts::reconcile::{Evaluation, Report};
use guard_core::alerts::record::Partition;
use guard_core::alerts::silence::Silence;
use guard_core::catalogue;
use guard_core::check::{Check, CheckResult, Finding, PartStatus, Severity, Status};
use guard_core::testing::{at, change, finding, origin, service, settings};
use guard_core::trigger::{Change, Trigger};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The lead of a clock that is fast.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The settings in which alerts get no reminders.
const NO_REMINDERS: (&str, &str) = ("REMIND_EVERY_HOURS", "0");

fn is_read(call: &Call) -> bool {
    call.action == "Query"
}

fn is_write(call: &Call) -> bool {
    call.action == "PutItem"
}

fn is_message(call: &Call) -> bool {
    call.action == "Publish"
}

/// The next write is executed, but its response is lost.
fn lost_answer() -> FaultPlan {
    FaultPlan::Next { times: 1, which: is_write, trouble: Trouble::After(Fault::Reset) }
}

/// Another run writes the alert before each of its next `times` writes.
fn overtaken(times: usize) -> FaultPlan {
    let which = |call: &Call| is_write(call) && call.about.contains(&format!("#{}#", check().id));
    FaultPlan::Next { times, which, trouble: Trouble::Overtaken }
}

/// The number and event of a transition: `F`iring, `r`eminder, `R`esolved, `e`ased to info, its `c`ause, `x` gone, `u`
/// unwatched.
fn heard(sent: &Published) -> (u64, char) {
    let summary = sent.summary.as_str();
    let event = match sent.kind.as_str() {
        "firing" => 'F',
        "reminder" => 'r',
        "resolved" => 'R',
        _ if summary.starts_with("no longer ") => 'e',
        _ if summary.starts_with("closed (resource gone)") => 'x',
        _ if summary.starts_with("closed (no longer checked)") => 'u',
        _ if summary.contains(" silenced until ") => 's',
        _ if summary.starts_with("cause found") => 'c',
        other => panic!("{other}: {summary}"),
    };
    (sent.number, event)
}

/// The finding for a letter: `i`nfo, `b`ad, `B` worse, `c` bad with a cause; `1` and `2` with that part, `3` with both;
/// `K` with a critical part 1 and a warning on part 2, `k` the same with part 1 unreadable.
fn failing(letter: char) -> Option<Finding> {
    let (severity, parts): (_, &[&str]) = match letter {
        'i' => (Severity::Info, &[]),
        'b' | 'c' => (Severity::Warning, &[]),
        'B' => (Severity::Critical, &[]),
        '1' => (Severity::Warning, &["1"]),
        '2' | 'K' | 'k' => (Severity::Warning, &["2"]),
        '3' => (Severity::Warning, &["1", "2"]),
        _ => return None,
    };
    let finding = finding(severity).with_parts(parts.iter().copied());
    Some(match letter {
        // Later than every alert, so that it is late for none.
        'c' => Finding { cause: Some(Change { event_time: "2099-01-01T00:00:00Z".to_owned(), ..change() }), ..finding },
        'K' => {
            let mut finding = Finding { severity: Severity::Critical, ..finding };
            finding.parts.insert("1".to_owned(), PartStatus::Failing(Severity::Critical));
            finding
        }
        'k' => finding.with_unknown_parts([("1", "no answer".to_owned())]),
        _ => finding,
    })
}

/// The severity of a finding, and those of its parts.
type Known = (Severity, BTreeMap<String, Severity>);

/// One read: its finding, as a letter of [`failing`] or `g`ood, `?` unknown, `x` gone, `u` not watched; and its start.
#[derive(Debug, Clone, Copy)]
struct Read {
    found: char,
    began: Timestamp,
}

/// The fate of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// SNS refuses.
    TopicFails,
    /// The response to its first write is lost.
    AnswerLost,
    /// Its clock is a day ahead.
    ClockAhead,
    /// It dies between storing the transitions and sending them.
    DiesBeforeSending,
    /// It dies after SNS has accepted the message.
    DiesBeforeAcknowledging,
    /// It changes something, and a second read finds this.
    ReadsAgain(char),
    /// A concurrent run, whose read finds this. The flags tell whether its read begins later, whether both runs load
    /// the records before either stores, and whether the concurrent run stores and sends first.
    Doubled {
        found: char,
        later: bool,
        both_load_first: bool,
        stores_first: bool,
        sends_first: bool,
    },
}

/// The transitions that must be sent for a sequence of stored reads.
#[derive(Debug, Default)]
struct Model {
    /// The firing alert as last sent: its severity and parts.
    believed: Option<Known>,
    /// The alert as the last read found it.
    firing: Option<Known>,
    /// Whether a silence suppressed the alert, and nothing has been sent since.
    was_silenced: bool,
    recorded: Option<Timestamp>,
    expected: String,
}

impl Model {
    /// Whether the table has an open alert.
    fn is_open(&self) -> bool {
        self.believed.is_some() || self.firing.is_some()
    }

    fn is_info(&self) -> bool {
        self.firing.as_ref().is_some_and(|(severity, _)| *severity == Severity::Info)
    }

    fn store(&mut self, read: Read, silenced: bool) {
        // An older read changes nothing.
        if self.recorded.is_some_and(|recorded| recorded >= read.began) {
            return;
        }
        let was_open = self.is_open();
        let was_silenced = self.was_silenced;
        self.was_silenced |= silenced;
        match (failing(read.found), read.found) {
            (Some(Finding { severity, parts, .. }), _) => {
                // An unreadable part keeps its state.
                let before = self.firing.as_ref().map(|(_, parts)| parts);
                let part = |(name, status): (String, PartStatus)| match status {
                    PartStatus::Failing(severity) => Some((name, severity)),
                    PartStatus::Unknown(_) => Some((name.clone(), *before?.get(&name)?)),
                };
                let parts: BTreeMap<String, Severity> = parts.into_iter().filter_map(part).collect();
                let severity = parts.values().copied().max().unwrap_or(severity).max(severity);
                self.firing = Some((severity, parts));
                self.fails(silenced, was_silenced);
            }
            // An info that was sent is not repeated.
            (None, '?') if self.is_info() && self.believed.is_some() => self.was_silenced &= silenced,
            (None, '?') if self.firing.is_some() && was_silenced && !silenced => self.fails(false, true),
            (None, '?') => {}
            (None, found) => {
                self.firing = None;
                if !silenced {
                    let event = if found == 'g' { 'R' } else { found };
                    self.expected.extend(self.believed.take().map(|_| event));
                }
            }
        }
        // A resolved alert that stays resolved is not written.
        if was_open || self.is_open() {
            self.recorded = Some(read.began);
        }
        self.was_silenced &= self.is_open();
    }

    fn fails(&mut self, silenced: bool, was_silenced: bool) {
        let Some((severity, parts)) = &self.firing else { return };
        if silenced {
            // A part that disappears is forgotten.
            let gone = |known: &mut BTreeMap<String, Severity>| known.retain(|part, _| parts.contains_key(part));
            self.believed.iter_mut().for_each(|(_, known)| gone(known));
            return;
        }
        let is_in = |known: &BTreeMap<String, Severity>| parts.keys().all(|part| known.contains_key(part));
        let known = self.believed.as_ref().filter(|(worst, known)| severity <= worst && is_in(known));
        let event = match known {
            None => Some('F'),
            Some((worst, _)) if *severity == Severity::Info => (*worst > Severity::Info).then_some('e'),
            // An alert that still fires at the end of a silence is sent, even if it was sent before.
            Some(_) => was_silenced.then_some('r'),
        };
        self.expected.extend(event);
        // A fall in severity is recorded at once, so the next rise is sent.
        self.believed.clone_from(&self.firing);
        self.was_silenced = false;
    }
}

struct Stage {
    aws: Aws,
    config: SdkConfig,
    table: StateTable,
    notifier: Notifier,
    /// The same function with a changed configuration, which ignores the check.
    ignoring: Notifier,
    runs: u32,
}

fn check() -> Check {
    catalogue::find("load-balancer.cross-zone").unwrap()
}

fn partition() -> Partition {
    Partition::Service(service(1))
}

fn invocation(run: u32) -> Invocation {
    let deadline = Deadline::new(Duration::from_secs(110));
    Invocation { id: run.to_string(), trigger: Trigger::Schedule, origin: origin(), deadline }
}

impl Stage {
    fn new() -> Self {
        let aws = FakeAws::default().shared();
        let config = config(&aws);
        let notifier = |variables: &[(&str, &str)]| Notifier::new("drift-watcher", &config, &settings(variables));
        Self {
            table: StateTable::new(&config, &settings(&[]).state_table),
            notifier: notifier(&[NO_REMINDERS]),
            ignoring: notifier(&[NO_REMINDERS, ("CROSS_ZONE", "ignore")]),
            aws,
            config,
            runs: 0,
        }
    }

    async fn load(&self) -> LoadedState {
        self.table.load(&partition()).await
    }

    /// Reconciles the reads of one run, oldest first.
    async fn store(&mut self, reads: &[Read], state: LoadedState, now: Timestamp) -> News {
        self.runs += 1;
        let evaluation = |read: &Read| {
            let status = match (failing(read.found), read.found) {
                (Some(finding), _) => Some(Status::Fail(Box::new(finding))),
                (None, 'g') => Some(Status::Pass("right".to_owned())),
                (None, '?') => Some(Status::Unknown("no answer".to_owned())),
                (None, _) => None,
            };
            let result = |status| CheckResult::new(check(), "resource", status);
            Evaluation::new(read.began, vec![check()], status.map(result).into_iter().collect())
        };
        let unwatched = reads.iter().any(|read| read.found == 'u');
        let notifier = if unwatched { &self.ignoring } else { &self.notifier };
        let partition = partition();
        let report = Report::new(&partition, reads.iter().map(evaluation).collect());
        notifier.store(&invocation(self.runs), vec![PartitionWork { report, state: &state }], now).await
    }

    async fn send(&self, news: News, now: Timestamp) {
        let _ = self.notifier.send(news, &BTreeMap::new(), &invocation(self.runs), now).await;
    }

    /// Loads, reconciles and sends.
    async fn load_store_send(&mut self, reads: &[Read], now: Timestamp) {
        let news = self.store(reads, self.load().await, now).await;
        self.send(news, now).await;
    }

    fn plan(&self, plan: FaultPlan) {
        self.aws.lock().unwrap().plan = plan;
    }

    /// Stores a silence with this state.
    fn add_silence(&self, name: &str, record: &Value) {
        let table = &mut self.aws.lock().unwrap().table;
        table.add(&partition().to_string(), &format!("*#silence#{name}"), &record.to_string());
    }

    /// Silences everything for a minute, with a silence that was already announced.
    fn silence(&self, now: Timestamp) {
        let until = now + SignedDuration::from_mins(1);
        let (by, comment) = ("ada".to_owned(), "upgrade".to_owned());
        let silence = Silence { checks: vec!["*".to_owned()], resources: vec![], until, by, comment, announced: None };
        let silence = Silence { announced: Some(silence.describe()), ..silence };
        self.add_silence(&now.to_string(), &json!({"state": {"silence": silence}, "observed_at": now}));
    }

    /// Plays one run, both on the stage and in the model.
    async fn run(&mut self, found: char, fate: Fate, silenced: bool, now: Timestamp, model: &mut Model) {
        let read = Read { found, began: now };
        if silenced {
            self.silence(now);
        }
        match fate {
            Fate::ClockAhead => {
                let (read, now) = (Read { found, began: now + DAY }, now + DAY);
                self.load_store_send(&[read], now).await;
                // On its clock, the silence has ended.
                model.store(read, false);
                // Its wrong times do not count as newer.
                model.recorded = None;
            }
            Fate::Fine | Fate::TopicFails | Fate::AnswerLost => {
                match fate {
                    Fate::TopicFails => self.plan(FaultPlan::always(is_message, Fault::Error)),
                    Fate::AnswerLost => self.plan(lost_answer()),
                    _ => {}
                }
                self.load_store_send(&[read], now).await;
                if fate != Fate::Fine {
                    self.plan(FaultPlan::Calm);
                }
                model.store(read, silenced);
            }
            Fate::DiesBeforeSending => {
                drop(self.store(&[read], self.load().await, now).await);
                model.store(read, silenced);
            }
            Fate::DiesBeforeAcknowledging => {
                let news = self.store(&[read], self.load().await, now).await;
                self.plan(FaultPlan::always(is_write, Fault::Error));
                self.send(news, now).await;
                self.plan(FaultPlan::Calm);
                model.store(read, silenced);
            }
            Fate::ReadsAgain(found) => {
                let read = Read { found: if read.found == 'u' { 'g' } else { read.found }, ..read };
                let again = Read { found, began: now + SignedDuration::from_secs(1) };
                self.load_store_send(&[read, again], now).await;
                model.store(read, silenced);
                model.store(again, silenced);
            }
            Fate::Doubled { found, later, both_load_first, stores_first, sends_first } => {
                let distance = SignedDuration::from_secs(if later { 5 } else { -5 });
                let other = Read { found, began: now + distance };
                let order = if stores_first { [other, read] } else { [read, other] };
                let state = self.load().await;
                // A run that loaded no alert and found no failure may have nothing to write, so it does not notice the
                // other run.
                let writes = model.is_open() || failing(order[1].found).is_some();
                let loaded_early = if both_load_first && writes { Some(self.load().await) } else { None };
                let first = self.store(&order[..1], state, now).await;
                let state = match loaded_early {
                    Some(loaded) => loaded,
                    None => self.load().await,
                };
                // Two runs never write in the same nanosecond.
                let second = self.store(&order[1..], state, now + SignedDuration::from_millis(7)).await;
                for news in if sends_first { [second, first] } else { [first, second] } {
                    self.send(news, now).await;
                }
                for read in order {
                    model.store(read, silenced);
                }
            }
        }
    }

    fn heard(&self) -> Vec<(u64, char)> {
        self.aws.lock().unwrap().published.iter().map(heard).collect()
    }
}

fn found() -> impl Strategy<Value = char> {
    prop::sample::select("bBbB123KKkkciiggx?u".chars().collect::<Vec<char>>())
}

fn fates() -> impl Strategy<Value = Fate> {
    let doubled = (found(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => Just(Fate::Fine),
        1 => Just(Fate::TopicFails),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::ClockAhead),
        1 => Just(Fate::DiesBeforeSending),
        1 => Just(Fate::DiesBeforeAcknowledging),
        // The configuration cannot change during a run.
        1 => found().prop_map(|found| Fate::ReadsAgain(if found == 'u' { 'g' } else { found })),
        2 => doubled.prop_map(|(found, later, both_load_first, stores_first, sends_first)| {
            Fate::Doubled { found, later, both_load_first, stores_first, sends_first }
        }),
    ]
}

/// Plays a history, and lets undisturbed runs send the rest. Returns the sent and the expected transitions. A run with
/// no failure but a lost response must send everything itself.
fn outcome(history: &[(char, Fate, bool)]) -> (Vec<(u64, char)>, String) {
    let (mut stage, mut model, mut now) = (Stage::new(), Model::default(), at(8, 0));
    for (found, fate, silenced) in history.iter().chain(&[('g', Fate::Fine, false)]) {
        // Longer than a lease.
        now += SignedDuration::from_mins(3);
        play(stage.run(*found, *fate, *silenced, now, &mut model));
        if matches!(fate, Fate::Fine | Fate::AnswerLost) {
            let sent: BTreeSet<u64> = stage.heard().into_iter().map(|(number, _)| number).collect();
            assert_eq!(sent.len(), model.expected.len(), "{fate:?}: not all of {:?} was sent", model.expected);
        }
    }
    (stage.heard(), model.expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the runs, exactly the expected transitions are sent, once and in order. Only a message that
    /// SNS accepted before the run died may be sent again.
    #[test]
    fn every_transition_is_sent_once_and_in_order(
        history in prop::collection::vec((found(), fates(), prop::bool::weighted(0.3)), 0..8),
    ) {
        let (all, expected) = outcome(&history);
        let mut known = BTreeSet::new();
        let mut once: Vec<(u64, char)> = all.iter().filter(|transition| known.insert(transition.0)).copied().collect();
        // Two runs may send one record's transitions in two messages, which can arrive out of order.
        once.sort_by_key(|(number, _)| *number);
        prop_assert_eq!(once.iter().map(|(_, event)| *event).collect::<String>(), expected);
        let may_repeat = history.iter().any(|(_, fate, _)| *fate == Fate::DiesBeforeAcknowledging);
        prop_assert!(may_repeat || all.len() == once.len(), "sent again: {:?}", all);
    }
}

/// The events sent in a history without silences.
fn events(history: &[(char, Fate)]) -> String {
    let history: Vec<(char, Fate, bool)> = history.iter().map(|(found, fate)| (*found, *fate, false)).collect();
    outcome(&history).0.into_iter().map(|(_, event)| event).collect()
}

#[test]
fn an_alert_worse_than_its_last_reminder_fires_again() {
    let history =
        [('B', Fate::Fine, false), ('b', Fate::Fine, true), ('?', Fate::Fine, false), ('B', Fate::Fine, false)];
    let heard: String = outcome(&history).0.into_iter().map(|(_, event)| event).collect();
    assert_eq!(heard, "FrFR", "the reminder said that it is a warning");
}

#[test]
fn an_older_read_never_overrules_a_newer_one() {
    let older =
        |found| Fate::Doubled { found, later: false, both_load_first: true, stores_first: false, sends_first: false };
    assert_eq!(events(&[('b', Fate::Fine), ('b', older('g'))]), "FR", "the slow run does not resolve what fails");
    assert_eq!(events(&[('B', Fate::Fine), ('g', older('B'))]), "FR", "nor fire what is over");
    let both_enforce =
        Fate::Doubled { found: 'g', later: true, both_load_first: true, stores_first: true, sends_first: true };
    assert_eq!(events(&[('b', both_enforce)]), "F".to_owned() + "R", "each read counts once");
}

#[test]
fn a_silence_is_announced_once_and_its_end_sends_open_alerts() {
    let mut stage = Stage::new();
    let until = at(8, 10);
    let silence = json!({"checks": [check().id], "until": until, "by": "ada", "comment": "upgrade"});
    // A silence as an administrator writes it.
    stage.add_silence("upgrade", &json!({"state": {"silence": silence}, "observed_at": at(7, 0)}));
    play_minutes(&mut stage, "bbbb", 0);
    let messages = |stage: &Stage| stage.aws.lock().unwrap().messages.clone();
    assert_eq!(messages(&stage).len(), 1, "not every minute: {:?}", messages(&stage));
    let (subject, _) = &messages(&stage)[0];
    assert!(subject.contains(" silenced until Mar 14 08:10 UTC"), "{subject}");
    play_minutes(&mut stage, "bb", 10);
    assert_eq!(messages(&stage).len(), 2, "{:?}", messages(&stage));
    let (subject, _) = &messages(&stage)[1];
    assert!(subject.starts_with("[WARNING]"), "{subject}");
}

#[test]
fn an_unreadable_silence_suppresses_no_alert() {
    let mut stage = Stage::new();
    stage.add_silence("upgrade", &json!({"state": {"silence": {"checks": ["*"]}}}));
    play_minutes(&mut stage, "b", 0);
    assert_eq!(stage.heard(), [(1, 'F')]);
}

#[test]
fn a_run_recognizes_its_write_after_a_lost_response() {
    assert_eq!(events(&[('b', Fate::AnswerLost), ('g', Fate::AnswerLost)]), "FR");
    assert_eq!(events(&[('c', Fate::AnswerLost)]), "F".to_owned() + "R", "with a cause, of which not all is stored");
}

/// Each of the nine others writes the record twice: to store and to acknowledge.
#[test]
fn a_run_succeeds_against_nine_concurrent_writers() {
    let mut stage = Stage::new();
    play_minutes(&mut stage, "b", 0);
    let now = at(8, 1);
    play(async {
        let loaded = stage.load().await;
        stage.plan(overtaken(18));
        let news = stage.store(&[Read { found: 'g', began: now }], loaded, now).await;
        stage.plan(overtaken(18));
        stage.notifier.send(news, &BTreeMap::new(), &invocation(0), now).await.into_result().unwrap();
    });
    play_minutes(&mut stage, "g", 2);
    assert_eq!(stage.heard(), [(1, 'F'), (2, 'R')]);
}

#[test]
fn a_late_cause_survives_the_write_of_another_run() {
    let mut stage = Stage::new();
    play_minutes(&mut stage, "b", 0);
    stage.plan(overtaken(1));
    let cause = Change {
        event_name: "ModifyLoadBalancerAttributes".to_owned(),
        parameters: "[\"resource\"]".to_owned(),
        ..change()
    };
    play(stage.notifier.attribute(&invocation(0), &[cause])).into_result().unwrap();
    assert_eq!(stage.heard(), [(1, 'F'), (2, 'c')]);
}

/// Plays undisturbed runs with these findings, a minute apart, starting at `minute`.
fn play_minutes(stage: &mut Stage, found: &str, minute: i8) {
    let mut now = at(8, minute);
    for letter in found.chars() {
        play(stage.run(letter, Fate::Fine, false, now, &mut Model::default()));
        now += SignedDuration::from_mins(1);
    }
}

#[test]
fn an_unreadable_table_repeats_a_firing_alert_once_an_hour() {
    let mut stage = Stage::new();
    stage.plan(FaultPlan::always(is_read, Fault::Error));
    play_minutes(&mut stage, &"b".repeat(30), 0);
    assert_eq!(stage.heard().len(), 1, "sent without the table, but not every minute");
    play(stage.run('b', Fate::Fine, false, at(9, 1), &mut Model::default()));
    assert_eq!(stage.heard().len(), 2, "and again after an hour");
    play(stage.run('g', Fate::Fine, false, at(9, 2), &mut Model::default()));
    assert_eq!(stage.heard().len(), 2, "what is over is not sent");
}

#[test]
fn an_unreadable_table_makes_the_firing_alerts_incomplete() {
    let mut stage = Stage::new();
    play_minutes(&mut stage, "bb", 0);
    let firing = |stage: &mut Stage, found, minute| {
        play(async {
            let loaded = stage.load().await;
            stage.store(&[Read { found, began: at(8, minute) }], loaded, at(8, minute)).await.firing()
        })
    };
    assert_eq!(firing(&mut stage, '?', 2), Firing { severities: vec![Severity::Warning], is_complete: true });
    stage.plan(FaultPlan::always(is_read, Fault::Error));
    assert_eq!(firing(&mut stage, '?', 3), Firing { severities: vec![], is_complete: false });
}

#[test]
fn a_table_that_refuses_writes_suppresses_no_alert() {
    let mut stage = Stage::new();
    stage.plan(FaultPlan::always(is_write, Fault::Error));
    play_minutes(&mut stage, &"b".repeat(30), 0);
    assert_eq!(stage.heard(), [(1, 'F')]);
}

#[test]
fn without_the_table_worse_or_new_failures_are_sent_at_once() {
    let mut stage = Stage::new();
    stage.plan(FaultPlan::always(is_read, Fault::Error));
    play_minutes(&mut stage, "bbBB", 0);
    assert_eq!(stage.heard().len(), 2, "a rise in severity");
    let mut stage = Stage::new();
    stage.plan(FaultPlan::always(is_read, Fault::Error));
    play_minutes(&mut stage, "1133", 0);
    assert_eq!(stage.heard().len(), 2, "a new part");
}

#[test]
fn without_the_table_a_refused_message_is_sent_later() {
    let mut stage = Stage::new();
    stage.plan(FaultPlan::always(|call| is_read(call) || is_message(call), Fault::Error));
    play_minutes(&mut stage, "b", 0);
    assert_eq!(stage.heard(), []);
    stage.plan(FaultPlan::always(is_read, Fault::Error));
    play_minutes(&mut stage, "bb", 1);
    assert_eq!(stage.heard().len(), 1);
}

#[test]
fn an_unreadable_item_is_sent_again_and_repaired() {
    let mut stage = Stage::new();
    play_minutes(&mut stage, "b", 0);
    stage.aws.lock().unwrap().table.items[0]["record"]["S"] = "garbage".into();
    play_minutes(&mut stage, "bb", 1);
    assert_eq!(stage.heard().len(), 2);
    stage.aws.lock().unwrap().table.items[0]["version"] = json!({"S": "garbage"});
    play_minutes(&mut stage, "g", 3);
    assert_eq!(stage.heard().last().unwrap().1, 'R');
}

#[test]
fn alerts_of_a_removed_service_close_with_one_notice() {
    let mut stage = Stage::new();
    play(stage.notifier.close_removed_services(&invocation(0), at(8, 0))).unwrap();
    play_minutes(&mut stage, "b", 1);
    let other = service(2);
    let settings = settings(&[("ENDPOINT_SERVICE_IDS", other.as_str())]);
    let after = |minute| {
        let after = Notifier::new("drift-watcher", &stage.config, &settings);
        play(after.close_removed_services(&invocation(0), at(8, minute)))
    };
    stage.plan(FaultPlan::always(is_message, Fault::Error));
    assert!(after(2).is_err(), "what could not be sent is not done");
    stage.plan(FaultPlan::Calm);
    for minute in 3..6 {
        after(minute).unwrap();
    }
    assert_eq!(stage.heard(), [(1, 'F'), (2, 'u')]);
}
