//! `silence`: holds alerts back during planned work. A silence is an item in the guard's table; docs/silences.md has
//! its format.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Result, anyhow, bail, ensure};
use guard_aws::concurrently;
use guard_aws::table::Write;
use guard_core::alerts::record::{Items, Key, Partition, Record, State, firing};
use guard_core::alerts::silence::{EVERY_CHECK, Silence};
use guard_core::alerts::silencing::{MAX_LENGTH, active, known_resources};
use guard_core::catalogue;
use guard_core::check::Branch;
use guard_core::ids::Arn;
use guard_core::snapshot::CallError;
use guard_core::text::strip_invisible;
use jiff::{SignedDuration, Timestamp};

use crate::BadUsage;
use crate::args::{AddSilenceArgs, SilenceAction};
use crate::memory::GuardMemory;
use crate::output;
use crate::session::{Session, explained};
use crate::stack::DeployedStack;

/// The most resources that an error lists.
const MAX_LISTED: usize = 10;

/// Runs an action and returns the exit status.
///
/// # Errors
/// If the stack or its table cannot be read or written; [`BadUsage`] if the silence makes no sense.
pub async fn run(session: &Session, action: SilenceAction) -> Result<u8> {
    match action {
        SilenceAction::Add(arguments) => add(session, &arguments).await,
        SilenceAction::List { stack } => list(session, &stack).await,
        SilenceAction::Remove { stack, id } => remove(session, &stack, &id).await,
    }
}

async fn memory(session: &Session, stack: &str) -> Result<GuardMemory> {
    GuardMemory::load(session, &DeployedStack::read(session, stack).await?).await
}

async fn add(session: &Session, arguments: &AddSilenceArgs) -> Result<u8> {
    check_ids(&arguments.checks)?;
    let length = SignedDuration::try_from(arguments.length)?;
    ensure!(length <= MAX_LENGTH, BadUsage("--for: a silence lasts at most 7 days".to_owned()));
    ensure!(!arguments.comment.trim().is_empty(), BadUsage("--comment: say why".to_owned()));
    let (memory, identity) = tokio::try_join!(memory(session, &arguments.stack), session.identity())?;
    let partitions = wanted(memory.complete()?, arguments)?;
    let (partitions, checks, resources) = match &arguments.target_group {
        None => {
            known(&partitions, &arguments.resources)?;
            (partitions, arguments.checks.clone(), arguments.resources.clone())
        }
        Some(group) => {
            let group = target_group(&partitions, group)?;
            let serves = |(_, items): &(&Partition, &Items)| known_resources(items).contains(&group);
            (partitions.into_iter().filter(serves).collect(), vec![EVERY_CHECK.to_owned()], vec![group])
        }
    };
    let now = Timestamp::now();
    let until = now.checked_add(length)?;
    let comment = strip_invisible(&arguments.comment);
    let silence = Silence { checks, resources, until, by: identity.arn.clone(), comment, announced: None };
    let id = now.strftime("%Y%m%dT%H%M%S%3f").to_string();
    store(&memory, &partitions, &silence, (&id, &arguments.stack), now).await?;
    let of = |partition: &Partition| partition.service().map_or("the guard itself".to_owned(), ToString::to_string);
    let whose = partitions.iter().map(|(partition, _)| of(partition)).collect::<Vec<_>>().join(", ");
    let resources = if silence.resources.is_empty() { "all".to_owned() } else { silence.resources.join(", ") };
    output::print(&format!(
        "Silence {id} is active until {until:.0}\n  in: account {}, {}\n  for: {whose}\n  checks: {}\n  \
         resources: {resources}\n  {}\nEnd it with: privatelink-guard silence remove --stack {} {id}\n",
        identity.account,
        session.region,
        silence.checks.join(", "),
        matching(&silence, &partitions),
        arguments.stack
    ))?;
    Ok(0)
}

