//! The place where requests stopped, from the counts on their way.
//!
//! An unknown number decides nothing: a verdict needs a number that was read, and without one it is
//! [`TraceVerdict::Unknown`].

use std::fmt;

use guard_core::text::count;

use super::evidence::evidence;
use super::facts::{Endpoints, Freshness, TraceFacts};
use super::metrics::{GroupHealth, Totals, TrafficCounts, TrafficMetric, is_unanswered};
use super::words::{bytes, listed};

/// The place where the requests stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceVerdict {
    /// No request arrived at the endpoint service.
    NotSent,
    /// They stopped between the endpoint service and the load balancer.
    StoppedBeforeLoadBalancer,
    /// They stopped between the load balancer and the targets.
    StoppedBeforeTarget,
    /// The targets answered.
    GotThrough,
    /// The numbers do not decide.
    Unknown,
}

impl fmt::Display for TraceVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "not sent by dbt",
            Self::StoppedBeforeLoadBalancer => "stopped before the load balancer",
            Self::StoppedBeforeTarget => "stopped before the target",
            Self::GotThrough => "got through",
            Self::Unknown => "unknown",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: TraceVerdict,
    /// The verdict in a sentence, with numbers.
    pub sentence: String,
    /// The evidence for it, in lines.
    pub evidence: Vec<String>,
}

/// The outcome of the requests in a time with traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stages {
    /// Stopped before the load balancer.
    before: u64,
    /// Stopped between it and the targets.
    behind: u64,
    through: u64,
}

/// Decides from the facts where the requests stopped.
pub fn decide(facts: &TraceFacts) -> Decision {
    let totals = match &facts.totals {
        Ok(totals) => totals,
        Err(why) => {
            let sentence = format!("It is unknown where the requests stopped: the metrics could not be read. {why}");
            return Decision { verdict: TraceVerdict::Unknown, sentence, evidence: Vec::new() };
        }
    };
    let (verdict, sentence) = if is_quiet(facts, totals) {
        without_requests(facts, totals)
    } else {
        match Stages::of(facts, totals) {
            Some(stages) => stages.verdict(facts, totals),
            None => (TraceVerdict::Unknown, unclear(facts, totals)),
        }
    };
    let is_early = verdict == TraceVerdict::NotSent || verdict == TraceVerdict::StoppedBeforeLoadBalancer;
    let late = match facts.freshness {
        Freshness::EndIsLate if is_early => " CloudWatch may not have counted the last minutes yet.",
        _ => "",
    };
    // Users who trace a query that broke off find nothing that stopped it.
    let idle = (verdict == TraceVerdict::GotThrough).then(|| IDLE_TIMEOUT.to_owned());
    let evidence = evidence(facts, totals).into_iter().chain(idle).collect();
    Decision { verdict, sentence: sentence + late, evidence }
}

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html>
const IDLE_TIMEOUT: &str = "a connection that is idle for 350 s is dropped: long queries need TCP keepalives sooner \
                            (keepalives_idle in dbt)";

/// Whether no request was counted, neither at the endpoints with metrics nor, if other endpoints may have sent some,
/// behind them.
fn is_quiet(facts: &TraceFacts, totals: &Totals) -> bool {
    let counts = &totals.counts;
    if counts.or_zero(TrafficMetric::Connections) > 0 {
        return false;
    }
    if nobody_can_send(facts) {
        return true;
    }
    // Flows that do not come from an endpoint belong to the load balancer's other clients.
    let behind =
        if others_may_send(facts) { counts.or_zero(TrafficMetric::Flows).max(hard_stops(facts, counts)) } else { 0 };
    behind == 0 && before(facts, counts) == 0
}

/// Whether no endpoint is connected.
fn nobody_can_send(facts: &TraceFacts) -> bool {
    facts.endpoints.as_ref().is_ok_and(|endpoints| endpoints.near == 0 && endpoints.far.is_empty())
}

/// Whether requests can come through endpoints that have no metrics.
fn others_may_send(facts: &TraceFacts) -> bool {
    facts.endpoints.as_ref().map_or(true, |endpoints| !endpoints.far.is_empty())
}

