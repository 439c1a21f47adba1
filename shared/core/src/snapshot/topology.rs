//! The path from the endpoint services to the targets.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    CallError, Certificate, Connection, Connections, EndpointService, LoadBalancer, Network, Notification, Observed,
    Traffic, Unread, known,
};
use crate::ids::{Arn, ServiceId};

/// The reads of a run: the endpoint services, and each load balancer once, even if several services share it. The
/// default is a run without reads.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// The configured services that EC2 knows; not read in every run.
    pub services: Option<Observed<BTreeMap<ServiceId, EndpointService>>>,
    pub load_balancers: BTreeMap<Arn, LoadBalancer>,
    /// The error that leaves some targets' locations and security groups unknown.
    pub unlocated: Option<CallError>,
    /// The connections of the services; not read in every run. Those of one service: see [`Topology::connections_of`].
    pub connections: Option<Observed<Vec<Connection>>>,
    /// The services whose connections are unknown, each with its error. `connections` contains none of theirs.
    pub unread_connections: BTreeMap<ServiceId, CallError>,
    /// The connection notifications of the services; not read in every run.
    pub notifications: Option<Observed<Vec<Notification>>>,
    /// The networks around the load balancers; not read in every run.
    pub network: Option<Network>,
    /// The certificates of TLS listeners, by ARN; not read in every run.
    pub certificates: BTreeMap<String, Observed<Certificate>>,
    /// When the details of each service's path were read, if they were: see [`super::KnownDetails`].
    pub detailed_at: BTreeMap<ServiceId, Timestamp>,
    /// dbt's last connections, for the services that this run asked about.
    pub traffic: BTreeMap<ServiceId, Traffic>,
}

impl Topology {
    /// The configuration of `service`.
    ///
    /// # Errors
    /// The reason why it is unknown: the services could not be read, or EC2 does not know this one.
    pub fn service(&self, service: &ServiceId) -> Result<&EndpointService, Unread> {
        known(self.services.as_ref())?.get(service).ok_or_else(|| format!("EC2 does not know {service}").into())
    }

    /// The load balancers behind `service`.
    ///
    /// # Errors
    /// See [`Topology::service`]: if EC2 does not know the service, its load balancers are unknown.
    pub fn load_balancers_of(&self, service: &ServiceId) -> Result<Vec<&LoadBalancer>, Unread> {
        let arns = &self.service(service)?.load_balancers;
        Ok(arns.iter().filter_map(|arn| self.load_balancers.get(arn)).collect())
    }

    /// Stores the result of reading the connections.
    pub fn set_connections(&mut self, read: Observed<Connections>) {
        match read {
            Ok(Connections { listed, unread }) => {
                (self.connections, self.unread_connections) = (Some(Ok(listed)), unread);
            }
            Err(error) => self.connections = Some(Err(error)),
        }
    }

    /// The connections of `service`.
    ///
    /// # Errors
    /// The reason why they are unknown: the read failed, or one of them could not be read.
    pub fn connections_of(&self, service: &ServiceId) -> Result<Vec<&Connection>, Unread> {
        let connections = known(self.connections.as_ref())?;
        match self.unread_connections.get(service) {
            Some(error) => Err(error.into()),
            None => Ok(connections.iter().filter(|connection| connection.service == *service).collect()),
        }
    }

    /// Whether the time for reading ended before all of the service's path was read: the targets and, if the run reads
    /// settings, the attributes.
    pub fn is_unfinished(&self, service: &ServiceId) -> bool {
        let load_balancers = self.load_balancers_of(service).unwrap_or_default();
        load_balancers.into_iter().any(|load_balancer| load_balancer.is_unfinished(self.network.is_some()))
    }

    /// The `Name` tags of the services that have one.
    pub fn names(&self) -> BTreeMap<ServiceId, String> {
        let services = self.services.iter().flatten().flatten();
        services.filter_map(|(id, service)| Some((id.clone(), service.name.clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DBT, call_error, connection, endpoint_service, service, topology};

    #[test]
    fn an_unread_connection_affects_only_its_own_service() {
        let call = "ec2:DescribeVpcEndpointConnections";
        let of = |topology: &Topology, number: u32| topology.connections_of(&service(number)).map(|found| found.len());
        let mut topology = Topology::default();
        assert_eq!(of(&topology, 1), Err(Unread::NotAsked));
        let unread = [(service(2), call_error(call))].into();
        topology.set_connections(Ok(Connections { listed: vec![connection(1, Some(DBT), "available")], unread }));
        assert_eq!(of(&topology, 1), Ok(1));
        assert_eq!(of(&topology, 2), Err(Unread::from(&call_error(call))));
        topology.set_connections(Err(call_error(call)));
        assert!(of(&topology, 1).is_err());
    }

    #[test]
    fn only_services_with_a_name_tag_are_named() {
        let named = EndpointService { name: Some("postgres".to_owned()), ..endpoint_service() };
        assert_eq!(topology(named, []).names(), BTreeMap::from([(service(1), "postgres".to_owned())]));
        assert_eq!(topology(endpoint_service(), []).names(), BTreeMap::new());
    }
}
