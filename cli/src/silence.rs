//! `silence`: holds alerts back during planned work. A silence is an item in the guard's table; docs/silences.md has
//! its format.

use anyhow::{Context, Result, anyhow, bail, ensure};
use guard_aws::concurrently;
use guard_aws::table::{StateTable, Write};
use guard_core::alerts::record::{Item, Key, Partition, Record, State};
use guard_core::alerts::silence::{EVERY_CHECK, Silence};
use guard_core::alerts::silencing::{MAX_LENGTH, active};
use guard_core::catalogue;
use guard_core::check::Branch;
use guard_core::ids::ServiceId;
use guard_core::snapshot::CallError;
use guard_core::text::strip_invisible;
use jiff::{SignedDuration, Timestamp};

use crate::BadUsage;
use crate::args::{AddSilenceArgs, SilenceAction};
use crate::output;
use crate::session::{Session, explained};
use crate::stack::DeployedStack;

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

/// The guard's table and its partitions.
async fn table(session: &Session, stack: &str) -> Result<(StateTable, Vec<Partition>)> {
    let stack = DeployedStack::read(session, stack).await?;
    let store = StateTable::new(&session.config, stack.output("StateTableName")?);
    let ids = stack.parameters.get("EndpointServiceIds").context("The stack has no parameter EndpointServiceIds.")?;
    let services: Result<Vec<ServiceId>, _> = ids.split(',').map(|id| id.trim().parse()).collect();
    let partitions = services?.into_iter().map(Partition::Service).chain([Partition::Guard]);
    Ok((store, partitions.collect()))
}

async fn add(session: &Session, arguments: &AddSilenceArgs) -> Result<u8> {
    check_ids(&arguments.checks)?;
    let length = SignedDuration::try_from(arguments.length)?;
    ensure!(length <= MAX_LENGTH, BadUsage("--for: a silence holds at most 7 days".to_owned()));
    ensure!(!arguments.comment.trim().is_empty(), BadUsage("--comment: say why".to_owned()));
    let ((store, partitions), identity) = tokio::try_join!(table(session, &arguments.stack), session.identity())?;
    let now = Timestamp::now();
    let silence = Silence {
        checks: arguments.checks.clone(),
        resources: arguments.resources.clone(),
        until: now.checked_add(length)?,
        by: identity.arn.clone(),
        comment: strip_invisible(&arguments.comment),
        announced: None,
    };
    let wanted = wanted(&partitions, arguments)?;
    let id = now.strftime("%Y%m%dT%H%M%S%3f").to_string();
    let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, &id);
    let record = Record::new(State::Silence(silence.clone()), now);
    let writes = concurrently(&wanted, |partition| store.put(partition, &key, &record, None, now)).await;
    if let Some(why) = writes.iter().find_map(refusal) {
        // All or nothing: no service may be silenced without the user's knowledge. A lost write means that another
        // user owns the item.
        let ours = wanted.iter().zip(&writes).filter(|(_, write)| !matches!(write, Ok(Write::Lost)));
        let removed = concurrently(ours, |(partition, _)| store.remove(partition, &key)).await;
        let is_removed = removed.iter().all(Result::is_ok);
        let end = format!("End it with: privatelink-guard silence remove --stack {} {id}", arguments.stack);
        bail!(if is_removed { why } else { format!("{why}\nThe silence {id} may hold for some services. {end}") });
    }
    let of = |partition: &&Partition| partition.service().map_or("the guard itself".to_owned(), ToString::to_string);
    let whose = wanted.iter().map(of).collect::<Vec<_>>().join(", ");
    let resources = if arguments.resources.is_empty() { "all".to_owned() } else { arguments.resources.join(", ") };
    output::print(&format!(
        "Silence {id} holds until {:.0}\n  in: account {}, {}\n  for: {whose}\n  checks: {}\n  resources: {resources}\n\
         End it with: privatelink-guard silence remove --stack {} {id}\n",
        silence.until,
        identity.account,
        session.region,
        arguments.checks.join(", "),
        arguments.stack
    ))?;
    Ok(0)
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

/// The silence's partitions: those of the named services, or of all services; also the guard's own if the silence
/// covers one of its alerts.
fn wanted<'a>(partitions: &'a [Partition], arguments: &AddSilenceArgs) -> Result<Vec<&'a Partition>> {
    for service in &arguments.services {
        let is_known = partitions.iter().any(|partition| partition.service() == Some(service));
        ensure!(is_known, BadUsage(format!("--service: {service} is not one of the stack's endpoint services")));
    }
    let is_guards_own = |id: &&String| catalogue::find(id).is_some_and(|check| check.branch == Branch::Guard);
    if let Some(check) = arguments.checks.iter().find(is_guards_own).filter(|_| !arguments.services.is_empty()) {
        bail!(BadUsage(format!("--check: {check} belongs to no endpoint service: leave --service out")));
    }
    let only_guards = arguments.checks.iter().all(|check| is_guards_own(&check));
    let guards = arguments.checks.iter().any(|check| is_guards_own(&check) || check == EVERY_CHECK);
    let is_wanted = |partition: &&Partition| match partition.service() {
        Some(service) => !only_guards && (arguments.services.is_empty() || arguments.services.contains(service)),
        None => guards && arguments.services.is_empty(),
    };
    Ok(partitions.iter().filter(is_wanted).collect())
}

async fn list(session: &Session, stack: &str) -> Result<u8> {
    let (store, partitions) = table(session, stack).await?;
    let now = Timestamp::now();
    let loaded = concurrently(&partitions, |partition| store.load(partition)).await;
    let mut text = String::new();
    for (partition, items) in partitions.iter().zip(loaded) {
        let items = items.map_err(|error| anyhow!(explained(&error)))?;
        for (key, item) in silences(&items) {
            let id = strip_invisible(&key.resource);
            match item.record.as_ref().and_then(Record::silence) {
                None => text.extend([id.as_str(), "  cannot be read, so it silences nothing\n"]),
                Some(silence) => {
                    let end = active(&items, now).find(|(other, _)| *other == silence).map(|(_, end)| end);
                    text += &end.map(|end| described(&id, partition, silence, end)).unwrap_or_default();
                }
            }
        }
    }
    output::print(if text.is_empty() { "No silence holds.\n" } else { &text })?;
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

fn silences(items: &guard_core::alerts::record::Items) -> impl Iterator<Item = (&Key, &Item)> {
    items.iter().filter(|(key, _)| key.function == Key::ANY_FUNCTION && key.subject == Key::SILENCE)
}

async fn remove(session: &Session, stack: &str, id: &str) -> Result<u8> {
    let (store, partitions) = table(session, stack).await?;
    let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, id);
    let removed = concurrently(&partitions, |partition| store.remove(partition, &key)).await;
    let removed: Result<Vec<bool>, _> = removed.into_iter().collect();
    ensure!(
        removed.map_err(|error| anyhow!(explained(&error)))?.contains(&true),
        "There is no silence {id}. `privatelink-guard silence list --stack {stack}` lists them."
    );
    output::print("Removed. What still fires is sent with the next run.\n")?;
    Ok(0)
}
