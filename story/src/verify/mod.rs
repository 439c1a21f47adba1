//! `make verify`: the story on AWS itself, in the administrator's accounts, with a report.

pub mod account;
pub mod assumptions;
pub mod figures;
pub mod markdown;
pub mod mask;
pub mod plan;
pub mod profiles;
pub mod report;
pub mod settings;
pub mod stacks;
pub mod steps;
pub mod teardown;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use self::account::Account;
use self::profiles::Profiles;
use self::report::VerifyReport;
use self::settings::VerifySettings;
use self::stacks::Names;
use self::steps::VerifyFindings;
use self::teardown::{Accounts, Left, Removal};
use crate::chapters::{Chapter, ChapterResult, Scene, Story, StoryObserver, connections, health, settings as changes};
use crate::stage::{Limits, Party, StoryStage};
use crate::terminal::{self, Terminal};
use crate::top;

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyEnd {
    /// Everything went as expected, and nothing is left.
    AsExpected,
    /// Something went wrong, or something is left.
    Otherwise,
    /// Nothing was done, because the user did not agree.
    Declined,
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Runs the story and always removes the created resources. Ctrl-C sets `interrupt`.
pub fn run(settings: &VerifySettings, interrupt: &Arc<AtomicBool>) -> Result<VerifyEnd> {
    let accounts = open(settings)?;
    let earlier = teardown::runs(&accounts)?;
    if settings.only_clean {
        return Ok(clean(&accounts, &earlier));
    }
    let names = Names { run: format!("{:08x}", Timestamp::now().as_second()) };
    println!("{}", plan::text(&accounts, &names, &earlier, steps::has_trail(&accounts)?));
    if !settings.yes && !plan::agreed()? {
        println!("Nothing was created.");
        return Ok(VerifyEnd::Declined);
    }
    std::fs::create_dir_all(&settings.report)
        .with_context(|| format!("the folder {} cannot be created", settings.report.display()))?;
    let folder = settings.report.canonicalize()?;
    let functions = functions(settings)?;
    let left = clean(&accounts, &earlier);
    ensure!(left == VerifyEnd::AsExpected, "what earlier runs left must be removed first; see above");
    let stage = Profiles::new(accounts, names, &folder, Arc::clone(interrupt));
    finish(&stage, play(&stage, &functions))
}

/// The functions' location. They are built before any resource is created, since a build can take a quarter of an hour.
fn functions(settings: &VerifySettings) -> Result<String> {
    if let Some(prebuilt) = &settings.prebuilt {
        return Ok(prebuilt.clone());
    }
    let built = Command::new("make").arg("functions").current_dir(top()).status()?;
    ensure!(
        built.success(),
        "the functions could not be built, so nothing was created. PREBUILT=… takes a release instead"
    );
    Ok("target/functions".to_owned())
}

/// The profiles' accounts: two or three different ones, in one Region.
fn open(settings: &VerifySettings) -> Result<Accounts> {
    let provider = Account::open(&settings.provider, settings.region.as_deref())?;
    let region = provider.region.clone();
    let consumer = Account::open(&settings.consumer, Some(&region))?;
    let mut accounts = Accounts::from([(Party::Provider, provider), (Party::Consumer, consumer)]);
    if let Some(profile) = &settings.untrusted {
        accounts.insert(Party::Untrusted, Account::open(profile, Some(&region))?);
    }
    for (party, account) in &accounts {
        let twin = accounts.iter().find(|(other, twin)| *other != party && twin.id == account.id);
        ensure!(
            twin.is_none(),
            "the profile {} is of account {}, and so is another one. Nothing was created: dbt connects from another \
             account, so each profile must be of its own.",
            account.profile,
            account.id
        );
    }
    Ok(accounts)
}

/// Removes the leftovers of earlier runs.
fn clean(accounts: &Accounts, earlier: &[Names]) -> VerifyEnd {
    let mut terminal = Terminal::default();
    let mut end = VerifyEnd::AsExpected;
    for names in earlier {
        terminal.step(&format!("An earlier run, {}, left something", names.run), &[]);
        let (_, left) = remove(accounts, names, &mut terminal);
        if !left.is_empty() {
            end = VerifyEnd::Otherwise;
        }
    }
    if earlier.is_empty() {
        println!("No earlier run has left anything.");
    }
    end
}

/// Removes a run's resources and prints the leftovers.
fn remove(accounts: &Accounts, names: &Names, terminal: &mut Terminal) -> (Vec<Removal>, Vec<Left>) {
    let is_local = accounts.values().any(Account::is_local);
    let limits = if is_local { Limits::LOCAL } else { Limits::AWS };
    let removals = teardown::remove(accounts, names, limits, |what| terminal.step(&format!("Removing {what}"), &[]));
    for Removal { what, result } in &removals {
        if let Err(error) = result {
            println!("          {what} is not removed: {error:#}");
        }
    }
    let left = teardown::left(accounts, names).unwrap_or_else(|error| {
        let command = "make verify CLEAN=1 PROFILE=… CONSUMER_PROFILE=…".to_owned();
        vec![Left { what: format!("what is left is not known: {error:#}"), command }]
    });
    plan::print_left(&left);
    (removals, left)
}

/// The played chapters and the findings.
struct Play {
    began: Timestamp,
    timer: Instant,
    played: Vec<ChapterResult>,
    findings: VerifyFindings,
}

/// Plays all chapters, until the end or an interrupt.
fn play(stage: &Profiles, functions: &str) -> Play {
    let mut terminal = Terminal::default();
    let findings = VerifyFindings::default();
    let (began, timer) = (Timestamp::now(), Instant::now());
    let mut played = set_up(stage, functions, &mut terminal);
    if played.iter().all(ChapterResult::is_ok) && !stage.is_interrupted() {
        match steps::scene(stage) {
            Ok(scene) => played.extend(chapters(stage, &scene, &findings, &mut terminal)),
            Err(error) => println!("NOT OK: {error:#}"),
        }
    }
    Play { began, timer, played, findings }
}

fn set_up(stage: &Profiles, functions: &str, terminal: &mut Terminal) -> Vec<ChapterResult> {
    let scene = Scene::default();
    let mut story = Story::new(stage, &scene, terminal);
    let mut played = vec![story.play_with(steps::SERVICE, |run| steps::service(run, stage))];
    if played.iter().all(ChapterResult::is_ok) {
        played.push(story.play_with(steps::GUARD, |run| steps::guard(run, stage, functions)));
    }
    if played.iter().all(ChapterResult::is_ok) {
        played.push(story.play_with(steps::NETWORKS, |run| steps::networks(run, stage)));
    }
    played
}

/// A chapter to play or skip.
type ChapterStep<'a> = Box<dyn FnOnce(&mut Story<'_>) -> ChapterResult + 'a>;

