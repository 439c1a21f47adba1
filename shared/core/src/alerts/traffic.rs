//! dbt's last connections, from CloudWatch's metrics of the endpoint service. drift-watcher queries them once an hour,
//! because each query costs money, and stores the answer for connection-acceptor. Pure.
//!
//! AWS publishes the metrics for minutes with traffic only, and never for endpoints in another Region.
//! <https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-cloudwatch-metrics.html>

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::record::{Items, Key};
use crate::config::Policy;
use crate::connections::{Verdict, decide};
use crate::ids::{EndpointId, ServiceId};
use crate::snapshot::{Connection, LastConnection, Traffic};

/// Minimum time between queries: an hour, less the amount by which a schedule may be early.
const ASK_EVERY: SignedDuration = SignedDuration::from_mins(55);

/// Period of the first query: the maximum of `EXPECT_TRAFFIC_EVERY`.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Maximum delay of a metric. Each query overlaps the previous one by this much.
const LATE: SignedDuration = SignedDuration::from_hours(1);

/// A question to CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// dbt's endpoints, each on its endpoint service.
    pub endpoints: Vec<(ServiceId, EndpointId)>,
    /// The start of the queried period, which ends now.
    pub from: Timestamp,
}

/// CloudWatch's answer: the end of the last period with a connection, by endpoint.
pub type LastConnections = BTreeMap<EndpointId, Option<Timestamp>>;

/// The question about `service`; `None` if the next query is not due, or dbt has no endpoint with metrics.
pub fn question(
    service: &ServiceId,
    connections: &[Connection],
    before: Option<&Traffic>,
    policy: &Policy,
    now: Timestamp,
) -> Option<Question> {
    let established = |connection: &&Connection| {
        connection.service == *service && decide(connection, policy) == Verdict::Established && has_metrics(connection)
    };
    let endpoints = connections.iter().filter(established).map(|connection| connection.endpoint.clone());
    let endpoints: Vec<(ServiceId, EndpointId)> = endpoints.map(|endpoint| (service.clone(), endpoint)).collect();
    let earliest = now - LOOK_BACK;
    let known =
        before.filter(|before| endpoints.iter().all(|(_, endpoint)| before.endpoints.contains_key(endpoint.as_str())));
    let from = match known {
        Some(before) if now.duration_since(before.until) < ASK_EVERY => return None,
        Some(before) => earliest.max(before.until - LATE),
        None => earliest,
    };
    (!endpoints.is_empty()).then_some(Question { endpoints, from })
}

/// Whether AWS publishes metrics of the connection: not for a consumer in another Region.
pub fn has_metrics(connection: &Connection) -> bool {
    connection.region.is_none()
}

/// The known traffic after CloudWatch's `answer` to `question`, which covers the time until `now`.
pub fn next(before: Option<&Traffic>, question: &Question, answer: &LastConnections, now: Timestamp) -> Traffic {
    let endpoints = question.endpoints.iter().map(|(_, endpoint)| {
        // Earlier traffic counts only if there is no gap between the queries.
        let known = before.filter(|before| before.until >= question.from);
        let known = known.and_then(|before| before.endpoints.get(endpoint.as_str()));
        let since = known.map_or(question.from, |known| known.since.min(question.from));
        let at = answer.get(endpoint).copied().flatten().max(known.and_then(|known| known.at));
        (endpoint.to_string(), LastConnection { since, at })
    });
    Traffic { until: now, endpoints: endpoints.collect() }
}

/// The recorded traffic of the endpoint service.
pub fn recorded(items: &Items) -> Option<&Traffic> {
    let mut records = items.iter().filter(|(key, _)| key.subject == Key::TRAFFIC);
    records.find_map(|(_, item)| item.record.as_ref()?.traffic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_EXPECT_TRAFFIC_EVERY;
    use crate::testing::{DBT, UNTRUSTED, at, connection, endpoint, policy, service};

    fn ask(connections: &[Connection], before: Option<&Traffic>, now: Timestamp) -> Option<Question> {
        question(&service(1), connections, before, &policy(), now)
    }

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn an_hourly_query_covers_dbts_established_endpoints() {
        let mut connections = vec![
            connection(1, Some(DBT), "available"),
            connection(2, Some(UNTRUSTED), "available"),
            connection(3, Some(DBT), "pendingAcceptance"),
            Connection { region: Some("us-east-1".to_owned()), ..connection(4, Some(DBT), "available") },
        ];
        let first = ask(&connections, None, at(9, 0)).unwrap();
        assert_eq!(first.endpoints, [(service(1), endpoint(1))]);
        assert_eq!(first.from, at(9, 0) - days(7));
        assert_eq!(LOOK_BACK.unsigned_abs(), MAX_EXPECT_TRAFFIC_EVERY);
        let traffic = next(None, &first, &LastConnections::new(), at(9, 0));
        assert_eq!(ask(&connections, Some(&traffic), at(9, 54)), None);
        assert!(ask(&connections, Some(&traffic), at(9, 55)).is_some(), "a schedule may be early");
        assert_eq!(ask(&connections, Some(&traffic), at(10, 0)).unwrap().from, at(8, 0), "metrics arrive late");
        connections.push(connection(5, Some(DBT), "available"));
        assert_eq!(ask(&connections, Some(&traffic), at(9, 15)).unwrap().from, at(9, 15) - days(7), "a new endpoint");
        assert_eq!(ask(&connections[1..4], None, at(9, 0)), None);
    }

    #[test]
    fn the_last_connection_stays_until_a_later_one() {
        let ask_at = |from, now, before: Option<&Traffic>, seen| {
            let question = Question { endpoints: vec![(service(1), endpoint(1))], from };
            next(before, &question, &LastConnections::from([(endpoint(1), seen)]), now)
        };
        let last = |traffic: &Traffic, now| traffic.of(&endpoint(1), now);
        let first = ask_at(at(2, 0), at(9, 0), None, Some(at(8, 30)));
        assert_eq!(last(&first, at(9, 0)), Ok(LastConnection { since: at(2, 0), at: Some(at(8, 30)) }));
        let second = ask_at(at(8, 0), at(10, 0), Some(&first), None);
        assert_eq!(last(&second, at(10, 0)), Ok(LastConnection { since: at(2, 0), at: Some(at(8, 30)) }));
        let third = ask_at(at(9, 0), at(11, 0), Some(&second), Some(at(10, 55)));
        assert_eq!(last(&third, at(11, 0)).unwrap().at, Some(at(10, 55)));
        let gap = ask_at(at(12, 0), at(20, 0), Some(&third), None);
        assert_eq!(last(&gap, at(20, 0)), Ok(LastConnection { since: at(12, 0), at: None }), "nobody looked before");
        assert!(last(&gap, at(23, 30)).is_err(), "too old to say anything");
        assert!(gap.of(&endpoint(2), at(20, 0)).is_err());
    }
}
