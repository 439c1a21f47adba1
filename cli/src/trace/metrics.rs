//! AWS's counts at the endpoint service, the load balancer and the targets, per period.

use std::collections::BTreeMap;

use guard_aws::observe::{MetricQuery, Series};
use guard_core::ids::{Arn, EndpointId, ServiceId};
use jiff::{SignedDuration, Timestamp};

use super::span::Span;

/// The most bytes of a flow without an answer: seven SYN packets of 60 bytes, or a connection that is opened, answered
/// and reset. A real conversation is longer: TLS's first messages alone exceed it.
const UNANSWERED_BYTES: u64 = 512;

/// The shortest period that has a value of [`TrafficMetric::Endpoints`].
const ENDPOINTS_PERIOD: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficMetric {
    /// Connections that began at the endpoint service.
    Connections,
    /// Connections that were open at the endpoint service, at most.
    Active,
    /// Bytes through the endpoint service, in both directions.
    ServiceBytes,
    /// Resets that the endpoint service sent to endpoints.
    ServiceResets,
    Endpoints,
    /// Flows that began at the load balancer.
    Flows,
    /// Bytes through the load balancer, in both directions, without health checks.
    Bytes,
    ClientResets,
    BalancerResets,
    TargetResets,
    Rejected,
    /// Flows that the inbound rules of the load balancer's security groups blocked.
    BlockedInbound,
    /// Flows that the outbound rules of the load balancer's security groups blocked.
    BlockedOutbound,
    /// Flows for which the load balancer had no port left.
    PortErrors,
    ClientTlsErrors,
    TargetTlsErrors,
    Healthy,
    Unhealthy,
}

impl TrafficMetric {
    /// Whether it counts what there is, and not what happened.
    pub fn is_gauge(self) -> bool {
        matches!(self, Self::Active | Self::Endpoints | Self::Healthy | Self::Unhealthy)
    }
}

/// The namespace of Network Load Balancers' metrics.
const LOAD_BALANCERS: &str = "AWS/NetworkELB";

/// The dimensions of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Service,
    Endpoint,
    LoadBalancer,
    TargetGroup,
}

/// Every metric with its dimensions, its name in CloudWatch, and the statistic that sums it up.
/// <https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-cloudwatch-metrics.html>
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-cloudwatch-metrics.html>
const METRICS: [(TrafficMetric, Of, &str, &str); 18] = [
    (TrafficMetric::Connections, Of::Endpoint, "NewConnections", "Sum"),
    (TrafficMetric::Active, Of::Endpoint, "ActiveConnections", "Maximum"),
    (TrafficMetric::ServiceBytes, Of::Endpoint, "BytesProcessed", "Sum"),
    (TrafficMetric::ServiceResets, Of::Endpoint, "RstPacketsSent", "Sum"),
    (TrafficMetric::Endpoints, Of::Service, "EndpointsCount", "Maximum"),
    (TrafficMetric::Flows, Of::LoadBalancer, "NewFlowCount", "Sum"),
    (TrafficMetric::Bytes, Of::LoadBalancer, "ProcessedBytes", "Sum"),
    (TrafficMetric::ClientResets, Of::LoadBalancer, "TCP_Client_Reset_Count", "Sum"),
    (TrafficMetric::BalancerResets, Of::LoadBalancer, "TCP_ELB_Reset_Count", "Sum"),
    (TrafficMetric::TargetResets, Of::LoadBalancer, "TCP_Target_Reset_Count", "Sum"),
    (TrafficMetric::Rejected, Of::LoadBalancer, "RejectedFlowCount_TCP", "Sum"),
    (TrafficMetric::BlockedInbound, Of::LoadBalancer, "SecurityGroupBlockedFlowCount_Inbound_TCP", "Sum"),
    (TrafficMetric::BlockedOutbound, Of::LoadBalancer, "SecurityGroupBlockedFlowCount_Outbound_TCP", "Sum"),
    (TrafficMetric::PortErrors, Of::LoadBalancer, "PortAllocationErrorCount", "Sum"),
    (TrafficMetric::ClientTlsErrors, Of::LoadBalancer, "ClientTLSNegotiationErrorCount", "Sum"),
    (TrafficMetric::TargetTlsErrors, Of::LoadBalancer, "TargetTLSNegotiationErrorCount", "Sum"),
    // Each node reports a count. The maximum is zero only if no node sees a healthy target.
    (TrafficMetric::Healthy, Of::TargetGroup, "HealthyHostCount", "Maximum"),
    (TrafficMetric::Unhealthy, Of::TargetGroup, "UnHealthyHostCount", "Maximum"),
];

