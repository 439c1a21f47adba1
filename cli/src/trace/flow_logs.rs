//! Rejected records in the flow logs of the load balancer's network interfaces, for logs in CloudWatch Logs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::start_query::StartQueryError;
use aws_sdk_cloudwatchlogs::types::{QueryStatus, ResultField};
use guard_aws::observe::{FlowLog, Node, Observer};
use guard_core::ids::Arn;
use guard_core::snapshot::interface_description;
use guard_core::text::count;
use jiff::{SignedDuration, Timestamp};

use super::Gap;
use super::facts::Rejections;
use super::span::Span;
use super::words::{bytes, listed};
use crate::progress::Progress;
use crate::session::{Session, explained, why};

/// The default fields of a record.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html>
const DEFAULT_FORMAT: &str = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} \
    ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}";

const NEEDED: [&str; 5] = ["interface-id", "srcaddr", "dstaddr", "dstport", "action"];

/// The bytes above which a search needs the user's consent, because of its cost.
const LARGE: u64 = 10_000_000_000;

/// US dollars per searched GB, in most Regions.
/// <https://aws.amazon.com/cloudwatch/pricing/>
const PRICE: f64 = 0.005;

const POLL: (Duration, u32) = (Duration::from_secs(1), 120);

/// The greatest delay of a record: a record covers up to ten minutes, and its delivery takes time.
const LATENESS: SignedDuration = SignedDuration::from_mins(15);

const EXAMPLES: usize = 5;

/// A search in flow logs.
pub struct Logs<'a> {
    pub observer: &'a Observer,
    pub session: &'a Session,
    pub span: Span,
    pub yes: bool,
}

/// The load balancers, with their ports and targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggedPath {
    pub load_balancers: Vec<Arn>,
    /// The ports that they listen on.
    pub ports: BTreeSet<u16>,
    /// The addresses of their targets.
    pub targets: BTreeSet<IpAddr>,
}

/// The result of a search, and its gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchOutcome {
    /// `None` without a search.
    pub rejections: Option<Rejections>,
    pub gaps: Vec<Gap>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Search {
    log_group: String,
    format: String,
    interfaces: Vec<String>,
}

/// A group of similar records.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rejected {
    from: IpAddr,
    to: IpAddr,
    port: u16,
    records: u64,
}

