//! The property that makes the follower safe to run: whatever DNS answers, whenever targets become healthy, whichever
//! calls are lost, refused or late, and however runs overlap and end, the group never loses its last healthy wanted
//! target through the guard, and nothing is changed that DNS did not answer twice. Once DNS is steady, it converges.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::tests::{group, hostname};
use super::*;
use crate::testing::{at, target};

/// A step of the world. Three runs can be under way at once.
#[derive(Debug, Clone)]
enum Happening {
    /// Seconds pass.
    Pass(i64),
    /// DNS answers these addresses from now on; none: no answer.
    Answer(Vec<u8>),
    /// A registered target's health as ELB reports it.
    Health(u8, &'static str),
    /// The next steps of a run, the last of which has this fate.
    Advance(usize, u8, Fate),
    /// A run ends without another step.
    Kill(usize),
}

/// What becomes of a run's step, if it is a call to ELB or a write.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Succeeds,
    /// AWS does it, and the answer is lost.
    AnswerLost,
    Refused,
}

/// A run between two steps.
#[derive(Debug, Clone)]
enum Stage {
    Idle,
    Looked {
        at: Timestamp,
        answer: Hostname,
    },
    Read {
        at: Timestamp,
        answer: Hostname,
        targets: Vec<Target>,
    },
    Loaded {
        at: Timestamp,
        answer: Hostname,
        targets: Vec<Target>,
        record: Stored,
    },
    /// The plan is stored; its calls may begin.
    Stored {
        version: u64,
        state: FollowState,
        healthy: BTreeSet<IpAddr>,
    },
    /// The call has left, and will arrive.
    Called {
        version: u64,
        state: FollowState,
        healthy: BTreeSet<IpAddr>,
    },
    Answered {
        version: u64,
        state: FollowState,
    },
}

/// The record in the table, with its version.
type Stored = Option<(u64, FollowState)>;

struct Simulation {
    now: Timestamp,
    mode: FollowHostnames,
    answer: Vec<u8>,
    looks: Vec<(Timestamp, Vec<u8>)>,
    targets: Vec<Target>,
    record: Stored,
    runs: [Stage; 3],
    calls: usize,
}

impl Simulation {
    fn new(mode: FollowHostnames) -> Self {
        Self {
            now: at(8, 0),
            mode,
            answer: vec![1],
            looks: Vec::new(),
            targets: vec![target(1, "healthy")],
            record: None,
            runs: [Stage::Idle, Stage::Idle, Stage::Idle],
            calls: 0,
        }
    }

