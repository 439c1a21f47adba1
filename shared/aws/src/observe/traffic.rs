//! CloudWatch: when a consumer last connected through an endpoint.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StatusCode};
use guard_core::alerts::traffic::Answer;
use guard_core::ids::{EndpointId, ServiceId};
use guard_core::snapshot::Observed;
use jiff::{SignedDuration, Timestamp};

use super::Observer;
use crate::errors::malformed_response;

const CALL: &str = "cloudwatch:GetMetricData";

/// How many endpoints one call asks about: it takes 500 metrics.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
const ENDPOINTS: usize = 250;

/// The length of a period.
const PERIOD: SignedDuration = SignedDuration::from_mins(5);

/// A connection is counted when it begins, and while it lasts.
const METRICS: [(&str, &str); 2] = [("NewConnections", "Sum"), ("ActiveConnections", "Maximum")];

impl Observer {
    /// The end of the last period with a connection between `from` and `until`, by endpoint: one call per 250 endpoints and
    /// page. CloudWatch has no value for a minute without traffic.
    ///
    /// # Errors
    /// [`guard_core::snapshot::CallError`] if not all of the metrics could be read.
    pub async fn last_connections(
        &self,
        endpoints: Vec<(ServiceId, EndpointId)>,
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Answer> {
        let mut answer = Answer::new();
        for endpoints in endpoints.chunks(ENDPOINTS) {
            let rows = self.metric_data(endpoints, from, until).await?;
            let last = self.record(CALL, last_periods(&rows, endpoints.len()))?;
            let ends = last.into_iter().map(|start| start.map(|start| (start + PERIOD).min(until)));
            answer.extend(endpoints.iter().map(|(_, endpoint)| endpoint.clone()).zip(ends));
        }
        Ok(answer)
    }

    async fn metric_data(
        &self,
        endpoints: &[(ServiceId, EndpointId)],
        from: Timestamp,
        until: Timestamp,
    ) -> Observed<Vec<Page>> {
        let queries = endpoints.iter().enumerate().flat_map(|(index, (service, endpoint))| {
            METRICS.map(|(name, statistic)| query(index, name, statistic, service, endpoint))
        });
        let call = self.cloudwatch.get_metric_data().set_metric_data_queries(Some(queries.collect()));
        let call =
            call.start_time(DateTime::from_secs(from.as_second())).end_time(DateTime::from_secs(until.as_second()));
        let parse = |row: &MetricDataResult| {
            page(row).ok_or_else(|| malformed_response(CALL, "a result lacks its id or a time"))
        };
        list!(self, CALL, call, metric_data_results, next_token, parse)
    }
}

fn query(index: usize, name: &str, statistic: &str, service: &ServiceId, endpoint: &EndpointId) -> MetricDataQuery {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let metric = Metric::builder()
        .namespace("AWS/PrivateLinkServices")
        .metric_name(name)
        .dimensions(dimension("Service Id", service.as_str()))
        .dimensions(dimension("VPC Endpoint Id", endpoint.as_str()))
        .build();
    let period = i32::try_from(PERIOD.as_secs()).unwrap_or(i32::MAX);
    let stat = MetricStat::builder().metric(metric).period(period).stat(statistic).build();
    MetricDataQuery::builder().id(metric_id(name, index)).metric_stat(stat).build()
}

/// What one page has of a metric.
struct Page {
    id: String,
    /// Whether no further page has more of them.
    complete: bool,
    values: Vec<(Timestamp, f64)>,
}

/// `None` if CloudWatch left out what it means.
fn page(row: &MetricDataResult) -> Option<Page> {
    let (times, values) = (row.timestamps(), row.values());
    let time = |time: &DateTime| Timestamp::from_second(time.secs()).ok();
    let times: Vec<Timestamp> = times.iter().map(time).collect::<Option<_>>()?;
    let id = row.id()?.to_owned();
    (times.len() == values.len()).then(|| Page {
        id,
        complete: row.status_code() == Some(&StatusCode::Complete),
        values: times.into_iter().zip(values.iter().copied()).collect(),
    })
}

/// The start of the last period with a value above zero, of each of `count` endpoints.
///
/// # Errors
/// If a metric is missing, or not complete.
fn last_periods(pages: &[Page], count: usize) -> Observed<Vec<Option<Timestamp>>> {
    let last_period = |index: usize, name: &str| {
        let id = metric_id(name, index);
        let pages = || pages.iter().filter(|page| page.id == id);
        if !pages().next_back().is_some_and(|page| page.complete) {
            return Err(malformed_response(CALL, &format!("{name} is not complete")));
        }
        let values = pages().flat_map(|page| &page.values);
        Ok(values.filter(|(_, value)| *value > 0.0).map(|(time, _)| *time).max())
    };
    let last = |index| {
        let periods = METRICS.iter().map(|(name, _)| last_period(index, name));
        Ok(periods.collect::<Observed<Vec<_>>>()?.into_iter().max().flatten())
    };
    (0..count).map(last).collect()
}

/// Begins with a lower-case letter, as CloudWatch wants it.
fn metric_id(name: &str, index: usize) -> String {
    format!("{}_{index}", name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, status: StatusCode, values: &[(i64, f64)]) -> MetricDataResult {
        MetricDataResult::builder()
            .id(id)
            .status_code(status)
            .set_timestamps(Some(values.iter().map(|(time, _)| DateTime::from_secs(*time)).collect()))
            .set_values(Some(values.iter().map(|(_, value)| *value).collect()))
            .build()
    }

    fn last(rows: &[MetricDataResult], count: usize) -> Observed<Vec<Option<Timestamp>>> {
        last_periods(&rows.iter().map(|row| page(row).unwrap()).collect::<Vec<_>>(), count)
    }

    #[test]
    fn the_last_period_with_a_connection_counts_in_either_metric_and_on_every_page() {
        let rows = [
            row("newconnections_0", StatusCode::PartialData, &[(600, 1.0), (300, 1.0)]),
            row("activeconnections_0", StatusCode::PartialData, &[]),
            row("newconnections_0", StatusCode::Complete, &[]),
            row("activeconnections_0", StatusCode::Complete, &[(900, 0.0), (800, 2.0)]),
            row("newconnections_1", StatusCode::Complete, &[]),
            row("activeconnections_1", StatusCode::Complete, &[]),
        ];
        let at = |second| Timestamp::from_second(second).ok();
        assert_eq!(last(&rows, 2), Ok(vec![at(800), None]));
    }

    #[test]
    fn what_cloudwatch_did_not_answer_completely_is_no_answer() {
        let complete = row("newconnections_0", StatusCode::Complete, &[]);
        for other in [StatusCode::PartialData, StatusCode::InternalError, StatusCode::Forbidden] {
            let rows = [complete.clone(), row("activeconnections_0", other, &[])];
            assert!(last(&rows, 1).is_err());
        }
        assert!(last(std::slice::from_ref(&complete), 1).is_err());
        let odd = MetricDataResult::builder().id("newconnections_0").timestamps(DateTime::from_secs(0)).build();
        assert!(page(&odd).is_none(), "a time without its value");
    }
}
