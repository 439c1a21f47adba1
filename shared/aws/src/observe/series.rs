//! CloudWatch: time series of metrics.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StatusCode};
use guard_core::snapshot::Observed;
use jiff::{SignedDuration, Timestamp};

use super::Observer;
use crate::errors::malformed_response;

const CALL: &str = "cloudwatch:GetMetricData";

/// The maximum number of metrics in one call.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
const METRICS: usize = 500;

/// A metric, with its statistic and period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricQuery {
    /// `AWS/PrivateLinkServices`, …
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `Sum`, `Maximum`, …
    pub statistic: &'static str,
    /// All its dimensions, because CloudWatch matches them exactly.
    pub dimensions: Vec<(&'static str, String)>,
    /// The length of a period.
    pub period: SignedDuration,
}

/// The values of a metric, each with the start of its period, earliest first. A period without a data point is absent.
pub type Series = Vec<(Timestamp, f64)>;

impl Observer {
    /// The values of each metric between `from` and `until`: one call per 500 metrics and page.
    pub async fn series(&self, queries: &[MetricQuery], from: Timestamp, until: Timestamp) -> Observed<Vec<Series>> {
        let mut series = Vec::with_capacity(queries.len());
        for queries in queries.chunks(METRICS) {
            let pages = self.metric_data(queries, from, until).await?;
            series.extend(self.record(CALL, joined(&pages, queries))?);
        }
        Ok(series)
    }

    async fn metric_data(&self, queries: &[MetricQuery], from: Timestamp, until: Timestamp) -> Observed<Vec<Page>> {
        let queries = queries.iter().enumerate().map(|(index, metric)| query(index, metric)).collect();
        let call = self.cloudwatch.get_metric_data().set_metric_data_queries(Some(queries));
        let call =
            call.start_time(DateTime::from_secs(from.as_second())).end_time(DateTime::from_secs(until.as_second()));
        let parse = |row: &MetricDataResult| {
            page(row).ok_or_else(|| malformed_response(CALL, "a result lacks its id or a time"))
        };
        list!(self, CALL, call, metric_data_results, next_token, parse)
    }
}

fn query(index: usize, asked: &MetricQuery) -> MetricDataQuery {
    let dimensions = asked.dimensions.iter();
    let dimensions = dimensions.map(|(name, value)| Dimension::builder().name(*name).value(value).build());
    let metric = Metric::builder()
        .namespace(asked.namespace)
        .metric_name(asked.name)
        .set_dimensions(Some(dimensions.collect()))
        .build();
    let period = i32::try_from(asked.period.as_secs()).unwrap_or(i32::MAX);
    let stat = MetricStat::builder().metric(metric).period(period).stat(asked.statistic).build();
    MetricDataQuery::builder().id(metric_id(index, asked)).metric_stat(stat).build()
}

/// The values of a metric on one page.
struct Page {
    id: String,
    /// Whether this is the metric's last page.
    complete: bool,
    values: Series,
}

/// `None` if CloudWatch omitted a required field.
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

/// The values of each metric, joined from all pages.
///
/// # Errors
/// If a metric is missing or incomplete.
fn joined(pages: &[Page], queries: &[MetricQuery]) -> Observed<Vec<Series>> {
    let join = |(index, query): (usize, &MetricQuery)| {
        let id = metric_id(index, query);
        let pages = || pages.iter().filter(|page| page.id == id);
        if !pages().next_back().is_some_and(|page| page.complete) {
            return Err(malformed_response(CALL, &format!("{} is not complete", query.name)));
        }
        let mut values: Series = pages().flat_map(|page| page.values.iter().copied()).collect();
        values.sort_by_key(|(time, _)| *time);
        Ok(values)
    };
    queries.iter().enumerate().map(join).collect()
}

/// An id that begins with a lower-case letter, as CloudWatch requires.
fn metric_id(index: usize, query: &MetricQuery) -> String {
    format!("{}_{index}", query.name.to_lowercase())
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

    fn read(rows: &[MetricDataResult], names: &[&'static str]) -> Observed<Vec<Series>> {
        let period = SignedDuration::from_mins(1);
        let query = |name: &&'static str| MetricQuery {
            namespace: "AWS/PrivateLinkServices",
            name,
            statistic: "Sum",
            dimensions: Vec::new(),
            period,
        };
        let queries: Vec<MetricQuery> = names.iter().map(query).collect();
        joined(&rows.iter().map(|row| page(row).unwrap()).collect::<Vec<_>>(), &queries)
    }

    #[test]
    fn values_of_all_pages_are_joined_earliest_first() {
        let rows = [
            row("newconnections_0", StatusCode::PartialData, &[(600, 1.0), (300, 2.0)]),
            row("activeconnections_1", StatusCode::PartialData, &[]),
            row("newconnections_0", StatusCode::Complete, &[(0, 3.0)]),
            row("activeconnections_1", StatusCode::Complete, &[]),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        let expected = vec![vec![(at(0), 3.0), (at(300), 2.0), (at(600), 1.0)], vec![]];
        assert_eq!(read(&rows, &["NewConnections", "ActiveConnections"]), Ok(expected));
    }

    #[test]
    fn a_partial_cloudwatch_response_is_an_error() {
        let names = ["NewConnections", "ActiveConnections"];
        let complete = row("newconnections_0", StatusCode::Complete, &[]);
        for other in [StatusCode::PartialData, StatusCode::InternalError, StatusCode::Forbidden] {
            let rows = [complete.clone(), row("activeconnections_1", other, &[])];
            assert!(read(&rows, &names).is_err());
        }
        assert!(read(std::slice::from_ref(&complete), &names).is_err());
        let odd = MetricDataResult::builder().id("newconnections_0").timestamps(DateTime::from_secs(0)).build();
        assert!(page(&odd).is_none(), "a time without its value");
    }
}
