//! The simulated AWS: its state, and its responses in AWS's formats.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use guard_core::testing::{DBT, endpoint, service};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::call::{Api, Call, Form, Request};
use crate::faults::{Fault, FaultPlan, Trouble, refusal};
use crate::limits::Limits;
use crate::table::Table;

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its action.
    pub action: String,
    /// The resource or table item that it concerned.
    pub about: String,
    /// Its failure, if any.
    pub trouble: Option<Trouble>,
}

/// A connection as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The number of its endpoint; 0 for a row without an endpoint id.
    pub number: u32,
    /// The endpoint service's id.
    pub service: String,
    /// The owner's account, if EC2 names one.
    pub owner: Option<String>,
    /// The state, as EC2 writes it.
    pub state: String,
}

impl Row {
    /// A connection on this endpoint service.
    pub fn new(number: u32, on: u32, owner: Option<&str>, state: &str) -> Self {
        let owner = owner.map(ToOwned::to_owned);
        Self { number, service: service(on).to_string(), owner, state: state.to_owned() }
    }
}

/// A transition that SNS accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// `firing`, `reminder`, `resolved` or `notice`.
    pub kind: String,
    /// The endpoint service; empty for the guard itself.
    pub service: String,
    /// The function that sent it.
    pub function: String,
    /// The check.
    pub check: String,
    /// The resource.
    pub resource: String,
    /// Its number in its record.
    pub number: u64,
    /// Its summary.
    pub summary: String,
    /// The evidence, line by line.
    pub evidence: String,
    /// The recommended action.
    pub action: String,
    /// The API call that caused it, or an empty text.
    pub cause: String,
    /// Whether the message states that the table failed.
    pub table_failed: bool,
    /// The call that published it, counted from zero.
    pub call: usize,
}

impl Published {
    /// The service, check and resource.
    pub fn about(&self) -> (String, String, String) {
        (self.service.clone(), self.check.clone(), self.resource.clone())
    }
}

/// A registered target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeTarget {
    /// Its address, or its instance id.
    pub id: String,
    /// Its port.
    pub port: String,
    /// Its zone.
    pub zone: String,
    /// Its health, as ELB writes it.
    pub health: &'static str,
}

impl FakeTarget {
    /// The target with this address in the first zone.
    pub fn new(address: &str, health: &'static str) -> Self {
        Self { id: address.to_owned(), port: PORT.to_owned(), zone: "eu-central-1a".to_owned(), health }
    }
}

/// A change of a target group's targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetChange {
    /// `RegisterTargets` or `DeregisterTargets`.
    pub action: String,
    /// The addresses in the call.
    pub addresses: Vec<String>,
    /// The hostname's address at that time.
    pub wanted: Option<String>,
    /// The targets before the call.
    pub before: Vec<FakeTarget>,
}

/// A flaw in the responses to an action.
#[derive(Debug, Clone, Copy)]
pub struct Flaw {
    /// The action.
    pub action: &'static str,
    /// The text to find in its responses.
    pub find: &'static str,
    /// The replacement for that text.
    pub replace: &'static str,
}

/// The port of all target groups.
const PORT: &str = "5432";

/// The token of a page that AWS refuses to return.
pub const REFUSED_PAGE: &str = "refused-page";

