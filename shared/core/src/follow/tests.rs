//! Each rule of the decision, one row or test each.

use super::*;
use crate::snapshot::ReachedNetworks;
use crate::testing::{at, target, target_group};

fn addresses(numbers: &[u8]) -> BTreeSet<IpAddr> {
    numbers.iter().map(|number| IpAddr::from([10, 0, 0, *number])).collect()
}

pub(super) fn hostname(answer: &[u8]) -> Hostname {
    let own = vec!["10.0.0.0/24".parse().unwrap()];
    Hostname {
        name: "db.example.com".to_owned(),
        addresses: Ok(addresses(answer).into_iter().collect()),
        networks: Ok(ReachedNetworks { own, routed: Vec::new() }),
    }
}

pub(super) fn group(targets: Vec<Target>) -> TargetGroup {
    TargetGroup { targets: Ok(targets), ..target_group("pg") }
}

/// A group that is followed step by step, with a look-up a minute unless time passes otherwise.
struct Followed {
    targets: Vec<Target>,
    mode: FollowHostnames,
    state: Option<FollowState>,
    now: Timestamp,
}

impl Followed {
    /// A group that has been seen with healthy target 1, the hostname's address.
    fn new(mode: FollowHostnames) -> Self {
        let targets = vec![target(1, "healthy")];
        let mut followed = Self { targets, mode, state: None, now: at(8, 0) };
        assert_eq!(followed.looks_at(&[1]), FollowStep::Confirm);
        assert_eq!(followed.looks_at(&[1]), FollowStep::Equal);
        followed
    }

    fn decides(&self, hostname: &Hostname) -> Result<(FollowState, FollowStep), String> {
        let group = group(self.targets.clone());
        decide(self.state.as_ref(), Look { group: &group, hostname, at: self.now, mode: self.mode })
    }

    /// The step of the next minute's run, whose calls succeed. New targets are initial, old ones drain.
    fn looks_at(&mut self, answer: &[u8]) -> FollowStep {
        self.now += SignedDuration::from_mins(1);
        let (state, step) = self.decides(&hostname(answer)).unwrap();
        let plan = state.plan.clone().filter(|_| step == FollowStep::Change);
        self.state = Some(if plan.is_some() { state.answered(None) } else { state });
        for new in plan.iter().flat_map(|plan| &plan.register) {
            self.targets.retain(|target| target.address != Some(new.address));
            let IpAddr::V4(address) = new.address else { panic!("{new}") };
            self.targets.push(Target { port: new.port.or(Some(5432)), ..target(address.octets()[3], "initial") });
        }
        for old in plan.iter().flat_map(|plan| &plan.deregister) {
            let old = self.targets.iter_mut().find(|target| target.address == Some(old.address)).unwrap();
            old.health = Health::Draining;
        }
        step
    }

    /// Two runs with the same answer: the step of the second.
    fn follows(&mut self, answer: &[u8]) -> FollowStep {
        let first = self.looks_at(answer);
        if first == FollowStep::Confirm { self.looks_at(answer) } else { first }
    }

    fn becomes(&mut self, number: u8, health: &str) {
        let target = self.targets.iter_mut().find(|it| it.id == format!("10.0.0.{number}")).unwrap();
        target.health = Health::parse(health);
    }