impl Logs<'_> {
    /// Searches the flow logs of all interfaces of these load balancers.
    pub async fn search(&self, path: &LoggedPath) -> SearchOutcome {
        if path.load_balancers.is_empty() {
            return SearchOutcome::gap("The load balancers are unknown, and so are their flow logs.".to_owned());
        }
        if path.ports.is_empty() || path.targets.is_empty() {
            return SearchOutcome::gap(
                "The listeners or the targets could not be read, so rejections in flow logs cannot be assigned."
                    .to_owned(),
            );
        }
        let descriptions = path.load_balancers.iter().map(interface_description).collect();
        let nodes = match self.observer.nodes(descriptions).await {
            Ok(nodes) => nodes,
            Err(error) => {
                return SearchOutcome::gap(format!("The load balancer's network interfaces: {}", explained(&error)));
            }
        };
        let places = nodes.iter().flat_map(|node| [node.id.clone(), node.subnet.clone(), node.vpc.clone()]);
        let logs = match self.observer.flow_logs(places.collect()).await {
            Ok(logs) => logs,
            Err(error) => return SearchOutcome::gap(format!("Flow logs: {}", explained(&error))),
        };
        let (searches, mut gaps) = plan(&nodes, &logs, self.span, Timestamp::now());
        if searches.is_empty() {
            return SearchOutcome { rejections: None, gaps };
        }
        if let Err(gap) = self.ensure_affordable(&searches).await {
            gaps.push(gap);
            return SearchOutcome { rejections: None, gaps };
        }
        let progress = Progress::start("Searching the flow logs");
        let mut found = Vec::new();
        let mut is_searched = false;
        for search in &searches {
            match self.rows(search).await {
                Ok(rows) => {
                    is_searched = true;
                    found.extend(rows);
                }
                Err(why) => gaps.push(Gap::new(format!("The flow logs in {}: {why}", search.log_group))),
            }
        }
        progress.stop();
        SearchOutcome { rejections: is_searched.then(|| classified(&found, &nodes, path)), gaps }
    }

    fn client(&self) -> Client {
        Client::new(&self.session.config)
    }

    /// Returns a gap in the evidence instead of a large search, unless the user agreed to one.
    async fn ensure_affordable(&self, searches: &[Search]) -> Result<(), Gap> {
        if self.yes {
            return Ok(());
        }
        let mut expected = 0_u64;
        for search in searches {
            let size = self.expected_bytes(&search.log_group).await.map_err(|why| {
                Gap::new(format!(
                    "The flow logs were not searched, because their size is unknown: {why} Give --yes to search."
                ))
            })?;
            expected = expected.saturating_add(size);
        }
        if expected <= LARGE {
            return Ok(());
        }
        Err(Gap::new(format!(
            "The flow logs were not searched: that would scan about {}, and cost about ${:.2}. Give --yes to search.",
            bytes(expected),
            price(expected)
        )))
    }

    /// The estimated bytes of this time in a log group, if the group grew evenly.
    async fn expected_bytes(&self, log_group: &str) -> Result<u64, String> {
        let answer = self.client().describe_log_groups().log_group_name_prefix(log_group).send().await;
        let answer = answer.map_err(|error| why("logs:DescribeLogGroups", &error))?;
        // The group's own name is the first of those with this prefix. A flow log creates its log group with the first
        // record.
        let found = answer.log_groups().iter().find(|group| group.log_group_name() == Some(log_group));
        let Some(found) = found else { return Ok(0) };
        let stored = u64::try_from(found.stored_bytes().unwrap_or_default()).unwrap_or_default();
        let created = found.creation_time().and_then(|time| Timestamp::from_millisecond(time).ok());
        Ok(share(stored, self.span, created, found.retention_in_days(), Timestamp::now()))
    }

    async fn rows(&self, search: &Search) -> Result<Vec<Rejected>, String> {
        let client = self.client();
        let query = search.query().ok_or("its format cannot be read.")?;
        let (from, to) = (self.span.from.as_second(), self.span.to.as_second());
        let started = client.start_query().log_group_name(&search.log_group).start_time(from).end_time(to);
        let started = started.query_string(query).send().await.map_err(|error| {
            let is_absent = error.as_service_error().is_some_and(StartQueryError::is_resource_not_found_exception);
            if is_absent { "nothing was recorded yet.".to_owned() } else { why("logs:StartQuery", &error) }
        })?;
        let id = started.query_id().ok_or("CloudWatch Logs did not say which search it began.")?;
        for _ in 0..POLL.1 {
            let answer = client.get_query_results().query_id(id).send().await;
            let answer = answer.map_err(|error| why("logs:GetQueryResults", &error))?;
            match answer.status() {
                Some(QueryStatus::Complete) => {
                    let rows: Option<Vec<Rejected>> = answer.results().iter().map(|row| rejected(row)).collect();
                    return rows.ok_or_else(|| "a row of the result cannot be read.".to_owned());
                }
                Some(QueryStatus::Running | QueryStatus::Scheduled) => tokio::time::sleep(POLL.0).await,
                other => return Err(format!("the search ended as {}.", other.map_or("unknown", QueryStatus::as_str))),
            }
        }
        // A query that is not stopped goes on and costs money, although nobody waits for it.
        let stopped = client.stop_query().query_id(id).send().await;
        let not_stopped = stopped.err().map(|error| format!(" {}", why("logs:StopQuery", &error))).unwrap_or_default();
        Err(format!("the search took longer than {} s, and was stopped.{not_stopped}", POLL.1))
    }
}

impl SearchOutcome {
    fn gap(what: String) -> Self {
        Self { rejections: None, gaps: vec![Gap::new(what)] }
    }
}

impl Search {
    /// The query in the language of CloudWatch Logs Insights. It names the fields itself, since Insights discovers only
    /// those of the default format. `None` if a field is missing.
    fn query(&self) -> Option<String> {
        let fields = fields(&self.format)?;
        let pattern = vec!["*"; fields.len()].join(" ");
        let names: Vec<String> = fields.iter().map(|field| column(field)).collect();
        let interfaces: Vec<String> = self.interfaces.iter().map(|id| format!("\"{id}\"")).collect();
        Some(format!(
            "parse @message \"{pattern}\" as {} | filter {} in [{}] and {} = \"REJECT\" | stats count(*) as records by {} \
             | sort records desc | limit 1000",
            names.join(", "),
            column("interface-id"),
            interfaces.join(", "),
            column("action"),
            [column("srcaddr"), column("dstaddr"), column("dstport")].join(", "),
        ))
    }
}