    fn plays(&mut self, history: &[Happening]) {
        for happening in history {
            self.happens(happening);
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::Pass(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Happening::Answer(answer) => self.answer.clone_from(answer),
            Happening::Health(number, health) => {
                let address = IpAddr::from([10, 0, 0, *number]);
                let registered = |it: &&mut Target| it.address == Some(address) && it.health != Health::Draining;
                if let Some(target) = self.targets.iter_mut().find(registered) {
                    target.health = Health::parse(health);
                }
            }
            Happening::Advance(run, steps, fate) => {
                for left in (0..*steps).rev() {
                    let stage = std::mem::replace(&mut self.runs[*run], Stage::Idle);
                    let begins = matches!(stage, Stage::Idle) && left + 1 < *steps;
                    self.runs[*run] = self.advance(stage, if left == 0 { *fate } else { Fate::Succeeds });
                    if matches!(self.runs[*run], Stage::Idle) && !begins {
                        break;
                    }
                }
            }
            Happening::Kill(run) => self.runs[*run] = Stage::Idle,
        }
    }

    fn advance(&mut self, stage: Stage, fate: Fate) -> Stage {
        match stage {
            Stage::Idle => {
                self.looks.push((self.now, self.answer.clone()));
                Stage::Looked { at: self.now, answer: hostname(&self.answer) }
            }
            Stage::Looked { at, answer } => Stage::Read { at, answer, targets: self.targets.clone() },
            // A run reads the records as it begins, with a timeout of seconds. Much later, it could take their times for
            // those of a wrong clock.
            Stage::Read { at, .. } if self.now >= at + CLOCKS_DIFFER => Stage::Idle,
            Stage::Read { at, answer, targets } => Stage::Loaded { at, answer, targets, record: self.record.clone() },
            Stage::Loaded { at, answer, targets, record } => self.store(at, &answer, targets, record, fate),
            Stage::Stored { version, state, healthy } => {
                let planned = state.plan.as_ref().unwrap().at;
                let in_time = self.now <= planned + CALLS_BEGIN_WITHIN;
                if in_time { Stage::Called { version, state, healthy } } else { Stage::Idle }
            }
            Stage::Called { version, state, healthy } => {
                let plan = state.plan.clone().unwrap();
                // The call's timeout: what arrives later does not exist, and has no answer.
                if self.now >= plan.at + CALLS_END_WITHIN {
                    return Stage::Idle;
                }
                if fate != Fate::Refused {
                    self.carry_out(&plan, &state.answer, &healthy);
                }
                match fate {
                    Fate::Succeeds => Stage::Answered { version, state: state.answered(None) },
                    Fate::Refused => Stage::Answered { version, state: state.answered(Some("refused".to_owned())) },
                    Fate::AnswerLost => Stage::Idle,
                }
            }
            Stage::Answered { version, state } => {
                self.write(Some(version), state, fate);
                Stage::Idle
            }
        }
    }

    fn store(&mut self, at: Timestamp, answer: &Hostname, targets: Vec<Target>, record: Stored, fate: Fate) -> Stage {
        let is_healthy = |target: &&Target| target.health == Health::Healthy;
        let healthy = targets.iter().filter(is_healthy).filter_map(|target| target.address).collect();
        let group = group(targets);
        let look = Look { group: &group, hostname: answer, at, mode: self.mode };
        let before = record.as_ref().map(|(_, state)| state);
        let Ok((state, step)) = decide(before, look) else { return Stage::Idle };
        let written = self.write(record.map(|(version, _)| version), state.clone(), fate);
        match written.filter(|_| step == FollowStep::Change) {
            Some(version) => Stage::Stored { version, state, healthy },
            None => Stage::Idle,
        }
    }

    /// Writes the record if the expected version is in place. A lost answer is not recognised here.
    fn write(&mut self, expected: Option<u64>, state: FollowState, fate: Fate) -> Option<u64> {
        if fate == Fate::Refused || self.record.as_ref().map(|(version, _)| *version) != expected {
            return None;
        }
        let version = expected.unwrap_or(0) + 1;
        self.record = Some((version, state));
        (fate == Fate::Succeeds).then_some(version)
    }

    /// Carries out planned calls, which must be right at the time when they arrive.
    fn carry_out(&mut self, plan: &TargetPlan, answer: &BTreeSet<IpAddr>, healthy: &BTreeSet<IpAddr>) {
        self.calls += 1;
        let looked = |(_, numbers): &&(Timestamp, Vec<u8>)| hostname(numbers).wanted().as_ref() == Ok(answer);
        let looks: Vec<Timestamp> = self.looks.iter().filter(looked).map(|(at, _)| *at).collect();
        let (first, last) = (looks.iter().min().unwrap(), looks.iter().max().unwrap());
        assert!(last.duration_since(*first) >= CONFIRMED_AFTER, "not answered twice: {answer:?}");
        for new in &plan.register {
            assert!(answer.contains(&new.address), "registers {new}, which is not in the answer");
            self.targets.retain(|target| target.address != Some(new.address));
            let IpAddr::V4(address) = new.address else { panic!("{new}") };
            self.targets.push(target(address.octets()[3], "initial"));
        }
        for old in &plan.deregister {
            assert_eq!(self.mode, FollowHostnames::Replace);
            assert!(!answer.contains(&old.address), "deregisters {old}, which is in the answer");
            let registered = |address: &IpAddr| {
                let in_use = |target: &&Target| target.health != Health::Draining;
                self.targets.iter().filter(in_use).any(|target| target.address == Some(*address))
            };
            assert!(answer.iter().all(registered), "deregisters {old} while {answer:?} is not registered");
            assert!(answer.is_subset(healthy), "deregisters {old} while {answer:?} was not healthy");
            let old = self.targets.iter_mut().filter(|target| target.address == Some(old.address));
            old.for_each(|target| target.health = Health::Draining);
        }
    }

    /// Runs once a minute without any fault, while new targets become healthy, until the targets are right.
    fn settles(&mut self) -> bool {
        self.runs = [Stage::Idle, Stage::Idle, Stage::Idle];
        (0..70).any(|_| {
            self.now += SignedDuration::from_mins(1);
            (0..7).fold(Stage::Idle, |stage, step| match stage {
                Stage::Idle if step > 0 => Stage::Idle,
                stage => self.advance(stage, Fate::Succeeds),
            });
            self.targets.retain(|target| target.health != Health::Draining);
            for target in &mut self.targets {
                target.health = Health::Healthy;
            }
            let registered: BTreeSet<IpAddr> = self.targets.iter().filter_map(|target| target.address).collect();
            let wanted = hostname(&self.answer).wanted().unwrap();
            match self.mode {
                FollowHostnames::Replace => registered == wanted,
                _ => registered.is_superset(&wanted),
            }
        })
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Succeeds), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::Refused)]
}

