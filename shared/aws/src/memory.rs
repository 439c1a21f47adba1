//! The records of earlier runs, loaded once per run, in parallel with the reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use guard_core::admission::Admissions;
use guard_core::alerts::connection::remembered;
use guard_core::alerts::record::{Items, Partition, admissions, follow_states, stored_path, without_future};
use guard_core::follow::state::FollowState;
use guard_core::ids::{EndpointId, ServiceId};
use guard_core::snapshot::CallError;
use jiff::Timestamp;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::concurrently;
use crate::table::StateTable;

/// The longest time that a plan, and with it a connection request, waits for a hanging table.
const PLAN_WAITS: Duration = Duration::from_secs(2);

/// The stored records of one partition, or the error that prevented reading them.
pub type LoadedState = Result<Items, CallError>;

/// A function's stored records, by partition.
pub type States = BTreeMap<Partition, LoadedState>;

/// The stored records, loaded while a run reads AWS.
#[derive(Debug)]
pub struct Memory<'a> {
    table: &'a StateTable,
    partitions: Vec<Partition>,
    loaded: OnceCell<States>,
    /// The time until which a plan waits for the records.
    plan_waits: Instant,
}

impl<'a> Memory<'a> {
    /// The records of `partitions`, not loaded yet.
    pub fn new(table: &'a StateTable, partitions: Vec<Partition>) -> Self {
        Self { table, partitions, loaded: OnceCell::new(), plan_waits: Instant::now() + PLAN_WAITS }
    }

    /// All records; loads them first if necessary.
    pub async fn all(&self) -> &States {
        self.loaded.get_or_init(|| load(self.table, &self.partitions)).await
    }

    /// The states of the followed target groups in the records, once these are loaded. Several services may have a group
    /// on their paths, and only one partition holds its state.
    pub fn follow_states(&self) -> BTreeMap<&str, &FollowState> {
        self.loaded.get().into_iter().flat_map(BTreeMap::values).flatten().flat_map(follow_states).collect()
    }

    /// All records, if they arrive within two seconds after the start of the run.
    pub async fn for_plan(&self) -> Option<&States> {
        timeout_at(self.plan_waits, self.all()).await.ok()
    }
}

/// Loads the records of `partitions`.
pub(crate) async fn load(table: &StateTable, partitions: &[Partition]) -> States {
    let load = async |partition: &Partition| {
        let items = table.load(partition).await.map(|items| without_future(items, Timestamp::now()));
        (partition.clone(), items)
    };
    concurrently(partitions, load).await.into_iter().collect()
}

/// The endpoints recorded as dbt's established connections; `None` if any partition could not be read.
pub fn established(states: &States) -> Option<BTreeSet<EndpointId>> {
    let states: Result<Vec<&Items>, _> = states.values().map(Result::as_ref).collect();
    Some(states.ok()?.into_iter().flat_map(|items| remembered(items).established).collect())
}

/// The recorded admissions of dbt's requests, by service; a service with unreadable records is left out.
pub fn recorded_admissions(states: &States) -> BTreeMap<ServiceId, Admissions> {
    let recorded = |(partition, state): (&Partition, &LoadedState)| {
        Some((partition.service()?.clone(), admissions(state.as_ref().ok()?)?))
    };
    states.iter().filter_map(recorded).collect()
}

/// The services' names as drift-watcher stored them; `None` for a service without a name.
pub fn stored_names(states: &States) -> BTreeMap<ServiceId, Option<String>> {
    let name = |(partition, state): (&Partition, &LoadedState)| {
        let path = stored_path(state.as_ref().ok()?)?;
        Some((partition.service()?.clone(), path.name().map(ToOwned::to_owned)))
    };
    states.iter().filter_map(name).collect()
}