/// The fields of a format: `${version} ${account-id} …`. `None` if a needed field is missing, or if something stands
/// between the fields.
fn fields(format: &str) -> Option<Vec<&str>> {
    let name = |text| str::strip_prefix(text, "${").and_then(|text| text.strip_suffix('}'));
    let fields: Vec<&str> = format.split_whitespace().map(name).collect::<Option<_>>()?;
    NEEDED.iter().all(|needed| fields.contains(needed)).then_some(fields)
}

/// A field's name in queries, where `-` is an operator. The prefix separates it from names that Insights discovers.
fn column(field: &str) -> String {
    format!("flow_{}", field.replace('-', "_"))
}

/// The log groups to search, with their interfaces, and the gaps. An interface with several flow logs is searched in
/// one, so that no record counts twice.
fn plan(nodes: &[Node], logs: &[FlowLog], span: Span, now: Timestamp) -> (Vec<Search>, Vec<Gap>) {
    let mut searches: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let (mut gaps, mut without) = (BTreeSet::new(), Vec::new());
    for node in nodes {
        let covering = [&node.id, &node.subnet, &node.vpc].into_iter();
        let covering: Vec<&FlowLog> =
            covering.flat_map(|place| logs.iter().filter(move |log| log.resource == *place)).collect();
        let usable = covering.iter().find(|log| obstacle(log, span).is_none());
        let Some(log) = usable else {
            gaps.extend(covering.iter().filter_map(|log| obstacle(log, span)));
            without.push(node.id.clone());
            continue;
        };
        if let Some(created) = log.created.filter(|created| *created > span.from) {
            gaps.insert(format!("The flow log {} was created at {created:.0}: it has nothing from before.", log.id));
        }
        if let Ok(group) = &log.log_group {
            let format = log.format.as_deref().unwrap_or(DEFAULT_FORMAT);
            searches.entry((group, format)).or_default().push(node.id.clone());
        }
    }
    if !searches.is_empty() && span.to > now - LATENESS {
        gaps.insert("Flow logs are up to 15 minutes late: run this again later for the last minutes.".to_owned());
    }
    let search = |((log_group, format), interfaces): ((&str, &str), Vec<String>)| Search {
        log_group: log_group.to_owned(),
        format: format.to_owned(),
        interfaces,
    };
    let searches = searches.into_iter().map(search).collect();
    let gaps = gaps.into_iter().map(Gap::new).chain(not_recorded(nodes, &without));
    (searches, gaps.collect())
}

/// The reason why a flow log cannot be searched for rejections.
fn obstacle(log: &FlowLog, span: Span) -> Option<String> {
    let id = &log.id;
    if let Some(created) = log.created.filter(|created| *created >= span.to) {
        return Some(format!("The flow log {id} is younger than this time: it was created at {created:.0}."));
    }
    if let Err(kind) = &log.log_group {
        return Some(format!("The flow log {id} goes to {kind}, which this command does not search."));
    }
    if let Some(error) = &log.error {
        return Some(format!("The records of the flow log {id} do not arrive: {error}."));
    }
    if !log.has_rejects {
        return Some(format!("The flow log {id} records only what was accepted (its traffic type)."));
    }
    let format = log.format.as_deref().unwrap_or(DEFAULT_FORMAT);
    fields(format).is_none().then(|| {
        format!(
            "The flow log {id} lacks some of the fields {}, or has other text between its fields.",
            NEEDED.join(", ")
        )
    })
}

/// A command that finds a role for writing flow logs.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html>
const FIRST_ROLE: &str = "aws iam list-roles --output json \
                          --query \"Roles[?contains(to_string(AssumeRolePolicyDocument),'vpc-flow-logs')].Arn|[0]\" | tr -d '\"'";

/// The gap for interfaces without a searchable flow log, with the command that records their flows.
fn not_recorded(nodes: &[Node], without: &[String]) -> Option<Gap> {
    if nodes.is_empty() {
        return Some(Gap::new(
            "EC2 shows no network interface of the load balancer, so there are no flow logs to search.",
        ));
    }
    (!without.is_empty()).then(|| Gap {
        what: format!(
            "No flow log of {} goes to CloudWatch Logs. One would show which packets were rejected, and where they came from. The \
             command uses the first role that VPC flow logs can assume; if there is none, create one first. Run it in the service's \
             Region.",
            listed(without)
        ),
        command: Some(format!(
            "aws ec2 create-flow-logs --resource-type NetworkInterface --resource-ids {} --traffic-type ALL \
             --max-aggregation-interval 60 --log-group-name privatelink-flows --deliver-logs-permission-arn \
             $({FIRST_ROLE})",
            without.join(" ")
        )),
    })
}

