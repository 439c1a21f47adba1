//! The paths from the endpoint services to the targets.

use std::collections::BTreeMap;

use super::{Connection, EndpointService, LoadBalancer, Network, Notification, Seen, Unseen};
use crate::ids::{Arn, ServiceId};

/// The endpoint services, and each load balancer behind them once, however many services share it.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The services EC2 knows, of those asked for.
    pub services: Seen<BTreeMap<ServiceId, EndpointService>>,
    /// Every load balancer behind any of them.
    pub load_balancers: BTreeMap<Arn, LoadBalancer>,
    /// The connections of the services; not read in every run.
    pub connections: Option<Seen<Vec<Connection>>>,
    /// The connection notifications of the services; not read in every run.
    pub notifications: Option<Seen<Vec<Notification>>>,
    /// What surrounds the load balancers; not read in every run.
    pub network: Option<Network>,
    /// Why it is not known where instances are; of the read itself nothing else remains, since it completes targets.
    pub incomplete: Option<Unseen>,
}

impl Paths {
    /// The configuration of `service`.
    ///
    /// # Errors
    /// In words, if the services could not be described, or if EC2 does not know this one.
    pub fn service(&self, service: &ServiceId) -> Result<&EndpointService, String> {
        let services = self.services.as_ref().map_err(ToString::to_string)?;
        services.get(service).ok_or_else(|| format!("EC2 does not know {service}"))
    }

    /// The load balancers behind `service`.
    ///
    /// # Errors
    /// As [`Paths::service`]: of a service that EC2 does not know, nothing is known.
    pub fn behind(&self, service: &ServiceId) -> Result<Vec<&LoadBalancer>, String> {
        let arns = &self.service(service)?.load_balancers;
        Ok(arns.iter().filter_map(|arn| self.load_balancers.get(arn)).collect())
    }

    /// The reads that failed.
    pub fn unseen(&self) -> impl Iterator<Item = &Unseen> {
        let services = self.services.iter().flat_map(BTreeMap::values);
        let of_services = services.filter_map(|service| failed(service.principals.as_ref()));
        let asked_for_all =
            [self.services.as_ref().err(), failed(self.connections.as_ref()), failed(self.notifications.as_ref())];
        asked_for_all
            .into_iter()
            .flatten()
            .chain(of_services)
            .chain(self.load_balancers.values().flat_map(LoadBalancer::unseen))
            .chain(self.network.iter().flat_map(Network::unseen))
            .chain(&self.incomplete)
    }

    /// The `Name` tag of `service`, if it was seen.
    #[must_use]
    pub fn name(&self, service: &ServiceId) -> Option<&str> {
        self.services.as_ref().ok()?.get(service)?.name.as_deref()
    }
}

/// Why a read failed, if it was made and did.
pub(super) fn failed<T>(read: Option<&Seen<T>>) -> Option<&Unseen> {
    read.and_then(|read| read.as_ref().err())
}