/// The simulated AWS.
#[derive(Debug, Default)]
pub struct FakeAws {
    /// The number of endpoint services, each with a load balancer, a target group and two targets.
    pub services: u32,
    /// The number of further target groups per load balancer.
    pub more_groups: u32,
    /// The limits of the account.
    pub limits: Limits,
    /// All connections.
    pub connections: Vec<Row>,
    /// The number of connections per page; 0 for all.
    pub page: usize,
    /// The connections after each of the next reads.
    pub reads: VecDeque<Vec<Row>>,
    /// The connections after any accept or reject, whatever that call requests.
    pub afterwards: Option<Vec<Row>>,
    /// The endpoints that EC2 neither accepts nor rejects, each with the code of its unsuccessful item.
    pub refused_items: BTreeMap<u32, &'static str>,
    /// The services whose targets are unhealthy.
    pub unhealthy: BTreeSet<u32>,
    /// The services whose load balancers have cross-zone load balancing off.
    pub cross_zone_off: BTreeSet<u32>,
    /// The targets of some services' target groups. The others have a target in each zone.
    pub targets: BTreeMap<u32, Vec<FakeTarget>>,
    /// The hostnames in the tags of some services' target groups. Tests use an address, which resolves to itself.
    pub hostnames: BTreeMap<u32, String>,
    /// The services whose target groups take no more targets.
    pub full: BTreeSet<u32>,
    /// The calls that registered or deregistered targets.
    pub target_changes: Vec<TargetChange>,
    /// The services that allow another principal.
    pub others_allowed: BTreeSet<u32>,
    /// The state table.
    pub table: Table,
    /// The transitions that SNS accepted.
    pub published: Vec<Published>,
    /// The messages that SNS accepted, each with its subject.
    pub messages: Vec<(String, String)>,
    /// The calls, in order.
    pub calls: Vec<Made>,
    /// The number of changes from pending to accepted, by endpoint.
    pub accepted: BTreeMap<String, u32>,
    /// The service and endpoint of each requested accept.
    pub accept_calls: Vec<(String, String)>,
    /// The service and endpoint of each requested reject.
    pub reject_calls: Vec<(String, String)>,
    /// The planned faults.
    pub plan: FaultPlan,
    /// The flaw in the responses to one action.
    pub flaw: Option<Flaw>,
    /// The results of some actions, in place of the simulated ones.
    pub results: BTreeMap<&'static str, String>,
    /// Whether the targets are instances, and a security group rule names a prefix list.
    pub has_instances: bool,
    /// The number of calls, by action and resource.
    pub counts: HashMap<(String, String), u32>,
}

impl FakeAws {
    /// An AWS with this number of endpoint services, each connected to dbt, in which all checks pass.
    pub fn new(services: u32) -> Self {
        let connections = (1..=services).map(|number| Row::new(number, number, Some(DBT), "available")).collect();
        Self { services, connections, ..Self::default() }
    }

    /// Lets all leases in the table expire.
    pub fn wait_for_leases(&mut self) {
        self.edit_records(|record| {
            if let Some(lease) = record.get_mut("lease_until") {
                *lease = json!("2001-01-01T00:00:00Z");
            }
        });
    }

    /// Moves the times that target-follower has stored a minute back: of its look-ups, plans and changes.
    pub fn wait_a_minute(&mut self) {
        self.edit_records(|record| {
            if let Some(state) = record.pointer_mut("/state/follow") {
                a_minute_earlier(&mut state["since"]);
                state.pointer_mut("/plan/at").into_iter().for_each(a_minute_earlier);
                state["changes"].as_array_mut().unwrap().iter_mut().for_each(a_minute_earlier);
            }
        });
    }

    fn edit_records(&mut self, edit: impl Fn(&mut Value)) {
        for item in &mut self.table.items {
            let record = item["record"]["S"].as_str().and_then(|text| serde_json::from_str(text).ok());
            if let Some(mut record) = record {
                edit(&mut record);
                item["record"]["S"] = record.to_string().into();
            }
        }
    }

    /// Ends the first health checks of new targets, and the draining of old ones.
    pub fn finish_target_changes(&mut self) {
        for targets in self.targets.values_mut() {
            targets.retain(|target| target.health != "draining");
            for target in targets {
                target.health = "healthy";
            }
        }
    }

    /// The number of calls of this action.
    pub fn count(&self, action: &str) -> usize {
        self.calls.iter().filter(|call| call.action == action).count()
    }

    /// The response to `call`, or the fault that prevents it.
    ///
    /// # Errors
    /// If the response does not arrive.
    pub fn take(&mut self, call: &Call) -> Result<(u16, String), Fault> {
        let before = self.counts.entry((call.action.clone(), call.about.clone())).or_default();
        let trouble = self.plan.trouble(call, self.calls.len() + 1, *before);
        let trouble = if self.limits.take(call) { trouble } else { Some(Trouble::Before(Fault::Throttle)) };
        *before += 1;
        self.calls.push(Made { action: call.action.clone(), about: call.about.clone(), trouble });
        match trouble {
            Some(Trouble::Before(fault @ (Fault::Reset | Fault::Hang | Fault::Kill))) => return Err(fault),
            Some(Trouble::Before(fault)) => return Ok(refusal(call, fault)),
            _ => {}
        }
        if let (Some(Trouble::Overtaken), Request::Json(body)) = (trouble, &call.request) {
            self.table.overtake(&body["Item"]);
        }
        let (status, body) = self.answer(call);
        match trouble {
            Some(Trouble::After(fault)) => Err(fault),
            Some(Trouble::Truncated) => {
                let half = body.char_indices().nth(body.chars().count() / 2).map_or(0, |(index, _)| index);
                Ok((status, body[..half].to_owned()))
            }
            _ if status == 200 => Ok((status, self.flawed(&call.action, body))),
            _ => Ok((status, body)),
        }
    }

