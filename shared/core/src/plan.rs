//! A run's changes in AWS, as a value that can be printed, compared and tested. One function carries it out.

use std::collections::BTreeMap;
use std::fmt;

use crate::follow::state::TargetPlan;
use crate::ids::{Arn, EndpointId, ServiceId};
use crate::snapshot::{LoadBalancer, Topology};

/// The complete set of changes to make in AWS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Requests to accept, by endpoint service.
    pub accept: BTreeMap<ServiceId, Vec<EndpointId>>,
    /// Requests to reject and connections to revoke, by endpoint service. EC2 has one call for both.
    pub reject: BTreeMap<ServiceId, Vec<EndpointId>>,
    /// Load balancers whose attribute for cross-zone load balancing becomes `true`.
    pub cross_zone_on: Vec<Arn>,
    /// Target groups whose cross-zone attribute becomes `use_load_balancer_configuration`, AWS's default.
    pub cross_zone_deferred: Vec<Arn>,
    /// Targets to register and deregister, by target group. Only what was stored before is carried out.
    pub targets: BTreeMap<Arn, TargetPlan>,
    /// Whether the plan was made without the stored records that it needs, because the table was slow. Such a plan
    /// rejects nothing.
    pub lacks_memory: bool,
}

impl Plan {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.accept.is_empty() && !self.is_stored_first()
    }

    /// Whether something is stored before the changes: the findings that they hide from later runs, such as a rejected
    /// account or disabled cross-zone load balancing, or the planned targets.
    pub fn is_stored_first(&self) -> bool {
        !(self.reject.is_empty()
            && self.cross_zone_on.is_empty()
            && self.cross_zone_deferred.is_empty()
            && self.targets.is_empty())
    }

    /// The accepts, which hide nothing and wait for nothing, and all other changes.
    pub fn split(&self) -> (Self, Self) {
        let accepts = Self { accept: self.accept.clone(), ..Self::default() };
        (accepts, Self { accept: BTreeMap::new(), ..self.clone() })
    }

    /// Whether the plan changes `service` or one of its load balancers in `topology`.
    pub fn concerns(&self, service: &ServiceId, topology: &Topology) -> bool {
        let is_changed = |load_balancer: &LoadBalancer| {
            let mut groups = load_balancer.target_groups.iter().flatten();
            self.cross_zone_on.contains(&load_balancer.arn)
                || groups
                    .any(|group| self.cross_zone_deferred.contains(&group.arn) || self.targets.contains_key(&group.arn))
        };
        self.accept.contains_key(service)
            || self.reject.contains_key(service)
            || topology.load_balancers_of(service).unwrap_or_default().into_iter().any(is_changed)
    }

    /// The endpoints to accept or reject.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointId> {
        self.accept.values().chain(self.reject.values()).flatten()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = [("accept", &self.accept), ("reject", &self.reject)];
        let answers = answers.into_iter().flat_map(|(verb, services)| {
            let endpoints = |(service, endpoints): (&ServiceId, &Vec<EndpointId>)| -> Vec<String> {
                endpoints.iter().map(|endpoint| format!("{verb} {endpoint} on {service}")).collect()
            };
            services.iter().flat_map(endpoints).collect::<Vec<String>>()
        });
        let cross_zone = self.cross_zone_on.iter().chain(&self.cross_zone_deferred);
        let targets = self.targets.iter().map(|(group, plan)| format!("{plan} in {group}"));
        let cross_zone = cross_zone.map(|arn| format!("switch cross-zone on for {arn}"));
        let lines: Vec<String> = answers.chain(cross_zone).chain(targets).collect();
        f.write_str(if lines.is_empty() { "nothing to change".to_owned() } else { lines.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::state::PlannedTarget;
    use crate::testing::{at, endpoint, endpoint_service, load_balancer, service, target_group, topology};

    /// A plan that registers 10.0.0.2 and deregisters 10.0.0.1.
    fn target_plan() -> TargetPlan {
        let on = |number| PlannedTarget { address: [10, 0, 0, number].into(), port: Some(5432), zone: None };
        TargetPlan { at: at(8, 0), register: vec![on(2)], deregister: vec![on(1)] }
    }

    #[test]
    fn a_plan_knows_whether_it_changes_or_hides_anything() {
        let endpoints = || BTreeMap::from([(service(1), vec![endpoint(1)])]);
        let arn = || vec![load_balancer("pg", Vec::new()).arn];
        let targets = || BTreeMap::from([(target_group("pg").arn, target_plan())]);
        let table = [
            (Plan::default(), true, false),
            (Plan { accept: endpoints(), ..Plan::default() }, false, false),
            (Plan { reject: endpoints(), ..Plan::default() }, false, true),
            (Plan { cross_zone_on: arn(), ..Plan::default() }, false, true),
            (Plan { cross_zone_deferred: arn(), ..Plan::default() }, false, true),
            (Plan { targets: targets(), ..Plan::default() }, false, true),
        ];
        for (plan, is_empty, hides) in table {
            assert_eq!((plan.is_empty(), plan.is_stored_first()), (is_empty, hides), "{plan}");
        }
    }

    #[test]
    fn a_plan_concerns_the_services_whose_resources_it_changes() {
        let group = target_group("pg");
        let balancer = load_balancer("pg", vec![group.clone()]);
        let topology = topology(endpoint_service(), [balancer.clone()]);
        let concerns = |plan: &Plan| [1, 2].map(|number| plan.concerns(&service(number), &topology));
        assert_eq!(concerns(&Plan::default()), [false, false]);
        let reject = BTreeMap::from([(service(2), vec![endpoint(1)])]);
        assert_eq!(concerns(&Plan { reject, ..Plan::default() }), [false, true]);
        assert_eq!(concerns(&Plan { cross_zone_on: vec![balancer.arn], ..Plan::default() }), [true, false]);
        assert_eq!(concerns(&Plan { cross_zone_deferred: vec![group.arn.clone()], ..Plan::default() }), [true, false]);
        let targets = BTreeMap::from([(group.arn, target_plan())]);
        assert_eq!(concerns(&Plan { targets, ..Plan::default() }), [true, false]);
    }

    #[test]
    fn accepts_are_split_from_changes_that_hide_findings() {
        let endpoints = |number| BTreeMap::from([(service(1), vec![endpoint(number)])]);
        let plan = Plan { accept: endpoints(1), reject: endpoints(2), ..Plan::default() };
        let (accepts, others) = plan.split();
        assert_eq!((accepts.accept, accepts.reject.len()), (endpoints(1), 0));
        assert_eq!((others.accept.len(), others.reject), (0, endpoints(2)));
    }

    #[test]
    fn a_plan_prints_its_changes_in_words() {
        assert_eq!(Plan::default().to_string(), "nothing to change");
        let plan = Plan {
            accept: BTreeMap::from([(service(1), vec![endpoint(1)])]),
            reject: BTreeMap::from([(service(1), vec![endpoint(2)])]),
            cross_zone_on: vec![load_balancer("pg", Vec::new()).arn],
            targets: BTreeMap::from([(target_group("pg").arn, target_plan())]),
            ..Plan::default()
        };
        let on = service(1);
        let expected = format!(
            "accept {} on {on}, reject {} on {on}, switch cross-zone on for {}, register 10.0.0.2:5432, deregister \
             10.0.0.1:5432 in {}",
            endpoint(1),
            endpoint(2),
            plan.cross_zone_on[0],
            target_group("pg").arn,
        );
        assert_eq!(plan.to_string(), expected);
        assert_eq!(plan.endpoints().collect::<Vec<_>>(), [&endpoint(1), &endpoint(2)]);
    }
}
