//! The last connection of a consumer through an endpoint.

use guard_core::alerts::traffic::LastConnections;
use guard_core::ids::{EndpointId, ServiceId};
use guard_core::snapshot::Observed;
use jiff::{SignedDuration, Timestamp};

use super::Observer;
use super::series::{MetricQuery, Series};

/// The length of a period.
const PERIOD: SignedDuration = SignedDuration::from_mins(5);

/// The metrics that count new and active connections.
const METRICS: [(&str, &str); 2] = [("NewConnections", "Sum"), ("ActiveConnections", "Maximum")];

impl Observer {
    /// The end of the last period with a connection between `from` and `until`, by endpoint: one call per 250 endpoints
    /// and page. CloudWatch stores no value for a minute without traffic.
    pub async fn last_connections(
        &self,
        endpoints: Vec<(ServiceId, EndpointId)>,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<LastConnections> {
        let queries: Vec<MetricQuery> =
            endpoints.iter().flat_map(|endpoint| METRICS.map(|metric| query(endpoint, metric))).collect();
        let series = self.series(&queries, from, until).await?;
        let ends = series
            .chunks(METRICS.len())
            .map(|of_endpoint| last_period(of_endpoint).map(|start| (start + PERIOD).min(until)));
        Ok(endpoints.into_iter().map(|(_, endpoint)| endpoint).zip(ends).collect())
    }
}

fn query(
    (service, endpoint): &(ServiceId, EndpointId),
    (name, statistic): (&'static str, &'static str),
) -> MetricQuery {
    let dimensions = vec![("Service Id", service.to_string()), ("VPC Endpoint Id", endpoint.to_string())];
    MetricQuery { namespace: "AWS/PrivateLinkServices", name, statistic, dimensions, period: PERIOD }
}

/// The start of the last period with a value above zero.
fn last_period(series: &[Series]) -> Option<Timestamp> {
    series.iter().flatten().filter(|(_, value)| *value > 0.0).map(|(time, _)| *time).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_period_with_a_connection_counts_in_either_metric() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (new, active) = (vec![(at(300), 1.0), (at(600), 1.0)], vec![(at(800), 2.0), (at(900), 0.0)]);
        assert_eq!(last_period(&[new, active]), Some(at(800)));
        assert_eq!(last_period(&[vec![], vec![]]), None);
    }
}