    fn flawed(&self, action: &str, body: String) -> String {
        match self.flaw.filter(|flaw| flaw.action == action) {
            Some(Flaw { find, replace, .. }) => {
                assert!(body.contains(find), "{action} has no {find}: {body}");
                body.replacen(find, replace, 1)
            }
            None => body,
        }
    }

    fn answer(&mut self, call: &Call) -> (u16, String) {
        match &call.request {
            Request::Query(form)
                if ["NextToken", "Marker"].iter().any(|name| form.get(name).as_deref() == Some(REFUSED_PAGE)) =>
            {
                refusal(call, Fault::Deny)
            }
            Request::Json(body) => self.table.answer(&call.action, body),
            Request::Query(form) if call.action == "RegisterTargets" && self.full.contains(&group_in(form)) => {
                (400, call.error("TooManyTargets", "The number of targets exceeds the limit of the target group"))
            }
            Request::Query(form) => {
                let result = self.results.get(call.action.as_str()).cloned();
                (200, call.response(&result.unwrap_or_else(|| self.result(call, form))))
            }
        }
    }

    fn result(&mut self, call: &Call, form: &Form) -> String {
        match (call.api, call.action.as_str()) {
            (Api::Sns, "ListSubscriptionsByTopic") => subscriptions(),
            (Api::Sns, _) => self.publish(form),
            (Api::Elb, action) => self.elb(action, form),
            (_, action) => self.ec2(action, form),
        }
    }