/// What happens, one thing or several in a row. Single ones rarely make runs meet, so the usual rows are among them: a
/// failover that is looked at twice, and the next minute's run, each of which may end halfway.
fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let health =
        prop_oneof![6 => Just("healthy"), 1 => Just("unhealthy"), 1 => Just("initial"), 1 => Just("new-state")];
    let steps = || prop_oneof![2 => 1..8_u8, 1 => Just(5), 2 => Just(7)];
    let advance =
        move || (0..3_usize, steps(), fate()).prop_map(|(run, steps, fate)| Happening::Advance(run, steps, fate));
    let whole = || (0..3_usize).prop_map(|run| Happening::Advance(run, 7, Fate::Succeeds));
    let failover = (1..3_u8, whole(), 10..16_i64, advance()).prop_map(|(address, first, seconds, second)| {
        let healthy = Happening::Health(address, "healthy");
        vec![Happening::Answer(vec![address]), first, Happening::Pass(seconds), second, healthy]
    });
    let single = prop_oneof![
        1 => (1..50_i64).prop_map(Happening::Pass),
        1 => vec(1..4_u8, 0..3).prop_map(Happening::Answer),
        3 => (1..4_u8, health).prop_map(|(number, health)| Happening::Health(number, health)),
        3 => advance(),
        1 => (0..3_usize).prop_map(Happening::Kill),
    ];
    prop_oneof![
        3 => failover,
        3 => (40..60_i64, advance()).prop_map(|(seconds, run)| vec![Happening::Pass(seconds), run]),
        6 => single.prop_map(|single| vec![single]),
    ]
}

/// A history of at most this number of rows.
fn history(most: usize) -> impl Strategy<Value = Vec<Happening>> {
    vec(happenings(), 0..most).prop_map(|rows| rows.concat())
}

fn mode() -> impl Strategy<Value = FollowHostnames> {
    prop_oneof![4 => Just(FollowHostnames::Replace), 1 => Just(FollowHostnames::Register)]
}

proptest! {
    #[test]
    fn no_interleaving_takes_a_wanted_target_out(mode in mode(), history in history(300)) {
        let mut simulation = Simulation::new(mode);
        simulation.plays(&history);
    }

    #[test]
    fn every_history_converges_once_dns_is_steady(mode in mode(), history in history(100), last in 1..5_u8) {
        let mut simulation = Simulation::new(mode);
        simulation.plays(&history);
        simulation.answer = vec![last];
        prop_assert!(simulation.settles(), "{:?} {:?}", simulation.targets, simulation.record);
    }
}

/// The histories reach what they are meant to reach.
#[test]
fn random_histories_change_targets() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let calls: usize = (0..200)
        .map(|_| {
            let history = history(200).new_tree(&mut runner).unwrap().current();
            let mut simulation = Simulation::new(FollowHostnames::Replace);
            simulation.plays(&history);
            simulation.calls
        })
        .sum();
    assert!(calls > 200, "{calls} calls in 200 histories");
}