/// Plays the chapters in turn. A failed chapter does not end the run. After Ctrl-C, no further chapter begins.
fn chapters(stage: &Profiles, scene: &Scene, findings: &VerifyFindings, terminal: &mut Terminal) -> Vec<ChapterResult> {
    let mut story = Story::new(stage, scene, terminal);
    let mut played: Vec<ChapterResult> = Vec::new();
    let shared = |chapter: Chapter| -> ChapterStep<'_> { Box::new(move |story| story.play(chapter)) };
    let of_untrusted = |chapter: Chapter| -> ChapterStep<'_> {
        let is_given = stage.account(Party::Untrusted).is_ok();
        Box::new(move |story| match is_given {
            true => story.play(chapter),
            false => story.skip((chapter.title, chapter.expected), "STRANGER_PROFILE names no third account"),
        })
    };
    let steps: Vec<ChapterStep<'_>> = vec![
        shared(connections::WAITING),
        shared(connections::DBT_REQUESTS),
        Box::new(|story| story.play_with(assumptions::NOTIFICATION, |run| steps::notification(run, stage))),
        Box::new(|story| story.play_with(assumptions::ANSWERS, |run| assumptions::answers(run, stage))),
        shared(connections::EVERY_ACCOUNT_ALLOWED),
        of_untrusted(connections::UNTRUSTED_REQUESTS),
        of_untrusted(connections::UNTRUSTED_LEAVES),
        shared(connections::ONLY_DBT_ALLOWED),
        shared(health::TARGET_FAILS),
        shared(health::TARGET_RECOVERS),
        shared(changes::CROSS_ZONE),
        Box::new(|story| match scene.administrator {
            Some(_) => story.play_with(steps::CHANGE, |run| steps::change(run, stage, findings)),
            None => story.skip(steps::CHANGE, "no trail records management events in this Region"),
        }),
        shared(changes::REMOVED_RULE),
        shared(changes::DELETED_LISTENER),
        shared(changes::ACCEPTANCE),
        shared(connections::OTHER_CUSTOMER_REQUESTS),
        shared(connections::DBT_LEAVES),
        shared(connections::OTHER_CUSTOMER_IS_REJECTED),
        Box::new(|story| story.play_with(steps::TEST_MESSAGE, |run| steps::test_message(run, stage))),
        Box::new(|story| story.play_with(steps::DEAD_LETTERS, |run| steps::dead_letters(run, stage))),
        Box::new(|story| story.play_with(steps::ALARMS, |run| steps::alarms(run, stage))),
        Box::new(|story| story.play_with(steps::FIGURES, |run| steps::figures(run, stage, findings))),
        Box::new(|story| story.play_with(assumptions::PUBLISHED, |run| assumptions::published(run, stage))),
    ];
    for step in steps {
        if stage.is_interrupted() {
            break;
        }
        played.push(step(&mut story));
    }
    *findings.notifications.borrow_mut() = steps::notifications(stage).unwrap_or_default();
    played
}

/// Removes everything, writes the report, and returns the outcome.
fn finish(stage: &Profiles, play: Play) -> Result<VerifyEnd> {
    let interrupted = stage.is_interrupted();
    println!(
        "{}\n",
        if interrupted { "Interrupted: removing what was created." } else { "Removing what was created." }
    );
    let (removals, left) = remove(&stage.accounts, &stage.names, &mut Terminal::default());
    terminal::print_results(&play.played);
    let Play { began, timer, played, findings } = play;
    let report = VerifyReport { began, took: timer.elapsed(), interrupted, played, removals, left, findings, stage };
    let page = report.write(&stage.folder)?;
    println!("\nThe report, to be attached to an issue: {}", page.display());
    Ok(report.end())
}
