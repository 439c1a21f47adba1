//! dbt's last connections, according to CloudWatch.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::EndpointId;

/// Maximum age of a usable answer.
const VALID_FOR: SignedDuration = SignedDuration::from_hours(3);

/// CloudWatch's answers about one endpoint service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The end of the time that the answers cover.
    pub until: Timestamp,
    /// The answers, by endpoint.
    pub endpoints: BTreeMap<String, LastConnection>,
}

/// dbt's last connection through an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastConnection {
    /// The start of the time that the answers cover.
    pub since: Timestamp,
    /// The end of the last period with a connection; `None` if there was none.
    pub at: Option<Timestamp>,
}

impl Traffic {
    /// dbt's last connection through `endpoint`.
    ///
    /// # Errors
    /// The reason why it is unknown: no query was made, or none recently.
    pub fn of(&self, endpoint: &EndpointId, now: Timestamp) -> Result<LastConnection, String> {
        if now.duration_since(self.until) > VALID_FOR {
            return Err(format!("CloudWatch last answered at {:.0}", self.until));
        }
        let known = self.endpoints.get(endpoint.as_str()).copied();
        known.ok_or_else(|| "CloudWatch has not been asked about this endpoint yet".to_owned())
    }
}

impl LastConnection {
    /// The time since which dbt has not connected, as far as the answers show. An endpoint cannot connect before it is
    /// `created`.
    pub fn quiet_since(&self, created: Option<Timestamp>) -> Timestamp {
        self.at.or(created).map_or(self.since, |time| time.max(self.since))
    }

    /// The last connection as a line of text.
    pub fn describe(&self, created: Option<Timestamp>) -> String {
        match self.at {
            Some(at) => format!("dbt last connected at {at:.0} or up to 5 minutes before"),
            None => format!("dbt has not connected since {:.0}", self.quiet_since(created)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, endpoint};

    #[test]
    fn an_answer_is_valid_for_three_hours() {
        let last = LastConnection { since: at(2, 0), at: Some(at(8, 0)) };
        let traffic = Traffic { until: at(9, 0), endpoints: [(endpoint(1).to_string(), last)].into() };
        assert_eq!(traffic.of(&endpoint(1), at(12, 0)), Ok(last));
        assert!(traffic.of(&endpoint(1), at(12, 1)).is_err());
        assert!(traffic.of(&endpoint(2), at(12, 0)).is_err());
    }

    #[test]
    fn an_endpoint_is_quiet_since_its_last_connection() {
        let never = LastConnection { since: at(2, 0), at: None };
        assert_eq!(never.quiet_since(Some(at(8, 0))), at(8, 0), "the endpoint is new");
        assert_eq!(never.quiet_since(Some(at(1, 0))), at(2, 0));
        assert_eq!(never.quiet_since(None), at(2, 0));
        assert_eq!(LastConnection { at: Some(at(7, 0)), ..never }.quiet_since(Some(at(1, 0))), at(7, 0));
    }
}