/// Requests that stopped before the load balancer, counted by its security groups or the flow logs.
fn before(facts: &TraceFacts, counts: &TrafficCounts) -> u64 {
    let logged = facts.rejections.as_ref().map_or(0, |rejections| rejections.to_load_balancer);
    counts.or_zero(TrafficMetric::BlockedInbound).max(logged)
}

/// What the load balancer counts as stopped between it and the targets.
const HARD_STOPS: [(TrafficMetric, &str); 5] = [
    (TrafficMetric::BlockedOutbound, "were blocked by the outbound rules of its security groups"),
    (TrafficMetric::PortErrors, "found no free port towards a target"),
    (TrafficMetric::Rejected, "were rejected by the load balancer itself"),
    (TrafficMetric::ClientTlsErrors, "failed in the TLS handshake with dbt"),
    (TrafficMetric::TargetTlsErrors, "failed in the TLS handshake with a target"),
];

/// Requests that were counted as stopped between the load balancer and the targets.
fn hard_stops(facts: &TraceFacts, counts: &TrafficCounts) -> u64 {
    let logged = facts.rejections.as_ref().map_or(0, |rejections| rejections.behind);
    counts.sum(&HARD_STOPS.map(|(metric, _)| metric)).unwrap_or_default().max(logged)
}

fn without_requests(facts: &TraceFacts, totals: &Totals) -> (TraceVerdict, String) {
    let unknown = |why: &str| {
        (TraceVerdict::Unknown, format!("No request was counted anywhere, but that proves nothing: {why}."))
    };
    if facts.freshness == Freshness::AllIsLate {
        return unknown("CloudWatch is minutes late, and may not have counted this time yet");
    }
    let endpoints = match &facts.endpoints {
        Ok(endpoints) => endpoints,
        Err(why) => return unknown(&format!("the endpoints are unknown ({why})")),
    };
    let (active, carried) = (totals.counts.of(TrafficMetric::Active), totals.counts.of(TrafficMetric::ServiceBytes));
    if let (Some(active @ 1..), Some(carried @ 1..)) = (active, carried) {
        let open = count(active, "connection");
        let sentence = format!(
            "No connection began, but up to {open} that had begun before carried {}: requests on these got through.",
            bytes(carried)
        );
        return (TraceVerdict::GotThrough, sentence);
    }
    if nobody_can_send(facts) {
        return without_endpoint(endpoints, facts.is_past);
    }
    if !totals.published {
        return unknown("CloudWatch has no data for the endpoint service and its load balancer in this time");
    }
    if !endpoints.far.is_empty() {
        return unknown("requests from another Region are counted only once they reach the load balancer");
    }
    let nobody = if endpoints.of_dbt { "dbt sent no request" } else { "No consumer sent a request" };
    (TraceVerdict::NotSent, format!("{nobody}: no connection began at the endpoint service, and none was in use."))
}

/// The verdict and its sentence without a connected endpoint.
fn without_endpoint(endpoints: &Endpoints, is_past: bool) -> (TraceVerdict, String) {
    let whose = if endpoints.of_dbt { "dbt's" } else { "the consumers'" };
    if endpoints.waiting.is_empty() && endpoints.of_others > 0 {
        let sentence = format!(
            "No request from dbt was counted, but the principal given as dbt's may be wrong: none of the service's {} \
             belongs to its account (--dbt-principal, or the stack's DbtPrincipals).",
            count(endpoints.of_others, "endpoint")
        );
        return (TraceVerdict::Unknown, sentence);
    }
    if is_past {
        let now =
            if endpoints.waiting.is_empty() { "it does not exist".to_owned() } else { listed(&endpoints.waiting) };
        let sentence = format!(
            "No request was counted, and it is unknown whether {whose} endpoint was connected then. Now: {now}."
        );
        return (TraceVerdict::Unknown, sentence);
    }
    if endpoints.waiting.is_empty() {
        let sentence = format!("No request can have been sent: {whose} endpoint does not exist.");
        return (TraceVerdict::NotSent, sentence);
    }
    let sentence = format!(
        "Any request stopped at {whose} endpoint, which passes nothing on while it is not connected: {}.",
        listed(&endpoints.waiting)
    );
    (TraceVerdict::StoppedBeforeLoadBalancer, sentence)
}

