//! Reads of unusual EC2 responses.

use std::sync::{Arc, Mutex};

use guard_core::snapshot::StoredPath;
use guard_core::testing::service;

use super::super::pace;
use super::*;
use crate::testing::{self, Form, Request};

const LOAD_BALANCER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/0123456789abcdef";
const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/pg/0123456789abcdef";

/// A service with one target group, in unusual variants.
#[derive(Default)]
struct Aws {
    calls: Vec<Form>,
    is_ipv6: bool,
    /// The id and state of each target.
    targets: Vec<(&'static str, &'static str)>,
    /// The rows of instances.
    instances: &'static str,
    /// The network interfaces: the filter that finds each, and its row.
    interfaces: Vec<(&'static str, &'static str)>,
    rules: &'static str,
    hostname: &'static str,
    refuses_instances: bool,
    /// The attributes of the listener: keys and values.
    listener: Vec<(&'static str, &'static str)>,
}

impl Aws {
    fn answer(&mut self, request: Request) -> (u16, String) {
        let Request::Query(form) = request else { panic!("{request:?}") };
        self.calls.push(form.clone());
        let (action, asked) = (form.action(), form.list("Filter.1.Value"));
        let body = match action.as_str() {
            "DescribeVpcEndpointServiceConfigurations" => format!(
                "<serviceConfigurationSet><item><serviceId>{}</serviceId><availabilityZoneIdSet><item>euc1-az2</item>\
                 <item>euc1-az3</item></availabilityZoneIdSet><networkLoadBalancerArnSet><item>{LOAD_BALANCER}</item>\
                 </networkLoadBalancerArnSet></item></serviceConfigurationSet>",
                service(1)
            ),
            "DescribeSubnets" => "<subnetSet><item><subnetId>subnet-a</subnetId><vpcId>vpc-1</vpcId>\
                 <cidrBlock>10.0.0.0/24</cidrBlock><availabilityZone>eu-central-1a</availabilityZone>\
                 <availabilityZoneId>euc1-az2</availabilityZoneId></item></subnetSet>"
                .to_owned(),
            "DescribeInstances" if self.refuses_instances => {
                let error = "<Code>UnauthorizedOperation</Code><Message>no</Message>";
                return (403, format!("<Response><Errors><Error>{error}</Error></Errors></Response>"));
            }
            "DescribeInstances" => {
                let items = self.instances;
                format!("<reservationSet><item><instancesSet>{items}</instancesSet></item></reservationSet>")
            }
            "DescribeNetworkInterfaces" => {
                let by = form.get("Filter.1.Name").unwrap();
                let found = self.interfaces.iter().filter(|(filter, _)| *filter == by).map(|(_, item)| *item);
                let items: String = found.collect();
                let node =
                    format!("<item>{}<description>{}</description></item>", interface("eni-1", "10.0.0.9"), asked[0]);
                let items = if by == "description" { node } else { items };
                format!("<networkInterfaceSet>{items}</networkInterfaceSet>")
            }
            "DescribeSecurityGroupRules" => format!("<securityGroupRuleSet>{}</securityGroupRuleSet>", self.rules),
            "DescribeLoadBalancers" => format!(
                "<LoadBalancers><member><LoadBalancerArn>{LOAD_BALANCER}</LoadBalancerArn><Type>network</Type><IpAddressType>ipv4</IpAddressType>\
                 <Scheme>internal</Scheme><State><Code>active</Code></State><VpcId>vpc-1</VpcId><AvailabilityZones>\
                 <member><ZoneName>eu-central-1a</ZoneName><SubnetId>subnet-a</SubnetId></member></AvailabilityZones>\
                 <SecurityGroups><member>sg-1</member></SecurityGroups></member></LoadBalancers>"
            ),
            "DescribeListeners" => format!(
                "<Listeners><member><ListenerArn>{LOAD_BALANCER}/1</ListenerArn><Port>5432</Port><Protocol>TCP</Protocol>\
                 <DefaultActions><member><Type>forward</Type><TargetGroupArn>{GROUP}</TargetGroupArn></member>\
                 </DefaultActions></member></Listeners>"
            ),
            "DescribeTargetGroups" => format!(
                "<TargetGroups><member><TargetGroupArn>{GROUP}</TargetGroupArn><TargetType>ip</TargetType><VpcId>vpc-1</VpcId><IpAddressType>{}\
                 </IpAddressType></member></TargetGroups>",
                if self.is_ipv6 { "ipv6" } else { "ipv4" }
            ),
            "DescribeTags" if !self.hostname.is_empty() => format!(
                "<TagDescriptions><member><ResourceArn>{GROUP}</ResourceArn><Tags><member><Key>privatelink-guard:hostname</Key><Value>{}\
                 </Value></member></Tags></member></TagDescriptions>",
                self.hostname
            ),
            "DescribeListenerAttributes" => {
                let row =
                    |(key, value): &(&str, &str)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
                format!("<Attributes>{}</Attributes>", self.listener.iter().map(row).collect::<String>())
            }
            "DescribeTargetHealth" => {
                let target = |(id, state): &(&str, &str)| {
                    format!(
                        "<member><Target><Id>{id}</Id><Port>5432</Port></Target><TargetHealth><State>{state}</State>\
                         </TargetHealth></member>"
                    )
                };
                let members: String = self.targets.iter().map(target).collect();
                format!("<TargetHealthDescriptions>{members}</TargetHealthDescriptions>")
            }
            _ => String::new(),
        };
        let body = match action.as_str() {
            name if is_elbs(name) => format!("<{name}Result>{body}</{name}Result>"),
            _ => body,
        };
        (200, format!("<{action}Response>{body}</{action}Response>"))
    }
}

