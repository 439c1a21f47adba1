//! The flow logs of load balancers' network interfaces. Only the command line reads them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_sdk_ec2::types as ec2;
use guard_core::snapshot::Observed;
use jiff::Timestamp;

use super::network::addresses;
use super::{FILTER_VALUES, Observer, filter};
use crate::errors::malformed_response;

/// A network interface of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `eni-…`
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// Its VPC.
    pub vpc: String,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
}

/// A flow log of a network interface, a subnet or a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLog {
    /// `fl-…`
    pub id: String,
    /// The recorded resource: `eni-…`, `subnet-…` or `vpc-…`.
    pub resource: String,
    /// Its log group; the destination type if that is not CloudWatch Logs.
    pub log_group: Result<String, String>,
    /// The fields of its records, as EC2 writes them: `${version} ${account-id} …`; `None` for the default.
    pub format: Option<String>,
    /// Whether it records rejected traffic.
    pub has_rejects: bool,
    /// The reason that records do not arrive, if any.
    pub error: Option<String>,
    /// Its creation time.
    pub created: Option<Timestamp>,
}

impl Observer {
    /// The load balancers' network interfaces, by their descriptions: one call per 200 descriptions and page.
    pub async fn nodes(&self, descriptions: BTreeSet<String>) -> Observed<Vec<Node>> {
        const CALL: &str = "ec2:DescribeNetworkInterfaces";
        let node = |row: &ec2::NetworkInterface| {
            Some(Node {
                id: row.network_interface_id()?.to_owned(),
                subnet: row.subnet_id()?.to_owned(),
                vpc: row.vpc_id()?.to_owned(),
                addresses: addresses(row)?,
            })
        };
        let parse = |row: &ec2::NetworkInterface| {
            node(row).ok_or_else(|| malformed_response(CALL, "an interface lacks its id, subnet or VPC"))
        };
        self.in_batches(descriptions.into_iter().collect(), FILTER_VALUES, async |descriptions| {
            let call = || self.describe_interfaces("description", descriptions.clone());
            list!(self, CALL, call(), network_interfaces, next_token, parse)
        })
        .await
    }

    /// The flow logs of these interfaces, subnets and VPCs: one call per 200 resources and page.
    pub async fn flow_logs(&self, resources: BTreeSet<String>) -> Observed<Vec<FlowLog>> {
        const CALL: &str = "ec2:DescribeFlowLogs";
        let parse = |row: &ec2::FlowLog| {
            flow_log(row).ok_or_else(|| malformed_response(CALL, "a flow log lacks its id, resource or destination"))
        };
        self.in_batches(resources.into_iter().collect(), FILTER_VALUES, async |resources| {
            let call = self.ec2.describe_flow_logs().filter(filter("resource-id", resources));
            list!(self, CALL, call, flow_logs, next_token, parse)
        })
        .await
    }
}

fn flow_log(row: &ec2::FlowLog) -> Option<FlowLog> {
    let log_group = match row.log_destination_type() {
        None | Some(ec2::LogDestinationType::CloudWatchLogs) => Ok(log_group(row)?.to_owned()),
        Some(other) => Err(other.as_str().to_owned()),
    };
    let failed = row.deliver_logs_status() == Some("FAILED");
    Some(FlowLog {
        id: row.flow_log_id()?.to_owned(),
        resource: row.resource_id()?.to_owned(),
        log_group,
        format: row.log_format().map(ToOwned::to_owned),
        has_rejects: row.traffic_type() != Some(&ec2::TrafficType::Accept),
        error: failed.then(|| row.deliver_logs_error_message().unwrap_or("EC2 does not say why").to_owned()),
        created: row.creation_time().and_then(|time| Timestamp::from_second(time.secs()).ok()),
    })
}

/// The log group's name, from its own field or from the destination's ARN:
/// `arn:aws:logs:REGION:ACCOUNT:log-group:NAME:*`.
fn log_group(row: &ec2::FlowLog) -> Option<&str> {
    let of_destination = || {
        let destination = row.log_destination()?;
        let name = destination.split_once(":log-group:").map(|(_, name)| name.trim_end_matches(":*"));
        Some(name.unwrap_or(destination))
    };
    row.log_group_name().or_else(of_destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_log_names_its_log_group_or_its_destination_type() {
        let row = || ec2::FlowLog::builder().flow_log_id("fl-1").resource_id("vpc-1");
        let group = |row: ec2::builders::FlowLogBuilder| flow_log(&row.build()).map(|log| log.log_group);
        let arn = "arn:aws:logs:eu-central-1:111122223333:log-group:/vpc/flows:*";
        assert_eq!(group(row().log_group_name("flows")), Some(Ok("flows".to_owned())));
        assert_eq!(group(row().log_destination(arn)), Some(Ok("/vpc/flows".to_owned())));
        assert_eq!(group(row().log_destination_type(ec2::LogDestinationType::S3)), Some(Err("s3".to_owned())));
        assert_eq!(group(row()), None, "EC2 does not say where it goes");
        let failed = row().log_group_name("flows").deliver_logs_status("FAILED").traffic_type(ec2::TrafficType::Accept);
        let failed = flow_log(&failed.build()).unwrap();
        assert!(failed.error.is_some() && !failed.has_rejects);
    }
}