/// Stores the silence for each partition.
///
/// # Errors
/// If a write fails. Then no service is silenced without the user's knowledge: what was written is removed again, or
/// the error says that it may hold.
async fn store(
    memory: &GuardMemory,
    partitions: &[(&Partition, &Items)],
    silence: &Silence,
    (id, stack): (&str, &str),
    now: Timestamp,
) -> Result<()> {
    let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, id);
    let record = Record::new(State::Silence(silence.clone()), now);
    let table = &memory.table;
    let writes = concurrently(partitions, |(partition, _)| table.put(partition, &key, &record, None, now)).await;
    let Some(why) = writes.iter().find_map(refusal) else { return Ok(()) };
    // A lost write means that another user owns the item.
    let ours = partitions.iter().zip(&writes).filter(|(_, write)| !matches!(write, Ok(Write::Lost)));
    let removed = concurrently(ours, |((partition, _), _)| table.remove(partition, &key)).await;
    if removed.iter().all(Result::is_ok) {
        bail!(why);
    }
    let end = format!("End it with: privatelink-guard silence remove --stack {stack} {id}");
    bail!("{why}\nThe silence {id} may be active for some services. {end}")
}

/// The reason for a write that the table refused.
fn refusal(write: &Result<Write, CallError>) -> Option<String> {
    match write {
        Ok(Write::Won(_)) => None,
        Ok(Write::Lost) => Some("There is already a silence with this id. Try again.".to_owned()),
        Err(error) => Some(explained(error)),
    }
}

/// Every check must exist: a silence of an unknown check would cover nothing.
fn check_ids(checks: &[String]) -> Result<()> {
    for check in checks.iter().filter(|check| *check != EVERY_CHECK) {
        ensure!(
            catalogue::find(check).is_some(),
            BadUsage(format!("--check: there is no check {check}; docs/checks.md lists them"))
        );
    }
    Ok(())
}

/// Every resource must be one that the guard knows: a silence of another one would cover nothing.
fn known(partitions: &[(&Partition, &Items)], resources: &[String]) -> Result<()> {
    let known: BTreeSet<String> = partitions.iter().flat_map(|(_, items)| known_resources(items)).collect();
    match resources.iter().find(|resource| !known.contains(*resource)) {
        Some(resource) => bail!(BadUsage(unknown("--resource", resource, known))),
        None => Ok(()),
    }
}

/// The ARN of the target group that the guard knows by this ARN or name.
fn target_group(partitions: &[(&Partition, &Items)], wanted: &str) -> Result<String> {
    let known = partitions.iter().flat_map(|(_, items)| known_resources(items));
    let groups: BTreeSet<String> = known.filter(|resource| resource.contains(":targetgroup/")).collect();
    let name = |arn: &str| arn.parse().is_ok_and(|arn: Arn| arn.name() == wanted);
    match groups.iter().find(|group| *group == wanted || name(group)) {
        Some(group) => Ok(group.clone()),
        None => bail!(BadUsage(unknown("--target-group", wanted, groups))),
    }
}

/// The refusal of a resource, with those that the user may mean.
fn unknown(flag: &str, wanted: &str, known: BTreeSet<String>) -> String {
    let (alike, others): (Vec<String>, Vec<String>) = known.into_iter().partition(|resource| resource.contains(wanted));
    let listed = if alike.is_empty() { others } else { alike };
    let more = listed.len().saturating_sub(MAX_LISTED);
    let mut lines: Vec<String> = listed.into_iter().take(MAX_LISTED).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    let known = match lines.is_empty() {
        true => " It knows nothing yet: drift-watcher's first run has not ended.".to_owned(),
        false => format!(" Do you mean one of these?\n  {}", lines.join("\n  ")),
    };
    format!("{flag}: the guard knows no {wanted}, so nothing would be silenced.{known}")
}