    fn publish(&mut self, form: &Form) -> String {
        let bodies: Value = serde_json::from_str(&form.get("Message").unwrap()).unwrap();
        let data: Value = serde_json::from_str(bodies["sqs"].as_str().unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let call = self.calls.len() - 1;
        self.published.extend(data["transitions"].as_array().unwrap().iter().map(|transition| Published {
            kind: text(&transition["kind"]),
            service: text(&data["serviceId"]),
            function: text(&data["function"]),
            check: text(&transition["check"]),
            resource: text(&transition["resource"]),
            number: transition["number"].as_u64().unwrap(),
            summary: text(&transition["summary"]),
            evidence: transition["evidence"].as_array().unwrap().iter().map(text).collect::<Vec<_>>().join("\n"),
            action: text(&transition["remedy"]["action"]),
            cause: text(&transition["cause"]["eventName"]),
            table_failed: data["caution"].is_string(),
            call,
        }));
        self.messages.push((form.get("Subject").unwrap(), data.to_string()));
        "<MessageId>1</MessageId>".to_owned()
    }

    /// One arm per action.
    #[allow(clippy::too_many_lines)]
    fn ec2(&mut self, action: &str, form: &Form) -> String {
        let asked = form.list("Filter.1.Value");
        let numbers = || (1..=self.services).filter(|number| asked.contains(&service(*number).to_string()));
        match action {
            "DescribeVpcEndpointConnections" => {
                assert_eq!(form.get("Filter.1.Name").as_deref(), Some("service-id"), "never without a filter");
                assert!(!asked.is_empty(), "never without a service");
                self.connections(form)
            }
            "AcceptVpcEndpointConnections" => self.answer_requests(form, true),
            "RejectVpcEndpointConnections" => self.answer_requests(form, false),
            "DescribeVpcEndpointServiceConfigurations" => {
                let item = |number: u32| {
                    format!(
                        "<item><serviceId>{0}</serviceId><serviceName>com.amazonaws.vpce.eu-central-1.{0}</serviceName>\
                         <serviceState>Available</serviceState><acceptanceRequired>true</acceptanceRequired>\
                         <supportedIpAddressTypeSet><item>ipv4</item></supportedIpAddressTypeSet>\
                         <availabilityZoneSet><item>eu-central-1a</item><item>eu-central-1b</item></availabilityZoneSet>\
                         <networkLoadBalancerArnSet>\
                         <item>{1}</item></networkLoadBalancerArnSet><supportedRegionSet><item><region>us-east-1</region>\
                         <serviceState>Available</serviceState></item></supportedRegionSet></item>",
                        service(number),
                        load_balancer(number)
                    )
                };
                list("serviceConfigurationSet", numbers().map(item))
            }
            "DescribeVpcEndpointServicePermissions" => {
                let id = form.get("ServiceId").unwrap();
                let number = (1..=self.services).find(|number| service(*number).as_str() == id).unwrap();
                let other =
                    self.others_allowed.contains(&number).then_some("arn:aws:iam::777777777777:root".to_owned());
                let principals = [format!("arn:aws:iam::{DBT}:root")].into_iter().chain(other);
                list("allowedPrincipals", principals.map(|name| format!("<item><principal>{name}</principal></item>")))
            }
            "DescribeNetworkInterfaces" if form.get("Filter.1.Name").as_deref() == Some("description") => {
                let item = |description: &String| {
                    format!(
                        "<item><networkInterfaceId>eni-1</networkInterfaceId><description>{description}</description>\
                         <subnetId>subnet-a</subnetId><vpcId>vpc-1</vpcId><privateIpAddress>10.0.0.200</privateIpAddress></item>"
                    )
                };
                list("networkInterfaceSet", asked.iter().map(item))
            }
            "DescribeNetworkInterfaces" => {
                let item = |address: &String| {
                    format!(
                        "<item><networkInterfaceId>eni-2</networkInterfaceId><subnetId>subnet-a</subnetId><vpcId>vpc-1</vpcId>\
                         <privateIpAddress>{address}</privateIpAddress><groupSet><item><groupId>sg-1</groupId></item></groupSet></item>"
                    )
                };
                list("networkInterfaceSet", asked.iter().map(item))
            }
            "DescribeSecurityGroupRules" => {
                let rule = |id: &str, egress: bool| {
                    format!(
                        "<item><securityGroupRuleId>{id}</securityGroupRuleId><groupId>sg-1</groupId><isEgress>{egress}</isEgress>\
                         <ipProtocol>-1</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort><cidrIpv4>10.0.0.0/16</cidrIpv4></item>"
                    )
                };
                let by_list = "<item><securityGroupRuleId>sgr-3</securityGroupRuleId><groupId>sg-1</groupId><isEgress>false</isEgress>\
                     <ipProtocol>tcp</ipProtocol><fromPort>1</fromPort><toPort>1</toPort><prefixListId>pl-1</prefixListId></item>";
                let by_list = self.has_instances.then(|| by_list.to_owned());
                list("securityGroupRuleSet", [rule("sgr-1", false), rule("sgr-2", true)].into_iter().chain(by_list))
            }
            "GetManagedPrefixListEntries" => {
                list("entrySet", std::iter::once("<item><cidr>10.9.0.0/16</cidr></item>".to_owned()))
            }
            "DescribeVpcEndpointConnectionNotifications" => {
                let item = |number: u32| {
                    format!(
                        "<item><connectionNotificationId>vpce-nfn-{number}</connectionNotificationId><serviceId>{}</serviceId>\
                         <connectionNotificationArn>arn:aws:sns:eu-central-1:111122223333:notifications</connectionNotificationArn>\
                         <connectionEvents><item>Accept</item><item>Connect</item><item>Delete</item><item>Reject</item>\
                         </connectionEvents><connectionNotificationState>Enabled</connectionNotificationState></item>",
                        service(number)
                    )
                };
                list("connectionNotificationSet", numbers().map(item))
            }
            "DescribeInstances" => {
                let item = |id: &String| {
                    let zone = if id.ends_with('1') { 'b' } else { 'a' };
                    format!(
                        "<item><instancesSet><item><instanceId>{id}</instanceId><placement><availabilityZone>eu-central-1{zone}\
                         </availabilityZone></placement><privateIpAddress>10.0.0.10</privateIpAddress><subnetId>subnet-a</subnetId>\
                         <groupSet><item><groupId>sg-1</groupId></item></groupSet></item></instancesSet></item>"
                    )
                };
                list("reservationSet", asked.iter().map(item))
            }
            "DescribeSubnets" => list(
                "subnetSet",
                ["<item><subnetId>subnet-a</subnetId><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/24</cidrBlock></item>"]
                    .into_iter()
                    .map(ToOwned::to_owned),
            ),
            "DescribeNetworkAcls" => {
                let entry = |egress: bool| {
                    format!(
                        "<item><ruleNumber>100</ruleNumber><protocol>-1</protocol><ruleAction>allow</ruleAction>\
                         <egress>{egress}</egress><cidrBlock>0.0.0.0/0</cidrBlock></item>"
                    )
                };
                let acl = format!(
                    "<item><networkAclId>acl-1</networkAclId><associationSet><item><subnetId>subnet-a</subnetId></item>\
                     </associationSet><entrySet>{}{}</entrySet></item>",
                    entry(true),
                    entry(false)
                );
                list("networkAclSet", std::iter::once(acl))
            }
            "DescribeRouteTables" => {
                let table = "<item><routeTableId>rtb-1</routeTableId><vpcId>vpc-1</vpcId><associationSet><item><main>true</main>\
                             </item></associationSet><routeSet><item><destinationCidrBlock>10.0.0.0/16</destinationCidrBlock>\
                             <gatewayId>local</gatewayId><state>active</state></item></routeSet></item>";
                list("routeTableSet", std::iter::once(table.to_owned()))
            }
            other => panic!("an unexpected call: ec2:{other}"),
        }
    }

    fn connections(&mut self, form: &Form) -> String {
        if form.get("NextToken").is_none() {
            self.connections = self.reads.pop_front().unwrap_or_else(|| std::mem::take(&mut self.connections));
        }
        let asked = form.list("Filter.1.Value");
        // With pages, EC2 does not filter: it also returns rows that a test put on other services.
        let rows: Vec<&Row> =
            self.connections.iter().filter(|row| self.page > 0 || asked.contains(&row.service)).collect();
        let page: usize = form.get("NextToken").and_then(|token| token.parse().ok()).unwrap_or_default();
        let size = if self.page == 0 { rows.len().max(1) } else { self.page };
        let item = |row: &&Row| {
            let Row { number, service, owner, state } = row;
            let owner =
                owner.as_ref().map(|owner| format!("<vpcEndpointOwner>{owner}</vpcEndpointOwner>")).unwrap_or_default();
            let id = (*number > 0).then(|| format!("<vpcEndpointId>{}</vpcEndpointId>", endpoint(*number)));
            let id = id.unwrap_or_default();
            format!(
                "<item><serviceId>{service}</serviceId>{id}{owner}<vpcEndpointState>{state}\
                 </vpcEndpointState><vpcEndpointRegion>us-east-1</vpcEndpointRegion></item>"
            )
        };
        let items: String = rows.iter().skip(page * size).take(size).map(item).collect();
        let next =
            if (page + 1) * size < rows.len() { format!("<nextToken>{}</nextToken>", page + 1) } else { String::new() };
        format!("<vpcEndpointConnectionSet>{items}</vpcEndpointConnectionSet>{next}")
    }

    fn answer_requests(&mut self, form: &Form, accept: bool) -> String {
        let on = form.get("ServiceId").unwrap();
        let mut unsuccessful = Vec::new();
        for id in form.list("VpcEndpointId") {
            let calls = if accept { &mut self.accept_calls } else { &mut self.reject_calls };
            calls.push((on.clone(), id.clone()));
            let row = self.connections.iter_mut().find(|row| row.service == on && endpoint(row.number).as_str() == id);
            let code = row.as_ref().and_then(|row| self.refused_items.get(&row.number));
            let is_open = |row: &&mut Row| match accept {
                _ if code.is_some() => false,
                true => row.state.eq_ignore_ascii_case("pendingAcceptance"),
                false => ["pendingacceptance", "available"].contains(&row.state.to_lowercase().as_str()),
            };
            match row.filter(is_open) {
                Some(row) => {
                    (if accept { "available" } else { "rejected" }).clone_into(&mut row.state);
                    if accept {
                        *self.accepted.entry(id).or_default() += 1;
                    }
                }
                None => {
                    let code = code.unwrap_or(&"InvalidState");
                    let error = format!("<error><code>{code}</code><message>not waiting</message></error>");
                    unsuccessful.push(format!("<item>{error}<resourceId>{id}</resourceId></item>"));
                }
            }
        }
        if let Some(afterwards) = self.afterwards.take() {
            self.connections = afterwards;
        }
        list("unsuccessful", unsuccessful.into_iter())
    }

    fn elb(&mut self, action: &str, form: &Form) -> String {
        let number = |name: &str| number_in(&form.get(name).unwrap());
        let members = |name: &str, items: String| format!("<{name}>{items}</{name}>");
        match action {
            "DescribeLoadBalancers" => {
                let item = |arn: &String| {
                    format!(
                        "<member><LoadBalancerArn>{arn}</LoadBalancerArn><Type>network</Type><IpAddressType>ipv4</IpAddressType><Scheme>internal</Scheme><State>\
                         <Code>active</Code></State><VpcId>vpc-1</VpcId><AvailabilityZones><member><ZoneName>eu-central-1a</ZoneName>\
                         <SubnetId>subnet-a</SubnetId></member><member><ZoneName>eu-central-1b</ZoneName>\
                         <SubnetId>subnet-b</SubnetId></member></AvailabilityZones></member>"
                    )
                };
                members("LoadBalancers", form.list("LoadBalancerArns.member").iter().map(item).collect())
            }
            "DescribeListeners" => {
                let (arn, group) = (form.get("LoadBalancerArn").unwrap(), target_group(number("LoadBalancerArn")));
                let listener = |more: u32| {
                    let group =
                        if more == 0 { group.clone() } else { group.replace("/tg-", &format!("/more-{more}-tg-")) };
                    let port = 5432 + more;
                    format!(
                        "<member><ListenerArn>{arn}/{port}</ListenerArn><Port>{port}</Port><Protocol>TCP</Protocol><DefaultActions>\
                     <member><Type>forward</Type><TargetGroupArn>{group}</TargetGroupArn></member></DefaultActions></member>"
                    )
                };
                members("Listeners", (0..=self.more_groups).map(listener).collect())
            }
            "DescribeRules" => {
                members("Rules", "<member><Priority>default</Priority><IsDefault>true</IsDefault></member>".to_owned())
            }
            "DescribeLoadBalancerAttributes" => {
                let on = !self.cross_zone_off.contains(&number("LoadBalancerArn"));
                members(
                    "Attributes",
                    format!("<member><Key>load_balancing.cross_zone.enabled</Key><Value>{on}</Value></member>"),
                )
            }
            "ModifyLoadBalancerAttributes" => {
                self.cross_zone_off.remove(&number("LoadBalancerArn"));
                String::new()
            }
            "DescribeTargetGroups" => {
                let kind = if self.has_instances { "instance" } else { "ip" };
                let item = |arn: &String| {
                    format!(
                        "<member><TargetGroupArn>{arn}</TargetGroupArn><TargetType>{kind}</TargetType><VpcId>vpc-1</VpcId><Protocol>TCP\
                         </Protocol><Port>5432</Port><HealthCheckProtocol>TCP</HealthCheckProtocol><HealthCheckPort>traffic-port\
                         </HealthCheckPort></member>"
                    )
                };
                members("TargetGroups", form.list("TargetGroupArns.member").iter().map(item).collect())
            }
            "DescribeListenerAttributes" => members(
                "Attributes",
                "<member><Key>tcp.idle_timeout.seconds</Key><Value>350</Value></member>".to_owned(),
            ),
            "DescribeTargetGroupAttributes" => members(
                "Attributes",
                [
                    ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration"),
                    ("target_health_state.unhealthy.connection_termination.enabled", "true"),
                    ("deregistration_delay.connection_termination.enabled", "true"),
                ]
                .map(|(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>"))
                .concat(),
            ),
            "DescribeTags" => {
                let item = |arn: &String| {
                    let hostname = self.hostnames.get(&number_in(arn)).filter(|_| *arn == target_group(number_in(arn)));
                    let tag = hostname.map(|name| {
                        format!("<member><Key>privatelink-guard:hostname</Key><Value>{name}</Value></member>")
                    });
                    let tags = members("Tags", tag.unwrap_or_default());
                    format!("<member><ResourceArn>{arn}</ResourceArn>{tags}</member>")
                };
                members("TagDescriptions", form.list("ResourceArns.member").iter().map(item).collect())
            }
            "DescribeTargetHealth" => {
                let row = |FakeTarget { id, port, zone, health }: FakeTarget| {
                    let reason = if health == "unhealthy" { "<Reason>Target.FailedHealthChecks</Reason>" } else { "" };
                    format!(
                        "<member><Target><Id>{id}</Id><Port>{port}</Port><AvailabilityZone>{zone}</AvailabilityZone></Target>\
                         <TargetHealth><State>{health}</State>{reason}</TargetHealth></member>"
                    )
                };
                members("TargetHealthDescriptions", self.targets_of(group_in(form)).into_iter().map(row).collect())
            }
            "RegisterTargets" | "DeregisterTargets" => {
                self.change_targets(action, form);
                String::new()
            }
            other => panic!("an unexpected call: elasticloadbalancing:{other}"),
        }
    }

    /// The targets of service number `group`'s target group.
    fn targets_of(&self, group: u32) -> Vec<FakeTarget> {
        let health = if self.unhealthy.contains(&group) { "unhealthy" } else { "healthy" };
        let id = if self.has_instances { "i-000000000000000" } else { "10.0.0." };
        let in_zone = |(host, zone)| FakeTarget {
            zone: format!("eu-central-1{zone}"),
            ..FakeTarget::new(&format!("{id}{host}"), health)
        };
        self.targets.get(&group).cloned().unwrap_or_else(|| [(10, 'a'), (11, 'b')].map(in_zone).into())
    }

    /// Registers or deregisters targets. A new target takes the group's port unless it has its own; a draining one is
    /// registered anew. To deregister, the call must name the port, and a zone must be the target's: otherwise it
    /// succeeds, and changes nothing. A deregistered target stays listed while it drains.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html>
    fn change_targets(&mut self, action: &str, form: &Form) {
        let group = group_in(form);
        let field = |number: usize, name: &str| form.get(&format!("Targets.member.{number}.{name}"));
        let named: Vec<_> = (1..)
            .map_while(|number| Some((field(number, "Id")?, field(number, "Port"), field(number, "AvailabilityZone"))))
            .collect();
        let before = self.targets_of(group);
        let mut targets = before.clone();
        for (id, port, zone) in &named {
            if action == "RegisterTargets" {
                let new = FakeTarget {
                    port: port.clone().unwrap_or_else(|| PORT.to_owned()),
                    zone: zone.clone().unwrap_or_else(|| "eu-central-1a".to_owned()),
                    ..FakeTarget::new(id, "initial")
                };
                let is_same = |target: &FakeTarget| (&target.id, &target.port) == (&new.id, &new.port);
                targets.retain(|target| !is_same(target) || target.health != "draining");
                if !targets.iter().any(is_same) {
                    targets.push(new);
                }
            } else {
                let is_named = |target: &&mut FakeTarget| {
                    target.id == *id
                        && port.as_ref() == Some(&target.port)
                        && zone.as_ref().is_none_or(|zone| *zone == target.zone)
                };
                targets.iter_mut().filter(is_named).for_each(|target| target.health = "draining");
            }
        }
        self.targets.insert(group, targets);
        self.target_changes.push(TargetChange {
            action: action.to_owned(),
            addresses: named.into_iter().map(|(id, ..)| id).collect(),
            wanted: self.hostnames.get(&group).cloned(),
            before,
        });
    }
}

/// Moves a stored time a minute back.
fn a_minute_earlier(time: &mut Value) {
    let at: Timestamp = time.as_str().unwrap().parse().unwrap();
    *time = (at - SignedDuration::from_mins(1)).to_string().into();
}

fn list(name: &str, items: impl Iterator<Item = String>) -> String {
    format!("<{name}>{}</{name}>", items.collect::<String>())
}

fn load_balancer(number: u32) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/lb-{number}/0123456789abcdef")
}

/// The target group behind endpoint service number `number`.
pub fn target_group(number: u32) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/tg-{number}/0123456789abcdef")
}

/// The number of the target group that a call concerns.
fn group_in(form: &Form) -> u32 {
    number_in(&form.get("TargetGroupArn").unwrap())
}

/// The number in the ARN of a load balancer or target group.
fn number_in(arn: &str) -> u32 {
    let name = arn.split('/').find(|part| part.contains("lb-") || part.contains("tg-")).unwrap();
    name.rsplit('-').next().unwrap().parse().unwrap()
}

/// A confirmed and an unconfirmed subscription to the alerts.
fn subscriptions() -> String {
    let row = |arn: &str| {
        format!(
            "<member><SubscriptionArn>{arn}</SubscriptionArn><Owner>111122223333</Owner><Protocol>email</Protocol>\
             <Endpoint>ops@example.com</Endpoint></member>"
        )
    };
    let rows = row("arn:aws:sns:eu-central-1:111122223333:alerts:1") + &row("PendingConfirmation");
    format!("<Subscriptions>{rows}</Subscriptions>")
}