impl Stages {
    /// `None` if the counts do not decide.
    fn of(facts: &TraceFacts, totals: &Totals) -> Option<Self> {
        let counts = &totals.counts;
        let (blocked, hard) = (before(facts, counts), hard_stops(facts, counts));
        let Some(flows) = counts.of(TrafficMetric::Flows) else {
            return (blocked + hard > 0).then_some(Self { before: blocked, behind: hard, through: 0 });
        };
        let (before, is_dead) = (blocked.max(lost(counts, flows)), is_dead(totals, flows));
        let behind = if is_dead { flows } else { totals.unanswered.max(hard) };
        let through = if is_dead { 0 } else { flows.saturating_sub(totals.unanswered) };
        // Flows beyond the number that the endpoints sent belong to the load balancer's other clients.
        let sent = sent(facts, counts).unwrap_or(u64::MAX);
        let stages = Self { before, behind: behind.min(sent), through: through.min(sent) };
        let is_silent =
            sent < u64::MAX && counts.of(TrafficMetric::ServiceBytes).is_some_and(|bytes| is_unanswered(sent, bytes));
        match stages {
            // The load balancer's other clients may have sent all of them.
            Self { through: 1.., .. } if facts.endpoints.is_err() => None,
            Self { behind: 0, through: 1.., .. } if counts.of(TrafficMetric::Bytes).is_none() => None,
            Self { before: 0, behind: 0, .. } if is_silent => None,
            // The answered flows were not theirs.
            _ if is_silent => Some(Self { through: 0, ..stages }),
            _ => Some(stages),
        }
    }

    /// The stage that most requests reached; at a tie, the first that stopped some.
    fn verdict(self, facts: &TraceFacts, totals: &Totals) -> (TraceVerdict, String) {
        let stages = [
            (self.before, TraceVerdict::StoppedBeforeLoadBalancer),
            (self.behind, TraceVerdict::StoppedBeforeTarget),
            (self.through, TraceVerdict::GotThrough),
        ];
        let most = stages.iter().map(|(number, _)| *number).max().unwrap_or_default();
        let verdict =
            stages.iter().find(|(number, _)| *number == most).map_or(TraceVerdict::Unknown, |(_, verdict)| *verdict);
        let reached: Vec<&(u64, TraceVerdict)> = stages.iter().filter(|(number, _)| *number > 0).collect();
        let sentence = match reached.as_slice() {
            [_] => self.sentence(verdict, facts, totals),
            _ => self.partly(),
        };
        (verdict, sentence)
    }

    fn sentence(self, verdict: TraceVerdict, facts: &TraceFacts, totals: &Totals) -> String {
        match verdict {
            TraceVerdict::StoppedBeforeLoadBalancer => {
                format!("The requests stopped before the load balancer: {}.", why_before(self, facts, &totals.counts))
            }
            TraceVerdict::StoppedBeforeTarget => {
                format!(
                    "The requests stopped between the load balancer and the targets: {}.",
                    why_behind(self, facts, totals)
                )
            }
            _ => {
                let whose = match others_may_send(facts) {
                    true => {
                        " They may come from the load balancer's other clients: AWS does not count the requests of \
                         endpoints in other Regions."
                    }
                    false => "",
                };
                let conversation = self.conversation(facts, &totals.counts);
                format!(
                    "Requests got through to the targets: {conversation}. These are sums: single requests may still have \
                     failed.{whose}"
                )
            }
        }
    }

    /// The exchanged connections and bytes, in words. The endpoint service counts only those of its own endpoints.
    fn conversation(self, facts: &TraceFacts, counts: &TrafficCounts) -> String {
        let (number, exchanged) = match (sent(facts, counts), counts.of(TrafficMetric::ServiceBytes)) {
            (Some(sent), Some(exchanged)) => (count(sent, "connection"), exchanged),
            _ => (count(self.through, "flow"), counts.or_zero(TrafficMetric::Bytes)),
        };
        format!("{number}, with {} in both directions", bytes(exchanged))
    }

