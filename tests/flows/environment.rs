//! The environment of most flows. Its set-up takes half a minute, so flows reuse it in turn.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};

use story::KNOWN;
use story::company::{Company, TARGETS};
use story::local_aws::{LocalAws, PATIENCE, eventually_within};
use story::mail::Mailbox;
use story::stack::{self, GuardFunction, GuardStack};

/// A company with two services, and a stack that guards both.
///
/// Its schedules are too slow to run during a flow: only events and the flow itself trigger a function. An alert fires
/// at the first failing result and resolves at the first passing one.
#[derive(Debug)]
pub struct FlowEnvironment {
    /// The local AWS.
    pub aws: LocalAws,
    /// A service on port 5432.
    pub postgres: Company,
    /// A second service, which also listens on port 443.
    pub gitlab: Company,
    /// The guard's stack.
    pub stack: GuardStack,
}

/// Runs a flow in an environment that no other flow uses at the same time, with the messages since its start.
///
/// A flow must resolve the alerts that it fires, so that the next flow finds none. The environment of a failed flow is
/// not reused, and the error lists the last changes in it.
pub fn with_environment(flow: impl FnOnce(&FlowEnvironment, Mailbox<'_>) -> Result<()>) -> Result<()> {
    let existing = unused().pop();
    let environment = existing.map_or_else(FlowEnvironment::set_up, Ok)?;
    flow(&environment, environment.mailbox()?)
        .map_err(|error| anyhow!("{error:#}\n\nThe last changes:\n{}", environment.last_changes()))?;
    // The next flow must not receive this flow's alerts. A run that read a resource during its removal ends in error,
    // and Lambda repeats the run after a minute, and once more two minutes later.
    eventually_within(Duration::from_mins(3) + PATIENCE, "all events to be handled", || {
        Ok((environment.aws.control("under-way", &json!({}))? == 0).then_some(()))
    })?;
    unused().push(environment);
    Ok(())
}

const LAST_CHANGES: usize = 40;

fn unused() -> MutexGuard<'static, Vec<FlowEnvironment>> {
    static UNUSED: Mutex<Vec<FlowEnvironment>> = Mutex::new(Vec::new());
    UNUSED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FlowEnvironment {
    fn set_up() -> Result<Self> {
        let aws = LocalAws::start(60)?;
        let [postgres, gitlab] = Company::set_up_two(&aws, ["postgres", "gitlab"])?;
        gitlab.add_https(&aws)?;
        stack::build(&aws)?;
        let ports = format!("{}=5432,{}=5432+443", postgres.service, gitlab.service);
        let parameters = [
            ("ListenerPorts", ports.as_str()),
            ("KnownAccounts", KNOWN),
            ("MaxDbtEndpoints", "100"),
            ("AcceptorSchedule", "rate(2 hours)"),
            ("HealthSchedule", "rate(2 hours)"),
            ("DriftSchedule", "rate(2 hours)"),
            ("AlertAfter", "1"),
            ("ResolveAfter", "1"),
        ];
        let stack = GuardStack::deploy(&aws, "guard", &[&postgres.service, &gitlab.service], &parameters)?;
        let environment = Self { aws, postgres, gitlab, stack };
        environment.ensure_only_what_is_expected_is_reported()?;
        Ok(environment)
    }

    /// Everything follows dbt's guide, except that one instance serves two zones and that dbt has not asked yet.
    fn ensure_only_what_is_expected_is_reported(&self) -> Result<()> {
        for function in GuardFunction::ALWAYS {
            self.run(function)?;
        }
        let mailbox = Mailbox::from_the_start(&self.aws);
        mailbox.wait("[INFO]", "no healthy target in eu-central-1b (web)")?;
        mailbox.wait("[INFO]", "waiting for dbt's connection request")?;
        let emails = mailbox.emails()?;
        ensure!(emails.len() == 3, "not one email for the zone and one for each service: {emails:#?}");
        Ok(())
    }

    /// The last calls that changed something, one per line: the time, the caller, the duration and the error.
    fn last_changes(&self) -> String {
        let calls = self.aws.control("requests", &json!({})).unwrap_or_default();
        let calls = calls.as_array().into_iter().flatten();
        let text = |call: &Value, field: &str| call[field].as_str().unwrap_or("-").to_owned();
        let is_read = |call: &Value| {
            ["Describe", "Get", "List", "Query"].iter().any(|verb| text(call, "action").starts_with(verb))
        };
        let changes = calls.filter(|call| !is_read(call)).map(|call| {
            let [time, action, principal, error] =
                ["time", "action", "principal", "error"].map(|field| text(call, field));
            let caller = principal.rsplit(['/', ':']).next().unwrap_or_default();
            format!("{time} {action} by {caller} in {} ms, error: {error}", call["duration_ms"])
        });
        let changes: Vec<String> = changes.collect();
        changes[changes.len().saturating_sub(LAST_CHANGES)..].join("\n")
    }

    /// The messages from now on.
    pub fn mailbox(&self) -> Result<Mailbox<'_>> {
        Mailbox::from_now(&self.aws)
    }

    /// Runs a function as its schedule does.
    pub fn run(&self, function: GuardFunction) -> Result<()> {
        self.stack.run(&self.aws, function)
    }

    /// Runs a function as its schedule does and returns its error message.
    pub fn failing_run(&self, function: GuardFunction) -> Result<String> {
        self.stack.failing_run(&self.aws, function)
    }

    /// Sets the health of all of postgres's targets.
    pub fn set_all_targets(&self, state: &str) -> Result<()> {
        TARGETS.iter().try_for_each(|target| self.postgres.set_health(&self.aws, target, state))
    }
}
