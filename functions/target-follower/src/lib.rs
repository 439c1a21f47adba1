//! target-follower: makes the targets of a group the addresses of its hostname, for example after an RDS failover.
//!
//! A run makes one look-up and one call for each group, on the path that drift-watcher stored. What it decides is in
//! [`guard_core::follow`]. It has no checks: health-watcher checks the same groups, and tells people what is wrong.

use std::collections::BTreeSet;

use guard_aws::apply::Outcome;
use guard_aws::observe::Scope;
use guard_aws::observe::pace::{self, Rate};
use guard_aws::pipeline::{Done, Read, Run, Watcher};
use guard_core::alerts::reconcile::{Followed, Report};
use guard_core::alerts::record::{Items, Partition, follow_states};
use guard_core::alerts::reuse;
use guard_core::follow::state::FollowState;
use guard_core::follow::{Decision, FollowStep, Look, decide, notice};
use guard_core::ids::{Arn, ServiceId};
use guard_core::plan::Plan;
use guard_core::snapshot::{CallError, ErrorKind, Hostname, StoredPath, TargetGroup, Topology};
use jiff::Timestamp;

/// The function.
#[derive(Debug)]
pub struct TargetFollower;

impl Watcher for TargetFollower {
    const NAME: &'static str = "target-follower";
    const ELB_RATE: Rate = pace::ELB_FOLLOW;

    /// Reads the targets of the followed groups, and their hostnames' addresses. Where no usable path is stored, reads the
    /// path as well.
    async fn read(&self, run: &Run<'_>, services: &BTreeSet<ServiceId>) -> Vec<Read> {
        let (began, states, followed) =
            (Timestamp::now(), run.memory.all().await, &run.settings.policy.follow_target_groups);
        let of_service = |service: &ServiceId| states.get(&Partition::Service(service.clone()))?.as_ref().ok();
        let usable = |service: &ServiceId| reuse::usable(of_service(service)?, began, run.settings);
        let paths: Vec<&StoredPath> = services.iter().filter_map(usable).collect();
        let known: BTreeSet<ServiceId> = paths.iter().map(|path| path.service().clone()).collect();
        let unknown: BTreeSet<ServiceId> = services.difference(&known).cloned().collect();
        let stored = Topology::from_paths(paths).only_groups(followed);
        let anew = async {
            if unknown.is_empty() { None } else { Some(run.observer.topology(&unknown, Scope::Health).await) }
        };
        let (stored, anew) = tokio::join!(run.observer.health(stored), anew);
        let read =
            |services, topology: Topology| Read::new(services, topology.only_groups(followed), began, Vec::new());
        [Some(read(known, stored)), anew.map(|anew| read(unknown, anew))].into_iter().flatten().collect()
    }

    /// Without the records, nothing is planned: they hold the answer that this run's must confirm.
    async fn plan(&self, run: &Run<'_>, reads: &[Read]) -> Plan {
        let Some(states) = run.memory.for_plan().await else { return Plan { lacks_memory: true, ..Plan::default() } };
        let unseen = run.settings.policy.follow_target_groups.iter().filter(|group| owner(group, reads).is_none());
        for group in unseen {
            tracing::warn!(%group, "not followed: it is not on the path of an endpoint service, or the path was not read");
        }
        let readable = states.iter().filter_map(|(partition, state)| Some((partition, state.as_ref().ok()?)));
        let mut plan = Plan::default();
        for (look, decided) in readable.flat_map(|(partition, items)| looks(run, reads, (partition, items))) {
            let group = &look.group.arn;
            match decided {
                Ok((FollowState { plan: Some(calls), .. }, FollowStep::Change)) => {
                    tracing::info!(%group, %calls, "decided");
                    plan.targets.insert(group.clone(), calls);
                }
                Ok((_, step)) => tracing::info!(%group, ?step, "decided"),
                Err(why) => tracing::warn!(%group, why, "nothing is changed"),
            }
        }
        plan
    }

