//! `make verify`: the story on AWS itself, in the administrator's accounts, with a report.

pub mod account;
pub mod assumptions;
pub mod figures;
pub mod following;
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
use self::teardown::{Accounts, Left, Removal};
use crate::chapters::{Chapter, Scene, Story, connections, health, settings as changes};
use crate::outcome::ChapterResult;
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
    let stage = Profiles::new(accounts, names, functions, &folder, Arc::clone(interrupt));
    let (began, timer, played) = (Timestamp::now(), Instant::now(), play(&stage));
    let interrupted = stage.is_interrupted();
    println!("{}Removing what was created.\n", if interrupted { "Interrupted. " } else { "" });
    let (removals, left) = remove(&stage.accounts, &stage.names, &Terminal::default());
    terminal::print_results(&played);
    let report = VerifyReport { began, took: timer.elapsed(), interrupted, played, removals, left, stage: &stage };
    println!("\nThe report, to be attached to an issue: {}", report.write()?.display());
    Ok(report.end())
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
    let terminal = Terminal::default();
    let mut end = VerifyEnd::AsExpected;
    for names in earlier {
        terminal.step(&format!("An earlier run, {}, left something", names.run), &[]);
        let (_, left) = remove(accounts, names, &terminal);
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
fn remove(accounts: &Accounts, names: &Names, terminal: &Terminal) -> (Vec<Removal>, Vec<Left>) {
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

/// The chapters before the scene is known. Each needs the one before it.
const SET_UP: [Chapter; 3] = [steps::SERVICE, steps::GUARD, steps::NETWORKS];

const CHAPTERS: [Chapter; 24] = [
    connections::WAITING,
    connections::DBT_REQUESTS,
    steps::NOTIFICATION,
    assumptions::ANSWERS,
    connections::EVERY_ACCOUNT_ALLOWED,
    connections::UNTRUSTED_REQUESTS,
    connections::UNTRUSTED_LEAVES,
    connections::ONLY_DBT_ALLOWED,
    health::TARGET_FAILS,
    health::TARGET_RECOVERS,
    changes::CROSS_ZONE,
    steps::CHANGE,
    changes::REMOVED_RULE,
    changes::DELETED_LISTENER,
    changes::ACCEPTANCE,
    connections::OTHER_CUSTOMER_REQUESTS,
    connections::DBT_LEAVES,
    connections::OTHER_CUSTOMER_IS_REJECTED,
    following::FOLLOWS,
    steps::TEST_MESSAGE,
    steps::DEAD_LETTERS,
    steps::ALARMS,
    steps::FIGURES,
    assumptions::PUBLISHED,
];

/// Plays all chapters, until the end or an interrupt. After Ctrl-C, no further chapter begins.
fn play(stage: &Profiles) -> Vec<ChapterResult> {
    let (terminal, nothing) = (Terminal::default(), Scene::default());
    let mut story = Story::new(stage, &nothing, terminal.clone());
    let mut played: Vec<ChapterResult> = Vec::new();
    for chapter in SET_UP {
        played.push(story.play(chapter));
        if stage.is_interrupted() || !played.iter().all(ChapterResult::is_ok) {
            return played;
        }
    }
    match steps::scene(stage) {
        Ok(scene) => played.extend(chapters(stage, &scene, terminal)),
        Err(error) => println!("NOT OK: {error:#}"),
    }
    played
}

/// Plays the chapters in turn. A failed chapter does not end the run.
fn chapters(stage: &Profiles, scene: &Scene, terminal: Terminal) -> Vec<ChapterResult> {
    let mut story = Story::new(stage, scene, terminal);
    let play = |chapter: Chapter| match why_skipped(chapter, stage, scene) {
        Some(reason) => story.skip(chapter, reason),
        None => story.play(chapter),
    };
    let played = CHAPTERS.into_iter().take_while(|_| !stage.is_interrupted()).map(play).collect();
    // For the report: what has arrived since the last chapter that read it.
    let _ = stage.events();
    played
}

fn why_skipped(chapter: Chapter, stage: &Profiles, scene: &Scene) -> Option<&'static str> {
    let is_one_of = |chapters: &[Chapter]| chapters.iter().any(|each| each.title == chapter.title);
    if is_one_of(&[connections::UNTRUSTED_REQUESTS, connections::UNTRUSTED_LEAVES]) {
        return stage.account(Party::Untrusted).is_err().then_some("STRANGER_PROFILE names no third account");
    }
    let is_unseen = is_one_of(&[steps::CHANGE]) && scene.administrator.is_none();
    is_unseen.then_some("no trail records management events in this Region")
}