    fn in_use(&self) -> Vec<&str> {
        let mut ids: Vec<&str> =
            self.targets.iter().filter(|it| it.health != Health::Draining).map(|it| it.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }
}

#[test]
fn a_failover_registers_and_then_deregisters() {
    let mut group = Followed::new(FollowHostnames::Replace);
    assert_eq!(group.looks_at(&[2]), FollowStep::Confirm);
    assert_eq!((group.looks_at(&[2]), group.in_use()), (FollowStep::Change, vec!["10.0.0.1", "10.0.0.2"]));
    assert_eq!(group.looks_at(&[2]), FollowStep::WaitForHealth);
    group.becomes(2, "healthy");
    assert_eq!((group.looks_at(&[2]), group.in_use()), (FollowStep::Change, vec!["10.0.0.2"]));
    assert_eq!(group.looks_at(&[2]), FollowStep::Equal);
}

#[test]
fn register_leaves_deregistering_to_people() {
    let mut group = Followed::new(FollowHostnames::Register);
    assert_eq!((group.follows(&[2]), group.in_use()), (FollowStep::Change, vec!["10.0.0.1", "10.0.0.2"]));
    group.becomes(2, "healthy");
    assert_eq!((group.looks_at(&[2]), group.in_use()), (FollowStep::Equal, vec!["10.0.0.1", "10.0.0.2"]));
}

#[test]
fn a_failback_registers_a_draining_target_again() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.follows(&[2]);
    group.becomes(2, "healthy");
    group.looks_at(&[2]);
    assert_eq!(group.in_use(), ["10.0.0.2"], "and target 1 drains");
    assert_eq!((group.follows(&[1]), group.in_use()), (FollowStep::Change, vec!["10.0.0.1", "10.0.0.2"]));
}

#[test]
fn two_looks_confirm_only_ten_seconds_apart() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.looks_at(&[2]);
    let step = |group: &mut Followed, seconds: i64| {
        let looks = Followed {
            now: group.now + SignedDuration::from_secs(seconds),
            state: group.state.clone(),
            targets: group.targets.clone(),
            ..*group
        };
        looks.decides(&hostname(&[2])).unwrap().1
    };
    assert_eq!(step(&mut group, 9), FollowStep::Confirm);
    assert_eq!(step(&mut group, 10), FollowStep::Change);
}

#[test]
fn another_answer_or_name_in_between_begins_anew() {
    let mut group = Followed::new(FollowHostnames::Replace);
    for answer in [[2], [3], [2]] {
        assert_eq!(group.looks_at(&answer), FollowStep::Confirm);
    }
    group.now += SignedDuration::from_mins(1);
    let renamed = Hostname { name: "other.example.com".to_owned(), ..hostname(&[2]) };
    assert_eq!(group.decides(&renamed).unwrap().1, FollowStep::Confirm);
}

#[test]
fn an_answer_that_proves_nothing_changes_nothing() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.looks_at(&[2]);
    group.now += SignedDuration::from_mins(1);
    let named = |name: &str| Hostname { name: name.to_owned(), ..hostname(&[2]) };
    let answered = |addresses: Result<Vec<IpAddr>, String>| Hostname { addresses, ..hostname(&[2]) };
    let routed = |network: &str| {
        let networks = ReachedNetworks { routed: vec![network.parse().unwrap()], ..ReachedNetworks::default() };
        Hostname { networks: Ok(networks), ..answered(Ok(vec![network.split('/').next().unwrap().parse().unwrap()])) }
    };
    for unproven in [
        answered(Err("no answer".to_owned())),
        answered(Ok(Vec::new())),
        hostname(&[1, 2, 3, 4, 5, 6, 7, 8]),
        answered(Ok(vec!["203.0.113.7".parse().unwrap()])),
        answered(Ok(vec!["10.0.1.2".parse().unwrap()])),
        routed("203.0.113.7/32"),
        named("db.cluster-ro-abc.eu-central-1.rds.amazonaws.com"),
        named("db.cluster-custom-abc.eu-central-1.rds.amazonaws.com"),
        named("db.proxy-abc.eu-central-1.rds.amazonaws.com"),
        Hostname { networks: Err(crate::testing::call_error("ec2:DescribeSubnets")), ..hostname(&[2]) },
    ] {
        assert!(group.decides(&unproven).is_err(), "{unproven:?}");
    }
    assert!(group.decides(&routed("192.168.7.7/32")).is_ok(), "a peered network's private address");
    assert_eq!(group.decides(&hostname(&[2, 3, 4, 5, 6, 7, 8])).unwrap().1, FollowStep::Confirm, "seven addresses");
}