    /// The sentence for requests that stopped at different stages.
    fn partly(self) -> String {
        let stages = [
            (self.before, "stopped before the load balancer"),
            (self.behind, "stopped between the load balancer and the targets"),
            (self.through, "got through"),
        ];
        let stages = stages.into_iter().filter(|(number, _)| *number > 0);
        let stages: Vec<String> = stages.map(|(number, what)| format!("{number} {what}")).collect();
        let some =
            if self.through > 0 { "Some requests got through, and some did not" } else { "No request got through" };
        format!("{some}: about {}.", listed(&stages))
    }
}

/// The number of connections at the endpoint service, if no endpoint outside its metrics can have sent one.
fn sent(facts: &TraceFacts, counts: &TrafficCounts) -> Option<u64> {
    counts.of(TrafficMetric::Connections).filter(|connections| *connections > 0 && !others_may_send(facts))
}

/// Connections that the endpoint service counted and the load balancer did not. Their minutes end at different moments,
/// so a small difference means nothing.
fn lost(counts: &TrafficCounts, flows: u64) -> u64 {
    let connections = counts.or_zero(TrafficMetric::Connections);
    let lost = connections.saturating_sub(flows);
    if flows == 0 || lost > (connections / 10).max(2) { lost } else { 0 }
}

/// Whether the load balancer itself ended the flows, because no target was ever healthy.
fn is_dead(totals: &Totals, flows: u64) -> bool {
    let resets = totals.counts.or_zero(TrafficMetric::BalancerResets);
    without_healthy(totals).next().is_some() && flows > 0 && resets.saturating_mul(2) >= flows
}

/// The target groups that never had a healthy target.
fn without_healthy(totals: &Totals) -> impl Iterator<Item = &GroupHealth> {
    totals.groups.iter().filter(|group| group.healthy.1 == 0)
}

fn why_before(stages: Stages, facts: &TraceFacts, counts: &TrafficCounts) -> String {
    let blocked = counts.or_zero(TrafficMetric::BlockedInbound);
    if blocked > 0 {
        let whose = match counts.of(TrafficMetric::Connections) {
            Some(0) => ", which may come from its other clients: the endpoint service counted no connection",
            _ => "",
        };
        return format!("the inbound rules of its security groups blocked {}{whose}", count(blocked, "flow"));
    }
    if facts.rejections.as_ref().is_some_and(|rejections| rejections.to_load_balancer > 0) {
        return "the flow logs show that its security groups or its subnets' network ACLs rejected them".to_owned();
    }
    let flows = counts.or_zero(TrafficMetric::Flows);
    let began = count(stages.before + flows, "connection");
    format!("{began} began at the endpoint service, and {flows} of them at the load balancer")
}

fn why_behind(stages: Stages, facts: &TraceFacts, totals: &Totals) -> String {
    let counts = &totals.counts;
    let flows = count(counts.or_zero(TrafficMetric::Flows), "flow");
    if let Some((metric, what)) = HARD_STOPS.iter().find(|(metric, _)| counts.or_zero(*metric) > 0) {
        return format!("{} {what}", counts.or_zero(*metric));
    }
    if facts.rejections.as_ref().is_some_and(|rejections| rejections.behind > 0) {
        return format!(
            "{flows} began at the load balancer, and the flow logs show rejected packets to or from its targets"
        );
    }
    let dead: Vec<String> = without_healthy(totals).map(|group| group.name.clone()).collect();
    if !dead.is_empty() {
        return format!("{flows} began at the load balancer, and {} had no healthy target", listed(&dead));
    }
    if counts.or_zero(TrafficMetric::TargetResets).saturating_mul(2) >= stages.behind {
        return format!(
            "the targets refused them with {}",
            count(counts.or_zero(TrafficMetric::TargetResets), "reset")
        );
    }
    format!(
        "{flows} with {} in all are too few bytes for an answer from a target",
        bytes(counts.or_zero(TrafficMetric::Bytes))
    )
}