/// The records in the silence's partitions: those of the named services, or of all services; also the guard's own if
/// the silence covers one of its alerts.
fn wanted<'a>(
    partitions: Vec<(&'a Partition, &'a Items)>,
    arguments: &AddSilenceArgs,
) -> Result<Vec<(&'a Partition, &'a Items)>> {
    for service in &arguments.services {
        let is_known = partitions.iter().any(|(partition, _)| partition.service() == Some(service));
        ensure!(is_known, BadUsage(format!("--service: {service} is not one of the stack's endpoint services")));
    }
    let is_guards_own = |id: &&String| catalogue::find(id).is_some_and(|check| check.branch == Branch::Guard);
    if let Some(check) = arguments.checks.iter().find(is_guards_own).filter(|_| !arguments.services.is_empty()) {
        bail!(BadUsage(format!("--check: {check} belongs to no endpoint service: omit --service")));
    }
    let only_guards = !arguments.checks.is_empty() && arguments.checks.iter().all(|check| is_guards_own(&check));
    let guards = arguments.checks.iter().any(|check| is_guards_own(&check) || check == EVERY_CHECK);
    let is_wanted = |(partition, _): &(&Partition, &Items)| match partition.service() {
        Some(service) => !only_guards && (arguments.services.is_empty() || arguments.services.contains(service)),
        None => guards && arguments.services.is_empty(),
    };
    Ok(partitions.into_iter().filter(is_wanted).collect())
}

/// The firing alerts that the silence covers.
fn matching(silence: &Silence, partitions: &[(&Partition, &Items)]) -> String {
    let firing = partitions.iter().flat_map(|(_, items)| firing(items));
    let covered = firing.filter(|(key, _)| silence.matches(&key.subject, &key.resource));
    let covered: Vec<String> = covered.map(|(_, alert)| strip_invisible(&alert.finding.summary)).collect();
    match covered.is_empty() {
        true => "it covers no alert that is firing now".to_owned(),
        false => format!("firing now, and held back from now on: {}", covered.join("; ")),
    }
}

async fn list(session: &Session, stack: &str) -> Result<u8> {
    let memory = memory(session, stack).await?;
    let now = Timestamp::now();
    let mut text = String::new();
    for (partition, items) in memory.complete()? {
        for (key, silence, end) in active(items, now) {
            text += &described(&strip_invisible(&key.resource), partition, silence, end);
        }
        let is_silence = |key: &&Key| key.function == Key::ANY_FUNCTION && key.subject == Key::SILENCE;
        for key in items.iter().filter(|(_, item)| item.record.is_none()).map(|(key, _)| key).filter(is_silence) {
            let _ = writeln!(text, "{}  cannot be read, so it silences nothing", strip_invisible(&key.resource));
        }
    }
    output::print(if text.is_empty() { "No silence is active.\n" } else { &text })?;
    Ok(0)
}

fn described(id: &str, partition: &Partition, silence: &Silence, end: Timestamp) -> String {
    let resources = if silence.resources.is_empty() { "all".to_owned() } else { silence.resources.join(", ") };
    format!(
        "{id}  {partition}\n  until {end:.0}\n  checks: {}\n  resources: {}\n  by: {}\n  why: {}\n",
        strip_invisible(&silence.checks.join(", ")),
        strip_invisible(&resources),
        strip_invisible(&silence.by),
        strip_invisible(&silence.comment)
    )
}

async fn remove(session: &Session, stack: &str, id: &str) -> Result<u8> {
    let memory = memory(session, stack).await?;
    let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, id);
    let removed = concurrently(&memory.partitions, |(partition, _)| memory.table.remove(partition, &key)).await;
    let removed: Result<Vec<bool>, _> = removed.into_iter().collect();
    ensure!(
        removed.map_err(|error| anyhow!(explained(&error)))?.contains(&true),
        "There is no silence {id}. `privatelink-guard silence list --stack {stack}` lists them."
    );
    output::print("Removed. The next run sends the alerts that are still firing.\n")?;
    Ok(0)
}