fn is_elbs(action: &str) -> bool {
    ["LoadBalancer", "Listener", "Target", "Tags"].iter().any(|kind| action[8..].starts_with(kind))
}

fn interface(id: &str, address: &str) -> String {
    format!(
        "<networkInterfaceId>{id}</networkInterfaceId><vpcId>vpc-1</vpcId><subnetId>subnet-a</subnetId>\
         <privateIpAddress>{address}</privateIpAddress>"
    )
}

async fn observe(aws: Aws, scope: Scope<'_>) -> (Topology, Vec<Form>, Observer) {
    let aws = Arc::new(Mutex::new(aws));
    let observer = Observer::new(&testing::config(&aws, Aws::answer), pace::EC2, BTreeSet::new());
    let topology = observer.topology(&[service(1)].into(), scope).await;
    let calls = std::mem::take(&mut aws.lock().unwrap().calls);
    (topology, calls, observer)
}

const EVERYTHING: Scope<'_> = Scope::Everything { notifications: false };

fn targets(topology: &Topology) -> &[Target] {
    topology.load_balancers.values().next().unwrap().target_groups.as_ref().unwrap()[0].targets.as_ref().unwrap()
}

#[tokio::test(start_paused = true)]
async fn zone_ids_get_their_names_from_the_subnets() {
    let (topology, calls, _) = observe(Aws::default(), Scope::Health).await;
    let zones = topology.service(&service(1)).unwrap().zones.clone().unwrap();
    assert_eq!(zones, ["eu-central-1a", "euc1-az3"], "no subnet of its load balancers is in the other zone");
    let asked: Vec<Vec<String>> = calls
        .iter()
        .filter(|call| call.action() == "DescribeSubnets")
        .map(|call| call.list("Filter.1.Value"))
        .collect();
    assert_eq!(asked, [["subnet-a"]]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_timeout_is_read_once_and_never_guessed() {
    const KEY: &str = "tcp.idle_timeout.seconds";
    let idle = |topology: &Topology| {
        topology.load_balancers.values().next().unwrap().listeners.as_ref().unwrap()[0].idle_timeout.clone()
    };
    for other in [vec![], vec![("new", "60")]] {
        let (topology, ..) = observe(Aws { listener: other, ..Aws::default() }, EVERYTHING).await;
        assert_eq!(idle(&topology), Some(Ok(None)), "it may be no TCP listener any more");
    }
    for odd in [vec![(KEY, "")], vec![(KEY, "never")]] {
        let (topology, ..) = observe(Aws { listener: odd.clone(), ..Aws::default() }, EVERYTHING).await;
        assert!(matches!(idle(&topology), Some(Err(_))), "{odd:?}");
    }
    let aws = || Aws { listener: vec![("new", "1"), (KEY, "60")], ..Aws::default() };
    let (mut topology, ..) = observe(aws(), EVERYTHING).await;
    assert_eq!(idle(&topology), Some(Ok(Some(60))));
    // A stored path contains no failed reads, so the reads that this AWS does not support are replaced.
    for load_balancer in topology.load_balancers.values_mut() {
        load_balancer.cross_zone = Some(Ok(true));
    }
    topology.target_groups_mut().for_each(|group| group.attributes = None);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let path = StoredPath::new(&topology, &service(1), at, at).unwrap();
    let known = KnownDetails::new(vec![&path], &[]);
    let (topology, calls, _) = observe(aws(), Scope::Settings { notifications: false, known: &known }).await;
    assert_eq!(idle(&topology), Some(Ok(Some(60))));
    assert!(calls.iter().all(|call| call.action() != "DescribeListenerAttributes"), "it is known");
    let (topology, ..) = observe(aws(), Scope::Health).await;
    assert_eq!(idle(&topology), None, "no check of its asks");
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_the_address_of_its_groups_family() {
    let instances = "<item><instanceId>i-1</instanceId><privateIpAddress>10.0.0.5</privateIpAddress>\
        <ipv6Address>2001:db8::1</ipv6Address><networkInterfaceSet><item><networkInterfaceId>eni-2</networkInterfaceId>\
        <attachment><deviceIndex>1</deviceIndex></attachment><ipv6AddressesSet><item><ipv6Address>2001:db8::3</ipv6Address>\
        <isPrimaryIpv6>true</isPrimaryIpv6></item></ipv6AddressesSet></item><item><networkInterfaceId>eni-1\
        </networkInterfaceId><attachment><deviceIndex>0</deviceIndex></attachment>\
        <ipv6AddressesSet><item><ipv6Address>2001:db8::1</ipv6Address></item><item><ipv6Address>2001:db8::2</ipv6Address>\
        <isPrimaryIpv6>true</isPrimaryIpv6></item></ipv6AddressesSet></item></networkInterfaceSet></item>";
    for (is_ipv6, address) in [(false, "10.0.0.5"), (true, "2001:db8::2")] {
        let aws = Aws { is_ipv6, targets: vec![("i-1", "healthy")], instances, ..Aws::default() };
        let (topology, ..) = observe(aws, EVERYTHING).await;
        assert_eq!(targets(&topology)[0].address, address.parse().ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_in_a_prefix_is_found_by_its_subnet() {
    let node = "<item><networkInterfaceId>eni-2</networkInterfaceId><vpcId>vpc-1</vpcId><subnetId>subnet-a</subnetId>\
        <privateIpAddress>10.0.0.20</privateIpAddress><groupSet><item><groupId>sg-pods</groupId></item></groupSet>\
        <ipv4PrefixSet><item><ipv4Prefix>10.0.0.32/28</ipv4Prefix></item></ipv4PrefixSet></item>";
    let asked_by = |calls: &[Form]| -> Vec<String> {
        let calls = calls.iter().filter(|call| call.action() == "DescribeNetworkInterfaces");
        calls.map(|call| call.get("Filter.1.Name").unwrap()).filter(|name| name != "description").collect()
    };
    let pods = vec![("10.0.0.20", "healthy"), ("10.0.0.33", "healthy"), ("10.0.0.99", "healthy")];
    let interfaces = vec![("addresses.private-ip-address", node), ("subnet-id", node)];
    let (topology, calls, _) =
        observe(Aws { targets: pods, interfaces: interfaces.clone(), ..Aws::default() }, EVERYTHING).await;
    let groups: Vec<_> = targets(&topology).iter().map(|target| target.security_groups.clone()).collect();
    let pods = Some(vec!["sg-pods".to_owned()]);
    assert_eq!(groups, [pods.clone(), pods, None], "the last one is in no prefix");
    assert_eq!(asked_by(&calls), ["addresses.private-ip-address", "subnet-id"]);
    let all_found = Aws { targets: vec![("10.0.0.20", "healthy")], interfaces, ..Aws::default() };
    let (_, calls, _) = observe(all_found, EVERYTHING).await;
    assert_eq!(asked_by(&calls), ["addresses.private-ip-address"]);
}

#[tokio::test(start_paused = true)]
async fn an_unused_target_is_gone_only_if_ec2_confirms_it() {
    let stopped = "<item><instanceId>i-3</instanceId><instanceState><code>80</code><name>stopped</name></instanceState>\
        <privateIpAddress>10.0.0.5</privateIpAddress></item><item><instanceId>i-4</instanceId><instanceState>\
        <code>48</code><name>terminated</name></instanceState></item>";
    let unused =
        vec![("i-1", "unused"), ("i-2", "unhealthy"), ("i-3", "unused"), ("i-4", "unused"), ("i-5", "draining")];
    for (refuses_instances, removed) in
        [(false, [true, false, false, true, true]), (true, [false, false, false, false, true])]
    {
        let aws = Aws { targets: unused.clone(), instances: stopped, refuses_instances, ..Aws::default() };
        let (topology, ..) = observe(aws, EVERYTHING).await;
        let found: Vec<bool> = targets(&topology).iter().map(Target::is_being_removed).collect();
        assert_eq!(found, removed, "{refuses_instances}");
    }
}

/// In DNS, an address resolves to itself. health-watcher compares the next result with drift-watcher's stored one.
#[tokio::test]
async fn names_are_resolved_in_every_scope() {
    let known = KnownDetails::default();
    for scope in [Scope::Health, Scope::Settings { notifications: false, known: &known }, EVERYTHING] {
        let (topology, ..) = observe(Aws { hostname: "10.0.0.7", ..Aws::default() }, scope).await;
        let groups = topology.load_balancers.values().flat_map(|it| it.target_groups.iter().flatten());
        let names: Vec<&Hostname> =
            groups.filter_map(|group| group.hostname.as_ref()?.as_ref().ok()?.as_ref()).collect();
        assert_eq!(names[0].addresses, Ok(vec!["10.0.0.7".parse().unwrap()]), "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_rule_makes_only_its_own_group_unreadable() {
    let rules = "<item><securityGroupRuleId>sgr-1</securityGroupRuleId><groupId>sg-1</groupId><isEgress>false</isEgress>\
        <ipProtocol>tcp</ipProtocol><fromPort>5432</fromPort><toPort>5432</toPort><cidrIpv4>10.0.0.0/8</cidrIpv4></item>\
        <item><securityGroupRuleId>sgr-2</securityGroupRuleId><groupId>sg-2</groupId></item>";
    let (topology, _, observer) = observe(Aws { rules, ..Aws::default() }, EVERYTHING).await;
    let network = topology.network.unwrap();
    let known = |group: &str| network.rules_of(&[group.to_owned()]).map(|rules| rules.len());
    assert_eq!((known("sg-1"), known("sg-3")), (Ok(1), Ok(0)));
    assert!(known("sg-2").unwrap_err().to_string().contains("a rule of sg-2 is incomplete"));
    assert!(observer.calls()["ec2:DescribeSecurityGroupRules"].is_some(), "people hear of it");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_an_endpoint_id_fails_only_its_service() {
    let row = |service: &str, endpoint: &str, region: &str| {
        format!(
            "<item><serviceId>{service}</serviceId>{endpoint}<vpcEndpointRegion>{region}</vpcEndpointRegion></item>"
        )
    };
    let id = |number: u32| format!("<vpcEndpointId>{}</vpcEndpointId>", guard_core::testing::endpoint(number));
    let [one, two, other] = [1, 2, 9].map(|number| service(number).to_string());
    let rows = [row(&one, &id(1), "eu-central-1"), row(&two, &id(2), "us-east-1"), row(&one, &id(3), "us-east-1")];
    let read = async |more: String| {
        let rows = Arc::new(Mutex::new(rows.concat() + &more));
        let config = testing::config(&rows, |rows, _| {
            let set = format!("<vpcEndpointConnectionSet>{rows}</vpcEndpointConnectionSet>");
            (200, format!("<DescribeVpcEndpointConnectionsResponse>{set}</DescribeVpcEndpointConnectionsResponse>"))
        });
        let observer = Observer::new(&config, pace::EC2, BTreeSet::new());
        let read = observer.connections(&[service(1), service(2)].into()).await;
        (read, observer.calls()["ec2:DescribeVpcEndpointConnections"].clone())
    };
    let (all, error) = read(row(&other, "", "us-east-1")).await;
    let regions: Vec<_> = all.unwrap().listed.into_iter().map(|connection| connection.region).collect();
    let us = Some("us-east-1".to_owned());
    assert_eq!(
        (regions, error),
        (vec![None, us.clone(), us], None),
        "the own Region is none; a foreign row is nobody's"
    );
    let (of_one, error) = read(row(&two, "", "us-east-1")).await;
    let of_one = of_one.unwrap();
    assert!(of_one.listed.iter().all(|connection| connection.service == service(1)));
    assert_eq!((of_one.listed.len(), of_one.unread.get(&service(2))), (2, error.as_ref()));
    assert!(error.unwrap().message.contains(&two));
    let (_, error) = read(row(&two, "", "us-east-1") + &row(&one, "", "us-east-1")).await;
    assert!(
        error.unwrap().message.contains(&format!("a connection of {one}, {two} is incomplete")),
        "one error names all"
    );
    for of_nobody in [row("", "", "us-east-1"), "<item></item>".to_owned()] {
        assert!(read(of_nobody).await.0.is_err(), "it may be of each of them");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parameter_unknown_to_ec2_is_omitted_from_then_on() {
    let asked: Arc<Mutex<Vec<bool>>> = Arc::default();
    let config = testing::config(&asked, |asked, request| {
        let Request::Query(form) = request else { panic!("{request:?}") };
        asked.push(form.get("IncludeManagedResources").is_some());
        match asked.last() {
            Some(true) => (
                400,
                "<Response><Errors><Error><Code>UnknownParameter</Code><Message>The parameter \
                IncludeManagedResources is not recognized</Message></Error></Errors></Response>"
                    .to_owned(),
            ),
            _ => (200, "<DescribeNetworkInterfacesResponse></DescribeNetworkInterfacesResponse>".to_owned()),
        }
    });
    let observer = Observer::new(&config, pace::EC2, BTreeSet::new());
    for run in ["first", "second"] {
        let observer = observer.for_run(run, tokio::time::Instant::now() + std::time::Duration::from_mins(1));
        assert_eq!(observer.nodes([LOAD_BALANCER.to_owned()].into()).await, Ok(Vec::new()));
        assert!(observer.calls().values().all(Option::is_none), "it is no failure");
    }
    assert_eq!(*asked.lock().unwrap(), [true, false, false]);
}
