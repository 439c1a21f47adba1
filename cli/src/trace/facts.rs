//! The known facts about the requests on their way.

use super::metrics::Totals;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFacts {
    /// dbt's endpoints, or the reason why they are unknown.
    pub endpoints: Result<Endpoints, String>,
    /// The counts, or the reason why they are unknown.
    pub totals: Result<Totals, String>,
    /// The rejected flow-log records; `None` without flow logs.
    pub rejections: Option<Rejections>,
    /// Whether CloudWatch has published everything.
    pub freshness: Freshness,
    /// Whether the endpoints may have had other states then, because the time is long ago.
    pub is_past: bool,
}

/// dbt's endpoints to the service, or all endpoints if dbt's accounts are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The number of connected endpoints in the service's own Region.
    pub near: usize,
    /// The Regions of connected endpoints elsewhere. AWS has no metrics of those endpoints.
    pub far: Vec<String>,
    /// The endpoints that are not connected, each with its state.
    pub waiting: Vec<String>,
    /// Whether these are dbt's endpoints, because the user named dbt's accounts.
    pub of_dbt: bool,
    /// The number of the service's endpoints that belong to other accounts.
    pub of_others: usize,
}

/// Rejected flow-log records on the load balancer's interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Rejected on the way to a port that the load balancer listens on.
    pub to_load_balancer: u64,
    /// Rejected on the way to or from a target.
    pub behind: u64,
    /// The most frequent rejections, in words.
    pub examples: Vec<String>,
}

/// Whether CloudWatch has published the values of this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// All values.
    Settled,
    /// The values of the last minutes may be missing.
    EndIsLate,
    /// All values may be missing.
    AllIsLate,
}