    /// The plan itself.
    fn before_change<'a>(
        &self,
        run: &Run<'_>,
        reads: &[Read],
        (partition, items): (&'a Partition, &Items),
    ) -> Report<'a> {
        let followed = followed(run, reads, (partition, items), None);
        Report { followed, ..Report::new(partition, Vec::new()) }
    }

    fn remember<'a>(&self, run: &Run<'_>, reads: &'a [Read], done: Done<'_>, report: &mut Report<'a>) {
        if let Some(items) = done.items {
            report.followed = followed(run, reads, (report.partition, items), Some(done.outcome));
        }
    }
}

/// The endpoint service whose partition holds the group's record: the first one that has the group on its path.
fn owner<'a>(group: &Arn, reads: &'a [Read]) -> Option<&'a ServiceId> {
    let has_group = |read: &Read, service: &ServiceId| {
        let load_balancers = read.topology.load_balancers_of(service).unwrap_or_default();
        load_balancers.iter().flat_map(|it| it.target_groups.iter().flatten()).any(|it| it.arn == *group)
    };
    let of_read = |read: &'a Read| read.services.iter().filter(move |service| has_group(read, service));
    reads.iter().flat_map(of_read).min()
}

/// The looks at the groups that the partition owns. What DNS or ELB does not prove, health-watcher reports.
fn looks<'a>(run: &Run<'_>, reads: &'a [Read], (partition, items): (&Partition, &Items)) -> Vec<(Look<'a>, Decision)> {
    let states = follow_states(items);
    let groups = reads.iter().flat_map(|read| read.topology.load_balancers.values().map(move |it| (read.began, it)));
    let groups = groups.flat_map(|(at, it)| it.target_groups.iter().flatten().map(move |group| (at, group)));
    let owned = groups.filter(|(_, group)| owner(&group.arn, reads) == partition.service());
    let look = |(at, group): (Timestamp, &'a TargetGroup)| {
        let hostname: &Hostname = group.hostname.as_ref()?.as_ref().ok()?.as_ref()?;
        let look = Look { group, hostname, at, mode: run.settings.policy.follow_hostnames };
        Some((look, decide(states.get(group.arn.as_str()).copied(), look)))
    };
    let mut seen = BTreeSet::new();
    owned.filter(|(_, group)| seen.insert(&group.arn)).filter_map(look).collect()
}

/// What a run stores about the groups that the partition owns: before its changes, or with their `outcome`.
fn followed(
    run: &Run<'_>,
    reads: &[Read],
    (partition, items): (&Partition, &Items),
    outcome: Option<&Outcome>,
) -> Vec<Followed> {
    let (states, dry_run) = (follow_states(items), run.settings.policy.dry_run);
    // A run that could not store its plan first has made no calls, and says nothing: the next run plans anew.
    let is_made = |group: &Arn| outcome.is_none_or(|outcome| dry_run || outcome.followed.contains(group));
    let looks = looks(run, reads, (partition, items)).into_iter();
    let looks = looks.filter_map(|(look, decided)| decided.ok().map(|(state, step)| (look, state, step)));
    let looks = looks.filter(|(look, _, step)| *step != FollowStep::Change || is_made(&look.group.arn));
    let followed = |(look, state, step): (Look<'_>, FollowState, FollowStep)| {
        let group = look.group.arn.clone();
        let before = states.get(group.as_str()).copied();
        let news = state.plan.as_ref().filter(|_| step == FollowStep::Change && state.has_new_plan(before));
        let notice = news.map(|plan| notice(before, (&state, plan), look, (&run.invocation.origin.region, dry_run)));
        let state = match (outcome.filter(|_| step == FollowStep::Change), before) {
            // A dry run plans the same calls every minute, and stores them once.
            (Some(_), Some(before)) if dry_run && notice.is_none() => before.clone(),
            (Some(outcome), _) if !dry_run => answered(state, outcome.refused.get(group.as_str())),
            _ => state,
        };
        Followed { group, before: before.cloned(), state, at: look.at, notice }
    };
    looks.map(followed).collect()
}

/// The state once the planned calls were made. Without an answer, the next look shows what became of them.
fn answered(state: FollowState, error: Option<&CallError>) -> FollowState {
    match error.map(|error| (&error.kind, error)) {
        None => state.answered(None),
        Some((ErrorKind::Refused(_), error)) => state.answered(Some(error.to_string())),
        Some(_) => state,
    }
}
