//! Reads of unusual responses of EC2 and ELB.

use attack::faults::{Fault, FaultPlan};
use attack::{Aws, FakeAws, Flaw, Made, config, play, target_group};
use aws_config::Region;
use guard_aws::observe::{Observer, Scope, pace};
use guard_core::snapshot::{Hostname, KnownDetails, StoredPath, Target, Topology};
use guard_core::testing::{endpoint, service};
use jiff::Timestamp;

const EVERYTHING: Scope<'_> = Scope::Everything { notifications: false };

fn observer(fake: FakeAws) -> (Aws, Observer) {
    let aws = fake.shared();
    let config = config(&aws).into_builder().region(Region::new("eu-central-1")).build();
    let observer = Observer::new(&config, pace::EC2, [].into());
    (aws, observer)
}

async fn observe(fake: FakeAws, scope: Scope<'_>) -> (Topology, Vec<Made>, Observer) {
    let (aws, observer) = observer(fake);
    let topology = observer.topology(&[service(1)].into(), scope).await;
    let calls = std::mem::take(&mut aws.lock().unwrap().calls);
    (topology, calls, observer)
}

fn with<const N: usize>(results: [(&'static str, String); N]) -> FakeAws {
    FakeAws { results: results.into(), ..FakeAws::new(1) }
}

/// The health of targets with these ids and states.
fn health(targets: &[(&str, &str)]) -> (&'static str, String) {
    let row = |(id, state): &(&str, &str)| {
        format!(
            "<member><Target><Id>{id}</Id><Port>5432</Port></Target><TargetHealth><State>{state}</State></TargetHealth>\
             </member>"
        )
    };
    let rows: String = targets.iter().map(row).collect();
    ("DescribeTargetHealth", format!("<TargetHealthDescriptions>{rows}</TargetHealthDescriptions>"))
}

fn instances(rows: &str) -> (&'static str, String) {
    let rows = format!("<reservationSet><item><instancesSet>{rows}</instancesSet></item></reservationSet>");
    ("DescribeInstances", rows)
}

fn targets(topology: &Topology) -> &[Target] {
    topology.load_balancers.values().next().unwrap().target_groups.as_ref().unwrap()[0].targets.as_ref().unwrap()
}

#[test]
fn zone_ids_get_their_names_from_the_subnets() {
    let subnet = |id: &str| {
        format!(
            "<item><subnetId>{id}</subnetId><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/24</cidrBlock>\
             <availabilityZone>eu-central-1a</availabilityZone><availabilityZoneId>euc1-az2</availabilityZoneId></item>"
        )
    };
    let subnets = format!("<subnetSet>{}{}</subnetSet>", subnet("subnet-a"), subnet("subnet-b"));
    let flaw = Flaw {
        action: "DescribeVpcEndpointServiceConfigurations",
        find: "<availabilityZoneSet><item>eu-central-1a</item><item>eu-central-1b</item></availabilityZoneSet>",
        replace: "<availabilityZoneIdSet><item>euc1-az2</item><item>euc1-az3</item></availabilityZoneIdSet>",
    };
    let fake = FakeAws { flaw: Some(flaw), ..with([("DescribeSubnets", subnets)]) };
    let (topology, calls, _) = play(observe(fake, Scope::Health));
    let zones = topology.service(&service(1)).unwrap().zones.clone().unwrap();
    assert_eq!(zones, ["eu-central-1a", "euc1-az3"], "no subnet of its load balancers is in the other zone");
    let asked: Vec<&Made> = calls.iter().filter(|call| call.action == "DescribeSubnets").collect();
    assert!(asked.len() == 1 && asked[0].about.ends_with("Value.1=subnet-a&Filter.1.Value.2=subnet-b"), "{asked:?}");
}

#[test]
fn an_idle_timeout_is_read_once_and_never_guessed() {
    const KEY: &str = "tcp.idle_timeout.seconds";
    let read = |attributes: &[(&str, &str)], scope| {
        let row = |(key, value): &(&str, &str)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
        let rows: String = attributes.iter().map(row).collect();
        let fake = with([("DescribeListenerAttributes", format!("<Attributes>{rows}</Attributes>"))]);
        let (topology, calls, _) = play(observe(fake, scope));
        let listeners = topology.load_balancers.values().next().unwrap().listeners.as_ref().unwrap();
        (listeners[0].idle_timeout.clone(), topology, calls)
    };
    for other in [&[][..], &[("new", "60")]] {
        assert_eq!(read(other, EVERYTHING).0, Some(Ok(None)), "it may be no TCP listener any more");
    }
    for odd in ["", "never"] {
        assert!(matches!(read(&[(KEY, odd)], EVERYTHING).0, Some(Err(_))), "{odd:?}");
    }
    let sixty = [("new", "1"), (KEY, "60")];
    let (idle, topology, _) = read(&sixty, EVERYTHING);
    assert_eq!(idle, Some(Ok(Some(60))));
    let path = StoredPath::new(&topology, &service(1), Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).unwrap();
    let known = KnownDetails::new(vec![&path], &[]);
    let (idle, _, calls) = read(&sixty, Scope::Settings { notifications: false, known: &known });
    assert_eq!(idle, Some(Ok(Some(60))));
    assert!(calls.iter().all(|call| call.action != "DescribeListenerAttributes"), "it is known");
    assert_eq!(read(&sixty, Scope::Health).0, None, "no check of its asks");
}

#[test]
fn an_instance_has_the_address_of_its_groups_family() {
    let rows = "<item><instanceId>i-1</instanceId><privateIpAddress>10.0.0.5</privateIpAddress>\
        <ipv6Address>2001:db8::1</ipv6Address><networkInterfaceSet><item><networkInterfaceId>eni-2</networkInterfaceId>\
        <attachment><deviceIndex>1</deviceIndex></attachment><ipv6AddressesSet><item><ipv6Address>2001:db8::3</ipv6Address>\
        <isPrimaryIpv6>true</isPrimaryIpv6></item></ipv6AddressesSet></item><item><networkInterfaceId>eni-1\
        </networkInterfaceId><attachment><deviceIndex>0</deviceIndex></attachment>\
        <ipv6AddressesSet><item><ipv6Address>2001:db8::1</ipv6Address></item><item><ipv6Address>2001:db8::2</ipv6Address>\
        <isPrimaryIpv6>true</isPrimaryIpv6></item></ipv6AddressesSet></item></networkInterfaceSet></item>";
    let ipv6 =
        Flaw { action: "DescribeTargetGroups", find: "<VpcId>", replace: "<IpAddressType>ipv6</IpAddressType><VpcId>" };
    for (flaw, address) in [(None, "10.0.0.5"), (Some(ipv6), "2001:db8::2")] {
        let fake = FakeAws { flaw, ..with([health(&[("i-1", "healthy")]), instances(rows)]) };
        let (topology, ..) = play(observe(fake, EVERYTHING));
        assert_eq!(targets(&topology)[0].address, address.parse().ok());
    }
}

#[test]
fn an_address_in_a_prefix_is_found_by_its_subnet() {
    let node = "<item><networkInterfaceId>eni-2</networkInterfaceId><vpcId>vpc-1</vpcId><subnetId>subnet-a</subnetId>\
        <privateIpAddress>10.0.0.20</privateIpAddress><groupSet><item><groupId>sg-pods</groupId></item></groupSet>\
        <ipv4PrefixSet><item><ipv4Prefix>10.0.0.32/28</ipv4Prefix></item></ipv4PrefixSet></item>";
    let read = |addresses: &[&str]| {
        let targets: Vec<(&str, &str)> = addresses.iter().map(|address| (*address, "healthy")).collect();
        let interfaces = format!("<networkInterfaceSet>{node}</networkInterfaceSet>");
        let (topology, calls, _) =
            play(observe(with([health(&targets), ("DescribeNetworkInterfaces", interfaces)]), EVERYTHING));
        let groups: Vec<_> = self::targets(&topology).iter().map(|target| target.security_groups.clone()).collect();
        let filters = ["description", "addresses.private-ip-address", "subnet-id"];
        let calls = calls.iter().filter(|call| call.action == "DescribeNetworkInterfaces");
        let asked_by = calls.filter_map(|call| filters.into_iter().find(|name| call.about.contains(name)));
        (groups, asked_by.filter(|name| *name != "description").collect::<Vec<_>>())
    };
    let pods = Some(vec!["sg-pods".to_owned()]);
    let (groups, asked_by) = read(&["10.0.0.20", "10.0.0.33", "10.0.0.99"]);
    assert_eq!(groups, [pods.clone(), pods, None], "the last one is in no prefix");
    assert_eq!(asked_by, ["addresses.private-ip-address", "subnet-id"]);
    assert_eq!(read(&["10.0.0.20"]).1, ["addresses.private-ip-address"]);
}

#[test]
fn an_unused_target_is_gone_only_if_ec2_confirms_it() {
    let stopped = "<item><instanceId>i-3</instanceId><instanceState><code>80</code><name>stopped</name></instanceState>\
        <privateIpAddress>10.0.0.5</privateIpAddress></item><item><instanceId>i-4</instanceId><instanceState>\
        <code>48</code><name>terminated</name></instanceState></item>";
    let unused = [("i-1", "unused"), ("i-2", "unhealthy"), ("i-3", "unused"), ("i-4", "unused"), ("i-5", "draining")];
    let denied = FaultPlan::always(|call| call.action == "DescribeInstances", Fault::Deny);
    for (plan, removed) in
        [(FaultPlan::Calm, [true, false, false, true, true]), (denied, [false, false, false, false, true])]
    {
        let (topology, ..) = play(observe(FakeAws { plan, ..with([health(&unused), instances(stopped)]) }, EVERYTHING));
        let found: Vec<bool> = targets(&topology).iter().map(Target::is_being_removed).collect();
        assert_eq!(found, removed);
    }
}

/// In DNS, an address resolves to itself. health-watcher compares the next result with drift-watcher's stored one.
#[tokio::test]
async fn names_are_resolved_in_every_scope() {
    let known = KnownDetails::default();
    for scope in [Scope::Health, Scope::Settings { notifications: false, known: &known }, EVERYTHING] {
        let tags = format!(
            "<TagDescriptions><member><ResourceArn>{}</ResourceArn><Tags><member><Key>privatelink-guard:hostname</Key>\
             <Value>10.0.0.7</Value></member></Tags></member></TagDescriptions>",
            target_group(1)
        );
        let (topology, ..) = observe(with([("DescribeTags", tags)]), scope).await;
        let groups = topology.load_balancers.values().flat_map(|it| it.target_groups.iter().flatten());
        let names: Vec<&Hostname> =
            groups.filter_map(|group| group.hostname.as_ref()?.as_ref().ok()?.as_ref()).collect();
        assert_eq!(names[0].addresses, Ok(vec!["10.0.0.7".parse().unwrap()]), "{scope:?}");
    }
}

#[test]
fn an_incomplete_rule_makes_only_its_own_group_unreadable() {
    let rules = "<item><securityGroupRuleId>sgr-1</securityGroupRuleId><groupId>sg-1</groupId><isEgress>false</isEgress>\
        <ipProtocol>tcp</ipProtocol><fromPort>5432</fromPort><toPort>5432</toPort><cidrIpv4>10.0.0.0/8</cidrIpv4></item>\
        <item><securityGroupRuleId>sgr-2</securityGroupRuleId><groupId>sg-2</groupId></item>";
    let rules = format!("<securityGroupRuleSet>{rules}</securityGroupRuleSet>");
    let (topology, _, observer) = play(observe(with([("DescribeSecurityGroupRules", rules)]), EVERYTHING));
    let network = topology.network.unwrap();
    let known = |group: &str| network.rules_of(&[group.to_owned()]).map(|rules| rules.len());
    assert_eq!((known("sg-1"), known("sg-3")), (Ok(1), Ok(0)));
    assert!(known("sg-2").unwrap_err().to_string().contains("a rule of sg-2 is incomplete"));
    assert!(observer.calls()["ec2:DescribeSecurityGroupRules"].is_some(), "people hear of it");
}

#[test]
fn a_connection_without_an_endpoint_id_fails_only_its_service() {
    let row = |service: &str, endpoint: &str, region: &str| {
        format!(
            "<item><serviceId>{service}</serviceId>{endpoint}<vpcEndpointRegion>{region}</vpcEndpointRegion></item>"
        )
    };
    let id = |number: u32| format!("<vpcEndpointId>{}</vpcEndpointId>", endpoint(number));
    let [one, two, other] = [1, 2, 9].map(|number| service(number).to_string());
    let rows = [row(&one, &id(1), "eu-central-1"), row(&two, &id(2), "us-east-1"), row(&one, &id(3), "us-east-1")];
    let read = |more: String| {
        let set = format!("<vpcEndpointConnectionSet>{}{more}</vpcEndpointConnectionSet>", rows.concat());
        let (_, observer) = observer(with([("DescribeVpcEndpointConnections", set)]));
        let read = play(observer.connections(&[service(1), service(2)].into()));
        (read, observer.calls()["ec2:DescribeVpcEndpointConnections"].clone())
    };
    let (all, error) = read(row(&other, "", "us-east-1"));
    let regions: Vec<_> = all.unwrap().listed.into_iter().map(|connection| connection.region).collect();
    let us = Some("us-east-1".to_owned());
    assert_eq!(
        (regions, error),
        (vec![None, us.clone(), us], None),
        "the own Region is none; a foreign row is nobody's"
    );
    let (of_one, error) = read(row(&two, "", "us-east-1"));
    let of_one = of_one.unwrap();
    assert!(of_one.listed.iter().all(|connection| connection.service == service(1)));
    assert_eq!((of_one.listed.len(), of_one.unread.get(&service(2))), (2, error.as_ref()));
    assert!(error.unwrap().message.contains(&two));
    let (_, error) = read(row(&two, "", "us-east-1") + &row(&one, "", "us-east-1"));
    assert!(
        error.unwrap().message.contains(&format!("a connection of {one}, {two} is incomplete")),
        "one error names all"
    );
    for of_nobody in [row("", "", "us-east-1"), "<item></item>".to_owned()] {
        assert!(read(of_nobody).0.is_err(), "it may be of each of them");
    }
}
