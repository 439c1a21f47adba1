//! The evidence for a verdict and its gaps, in lines.

use guard_core::text::count;

use super::facts::{Endpoints, Freshness, Rejections, TraceFacts};
use super::metrics::{GroupHealth, Totals, TrafficCounts, TrafficMetric};
use super::words::{bytes, listed};

/// The counts, stage by stage. A zero appears only where it is evidence.
pub fn evidence(facts: &TraceFacts, totals: &Totals) -> Vec<String> {
    let counts = &totals.counts;
    let mut lines = Vec::new();
    if let Ok(endpoints) = &facts.endpoints {
        lines.extend(endpoints.evidence());
    }
    if let Some(connections) = counts.of(TrafficMetric::Connections) {
        let began = format!("endpoint service: {} began", count(connections, "connection"));
        let more = [
            counts.above_zero(TrafficMetric::Active).map(|active| format!("at most {active} open at a time")),
            counts.of(TrafficMetric::ServiceBytes).map(bytes),
            counts
                .above_zero(TrafficMetric::ServiceResets)
                .map(|resets| format!("{} sent to endpoints", count(resets, "reset"))),
        ];
        lines.push(joined(began, more));
    }
    if let Some(flows) = counts.of(TrafficMetric::Flows) {
        let began = format!("load balancer: {} began", count(flows, "flow"));
        lines.push(joined(began, [counts.of(TrafficMetric::Bytes).map(bytes), resets(counts), unanswered(totals)]));
    }
    lines.extend(stops(counts));
    lines.extend(totals.groups.iter().map(GroupHealth::evidence));
    lines.extend(others(counts));
    lines.extend(facts.rejections.iter().flat_map(Rejections::evidence));
    lines
}