/// Numbers by metric. An absent number is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficCounts(BTreeMap<TrafficMetric, u64>);

impl TrafficCounts {
    pub fn of(&self, metric: TrafficMetric) -> Option<u64> {
        self.0.get(&metric).copied()
    }

    /// The number of a metric; zero if it is unknown.
    pub fn or_zero(&self, metric: TrafficMetric) -> u64 {
        self.of(metric).unwrap_or_default()
    }

    /// The number of a metric, if it is known and not zero.
    pub fn above_zero(&self, metric: TrafficMetric) -> Option<u64> {
        self.of(metric).filter(|number| *number > 0)
    }

    /// The sum of the known metrics; `None` if none is known.
    pub fn sum(&self, metrics: &[TrafficMetric]) -> Option<u64> {
        metrics.iter().filter_map(|metric| self.of(*metric)).reduce(u64::saturating_add)
    }

    /// Whether nothing happened, and all targets were healthy.
    pub fn is_quiet(&self) -> bool {
        let is_event = |metric: &TrafficMetric| !metric.is_gauge() || *metric == TrafficMetric::Unhealthy;
        self.0.iter().all(|(metric, number)| *number == 0 || !is_event(metric))
    }

    fn add(&mut self, metric: TrafficMetric, value: u64) {
        let number = self.0.entry(metric).or_default();
        *number = number.saturating_add(value);
    }

    fn raise(&mut self, metric: TrafficMetric, value: u64) {
        let number = self.0.entry(metric).or_default();
        *number = value.max(*number);
    }
}

impl FromIterator<(TrafficMetric, u64)> for TrafficCounts {
    fn from_iter<I: IntoIterator<Item = (TrafficMetric, u64)>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

/// The resources whose metrics to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    pub service: ServiceId,
    /// The endpoints that count. `None`: all endpoints of the service; empty: no endpoint has metrics.
    pub endpoints: Option<Vec<EndpointId>>,
    /// The load balancers behind it, each with the target groups that serve dbt.
    pub load_balancers: Vec<(Arn, Vec<Arn>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    metric: TrafficMetric,
    /// The target group of a target group's metric.
    group: Option<Arn>,
    pub query: MetricQuery,
}

/// All numbers from CloudWatch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// The numbers of each period, by its start.
    pub periods: BTreeMap<Timestamp, TrafficCounts>,
    pub totals: Totals,
}

/// The number of healthy targets in a target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHealth {
    pub name: String,
    /// The least and the greatest number of healthy targets.
    pub healthy: (u64, u64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// The sums; for gauges, the greatest numbers.
    pub counts: TrafficCounts,
    /// The flows in periods with too few bytes for an answer.
    pub unanswered: u64,
    pub groups: Vec<GroupHealth>,
    /// Whether CloudWatch has any value. Without one, no traffic and no metrics look the same.
    pub published: bool,
}

impl Subjects {
    pub fn queries(&self, span: Span) -> Vec<Reading> {
        METRICS.into_iter().flat_map(|metric| self.queries_of(metric, span)).collect()
    }

