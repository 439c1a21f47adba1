//! What every check is given.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Check, CheckResult, Region, Status};
use crate::admission::Admissions;
use crate::config::Policy;
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::{
    CallError, Connection, Description, EndpointService, LoadBalancer, StoredPath, TargetGroup, Topology, Traffic,
    Unread,
};
use crate::trigger::Change;

/// What the checks of one endpoint service are given: what the run read and changed, and what must be.
#[derive(Debug, Clone, Copy)]
pub struct CheckContext<'a> {
    /// The endpoint service; `None` before there is one: then it is about all load balancers that were read.
    pub service: Option<&'a ServiceId>,
    /// What was read.
    pub topology: &'a Topology,
    /// What must be.
    pub policy: &'a Policy,
    /// The Region that commands and console links are for.
    pub region: &'a Region,
    /// The time of the evaluation.
    pub now: Timestamp,
    /// What earlier runs recorded of the connections; `None` if it is unknown.
    pub remembered: Option<&'a RememberedConnections>,
    /// The changes that this run tried and AWS refused: the endpoint or ARN, and the error.
    pub refused: &'a BTreeMap<String, CallError>,
    /// dbt's requests on the service that are held.
    pub held: &'a BTreeSet<EndpointId>,
    /// Whether the run decided without the records that it needs, since the table was slow or could not be read. Then it
    /// accepted nothing that there is a limit for, and revoked nothing.
    pub lacks_memory: bool,
    /// The change in AWS that started the run, which may have caused what it finds.
    pub change: Option<&'a Change>,
    /// The ids of what was in place and is gone: AWS names some deletions by an id alone.
    pub was_in_place: &'a BTreeSet<String>,
    /// The path as drift-watcher last stored it: what was there, and what is gone. `None` without the guard's table.
    pub last_path: Option<&'a StoredPath>,
}

/// What earlier runs recorded of the connections of one endpoint service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RememberedConnections {
    /// The last recorded state of each endpoint of dbt or a known account.
    pub states: BTreeMap<EndpointId, RecordedState>,
    /// dbt's endpoints that were available, or that the guard accepted.
    pub established: BTreeSet<EndpointId>,
    /// Whether dbt ever had such an endpoint.
    pub had_connection: bool,
    /// What became of dbt's requests; `None` if that record cannot be read.
    pub admissions: Option<Admissions>,
    /// When dbt last connected through each endpoint, if CloudWatch was asked.
    pub traffic: Option<Traffic>,
}

/// A recorded state of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedState {
    /// The state, as EC2 wrote it.
    pub state: String,
    /// When it was first seen in that state.
    pub since: Timestamp,
}

impl RememberedConnections {
    /// Since when the connection has been in its current state, if that was recorded.
    #[must_use]
    pub fn since(&self, connection: &Connection) -> Option<Timestamp> {
        let recorded = self.states.get(&connection.endpoint)?;
        (recorded.state == connection.state.to_string()).then_some(recorded.since)
    }

    /// Whether it is a request that was held, whatever became of it.
    #[must_use]
    pub fn was_held(&self, connection: &Connection) -> bool {
        self.admissions.as_ref().is_some_and(|admissions| admissions.has_held(connection))
    }
}

/// For a run that remembers nothing.
static NOTHING: BTreeSet<String> = BTreeSet::new();

/// For a run that holds nothing.
static NO_REQUESTS: BTreeSet<EndpointId> = BTreeSet::new();

/// For a run that changed nothing.
static NO_REFUSALS: BTreeMap<String, CallError> = BTreeMap::new();

impl<'a> CheckContext<'a> {
    /// The context of a run that has changed nothing and knows no earlier states.
    #[must_use]
    pub fn new(
        service: impl Into<Option<&'a ServiceId>>,
        topology: &'a Topology,
        policy: &'a Policy,
        region: &'a Region,
        now: Timestamp,
    ) -> Self {
        Self {
            service: service.into(),
            topology,
            policy,
            region,
            now,
            remembered: None,
            held: &NO_REQUESTS,
            refused: &NO_REFUSALS,
            lacks_memory: false,
            change: None,
            was_in_place: &NOTHING,
            last_path: None,
        }
    }

