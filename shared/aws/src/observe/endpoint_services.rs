//! Endpoint services, their allowed principals and their connection notifications.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types as ec2;
use guard_core::ids::{Arn, Malformed, ServiceId};
use guard_core::snapshot::{EndpointService, Notification, Observed, PrivateDns, SupportedRegion};

use super::{FILTER_VALUES, Observer, filter};
use crate::errors::malformed_response;

const DESCRIBE: &str = "ec2:DescribeVpcEndpointServiceConfigurations";

impl Observer {
    /// The configurations of `services`: one call per 200 services and page. A service unknown to EC2 is absent.
    pub async fn endpoint_services(
        &self,
        services: &BTreeSet<ServiceId>,
    ) -> Observed<BTreeMap<ServiceId, EndpointService>> {
        let ids = services.iter().map(ToString::to_string).collect();
        let services = self
            .in_batches(ids, FILTER_VALUES, async |ids| {
                // A filter, because the `ServiceIds` parameter makes the call fail if one of the services does not
                // exist.
                let call = self.ec2.describe_vpc_endpoint_service_configurations().filters(filter("service-id", ids));
                list!(self, DESCRIBE, call, service_configurations, next_token, endpoint_service)
            })
            .await?;
        Ok(services.into_iter().map(|service| (service.id.clone(), service)).collect())
    }

    /// All endpoint services of the account in this Region.
    pub async fn all_endpoint_services(&self) -> Observed<BTreeMap<ServiceId, EndpointService>> {
        let call = self.ec2.describe_vpc_endpoint_service_configurations();
        let services = list!(self, DESCRIBE, call, service_configurations, next_token, endpoint_service)?;
        Ok(services.into_iter().map(|service| (service.id.clone(), service)).collect())
    }

    /// The allowed principals of `service`: one call per page. EC2 has no call for several services.
    pub(super) async fn allowed_principals(&self, service: &ServiceId) -> Observed<Vec<String>> {
        const CALL: &str = "ec2:DescribeVpcEndpointServicePermissions";
        let call = self.ec2.describe_vpc_endpoint_service_permissions().service_id(service.as_str());
        let parse = |row: &ec2::AllowedPrincipal| {
            row.principal.clone().ok_or_else(|| malformed_response(CALL, "an allowed principal has no name"))
        };
        list!(self, CALL, call, allowed_principals, next_token, parse)
    }

    /// The connection notifications of `services`: one call per 200 services and page.
    pub(super) async fn notifications(&self, services: &BTreeSet<ServiceId>) -> Observed<Vec<Notification>> {
        const CALL: &str = "ec2:DescribeVpcEndpointConnectionNotifications";
        let ids = services.iter().map(ToString::to_string).collect();
        let parse = |row: &ec2::ConnectionNotification| {
            notification(row).ok_or_else(|| malformed_response(CALL, "a notification lacks its ids, topic or state"))
        };
        self.in_batches(ids, FILTER_VALUES, async |ids| {
            let call = self.ec2.describe_vpc_endpoint_connection_notifications().filters(filter("service-id", ids));
            list!(self, CALL, call, connection_notification_set, next_token, parse)
        })
        .await
    }
}

fn endpoint_service(row: &ec2::ServiceConfiguration) -> Observed<EndpointService> {
    let id = row.service_id().and_then(|id| id.parse().ok());
    let tag = row.tags().iter().find(|tag| tag.key() == Some("Name")).and_then(ec2::Tag::value);
    let load_balancers = row.network_load_balancer_arns().iter().chain(row.gateway_load_balancer_arns());
    let load_balancers: Result<Vec<Arn>, Malformed> = load_balancers.map(|arn| arn.parse()).collect();
    let region = |row: &ec2::SupportedRegionDetail| {
        Some(SupportedRegion { name: row.region()?.to_owned(), state: row.service_state().map(ToOwned::to_owned) })
    };
    let regions: Option<Vec<SupportedRegion>> = row.supported_regions().iter().map(region).collect();
    let zones = row.availability_zones();
    Ok(EndpointService {
        id: id.ok_or_else(|| malformed_response(DESCRIBE, "an endpoint service has no id"))?,
        service_name: row.service_name().map(ToOwned::to_owned),
        name: tag.filter(|name| !name.is_empty()).map(ToOwned::to_owned),
        state: row.service_state().map(|state| state.as_str().to_owned()),
        acceptance_required: row.acceptance_required(),
        zones: (!zones.is_empty()).then(|| zones.to_vec()),
        zone_ids: row.availability_zone_ids().to_vec(),
        ip_address_types: row.supported_ip_address_types().iter().map(|kind| kind.as_str().to_owned()).collect(),
        load_balancers: load_balancers.map_err(|error| malformed_response(DESCRIBE, &error.to_string()))?,
        private_dns: private_dns(row),
        regions: regions.ok_or_else(|| malformed_response(DESCRIBE, "a supported Region has no name"))?,
        principals: None,
    })
}

fn private_dns(row: &ec2::ServiceConfiguration) -> Option<PrivateDns> {
    let name = row.private_dns_name().filter(|name| !name.is_empty())?.to_owned();
    let verification = row.private_dns_name_configuration();
    let record = verification.and_then(|record| Some((record.name()?.to_owned(), record.value()?.to_owned())));
    let state = verification.and_then(ec2::PrivateDnsNameConfiguration::state).map(|state| state.as_str().to_owned());
    Some(PrivateDns { name, state, record })
}

fn notification(row: &ec2::ConnectionNotification) -> Option<Notification> {
    Some(Notification {
        id: row.connection_notification_id()?.to_owned(),
        service: row.service_id()?.parse().ok()?,
        topic: row.connection_notification_arn()?.to_owned(),
        events: row.connection_events().to_vec(),
        enabled: *row.connection_notification_state()? == ec2::ConnectionNotificationState::Enabled,
    })
}