    fn queries_of(
        &self,
        (metric, of, name, statistic): (TrafficMetric, Of, &'static str, &'static str),
        span: Span,
    ) -> Vec<Reading> {
        let namespace = match of {
            Of::Service | Of::Endpoint => "AWS/PrivateLinkServices",
            Of::LoadBalancer | Of::TargetGroup => LOAD_BALANCERS,
        };
        let period = if metric == TrafficMetric::Endpoints { span.period.max(ENDPOINTS_PERIOD) } else { span.period };
        let query = |dimensions: Vec<(&'static str, String)>, group: Option<&Arn>| Reading {
            metric,
            group: group.cloned(),
            query: MetricQuery { namespace, name, statistic, dimensions, period },
        };
        let service = || ("Service Id", self.service.to_string());
        let balancer = |arn: &Arn| ("LoadBalancer", arn.resource().trim_start_matches("loadbalancer/").to_owned());
        match of {
            Of::Service => vec![query(vec![service()], None)],
            Of::Endpoint => match &self.endpoints {
                None => vec![query(vec![service()], None)],
                Some(endpoints) => {
                    let of_endpoint =
                        |id: &EndpointId| query(vec![service(), ("VPC Endpoint Id", id.to_string())], None);
                    endpoints.iter().map(of_endpoint).collect()
                }
            },
            Of::LoadBalancer => self.load_balancers.iter().map(|(arn, _)| query(vec![balancer(arn)], None)).collect(),
            Of::TargetGroup => {
                let groups =
                    self.load_balancers.iter().flat_map(|(arn, groups)| groups.iter().map(move |group| (arn, group)));
                let of_group = |(arn, group): (&Arn, &Arn)| {
                    query(vec![balancer(arn), ("TargetGroup", group.resource().to_owned())], Some(group))
                };
                groups.map(of_group).collect()
            }
        }
    }
}

impl Measured {
    /// CloudWatch's answers as numbers per period. AWS publishes most sums only when something happens, so a period
    /// without a value counts as zero. That does not hold for a load balancer that publishes nothing at all, since AWS
    /// always publishes the number of healthy targets.
    pub fn new(span: Span, queries: &[Reading], answers: &[Series]) -> Self {
        let mut measured = Self {
            periods: span.periods().map(|start| (start, TrafficCounts::default())).collect(),
            ..Self::default()
        };
        let of_load_balancer = |reading: &Reading| reading.query.namespace == LOAD_BALANCERS;
        let is_published =
            queries.iter().zip(answers).any(|(query, series)| of_load_balancer(query) && !series.is_empty());
        for (query, series) in queries.iter().zip(answers) {
            measured.totals.published |= !series.is_empty();
            let is_sum = query.query.statistic == "Sum" || query.metric == TrafficMetric::Active;
            if is_sum && (is_published || !of_load_balancer(query)) {
                measured.periods.values_mut().for_each(|counts| counts.add(query.metric, 0));
            }
            for (start, value) in series {
                if let Some(counts) = measured.periods.get_mut(start) {
                    counts.add(query.metric, whole(*value));
                }
            }
            if let (TrafficMetric::Healthy, Some(group)) = (query.metric, &query.group) {
                measured.totals.groups.extend(GroupHealth::new(group, series));
            }
        }
        measured.sum_up();
        measured
    }

    fn sum_up(&mut self) {
        let Self { periods, totals } = self;
        for counts in periods.values() {
            for (metric, value) in &counts.0 {
                match metric.is_gauge() {
                    true => totals.counts.raise(*metric, *value),
                    false => totals.counts.add(*metric, *value),
                }
            }
            if let (Some(flows), Some(bytes)) = (counts.of(TrafficMetric::Flows), counts.of(TrafficMetric::Bytes))
                && is_unanswered(flows, bytes)
            {
                totals.unanswered += flows;
            }
        }
    }
}

impl GroupHealth {
    fn new(group: &Arn, series: &Series) -> Option<Self> {
        let healthy = || series.iter().map(|(_, value)| whole(*value));
        let name = group.name().to_owned();
        Some(Self { name, healthy: (healthy().min()?, healthy().max()?) })
    }
}