    /// The result of `check` for the endpoint service itself; [`Status::Unknown`] if the service could not be read.
    pub(crate) fn for_service(
        self,
        check: Check,
        evaluate: impl Fn(&'a EndpointService) -> Status,
    ) -> Vec<CheckResult> {
        let Some(service) = self.service else { return Vec::new() };
        let status = self.topology.service(service).map_or_else(Status::from, evaluate);
        vec![CheckResult::new(check, service, status)]
    }

    /// The endpoint service's configuration.
    ///
    /// # Errors
    /// Why it is not known; before there is a service, it was not asked for.
    pub(crate) fn endpoint_service(self) -> Result<&'a EndpointService, Unread> {
        self.topology.service(self.service.ok_or(Unread::NotAsked)?)
    }

    /// The load balancers behind the service; before there is one, all that were read.
    ///
    /// # Errors
    /// Why they could not be listed, as the result of `check` that says so of all of them.
    pub(crate) fn load_balancers(self, check: Check) -> Result<Vec<&'a LoadBalancer>, CheckResult> {
        match self.service {
            Some(service) => {
                let listed = self.topology.load_balancers_of(service);
                listed.map_err(|why| CheckResult::unlisted(check, service, why))
            }
            None => Ok(self.topology.load_balancers.values().collect()),
        }
    }

    /// The target groups of a load balancer.
    ///
    /// # Errors
    /// Why they could not be listed, as the result of `check` that says so of all of them.
    pub(crate) fn target_groups(
        self,
        check: Check,
        load_balancer: &'a LoadBalancer,
    ) -> Result<&'a [TargetGroup], CheckResult> {
        let unlisted = |error| match self.service {
            Some(service) => CheckResult::unlisted(check, service, Unread::from(error)),
            None => CheckResult::unlisted(check, &load_balancer.arn, Unread::from(error)),
        };
        load_balancer.target_groups.as_deref().map_err(unlisted)
    }

    /// One result of `check` per load balancer behind the service; [`CheckResult::unlisted`] if they could not be listed.
    pub(crate) fn per_load_balancer(
        self,
        check: Check,
        evaluate: impl Fn(&'a LoadBalancer, &'a Description) -> Status,
    ) -> Vec<CheckResult> {
        let load_balancers = match self.load_balancers(check) {
            Ok(load_balancers) => load_balancers,
            Err(unlisted) => return vec![unlisted],
        };
        let status = |load_balancer: &'a LoadBalancer| match &load_balancer.description {
            Ok(description) => evaluate(load_balancer, description),
            Err(error) => Unread::from(error).into(),
        };
        let result =
            |load_balancer: &'a LoadBalancer| CheckResult::new(check, &load_balancer.arn, status(load_balancer));
        load_balancers.into_iter().map(result).collect()
    }

    /// One result of `check` per target group behind the service, and [`CheckResult::unlisted`] per load balancer whose
    /// target groups could not be listed.
    pub(crate) fn per_target_group(
        self,
        check: Check,
        evaluate: impl Fn(&'a LoadBalancer, &'a TargetGroup) -> Status,
    ) -> Vec<CheckResult> {
        let load_balancers = match self.load_balancers(check) {
            Ok(load_balancers) => load_balancers,
            Err(unlisted) => return vec![unlisted],
        };
        let mut results = Vec::new();
        for load_balancer in load_balancers {
            match self.target_groups(check, load_balancer) {
                Err(unlisted) => results.push(unlisted),
                Ok(groups) => results.extend(
                    groups.iter().map(|group| CheckResult::new(check, &group.arn, evaluate(load_balancer, group))),
                ),
            }
        }
        results
    }
}