/// The span's share of `stored`, if the log group grew evenly since its creation or over its retention period.
fn share(stored: u64, span: Span, created: Option<Timestamp>, retention_days: Option<i32>, now: Timestamp) -> u64 {
    let kept = retention_days.map(|days| now - SignedDuration::from_hours(24 * i64::from(days)));
    let Some(since) = created.max(kept) else { return stored };
    let age = u128::from(now.duration_since(since).as_secs().max(1).unsigned_abs());
    let length = u128::from(span.length().as_secs().unsigned_abs());
    u64::try_from(u128::from(stored) * length.min(age) / age).unwrap_or(stored)
}

#[allow(clippy::cast_precision_loss)]
fn price(bytes: u64) -> f64 {
    bytes as f64 / 1e9 * PRICE
}

/// `None` if a field is missing or malformed.
fn rejected(row: &[ResultField]) -> Option<Rejected> {
    let value = |name: &str| row.iter().find(|field| field.field() == Some(name)).and_then(ResultField::value);
    Some(Rejected {
        from: value(&column("srcaddr"))?.parse().ok()?,
        to: value(&column("dstaddr"))?.parse().ok()?,
        port: value(&column("dstport"))?.parse().ok()?,
        records: value("records")?.parse().ok()?,
    })
}

/// The rejections on dbt's path; all others concern other clients of the network.
fn classified(rows: &[Rejected], nodes: &[Node], path: &LoggedPath) -> Rejections {
    let is_node = |address: &IpAddr| nodes.iter().any(|node| node.addresses.contains(address));
    let is_target = |address: &IpAddr| path.targets.contains(address);
    let mut rejections = Rejections::default();
    let mut examples: Vec<(u64, String)> = Vec::new();
    for Rejected { from, to, port, records } in rows {
        let whose = count(*records, "record");
        let example = if is_node(from) && is_target(to) {
            rejections.behind += records;
            format!("from the load balancer's {from} to the target {to}, port {port}, rejected")
        } else if is_target(from) && is_node(to) {
            rejections.behind += records;
            format!("from the target {from} back to the load balancer's {to}, port {port}, rejected")
        } else if is_node(to) && path.ports.contains(port) {
            rejections.to_load_balancer += records;
            format!("from {from} to the load balancer's {to}, port {port}, rejected")
        } else {
            continue;
        };
        examples.push((*records, format!("{whose}: {example}")));
    }
    examples.sort_by_key(|(records, _)| std::cmp::Reverse(*records));
    rejections.examples = examples.into_iter().take(EXAMPLES).map(|(_, example)| example).collect();
    rejections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn span() -> Span {
        let (from, to) = (at("2026-03-14T09:00:00Z"), at("2026-03-14T10:00:00Z"));
        Span { from, to, period: SignedDuration::from_mins(1) }
    }

    fn node(number: u8) -> Node {
        Node {
            id: format!("eni-{number}"),
            subnet: format!("subnet-{number}"),
            vpc: "vpc-1".to_owned(),
            addresses: vec![IpAddr::from([172, 31, 0, number])],
        }
    }

    fn log(id: &str, resource: &str) -> FlowLog {
        FlowLog {
            id: id.to_owned(),
            resource: resource.to_owned(),
            log_group: Ok(format!("group-of-{resource}")),
            format: None,
            has_rejects: true,
            error: None,
            created: None,
        }
    }

    fn planned(logs: &[FlowLog]) -> (Vec<(String, Vec<String>)>, String) {
        let (searches, gaps) = plan(&[node(1), node(2)], logs, span(), at("2026-03-15T00:00:00Z"));
        let searches = searches.into_iter().map(|search| (search.log_group, search.interfaces)).collect();
        (searches, gaps.into_iter().map(|gap| gap.what).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn each_interface_is_searched_in_its_nearest_flow_log() {
        let of_vpc = log("fl-vpc", "vpc-1");
        let group = |name: &str, interfaces: &[&str]| {
            (format!("group-of-{name}"), interfaces.iter().map(ToString::to_string).collect::<Vec<String>>())
        };
        assert_eq!(planned(std::slice::from_ref(&of_vpc)), (vec![group("vpc-1", &["eni-1", "eni-2"])], String::new()));
        let both = planned(&[of_vpc, log("fl-eni", "eni-2")]).0;
        assert_eq!(both, [group("eni-2", &["eni-2"]), group("vpc-1", &["eni-1"])]);
    }

    #[test]
    fn a_gap_is_reported_with_the_command_that_records_flows() {
        let (searches, gaps) = planned(&[]);
        assert!(searches.is_empty() && gaps.contains("No flow log of eni-1 and eni-2"), "{gaps}");
        let s3 = FlowLog { log_group: Err("s3".to_owned()), ..log("fl-s3", "vpc-1") };
        let broken = FlowLog { error: Some("Access error".to_owned()), ..log("fl-b", "vpc-1") };
        let accepts = FlowLog { has_rejects: false, ..log("fl-a", "vpc-1") };
        let custom = FlowLog { format: Some("${srcaddr} ${dstaddr}".to_owned()), ..log("fl-c", "vpc-1") };
        let (searches, gaps) = planned(&[s3, broken, accepts, custom]);
        assert!(searches.is_empty());
        for words in ["fl-s3 goes to s3", "fl-b do not arrive: Access error", "fl-a records only", "fl-c lacks some"] {
            assert!(gaps.contains(words), "{words}: {gaps}");
        }
        let young = FlowLog { created: Some(at("2026-03-14T09:30:00Z")), ..log("fl-y", "vpc-1") };
        assert!(planned(std::slice::from_ref(&young)).1.contains("nothing from before"));
        let (searches, gaps) = planned(&[FlowLog { created: Some(at("2026-03-14T10:00:00Z")), ..young }]);
        assert!(searches.is_empty() && gaps.contains("fl-y is younger than this time"), "{gaps}");
        let command = plan(&[node(1)], &[], span(), span().to).1[0].command.clone().unwrap();
        assert!(command.contains("--resource-ids eni-1 ") && !command.contains("ROLE_ARN"), "{command}");
    }

    #[test]
    fn the_query_names_the_fields_of_the_format() {
        let format = "${interface-id} ${srcaddr} ${dstaddr} ${dstport} ${action} ${tcp-flags}";
        let search =
            Search { log_group: "g".to_owned(), format: format.to_owned(), interfaces: vec!["eni-1".to_owned()] };
        assert_eq!(
            search.query().unwrap(),
            "parse @message \"* * * * * *\" as flow_interface_id, flow_srcaddr, flow_dstaddr, flow_dstport, flow_action, \
             flow_tcp_flags | filter flow_interface_id in [\"eni-1\"] and flow_action = \"REJECT\" | stats count(*) as records \
             by flow_srcaddr, flow_dstaddr, flow_dstport | sort records desc | limit 1000"
        );
        assert_eq!(fields(DEFAULT_FORMAT).unwrap().len(), 14);
        assert_eq!(fields("${interface-id},${srcaddr}"), None, "something between the fields");
    }

    #[test]
    fn only_rejections_on_the_way_count() {
        let targets: BTreeSet<IpAddr> = [IpAddr::from([172, 31, 0, 10])].into();
        let path = LoggedPath { ports: [5432].into(), targets, ..LoggedPath::default() };
        let row =
            |from: [u8; 4], to: [u8; 4], port, records| Rejected { from: from.into(), to: to.into(), port, records };
        let (node_address, target) = ([172, 31, 0, 1], [172, 31, 0, 10]);
        let rows = [
            row(node_address, target, 5432, 4),
            row(target, node_address, 40000, 1),
            row([10, 1, 2, 3], node_address, 5432, 2),
            row([10, 1, 2, 3], node_address, 23, 90),
        ];
        let found = classified(&rows, &[node(1)], &path);
        assert_eq!((found.to_load_balancer, found.behind, found.examples.len()), (2, 5, 3));
        let first = "4 records: from the load balancer's 172.31.0.1 to the target 172.31.0.10, port 5432, rejected";
        assert_eq!(found.examples[0], first);
    }

    #[test]
    fn a_search_costs_the_share_of_its_time_in_the_log_group() {
        let now = at("2026-03-15T00:00:00Z");
        let created = Some(at("2026-03-05T00:00:00Z"));
        assert_eq!(share(24_000, span(), created, None, now), 100, "one of 240 hours");
        assert_eq!(share(24_000, span(), created, Some(1), now), 1000, "one of 24 hours");
        assert_eq!(share(24_000, span(), None, None, now), 24_000);
        assert_eq!(share(24_000, span(), Some(at("2026-03-14T23:30:00Z")), None, now), 24_000);
        assert!((price(34_000_000_000) - 0.17).abs() < 1e-9);
    }
}