#[test]
fn new_targets_have_the_port_of_the_others() {
    let plan = |targets: Vec<Target>, answer: &Hostname| {
        let mut followed = Followed { targets, mode: FollowHostnames::Replace, state: None, now: at(8, 0) };
        followed.state = Some(followed.decides(answer)?.0);
        followed.now += SignedDuration::from_mins(1);
        Ok::<_, String>(followed.decides(answer)?.0.plan.unwrap().register[0].clone())
    };
    let on = |number, port| Target { port, ..target(number, "healthy") };
    let port = |targets: Vec<Target>| plan(targets, &hostname(&[9])).map(|target| (target.port, target.zone));
    assert_eq!(port(vec![on(1, Some(5433)), on(2, Some(5433))]), Ok((Some(5433), None)));
    assert_eq!(port(vec![]), Ok((None, None)), "the group's own");
    assert_eq!(port(vec![Target { health: Health::Draining, ..on(1, Some(5433)) }]), Ok((Some(5433), None)));
    assert!(port(vec![on(1, Some(5433)), on(2, Some(5432))]).is_err(), "several");
    assert!(port(vec![on(1, None)]).is_err(), "not known");
    assert!(port(vec![Target { address: None, ..on(1, Some(5432)) }]).is_err(), "no address");
    let outside = ReachedNetworks { routed: vec!["10.0.0.0/24".parse().unwrap()], ..ReachedNetworks::default() };
    let outside = Hostname { networks: Ok(outside), ..hostname(&[9]) };
    assert_eq!(plan(vec![], &outside).map(|target| target.zone), Ok(Some("all".to_owned())), "outside the VPC");
}

#[test]
fn targets_are_deregistered_as_elb_reports_them() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.targets = vec![Target { zone: Some("all".to_owned()), ..target(1, "unhealthy") }, target(2, "healthy")];
    group.follows(&[2]);
    let plan = group.state.as_ref().unwrap().plan.clone().unwrap();
    let old = PlannedTarget { address: [10, 0, 0, 1].into(), port: Some(5432), zone: Some("all".to_owned()) };
    assert_eq!((plan.register, plan.deregister), (Vec::new(), vec![old]));
    let mut unreported = Followed::new(FollowHostnames::Replace);
    unreported.targets = vec![Target { port: None, ..target(1, "unhealthy") }, target(2, "healthy")];
    unreported.looks_at(&[2]);
    unreported.now += SignedDuration::from_mins(1);
    assert!(unreported.decides(&hostname(&[2])).is_err());
}

#[test]
fn nothing_is_deregistered_until_all_wanted_are_healthy() {
    for (health, is_shifted_away, step) in [
        ("healthy", false, FollowStep::Change),
        ("healthy", true, FollowStep::WaitForHealth),
        ("initial", false, FollowStep::WaitForHealth),
        ("unhealthy", false, FollowStep::WaitForHealth),
        ("unused", false, FollowStep::WaitForHealth),
        ("unavailable", false, FollowStep::WaitForHealth),
        ("new-state", false, FollowStep::WaitForHealth),
    ] {
        let mut group = Followed::new(FollowHostnames::Replace);
        group.targets =
            vec![target(1, "healthy"), target(2, "healthy"), Target { is_shifted_away, ..target(3, health) }];
        assert_eq!(group.follows(&[2, 3]), step, "{health}, {is_shifted_away}");
    }
}

#[test]
fn a_target_that_people_remove_is_registered_once_more() {
    let mut group = Followed::new(FollowHostnames::Replace);
    let remove = |group: &mut Followed| group.targets.retain(|target| target.id != "10.0.0.1");
    remove(&mut group);
    assert_eq!((group.looks_at(&[1]), group.in_use()), (FollowStep::Change, vec!["10.0.0.1"]));
    for _ in 0..3 {
        remove(&mut group);
        assert_eq!((group.looks_at(&[1]), group.in_use()), (FollowStep::LeftToPeople, vec![]));
    }
    assert_eq!(group.follows(&[2]), FollowStep::Change, "another answer");
    assert_eq!(group.follows(&[1]), FollowStep::Change, "the answer again");
    assert!(group.state.as_ref().unwrap().changes.len() == 2, "registering once more is no change");
}