/// The sentence for numbers that are incomplete, or include those of other clients.
fn unclear(facts: &TraceFacts, totals: &Totals) -> String {
    let counts = &totals.counts;
    let began =
        format!("{} began at the endpoint service", count(counts.or_zero(TrafficMetric::Connections), "connection"));
    let flows = count(counts.or_zero(TrafficMetric::Flows), "flow");
    if let Err(why) = &facts.endpoints {
        return format!(
            "It is unknown where the requests stopped: the endpoints are unknown ({why}), and the load balancer's \
             {flows} may come from its other clients."
        );
    }
    if totals.counts.of(TrafficMetric::Flows).is_none() {
        return format!(
            "It is unknown where the requests stopped: {began}, and nothing is known about the load balancer."
        );
    }
    if totals.counts.of(TrafficMetric::Bytes).is_none() {
        return format!(
            "It is unknown how far the requests got: {flows} reached the load balancer, and nothing is known about the \
             answers."
        );
    }
    format!(
        "It is unknown where the requests stopped: {began} and carried only {}, too little for an answer, but nothing \
         shows what stopped them: of the load balancer's {flows}, which include its other clients', none lacks an \
         answer.",
        bytes(counts.or_zero(TrafficMetric::ServiceBytes))
    )
}

#[cfg(test)]
mod tests {
    use TraceVerdict::{GotThrough, NotSent, StoppedBeforeLoadBalancer, StoppedBeforeTarget, Unknown};
    use TrafficMetric::{
        Active, BalancerResets, BlockedInbound, BlockedOutbound, Bytes, Connections, Flows, PortErrors, ServiceBytes,
        TargetResets,
    };

    use super::*;
    use crate::trace::facts::Rejections;

