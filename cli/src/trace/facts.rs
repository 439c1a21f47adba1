//! The facts that are known of the requests on their way.

use super::metrics::Totals;

/// The facts that the verdict is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFacts {
    /// dbt's endpoints, or why they are not known.
    pub endpoints: Result<Endpoints, String>,
    /// What was counted, or why it is not known.
    pub totals: Result<Totals, String>,
    /// What the flow logs have, if there are any.
    pub rejections: Option<Rejections>,
    /// Whether CloudWatch has everything yet.
    pub freshness: Freshness,
    /// Whether the time is so long ago that the endpoints' states may have been others.
    pub is_past: bool,
}

/// The endpoints of the service that are dbt's, or all if dbt's accounts are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The number of connected endpoints in the service's own Region.
    pub near: usize,
    /// The Regions of endpoints that are connected from elsewhere. AWS has no metrics of those endpoints.
    pub far: Vec<String>,
    /// The endpoints that are not connected, each with its state.
    pub waiting: Vec<String>,
    /// Whether these are dbt's endpoints: the caller named dbt's accounts.
    pub of_dbt: bool,
    /// The number of the service's endpoints that belong to other accounts.
    pub of_others: usize,
}

/// What the flow logs of the load balancer's interfaces say was rejected, in records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Rejected on the way to a port that the load balancer listens on.
    pub to_load_balancer: u64,
    /// Rejected on the way to or from a target.
    pub behind: u64,
    /// The most frequent of them, in words.
    pub examples: Vec<String>,
}

/// Whether CloudWatch has published the values of this time yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// All values.
    Settled,
    /// Perhaps not the values of the last minutes.
    EndIsLate,
    /// Perhaps no value.
    AllIsLate,
}
