//! The input of every check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use super::{Check, CheckResult, Region, Status};
use crate::admission::Admissions;
use crate::config::Policy;
use crate::follow::state::FollowState;
use crate::ids::{Arn, EndpointId, ServiceId};
use crate::snapshot::{
    CallError, Connection, Description, EndpointService, Listener, LoadBalancer, StoredPath, TargetGroup, Topology,
    Traffic, Unread,
};
use crate::trigger::Change;

/// The input of one endpoint service's checks: the run's reads and changes, and the policy.
#[derive(Debug, Clone, Copy)]
pub struct CheckContext<'a> {
    /// The endpoint service; `None` if it does not exist yet: then the checks cover all load balancers that were read.
    pub service: Option<&'a ServiceId>,
    pub topology: &'a Topology,
    pub policy: &'a Policy,
    pub region: &'a Region,
    pub now: Timestamp,
    /// The stored history of the connections; `None` if it could not be read.
    pub remembered: Option<&'a RememberedConnections>,
    /// The changes that this run tried and AWS refused, by endpoint or ARN.
    pub refused: &'a BTreeMap<String, CallError>,
    /// dbt's held requests on the service.
    pub held: &'a BTreeSet<EndpointId>,
    /// Whether the run decided without the stored records that it needs, because the table was slow or could not be
    /// read. Such a run accepts nothing on a service with a limit and revokes nothing.
    pub lacks_memory: bool,
    /// The changes in AWS that may have caused the run's findings, the likeliest last: the change that started the run.
    pub changes: &'a [Change],
    /// The ids of resources that were in place and are gone: AWS names some deletions only by an id.
    pub was_in_place: &'a BTreeSet<String>,
    /// The stored states of followed target groups, by ARN.
    pub follow_states: &'a BTreeMap<&'a str, &'a FollowState>,
    /// The path that drift-watcher last stored, which shows what is gone. `None` without the guard's table.
    pub last_path: Option<&'a StoredPath>,
}

/// The stored history of one endpoint service's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RememberedConnections {
    /// The last recorded state of each endpoint of dbt or a known account.
    pub states: BTreeMap<EndpointId, RecordedState>,
    /// dbt's endpoints that were available or that the guard accepted.
    pub established: BTreeSet<EndpointId>,
    pub had_connection: bool,
    /// The decisions on dbt's requests; `None` if their record cannot be read.
    pub admissions: Option<Admissions>,
    /// dbt's last connection through each endpoint, if CloudWatch was asked.
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
    /// When the connection was first seen in its current state, if that is recorded.
    pub fn since(&self, connection: &Connection) -> Option<Timestamp> {
        let recorded = self.states.get(&connection.endpoint)?;
        (recorded.state == connection.state.to_string()).then_some(recorded.since)
    }

    /// Whether the connection is or was a held request.
    pub fn was_held(&self, connection: &Connection) -> bool {
        self.admissions.as_ref().is_some_and(|admissions| admissions.has_held(connection))
    }
}

static NOTHING: BTreeSet<String> = BTreeSet::new();

static NO_REQUESTS: BTreeSet<EndpointId> = BTreeSet::new();

static NO_STATES: BTreeMap<&str, &FollowState> = BTreeMap::new();

static NO_REFUSALS: BTreeMap<String, CallError> = BTreeMap::new();