    /// A name, the possible senders, the counts, the expected verdict, and words in its sentence.
    type Case<'a> = (&'a str, Endpoints, &'a [(TrafficMetric, u64)], TraceVerdict, &'a str);

    fn near() -> Endpoints {
        Endpoints { near: 1, of_dbt: true, ..Endpoints::default() }
    }

    fn far() -> Endpoints {
        Endpoints { far: vec!["us-east-1".to_owned()], of_dbt: true, ..Endpoints::default() }
    }

    fn facts(endpoints: Endpoints, counts: &[(TrafficMetric, u64)]) -> TraceFacts {
        let counts: TrafficCounts = counts.iter().copied().collect();
        let (flows, bytes) = (counts.of(Flows).unwrap_or_default(), counts.of(Bytes));
        let unanswered = if bytes.is_some_and(|bytes| bytes <= 512 * flows) { flows } else { 0 };
        let groups = vec![GroupHealth { name: "pg".to_owned(), healthy: (2, 2) }];
        TraceFacts {
            endpoints: Ok(endpoints),
            totals: Ok(Totals { counts, unanswered, groups, published: true }),
            rejections: None,
            freshness: Freshness::Settled,
            is_past: false,
        }
    }

    fn totals(facts: &mut TraceFacts) -> &mut Totals {
        facts.totals.as_mut().unwrap()
    }

    fn check(cases: &[Case<'_>]) {
        for (case, endpoints, counts, verdict, words) in cases {
            let decision = decide(&facts(endpoints.clone(), counts));
            assert_eq!(decision.verdict, *verdict, "{case}: {decision:#?}");
            assert!(decision.sentence.contains(words), "{case}: {}", decision.sentence);
        }
    }

    #[test]
    #[rustfmt::skip]
    fn without_a_connection_nothing_was_sent_unless_one_was_open() {
        check(&[
            ("silence", near(), &[(Connections, 0), (Flows, 0), (Bytes, 0)], NotSent, "dbt sent no request"),
            ("others use the load balancer", near(), &[(Connections, 0), (Flows, 90), (Bytes, 90_000)],
                NotSent, "dbt sent no request"),
            ("an open connection", near(), &[(Connections, 0), (Active, 2), (ServiceBytes, 900)],
                GotThrough, "up to 2 connections that had begun before carried 900 B"),
            ("an open connection without traffic", near(), &[(Connections, 0), (Active, 2), (ServiceBytes, 0)],
                NotSent, "none was in use"),
            ("silence from afar", far(), &[(Flows, 0), (Bytes, 0)], Unknown, "another Region"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn the_stage_that_stopped_requests_is_named() {
        check(&[
            ("blocked", near(), &[(Connections, 5), (Flows, 0), (BlockedInbound, 5)],
                StoppedBeforeLoadBalancer, "blocked 5 flows."),
            ("blocked, but not counted before", near(), &[(Connections, 0), (Flows, 0), (BlockedInbound, 1)],
                StoppedBeforeLoadBalancer, "blocked 1 flow, which may come from its other clients"),
            ("lost", near(), &[(Connections, 5), (Flows, 0)],
                StoppedBeforeLoadBalancer, "5 connections began at the endpoint service, and 0"),
            ("blocked behind", near(), &[(Connections, 5), (Flows, 5), (Bytes, 300), (BlockedOutbound, 5)],
                StoppedBeforeTarget, "5 were blocked by the outbound"),
            ("no ports", near(), &[(Connections, 5), (Flows, 5), (Bytes, 300), (PortErrors, 4)],
                StoppedBeforeTarget, "4 found no free port"),
            ("refused", near(), &[(Connections, 5), (Flows, 5), (Bytes, 600), (TargetResets, 5)],
                StoppedBeforeTarget, "refused them with 5 resets"),
            ("no answer", near(), &[(Connections, 5), (Flows, 5), (Bytes, 2100)], StoppedBeforeTarget, "too few bytes"),
        ]);
    }

    #[test]
    #[rustfmt::skip]
    fn only_an_answer_to_dbt_proves_that_requests_got_through() {
        check(&[
            ("answered", near(), &[(Connections, 5), (Flows, 5), (Bytes, 50_000), (TargetResets, 1)],
                GotThrough, "5 flows, with 50.0 kB"),
            ("answered to dbt", near(), &[(Connections, 5), (ServiceBytes, 9000), (Flows, 5), (Bytes, 9100)],
                GotThrough, "5 connections, with 9.0 kB"),
            ("dbt and others", near(), &[(Connections, 5), (ServiceBytes, 9000), (Flows, 100), (Bytes, 900_000)],
                GotThrough, "5 connections"),
            ("only others", near(), &[(Connections, 5), (ServiceBytes, 600), (Flows, 100), (Bytes, 900_000)],
                Unknown, "carried only 600 B"),
            ("from afar", far(), &[(Flows, 5), (Bytes, 50_000)], GotThrough, "5 flows, with 50.0 kB in both directions. These \
                are sums: single requests may still have failed. They may come from the load balancer's other clients"),
            ("nothing of the load balancer", near(), &[(Connections, 5)],
                Unknown, "nothing is known about the load balancer"),
            ("nothing of the answers", near(), &[(Connections, 5), (Flows, 5)],
                Unknown, "nothing is known about the answers"),
        ]);
    }

    #[test]
    fn a_partial_verdict_has_the_numbers_of_both_outcomes() {
        let mut some = facts(near(), &[(Connections, 30), (Flows, 20), (Bytes, 90_000), (BlockedInbound, 10)]);
        let decision = decide(&some);
        assert_eq!(decision.verdict, GotThrough);
        assert!(
            decision.sentence.ends_with("about 10 stopped before the load balancer and 20 got through."),
            "{}",
            decision.sentence
        );

        totals(&mut some).unanswered = 15;
        let decision = decide(&some);
        assert_eq!(decision.verdict, StoppedBeforeTarget, "{}", decision.sentence);
        assert!(
            decision.sentence.contains("10 stopped before the load balancer, 15 stopped between"),
            "{}",
            decision.sentence
        );
        assert!(decision.sentence.contains("and 5 got through"), "{}", decision.sentence);
    }

    #[test]
    fn flows_reset_without_healthy_targets_reach_no_target() {
        let mut dead = facts(near(), &[(Connections, 4), (Flows, 4), (Bytes, 9000), (BalancerResets, 4)]);
        let through = decide(&dead);
        assert_eq!(through.verdict, GotThrough, "a healthy target answered before the resets");
        assert!(through.evidence.iter().any(|line| line.contains("350 s") && line.contains("keepalives_idle")));
        totals(&mut dead).groups[0].healthy = (0, 0);
        let decision = decide(&dead);
        assert_eq!(decision.verdict, StoppedBeforeTarget);
        assert!(decision.sentence.contains("pg had no healthy target"), "{}", decision.sentence);
        assert!(!decision.evidence.iter().any(|line| line.contains("keepalives_idle")), "it is not why");
    }

    #[test]
    fn flow_logs_show_where_packets_were_rejected() {
        let logged =
            |to_load_balancer, behind| Some(Rejections { to_load_balancer, behind, examples: vec!["…".to_owned()] });
        let mut before = facts(near(), &[(Connections, 3), (Flows, 0)]);
        before.rejections = logged(3, 0);
        let decision = decide(&before);
        assert_eq!(decision.verdict, StoppedBeforeLoadBalancer);
        assert!(decision.sentence.contains("flow logs show"), "{}", decision.sentence);

        let mut behind = facts(near(), &[(Connections, 3), (Flows, 3), (Bytes, 700)]);
        behind.rejections = logged(0, 3);
        let decision = decide(&behind);
        assert_eq!(decision.verdict, StoppedBeforeTarget);
        assert!(decision.sentence.contains("rejected packets to or from"), "{}", decision.sentence);
        assert!(decision.evidence.contains(&"flow logs: …".to_owned()), "{:#?}", decision.evidence);
    }

    #[test]
    fn without_a_connected_endpoint_its_state_decides() {
        let silence: &[(TrafficMetric, u64)] = &[(Flows, 0), (Bytes, 0)];
        let none = Endpoints { of_dbt: true, ..Endpoints::default() };
        assert_eq!(decide(&facts(none.clone(), silence)).verdict, NotSent);
        let of_others: &[(TrafficMetric, u64)] = &[(Connections, 0), (Flows, 90), (Bytes, 90_000), (BlockedInbound, 3)];
        assert_eq!(decide(&facts(none.clone(), of_others)).verdict, NotSent);
        let of_a_deleted_one: &[(TrafficMetric, u64)] = &[(Connections, 5), (Flows, 5), (Bytes, 90_000)];
        assert_eq!(decide(&facts(none.clone(), of_a_deleted_one)).verdict, GotThrough);
        let of_others = Endpoints { of_others: 2, ..none.clone() };
        let decision = decide(&facts(of_others, silence));
        assert_eq!(decision.verdict, Unknown, "the accounts given as dbt's may be wrong");
        assert!(decision.sentence.contains("none of the service's 2 endpoints"), "{}", decision.sentence);
        let waiting = Endpoints { waiting: vec!["vpce-1 (pendingAcceptance)".to_owned()], ..none };
        let long_ago = TraceFacts { is_past: true, ..facts(waiting.clone(), silence) };
        assert_eq!(decide(&long_ago).verdict, Unknown, "it may have been connected then");
        let in_use: &[(TrafficMetric, u64)] = &[(Connections, 0), (Active, 2), (ServiceBytes, 900)];
        assert_eq!(decide(&facts(waiting.clone(), in_use)).verdict, GotThrough, "it was connected then");
        let decision = decide(&facts(waiting, silence));
        assert_eq!(decision.verdict, StoppedBeforeLoadBalancer);
        assert!(decision.sentence.contains("vpce-1 (pendingAcceptance)"), "{}", decision.sentence);
    }

    #[test]
    fn a_late_or_missing_fact_decides_nothing() {
        let silence: &[(TrafficMetric, u64)] = &[(Connections, 0), (Flows, 0), (Bytes, 0)];
        let mut late = facts(near(), silence);
        late.freshness = Freshness::AllIsLate;
        let mut unpublished = facts(near(), silence);
        totals(&mut unpublished).published = false;
        let mut unread = facts(near(), silence);
        unread.totals = Err("You lack the permission cloudwatch:GetMetricData".to_owned());
        let mut nobody_knows = facts(near(), silence);
        nobody_knows.endpoints = Err("You lack the permission ec2:DescribeVpcEndpointConnections".to_owned());
        let mut of_anybody = facts(near(), &[(Connections, 0), (Flows, 100), (Bytes, 1_000_000)]);
        of_anybody.endpoints = Err("You lack the permission ec2:DescribeVpcEndpointConnections".to_owned());
        for facts in [late, unpublished, unread, nobody_knows, of_anybody] {
            let decision = decide(&facts);
            assert_eq!(decision.verdict, Unknown, "{}", decision.sentence);
        }
    }
}