fn joined<const N: usize>(first: String, more: [Option<String>; N]) -> String {
    std::iter::once(first).chain(more.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

fn resets(counts: &TrafficCounts) -> Option<String> {
    let by = [
        (TrafficMetric::ClientResets, "consumers"),
        (TrafficMetric::BalancerResets, "the load balancer"),
        (TrafficMetric::TargetResets, "targets"),
    ];
    let by = by.into_iter().filter_map(|(metric, whose)| Some(format!("{} by {whose}", counts.above_zero(metric)?)));
    let by: Vec<String> = by.collect();
    (!by.is_empty()).then(|| format!("resets: {}", listed(&by)))
}

fn unanswered(totals: &Totals) -> Option<String> {
    (totals.unanswered > 0).then(|| format!("{} in minutes with too few bytes for an answer", totals.unanswered))
}

fn stops(counts: &TrafficCounts) -> impl Iterator<Item = String> {
    let stops = [
        (TrafficMetric::BlockedInbound, "flow", "blocked by the inbound rules of the load balancer's security groups"),
        (
            TrafficMetric::BlockedOutbound,
            "flow",
            "blocked by the outbound rules of the load balancer's security groups",
        ),
        (TrafficMetric::Rejected, "flow", "rejected by the load balancer itself"),
        (
            TrafficMetric::PortErrors,
            "time",
            "the load balancer had no port left towards a target: register more targets",
        ),
        (TrafficMetric::ClientTlsErrors, "TLS handshake", "with consumers failed"),
        (TrafficMetric::TargetTlsErrors, "TLS handshake", "with targets failed"),
    ];
    let stop = move |(metric, noun, what)| Some(format!("{} {what}", count(counts.above_zero(metric)?, noun)));
    stops.into_iter().filter_map(stop)
}

/// A note that the load balancer has other clients. Its numbers do not separate their flows from dbt's.
fn others(counts: &TrafficCounts) -> Option<String> {
    let (connections, flows) = (counts.of(TrafficMetric::Connections)?, counts.of(TrafficMetric::Flows)?);
    let others = flows.saturating_sub(connections);
    (others > (flows / 10).max(2)).then(|| {
        format!(
            "about {} at the load balancer came from its other clients: its numbers include theirs",
            count(others, "flow")
        )
    })
}

impl Endpoints {
    fn evidence(&self) -> Vec<String> {
        let whose = if self.of_dbt { " of dbt" } else { "" };
        let near = count(self.near, "endpoint");
        let now = format!("connected now: {near}{whose} in this Region");
        let far = (!self.far.is_empty()).then(|| format!("{} from {}", self.far.len(), listed(&self.far)));
        let waiting = (!self.waiting.is_empty()).then(|| format!("not connected: {}", listed(&self.waiting)));
        vec![joined(now, [far, waiting])]
    }
}

impl GroupHealth {
    fn evidence(&self) -> String {
        match self.healthy {
            (least, most) if least == most => {
                format!("target group {}: {} all the time", self.name, count(most, "healthy target"))
            }
            (least, most) => format!("target group {}: between {least} and {most} healthy targets", self.name),
        }
    }
}

impl Rejections {
    fn evidence(&self) -> Vec<String> {
        match self.examples.is_empty() {
            true => vec!["flow logs: the search found no rejected packet on the path".to_owned()],
            false => self.examples.iter().map(|example| format!("flow logs: {example}")).collect(),
        }
    }
}

/// Missing facts that would have told more, and the way to get them.
pub fn missing(facts: &TraceFacts) -> Vec<String> {
    let mut missing = Vec::new();
    match &facts.endpoints {
        Ok(endpoints) => {
            if !endpoints.far.is_empty() {
                missing.push(format!(
                    "AWS has no endpoint metrics for consumers in other Regions ({}): only the load balancer's numbers \
                     include their requests.",
                    endpoints.far.join(", ")
                ));
            }
            if !endpoints.of_dbt {
                missing.push(
                    "dbt's principal was not given, so all endpoints of the service count: --dbt-principal.".to_owned(),
                );
            }
        }
        Err(why) => missing.push(format!("Which endpoints are connected, and from which Region: {why}")),
    }
    if facts.freshness != Freshness::Settled {
        missing.push(
            "CloudWatch is some minutes late: the last minutes may be incomplete. Run this again later.".to_owned(),
        );
    }
    if let Ok(totals) = &facts.totals
        && totals.groups.is_empty()
    {
        missing.push(
            "CloudWatch has no target health for this time: a target group has no targets, or was not read.".to_owned(),
        );
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_lists_missing_facts() {
        let facts = TraceFacts {
            endpoints: Ok(Endpoints { far: vec!["us-east-1".to_owned()], ..Endpoints::default() }),
            totals: Ok(Totals::default()),
            rejections: None,
            freshness: Freshness::EndIsLate,
            is_past: false,
        };
        let missing = missing(&facts).join("\n");
        for words in ["us-east-1", "--dbt-principal", "minutes late", "target health"] {
            assert!(missing.contains(words), "{words}: {missing}");
        }
    }

    #[test]
    fn uninformative_zeros_are_left_out() {
        let numbers = [
            (TrafficMetric::Connections, 3),
            (TrafficMetric::Active, 0),
            (TrafficMetric::ServiceBytes, 1500),
            (TrafficMetric::Flows, 30),
            (TrafficMetric::Bytes, 15_000),
            (TrafficMetric::TargetResets, 2),
            (TrafficMetric::PortErrors, 0),
            (TrafficMetric::BlockedOutbound, 1),
        ];
        let groups = vec![GroupHealth { name: "pg".to_owned(), healthy: (0, 2) }];
        let totals = Totals { counts: numbers.into_iter().collect(), unanswered: 4, groups, published: true };
        let endpoints = Endpoints { near: 2, of_dbt: true, ..Endpoints::default() };
        let (rejections, freshness) = (Some(Rejections::default()), Freshness::Settled);
        let facts =
            TraceFacts { endpoints: Ok(endpoints), totals: Ok(totals.clone()), rejections, freshness, is_past: false };
        assert_eq!(
            evidence(&facts, &totals),
            [
                "connected now: 2 endpoints of dbt in this Region",
                "endpoint service: 3 connections began, 1.5 kB",
                "load balancer: 30 flows began, 15.0 kB, resets: 2 by targets, 4 in minutes with too few bytes for an answer",
                "1 flow blocked by the outbound rules of the load balancer's security groups",
                "target group pg: between 0 and 2 healthy targets",
                "about 27 flows at the load balancer came from its other clients: its numbers include theirs",
                "flow logs: the search found no rejected packet on the path",
            ]
        );
    }
}