#[test]
fn refused_calls_are_made_again_until_they_succeed() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.looks_at(&[2]);
    for _ in 0..5 {
        group.now += SignedDuration::from_mins(1);
        let (state, step) = group.decides(&hostname(&[2])).unwrap();
        assert_eq!(step, FollowStep::Change);
        group.state = Some(state.answered(Some("TooManyTargets".to_owned())));
    }
    assert_eq!(group.state.as_ref().unwrap().refused.as_deref(), Some("TooManyTargets"));
    assert_eq!((group.looks_at(&[2]), group.in_use()), (FollowStep::Change, vec!["10.0.0.1", "10.0.0.2"]));
    assert_eq!(group.state.as_ref().unwrap().refused, None);
}

#[test]
fn a_run_waits_for_the_calls_of_another() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.follows(&[2]);
    let planned = group.now;
    group.targets = vec![target(1, "healthy")];
    for (seconds, step) in [(1, FollowStep::WaitForCalls), (39, FollowStep::WaitForCalls), (40, FollowStep::Change)] {
        group.now = planned + SignedDuration::from_secs(seconds);
        assert_eq!(group.decides(&hostname(&[2])).unwrap().1, step, "{seconds}");
    }
}

#[test]
fn a_state_from_the_future_counts_as_none() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.now -= SignedDuration::from_hours(2);
    let (state, step) = group.decides(&hostname(&[1])).unwrap();
    assert_eq!((step, state.since), (FollowStep::Confirm, group.now));
}

#[test]
fn an_older_look_up_does_not_overrule_a_newer_one() {
    let mut group = Followed::new(FollowHostnames::Replace);
    group.looks_at(&[2]);
    group.now -= SignedDuration::from_secs(5);
    assert!(group.decides(&hostname(&[1])).is_err());
}

/// A group of which the guard has just refused to follow the fourth change: to address 5.
fn stopped() -> Followed {
    let mut group = Followed::new(FollowHostnames::Replace);
    for number in [2, 3, 4] {
        assert_eq!(group.follows(&[number]), FollowStep::Change);
    }
    assert_eq!(group.follows(&[5]), FollowStep::Stopped);
    assert!(!group.in_use().contains(&"10.0.0.5"));
    group
}

#[test]
fn the_fourth_change_within_an_hour_is_not_followed() {
    let mut group = stopped();
    assert_eq!(group.follows(&[6]), FollowStep::Stopped, "another answer starts the hour anew");
    let since = group.state.as_ref().unwrap().since;
    group.now = since + SignedDuration::from_mins(58);
    assert_eq!(group.looks_at(&[6]), FollowStep::Stopped);
    assert_eq!(group.looks_at(&[6]), FollowStep::Change, "the same answer for an hour");
    assert!(!group.state.as_ref().unwrap().stopped);
}

#[test]
fn following_resumes_when_targets_equal_the_answer() {
    let mut group = stopped();
    group.targets = vec![target(5, "healthy")];
    assert_eq!(group.looks_at(&[5]), FollowStep::Equal);
    assert!(!group.state.as_ref().unwrap().stopped);
    assert_eq!(group.follows(&[6]), FollowStep::Stopped, "the fourth change remains one");
}

#[test]
fn three_changes_in_more_than_an_hour_are_all_followed() {
    let mut group = Followed::new(FollowHostnames::Replace);
    for number in 2..9 {
        assert_eq!(group.follows(&[number]), FollowStep::Change);
        group.now += SignedDuration::from_mins(19);
    }
}