/// Whether these flows or connections carried too few bytes for answers.
pub fn is_unanswered(flows: u64, bytes: u64) -> bool {
    bytes <= flows.saturating_mul(UNANSWERED_BYTES)
}

/// CloudWatch's floating-point number as a count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use guard_core::testing::{endpoint, service};

    use super::*;

    const LOAD_BALANCER: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/0123456789abcdef";
    const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn span() -> Span {
        Span { from: at(0), to: at(180), period: SignedDuration::from_mins(1) }
    }

    fn subjects(endpoints: Option<Vec<EndpointId>>) -> Subjects {
        let load_balancers = vec![(LOAD_BALANCER.parse().unwrap(), vec![GROUP.parse().unwrap()])];
        Subjects { service: service(1), endpoints, load_balancers }
    }

    #[test]
    fn each_metric_has_the_dimensions_that_aws_gives_it() {
        let queries = subjects(Some(vec![endpoint(1)])).queries(span());
        let dimensions = |metric: TrafficMetric| {
            let query = queries.iter().find(|query| query.metric == metric).unwrap();
            query.query.dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let service = format!("Service Id={}", service(1));
        assert_eq!(dimensions(TrafficMetric::Endpoints), [service.as_str()]);
        assert_eq!(
            dimensions(TrafficMetric::Connections),
            [service.clone(), format!("VPC Endpoint Id={}", endpoint(1))]
        );
        assert_eq!(dimensions(TrafficMetric::Flows), ["LoadBalancer=net/pg/0123456789abcdef"]);
        let group = "TargetGroup=targetgroup/pg/0123456789abcdef";
        assert_eq!(dimensions(TrafficMetric::Healthy), ["LoadBalancer=net/pg/0123456789abcdef", group]);
        let of_all = subjects(None).queries(span());
        assert_eq!(of_all[0].query.dimensions, [("Service Id", self::service(1).to_string())]);
        assert_eq!((queries.len(), of_all.len()), (METRICS.len(), METRICS.len()));
        assert_eq!(subjects(Some(vec![])).queries(span()).len(), METRICS.len() - 4, "no endpoint has metrics");
    }

    #[test]
    fn a_minute_without_value_means_no_flows_and_unknown_health() {
        let queries = subjects(None).queries(span());
        let answer = |reading: &Reading| match reading.metric {
            TrafficMetric::Flows => vec![(at(0), 3.0), (at(120), 2.0)],
            TrafficMetric::Bytes => vec![(at(0), 900.0), (at(120), 9000.0)],
            TrafficMetric::Healthy => vec![(at(0), 2.0), (at(120), 1.0)],
            _ => vec![],
        };
        let measured = Measured::new(span(), &queries, &queries.iter().map(answer).collect::<Vec<_>>());
        let middle = &measured.periods[&at(60)];
        assert_eq!((middle.of(TrafficMetric::Flows), middle.of(TrafficMetric::Healthy)), (Some(0), None));
        let totals = measured.totals;
        assert_eq!(
            (totals.counts.of(TrafficMetric::Flows), totals.unanswered),
            (Some(5), 3),
            "900 bytes are too few for three"
        );
        assert_eq!(totals.groups, [GroupHealth { name: "pg".to_owned(), healthy: (1, 2) }]);
        assert!(totals.published);
        assert_eq!(totals.counts.of(TrafficMetric::Unhealthy), None);
    }

    #[test]
    fn an_unpublished_flow_count_is_unknown_and_not_zero() {
        let queries = subjects(None).queries(span());
        let answer = |reading: &Reading| match reading.metric {
            TrafficMetric::Connections => vec![(at(0), 3.0)],
            _ => vec![],
        };
        let totals = Measured::new(span(), &queries, &queries.iter().map(answer).collect::<Vec<_>>()).totals;
        let counts = [TrafficMetric::Connections, TrafficMetric::ServiceBytes, TrafficMetric::Flows]
            .map(|metric| totals.counts.of(metric));
        assert_eq!(counts, [Some(3), Some(0), None]);
    }
}