impl<'a> CheckContext<'a> {
    /// The context of a run that has changed nothing and has no stored records.
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
            changes: &[],
            was_in_place: &NOTHING,
            follow_states: &NO_STATES,
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
    /// The reason why it is unknown; *not asked* before the service exists.
    pub(crate) fn endpoint_service(self) -> Result<&'a EndpointService, Unread> {
        self.topology.service(self.service.ok_or(Unread::NotAsked)?)
    }

    /// The load balancers behind the service; all that were read, before the service exists.
    ///
    /// # Errors
    /// The result of `check` for all of them, if they could not be listed.
    pub(crate) fn load_balancers(self, check: Check) -> Result<Vec<&'a LoadBalancer>, CheckResult> {
        match self.service {
            Some(service) => {
                let listed = self.topology.load_balancers_of(service);
                listed.map_err(|why| CheckResult::unlisted(check, service, why))
            }
            None => Ok(self.topology.load_balancers.values().collect()),
        }
    }

    /// The ports that dbt connects to; empty if any port is accepted.
    pub(crate) fn ports(self) -> BTreeSet<u16> {
        self.policy.listener_ports.for_service(self.service)
    }

    /// The resources that are certainly not on dbt's path: target groups behind other ports only. Empty if a part of
    /// the path is unknown.
    pub(crate) fn off_path(self) -> BTreeSet<String> {
        let load_balancers = match self.service {
            Some(service) => self.topology.load_balancers_of(service).unwrap_or_default(),
            None => self.topology.load_balancers.values().collect(),
        };
        let (ports, all) = (self.ports(), load_balancers.iter());
        if all.clone().any(|load_balancer| load_balancer.unlisted(&ports).is_some()) {
            return BTreeSet::new();
        }
        let on_path: BTreeSet<Arn> = all.clone().flat_map(|it| it.forwards_to(&ports)).collect();
        let off_path = all.flat_map(|it| it.off_path(&ports)).filter(|group| !on_path.contains(group));
        off_path.map(|group| group.to_string()).collect()
    }

    /// One result of `check` per load balancer behind the service; [`CheckResult::unlisted`] if the list failed.
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

    /// One result of `check` per load balancer, given its listeners; [`Status::Unknown`] if they could not be read.
    pub(crate) fn per_listeners(
        self,
        check: Check,
        evaluate: impl Fn(&'a LoadBalancer, &'a [Listener]) -> Status,
    ) -> Vec<CheckResult> {
        self.per_load_balancer(check, |load_balancer, _| match &load_balancer.listeners {
            Ok(listeners) => evaluate(load_balancer, listeners),
            Err(error) => Unread::from(error).into(),
        })
    }

    /// One result of `check` per target group on dbt's path, except where `evaluate` returns none, and
    /// [`CheckResult::unlisted`] per load balancer whose target groups could not all be listed.
    pub(crate) fn for_target_groups(
        self,
        check: Check,
        evaluate: impl Fn(&'a LoadBalancer, &'a TargetGroup) -> Option<Status>,
    ) -> Vec<CheckResult> {
        let load_balancers = match self.load_balancers(check) {
            Ok(load_balancers) => load_balancers,
            Err(unlisted) => return vec![unlisted],
        };
        let ports = self.ports();
        let mut results = Vec::new();
        for load_balancer in load_balancers {
            let groups = load_balancer.groups_on(&ports);
            let result =
                |group: &'a TargetGroup| Some(CheckResult::new(check, &group.arn, evaluate(load_balancer, group)?));
            results.extend(groups.filter_map(result));
            let about: &dyn fmt::Display = self.service.map_or(&load_balancer.arn, |service| service);
            let unlisted = load_balancer.unlisted(&ports);
            results.extend(unlisted.map(|error| CheckResult::unlisted(check, about, Unread::from(error))));
        }
        results
    }

    /// One result of `check` per target group on dbt's path; see [`CheckContext::for_target_groups`].
    pub(crate) fn per_target_group(
        self,
        check: Check,
        evaluate: impl Fn(&'a LoadBalancer, &'a TargetGroup) -> Status,
    ) -> Vec<CheckResult> {
        self.for_target_groups(check, |load_balancer, group| Some(evaluate(load_balancer, group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::testing::{
        call_error, endpoint_service, listener, load_balancer, settings, target_group, topology, with_policy,
    };

    /// A load balancer with dbt's listener and an administrator's listener, each forwarding to its own empty group.
    fn read() -> Topology {
        let groups = [target_group("pg"), target_group("admin")];
        let mut balancer = load_balancer("pg", groups.to_vec());
        balancer.listeners = Ok(vec![listener("TCP", 5432, &groups[0]), listener("TCP", 8080, &groups[1])]);
        topology(endpoint_service(), [balancer])
    }

    fn resources(results: Vec<CheckResult>) -> BTreeSet<String> {
        results.into_iter().map(|result| result.resource).collect()
    }

    #[test]
    fn groups_behind_other_ports_have_no_result() {
        let (topology, admin) = (read(), target_group("admin").arn.to_string());
        let judged = |ports: &str| {
            let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
            let results =
                with_policy(&topology, &policy, |context| catalogue::evaluate_checks(catalogue::CATALOGUE, context));
            resources(results).contains(&admin)
        };
        assert!(judged("") && judged("8080") && !judged("5432"));
        let policy = settings(&[("LISTENER_PORTS", "5432")]).policy;
        assert!(with_policy(&topology, &policy, |context| context.off_path() == [admin].into()));
    }

    #[test]
    fn unread_rules_leave_only_their_own_groups_unknown() {
        let mut topology = read();
        for load_balancer in topology.load_balancers.values_mut() {
            load_balancer.listeners.as_mut().unwrap()[1].forwards_to =
                Err(call_error("elasticloadbalancing:DescribeRules"));
        }
        let judge = |ports: &str| {
            let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
            let results = with_policy(&topology, &policy, catalogue::find("target-group.health").unwrap().evaluate);
            results.into_iter().map(|it| (it.is_unlisted, matches!(it.status, Status::Fail(_)))).collect::<Vec<_>>()
        };
        assert_eq!(judge(""), [(false, true), (true, false)]);
        assert_eq!(judge("5432"), [(false, true)], "they are not on dbt's path");
        let policy = settings(&[("LISTENER_PORTS", "8080")]).policy;
        assert!(with_policy(&topology, &policy, |context| context.off_path().is_empty()), "a group may be on it");
    }
}
