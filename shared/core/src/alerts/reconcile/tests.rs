use super::*;
use crate::alerts::record::stored_path;
use crate::alerts::silence::Silence;
use crate::check::Status;
use crate::snapshot::{TargetGroup, Unread};
use crate::testing::{
    self, at, change, connection, endpoint_service, finding, load_balancer, region, service, settings, target,
    target_group,
};

const FUNCTION: &str = "drift-watcher";
const LOAD_BALANCER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/pg/0123456789abcdef";

fn check(id: &str) -> Check {
    catalogue::find(id).unwrap()
}

fn cross_zone() -> Check {
    check("load-balancer.cross-zone")
}

fn on() -> Partition {
    Partition::Service(service(1))
}

fn fails(severity: Severity) -> Status {
    Status::Fail(Box::new(finding(severity)))
}

fn passes() -> Status {
    Status::Pass("on".to_owned())
}

/// A read at this hour, with the check's status for each resource.
fn evaluation(hour: i8, check: Check, statuses: &[(&str, Status)]) -> Evaluation {
    let result = |(resource, status): &(&str, Status)| CheckResult::new(check, *resource, status.clone());
    Evaluation::new(at(hour, 0), vec![check], statuses.iter().map(result).collect())
}

/// A read at this hour in which the load balancer fails the check.
fn failing(hour: i8, severity: Severity) -> Vec<Evaluation> {
    vec![evaluation(hour, cross_zone(), &[("lb", fails(severity))])]
}

/// A read at this hour in which it passes.
fn passing(hour: i8) -> Vec<Evaluation> {
    vec![evaluation(hour, cross_zone(), &[("lb", passes())])]
}

/// The table and the settings of the next run.
struct Stage {
    items: Items,
    policy: Policy,
    function: &'static str,
    heard_since: Option<Timestamp>,
}

impl Stage {
    fn new(variables: &[(&str, &str)]) -> Self {
        Self { items: Items::new(), policy: settings(variables).policy, function: FUNCTION, heard_since: None }
    }

    /// Passes the run of this hour to `decide` and writes the updates. Acknowledges their transitions if `sends`.
    fn run(
        &mut self,
        hour: i8,
        sends: bool,
        decide: impl FnOnce(&Reconciler<'_>, &Items) -> Vec<RecordWrite>,
    ) -> Vec<RecordWrite> {
        let (id, region) = (hour.to_string(), region());
        let Self { policy, function, .. } = self;
        let run = Reconciler {
            id: &id,
            function,
            policy,
            stack: None,
            region: &region,
            now: at(hour, 0),
            heard_since: self.heard_since,
        };
        let writes = decide(&run, &self.items);
        for RecordWrite { key, record, expected, leased } in writes.clone() {
            let stored = self.items.get(&key).map(|item| item.version);
            assert_eq!(stored, expected, "{key}: the version that was read");
            let mut record = record;
            if leased && sends {
                record.acknowledge(u64::MAX);
            }
            let version = match expected {
                Some(Version::At(version)) => version + 1,
                _ => 1,
            };
            self.items.insert(key, Item { record: Some(record), version: Version::At(version) });
        }
        writes
    }

    fn report(&mut self, hour: i8, evaluations: Vec<Evaluation>) -> Vec<RecordWrite> {
        self.write(hour, &Report::new(&on(), evaluations))
    }

    fn write(&mut self, hour: i8, report: &Report<'_>) -> Vec<RecordWrite> {
        self.run(hour, true, |run, items| run.writes(report, items))
    }

    /// A stage on which the load balancer's alert has fired at eight.
    fn firing(severity: Severity) -> Self {
        let mut stage = Self::new(&[]);
        stage.report(8, failing(8, severity));
        stage
    }

    fn alert(&self, resource: &str) -> &Alert {
        let (_, item) = self.items.iter().find(|(key, _)| key.resource == resource).unwrap();
        item.record.as_ref().unwrap().alert().unwrap()
    }
}

/// The transitions of the updates: kind, summary, and the fact that holds now.
fn sent(writes: &[RecordWrite]) -> Vec<(Kind, &str, Option<&str>)> {
    let outbox = writes.iter().filter(|write| write.leased).flat_map(|write| &write.record.outbox);
    outbox.map(|sent| (sent.kind, sent.finding.summary.as_str(), sent.now_true.as_deref())).collect()
}

const SUMMARY: &str = "2 of 3 targets unhealthy in pg";

#[test]
fn a_failure_fires_and_resolves_once_despite_older_reads() {
    let mut stage = Stage::new(&[]);
    let writes = stage.report(8, failing(8, Severity::Warning));
    let [RecordWrite { key, record, expected: None, leased: true }] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(*key, Key::new(FUNCTION, "load-balancer.cross-zone", "lb"));
    assert_eq!((record.observed_at, record.transitions), (at(8, 0), 1));
    let [fired] = &record.outbox[..] else { panic!("{record:?}") };
    let about = (fired.check.as_str(), fired.resource.as_str(), fired.incident.as_str());
    assert_eq!(about, ("load-balancer.cross-zone", "lb", "vpce-svc-00000000000000001-1773475200"));
    assert_eq!((fired.since, fired.at, fired.kind), (at(8, 0), at(8, 0), Kind::Firing));

    assert_eq!(stage.report(9, passing(8)), [], "the same read");
    assert_eq!(stage.report(9, passing(7)), [], "an older read");
    let unknown = evaluation(9, cross_zone(), &[("lb", Status::Unknown("no answer".to_owned()))]);
    assert_eq!(sent(&stage.report(9, vec![unknown])), []);
    assert_eq!(stage.alert("lb").unknown.as_deref(), Some("no answer"));
    let writes = stage.report(10, passing(10));
    assert_eq!(sent(&writes), [(Kind::Resolved, SUMMARY, Some("on"))]);
    let resolved = &writes[0].record.outbox[0];
    assert_eq!((resolved.number, resolved.since, resolved.at), (2, at(8, 0), at(10, 0)));
    assert_eq!(stage.report(11, passing(11)), [], "over: it can expire");
}

#[test]
fn an_unasked_check_leaves_its_alert_unchanged() {
    let mut stage = Stage::firing(Severity::Critical);
    let before = stage.alert("lb").clone();
    assert_eq!(stage.report(9, vec![evaluation(9, cross_zone(), &[("lb", Status::NotAsked)])]), []);
    let unlisted = CheckResult::unlisted(cross_zone(), &service(1), Unread::NotAsked);
    assert_eq!(stage.report(10, vec![Evaluation { results: vec![unlisted], ..evaluation(10, cross_zone(), &[]) }]), []);
    assert_eq!(*stage.alert("lb"), before);
}

#[test]
fn a_reminder_reports_an_unknown_result() {
    let mut stage = Stage::new(&[("REMIND_EVERY_HOURS", "1")]);
    stage.report(8, failing(8, Severity::Warning));
    let writes =
        stage.report(10, vec![evaluation(10, cross_zone(), &[("lb", Status::Unknown("no answer".to_owned()))])]);
    assert_eq!(sent(&writes), [(Kind::Reminder, SUMMARY, None)]);
    assert_eq!(writes[0].record.outbox[0].unknown.as_deref(), Some("no answer"));
}

#[test]
fn an_alert_on_a_gone_or_unlisted_resource_is_not_resolved() {
    let firing = || Stage::firing(Severity::Critical);
    let unknown = || Status::Unknown("denied".to_owned());
    let mut stage = firing();
    let unlisted = CheckResult::unlisted(cross_zone(), &service(1), "denied".to_owned().into());
    let unlisted = Evaluation { results: vec![unlisted], ..evaluation(9, cross_zone(), &[]) };
    assert_eq!(sent(&stage.report(9, vec![unlisted])), []);
    assert_eq!(stage.alert("lb").unknown.as_deref(), Some("denied"), "the resources could not be listed");

    let mut stage = firing();
    let writes = stage.report(9, vec![evaluation(9, cross_zone(), &[("another", unknown())])]);
    let gone = format!("closed (resource gone): {SUMMARY}");
    assert_eq!(sent(&writes), [(Kind::Notice, gone.as_str(), None)], "another one's result is unknown");
    let notice = &writes[0].record.outbox[0].finding;
    assert_eq!(notice.severity, Severity::Info);
    assert!(notice.impact.starts_with("The resource no longer exists"), "{notice:?}");
    assert!(notice.remedy.command.is_none() && notice.remedy.action.starts_with("If nobody intended this"));

    let other_check = evaluation(9, check("listener.port"), &[]);
    assert_eq!(firing().report(9, vec![other_check]), [], "the run did not make this check");

    let mut stage = firing();
    stage.policy = settings(&[("CROSS_ZONE", "ignore")]).policy;
    let writes = stage.report(9, vec![evaluation(9, cross_zone(), &[])]);
    let closed = format!("closed (no longer checked): {SUMMARY}");
    assert_eq!(sent(&writes), [(Kind::Notice, closed.as_str(), None)]);
    assert!(writes[0].record.outbox[0].finding.impact.starts_with("Nothing was fixed."));

    let off_path = Evaluation { off_path: ["lb".to_owned()].into(), ..evaluation(9, cross_zone(), &[]) };
    let writes = firing().report(9, vec![off_path]);
    assert_eq!(sent(&writes), [(Kind::Notice, closed.as_str(), None)], "dbt's ports do not reach it");
}

/// EC2 may name a service's zones only by id. Then a load balancer's zones are unknown, which says nothing about the
/// target groups.
#[test]
fn a_removed_target_group_is_gone_even_with_unknown_zones() {
    let zones = check("load-balancer.zones");
    let read = |hour: i8, groups: Vec<TargetGroup>| {
        let topology = testing::topology(endpoint_service(), [load_balancer("pg", groups)]);
        testing::with_context(&topology, |context| Evaluation::evaluate(&[zones], context, at(hour, 0)))
    };
    let group = TargetGroup { targets: Ok(vec![target(1, "healthy")]), ..target_group("pg") };
    let resource = group.arn.to_string();
    let mut stage = Stage::new(&[("ALERT_AFTER", "1")]);
    stage.report(8, vec![evaluation(8, zones, &[(&resource, fails(Severity::Critical))])]);
    assert_eq!(stage.alert(&resource).phase, Phase::Firing);

    assert_eq!(sent(&stage.report(9, vec![read(9, vec![group])])), [], "it is still there, and not known to be right");
    let gone = format!("closed (resource gone): {SUMMARY}");
    assert_eq!(sent(&stage.report(10, vec![read(10, vec![])])), [(Kind::Notice, gone.as_str(), None)]);
}

/// Of two load balancers, one's target groups cannot be listed, and neither is enabled in a zone that the service
/// offers.
#[test]
fn an_unlisted_group_hides_no_failure_of_the_service() {
    let id = service(1).to_string();
    let unlisted = CheckResult::unlisted(check("load-balancer.zones"), &service(1), "denied".to_owned().into());
    let mut read = evaluation(8, check("load-balancer.zones"), &[(&id, fails(Severity::Critical))]);
    read.results.insert(0, unlisted);
    assert_eq!(sent(&Stage::new(&[("ALERT_AFTER", "1")]).report(8, vec![read])), [(Kind::Firing, SUMMARY, None)]);
}

#[test]
fn each_check_decides_what_a_missing_resource_means() {
    let fire = |check: Check, resource: &str| {
        let mut stage = Stage::new(&[("ALERT_AFTER", "1")]);
        stage.report(8, vec![evaluation(8, check, &[(resource, fails(Severity::Critical))])]);
        let writes = stage.report(9, vec![evaluation(9, check, &[])]);
        let writes = sent(&writes).into_iter().map(|(kind, _, now_true)| (kind, now_true.map(ToOwned::to_owned)));
        writes.collect::<Vec<_>>()
    };
    let now_true = "AWS account 999999999999 has no endpoint here".to_owned();
    assert_eq!(fire(check("connection.untrusted"), "999999999999"), [(Kind::Resolved, Some(now_true))]);
    let now_true = "no endpoint of an unnamed account is left".to_owned();
    assert_eq!(fire(check("connection.untrusted"), "unnamed account"), [(Kind::Resolved, Some(now_true))]);
    assert_eq!(fire(check("visibility.lost"), "ec2:DescribeSubnets"), [], "the run did not make the call");
}

#[test]
fn an_alert_remembers_the_newest_read_of_its_resource() {
    let mut stage = Stage::new(&[]);
    let read = |hour, status| vec![evaluation(hour, cross_zone(), &[("lb", status)])];
    assert_eq!(sent(&stage.report(8, read(8, fails(Severity::Warning)))).len(), 1);
    assert_eq!(sent(&stage.report(10, read(10, fails(Severity::Warning)))), []);
    assert_eq!(stage.report(11, read(9, passes())), [], "a run that read earlier and took longer");
    assert_eq!(sent(&stage.report(12, read(11, passes()))), [(Kind::Resolved, SUMMARY, Some("on"))]);
}

#[test]
fn a_connections_state_is_recorded_even_without_a_notice() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let mut read = |hour, state: &str| {
        let connections = [connection(1, Some(testing::DBT), state)];
        let read_at = at(hour, 0);
        let report = Report { connections: Some((&connections, read_at)), ..Report::new(&partition, vec![]) };
        let writes = stage.write(hour, &report);
        let states = writes.iter().map(|write| (write.record.connection().unwrap().state.clone(), write.leased));
        states.collect::<Vec<_>>()
    };
    assert_eq!(read(8, "pendingAcceptance"), [("pendingAcceptance".to_owned(), false)]);
    assert_eq!(read(9, "pending"), [("pending".to_owned(), false)]);
    assert_eq!(read(10, "pending"), [], "nothing new");
    assert_eq!(read(11, "available"), [("available".to_owned(), true)], "dbt is connected");
}

#[test]
fn an_alert_on_an_account_trusted_since_names_the_setting() {
    let now = |variable: (&str, &str)| {
        let check = check("connection.untrusted");
        let mut stage = Stage::new(&[]);
        stage.report(8, vec![evaluation(8, check, &[("999999999999", fails(Severity::Critical))])]);
        stage.policy = settings(&[variable]).policy;
        let writes = stage.report(9, vec![evaluation(9, check, &[])]);
        sent(&writes)[0].2.map(ToOwned::to_owned)
    };
    assert_eq!(
        now(("KNOWN_ACCOUNTS", "999999999999")).as_deref(),
        Some("KnownAccounts names account 999999999999 now")
    );
    let dbts = ("DBT_PRINCIPALS", "arn:aws:iam::999999999999:root");
    assert_eq!(now(dbts).as_deref(), Some("DbtPrincipals names account 999999999999 now"));
}

/// Later runs do not make the call, because no rule names its prefix list any more.
#[test]
fn an_alert_closes_after_a_day_without_its_call() {
    let call = check("visibility.lost");
    let mut stage = Stage::new(&[("ALERT_AFTER", "2")]);
    let failing = |stage: &mut Stage, hour| {
        let writes =
            stage.report(hour, vec![evaluation(hour, call, &[("ec2:DescribeSubnets", fails(Severity::Warning))])]);
        sent(&writes).into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>()
    };
    let without = |stage: &mut Stage, hours: i64| {
        let (id, region) = (format!("later-{hours}"), region());
        let now = at(8, 0) + SignedDuration::from_hours(hours);
        let mut another = evaluation(8, call, &[("ec2:DescribeRouteTables", passes())]);
        another.observed_at = now;
        let run = Reconciler {
            id: &id,
            function: FUNCTION,
            policy: &stage.policy,
            stack: None,
            region: &region,
            now,
            heard_since: None,
        };
        run.writes(&Report::new(&on(), vec![another]), &stage.items)
    };
    assert_eq!(failing(&mut stage, 7), []);
    assert_eq!(failing(&mut stage, 8), [Kind::Firing]);
    assert_eq!(without(&mut stage, 1), [], "the next run may make it again");
    assert_eq!(without(&mut stage, 23), []);
    let writes = without(&mut stage, 24);
    assert_eq!(sent(&writes), [(Kind::Notice, format!("closed (call no longer made): {SUMMARY}").as_str(), None)]);

    let mut stage = Stage::new(&[("ALERT_AFTER", "2")]);
    assert_eq!(failing(&mut stage, 8), []);
    let [write] = &without(&mut stage, 24)[..] else { panic!("it is over, unheard") };
    assert!(write.record.alert().unwrap().is_over() && !write.leased, "{write:?}");
}

#[test]
fn records_of_another_function_stay_unchanged() {
    let mut stage = Stage::firing(Severity::Warning);
    stage.function = "health-watcher";
    assert_eq!(stage.report(9, vec![evaluation(9, cross_zone(), &[])]), []);
}

#[test]
fn an_alert_of_a_removed_check_closes_with_a_notice() {
    let mut stage = Stage::firing(Severity::Warning);
    let (_, item) = stage.items.pop_first().unwrap();
    stage.items.insert(Key::new(FUNCTION, "load-balancer.forgotten", "lb"), item);
    let writes = stage.report(9, vec![]);
    assert_eq!(sent(&writes), [(Kind::Notice, format!("closed (no longer checked): {SUMMARY}").as_str(), None)]);
}

#[test]
fn an_alert_within_an_hour_of_another_joins_its_incident() {
    let incident = |first: Severity, minute: i8, hour: i8| {
        let mut stage = Stage::new(&[]);
        let lb = ("lb", fails(first));
        stage.report(8, vec![evaluation(8, cross_zone(), std::slice::from_ref(&lb))]);
        let second = Evaluation {
            observed_at: at(hour, minute),
            ..evaluation(hour, cross_zone(), &[lb, ("other", fails(Severity::Warning))])
        };
        stage.report(hour, vec![second]);
        (stage.alert("lb").incident.clone(), stage.alert("other").incident.clone())
    };
    let (first, second) = incident(Severity::Warning, 0, 9);
    assert_eq!(first, second, "an hour later, still");
    let (first, second) = incident(Severity::Critical, 0, 10);
    assert_ne!(first, second, "two hours later");
    let (first, second) = incident(Severity::Info, 0, 9);
    assert_ne!(first, second, "info opens no incident");
    let mut stage = Stage::firing(Severity::Critical);
    stage.report(9, passing(9));
    let first = stage.alert("lb").incident.clone();
    stage.report(
        9,
        vec![Evaluation {
            observed_at: at(9, 1),
            ..evaluation(9, cross_zone(), &[("other", fails(Severity::Warning))])
        }],
    );
    assert_ne!(stage.alert("other").incident, first, "what is over is no open incident");
}

#[test]
fn a_change_becomes_the_cause_only_of_alerts_it_names() {
    let stage_with = |resource: &str, hour: i8| {
        let mut stage = Stage::new(&[]);
        stage.report(hour, vec![evaluation(hour, cross_zone(), &[(resource, fails(Severity::Warning))])]);
        stage
    };
    let attribute = |stage: &mut Stage, change: &Change| stage.run(9, true, |run, items| run.attribute(change, items));
    let mut stage = stage_with(LOAD_BALANCER, 8);
    let writes = attribute(&mut stage, &change());
    assert_eq!(sent(&writes), [(Kind::Notice, format!("cause found: {SUMMARY}").as_str(), None)]);
    assert_eq!(writes[0].record.outbox[0].finding.cause, Some(change()));
    assert_eq!(attribute(&mut stage, &change()), [], "once");
    assert_eq!(attribute(&mut stage_with("another", 8), &change()), [], "it does not name it");
    let elsewhere = Change { event_name: "SetSubnets".to_owned(), ..change() };
    assert_eq!(attribute(&mut stage_with(LOAD_BALANCER, 8), &elsewhere), [], "such a call cannot cause it");
    let mut stage = stage_with(LOAD_BALANCER, 8);
    stage.function = "health-watcher";
    assert_eq!(attribute(&mut stage, &change()), [], "another function's alert");
    let mut stage = stage_with(LOAD_BALANCER, 7);
    stage.report(8, vec![evaluation(8, cross_zone(), &[(LOAD_BALANCER, passes())])]);
    assert_eq!(attribute(&mut stage, &change()), [], "it is over");
}

#[test]
fn a_cause_does_not_make_a_pending_alert_fire() {
    let mut stage = Stage::new(&[]);
    stage.report(8, vec![evaluation(8, cross_zone(), &[(LOAD_BALANCER, fails(Severity::Critical))])]);
    let item = stage.items.values_mut().next().unwrap();
    let record = item.record.as_mut().unwrap();
    let alert = Alert { phase: Phase::Pending, notified: None, ..record.alert().unwrap().clone() };
    record.state = State::Alert(Box::new(alert));
    let cause = change();
    let writes = stage.run(9, true, |run, items| run.attribute(&cause, items));
    assert_eq!(sent(&writes), []);
    assert_eq!(stage.alert(LOAD_BALANCER).finding.cause, Some(cause), "but it is remembered");
    assert_eq!(stage.alert(LOAD_BALANCER).phase, Phase::Pending);
}

#[test]
fn an_alert_sent_without_a_subscriber_is_sent_once_more() {
    let mut stage = Stage::firing(Severity::Warning);
    assert_eq!(sent(&stage.report(9, failing(9, Severity::Warning))), []);
    stage.heard_since = Some(at(9, 30));
    assert_eq!(sent(&stage.report(10, failing(10, Severity::Warning))), [(Kind::Firing, SUMMARY, None)]);
    assert_eq!(sent(&stage.report(11, failing(11, Severity::Warning))), [], "once");
    let mut info = Stage::new(&[]);
    info.report(8, failing(8, Severity::Info));
    info.heard_since = Some(at(8, 30));
    assert_eq!(sent(&info.report(9, failing(9, Severity::Info))).len(), 1, "what waits, too");
}

#[test]
fn records_of_a_removed_service_expire() {
    let mut stage = Stage::new(&[]);
    let failing = |hour| vec![evaluation(hour, cross_zone(), &[("lb", fails(Severity::Warning)), ("pg", passes())])];
    stage.report(8, failing(8));
    stage.run(9, true, |run, items| run.close(items).0);
    let expire =
        |stage: &Stage| stage.items.values().all(|item| item.record.as_ref().unwrap().expires(at(9, 0)).is_some());
    assert!(expire(&stage));
    let also = |hour| {
        vec![evaluation(hour, cross_zone(), &[("lb", fails(Severity::Critical)), ("new", fails(Severity::Critical))])]
    };
    assert_eq!(stage.report(10, also(8)), [], "its read began before the service was removed");
    assert!(expire(&stage));
    assert_eq!(sent(&stage.report(11, failing(11))).len(), 1, "the service is configured again");
    assert!(!expire(&stage));
}

#[test]
fn a_held_request_stays_held_when_its_service_returns() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let connections =
        [connection(1, Some(testing::DBT), "available"), connection(2, Some(testing::DBT), "pendingAcceptance")];
    let run = |stage: &mut Stage, hour: i8| {
        let held = BTreeSet::from([testing::endpoint(2)]);
        let admissions = Some(Decided { hold: held.clone(), parked: held, accepted: Vec::new(), latest: None });
        let evaluations = vec![evaluation(hour, check("connection.dbt"), &[])];
        let report = Report {
            connections: Some((&connections, at(hour, 0))),
            admissions,
            ..Report::new(&partition, evaluations)
        };
        stage.write(hour, &report)
    };
    let expires = |stage: &Stage| {
        let mut records = stage.items.values().filter_map(|item| item.record.as_ref());
        records.find(|record| record.admissions().is_some()).unwrap().expires(at(10, 0))
    };
    run(&mut stage, 8);
    assert_eq!(expires(&stage), None);
    stage.run(9, true, |run, items| run.close(items).0);
    assert!(expires(&stage).is_some_and(|expires| expires > at(10, 0) + jiff::SignedDuration::from_hours(365 * 24)));
    run(&mut stage, 10);
    assert_eq!(expires(&stage), None, "the service is configured again");
}

#[test]
fn a_record_from_the_future_suppresses_no_alert() {
    let mut stage = Stage::new(&[]);
    stage.report(20, failing(20, Severity::Warning));
    let resolved = stage.report(9, passing(9));
    assert_eq!(sent(&resolved), [(Kind::Resolved, SUMMARY, Some("on"))]);
    let fired = stage.report(10, failing(10, Severity::Warning));
    assert_eq!(sent(&fired), [(Kind::Firing, SUMMARY, None)]);
}

#[test]
fn an_older_failure_does_not_fire_after_a_newer_pass() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let connections = [connection(1, Some(testing::DBT), "available")];
    let newer = Report { connections: Some((&connections, at(9, 0))), ..Report::new(&partition, passing(9)) };
    stage.write(9, &newer);
    let failing = |hour| failing(hour, Severity::Warning);
    assert_eq!(stage.report(10, failing(8)), [], "the newer run stored when it read");
    let hidden = vec![failing(8).remove(0), evaluation(10, check("listener.port"), &[])];
    assert_eq!(sent(&stage.report(10, hidden)).len(), 1, "what a change of this run hid, only its first read shows");
    assert_eq!(sent(&stage.report(11, failing(11))).len(), 0, "it fires already");
}

#[test]
fn alerts_of_a_removed_service_close_with_a_notice_if_sent() {
    let close = |stage: &mut Stage, hour: i8| {
        let mut elsewhere = false;
        let writes = stage.run(hour, true, |run, items| {
            let (writes, leased_elsewhere) = run.close(items);
            elsewhere = leased_elsewhere;
            writes
        });
        (writes, elsewhere)
    };
    let firing = || Stage::firing(Severity::Warning);
    let mut stage = firing();
    let (writes, elsewhere) = close(&mut stage, 9);
    assert_eq!(sent(&writes), [(Kind::Notice, format!("closed (no longer checked): {SUMMARY}").as_str(), None)]);
    assert_eq!((writes[0].record.observed_at, elsewhere), (at(9, 0), false));
    assert_eq!(close(&mut stage, 10), (vec![], false), "once");

    let mut stage = firing();
    stage.function = "health-watcher";
    assert_eq!(close(&mut stage, 9), (vec![], false), "another function's");

    let mut pending = Stage::new(&[]);
    pending.report(8, vec![evaluation(8, check("target-group.health"), &[("tg", fails(Severity::Critical))])]);
    assert_eq!(sent(&close(&mut pending, 9).0), [], "nobody heard of it");
    assert_eq!(close(&mut pending, 10), (vec![], false), "once");

    // Another run is sending it.
    let mut stage = Stage::new(&[]);
    let partition = on();
    let report = Report::new(&partition, failing(8, Severity::Warning));
    stage.run(8, false, |run, items| run.writes(&report, items));
    assert_eq!(close(&mut stage, 8), (vec![], true));
    assert_eq!(sent(&close(&mut stage, 9).0).len(), 2, "after its lease: that it fires, and that nobody watches it");

    // The notice is unsent but is no alert, so it is still sent.
    let mut stage = Stage::new(&[]);
    let connections = [connection(1, Some(testing::DBT), "available")];
    let report = Report { connections: Some((&connections, at(8, 0))), ..Report::new(&partition, vec![]) };
    stage.run(8, false, |run, items| run.writes(&report, items));
    let notice = (Kind::Notice, "dbt is connected through vpce-00000000000000001", None);
    assert_eq!(sent(&close(&mut stage, 9).0), [notice]);
    assert_eq!(close(&mut stage, 10), (vec![], false), "once");

    // A silence holds the firing alert back, so it closes without a notice.
    let mut stage = Stage::new(&[]);
    silence(&mut stage);
    stage.report(8, failing(8, Severity::Warning));
    assert_eq!((stage.alert("lb").phase, stage.alert("lb").notified), (Phase::Firing, None));
    let (writes, elsewhere) = close(&mut stage, 9);
    assert_eq!((sent(&writes), writes.len(), elsewhere), (vec![], 1, false));
    assert_eq!(stage.alert("lb").phase, Phase::Resolved);
}

/// Puts a silence until 12:00 into the table, as an administrator does.
fn silence(stage: &mut Stage) {
    let silence = Silence { until: at(12, 0), ..testing::silence() };
    let key = Key::new(Key::ANY_FUNCTION, Key::SILENCE, "1");
    stage.items.insert(key, testing::item(State::Silence(silence)));
}

#[test]
fn a_silence_is_announced_once_by_any_function() {
    let mut stage = Stage::new(&[]);
    silence(&mut stage);
    let writes = stage.report(8, failing(8, Severity::Warning));
    let news = sent(&writes);
    assert_eq!(
        news,
        [(Kind::Notice, "all alerts but access silenced until Mar 14 12:00 UTC", None)],
        "and not what it silences"
    );
    stage.function = "health-watcher";
    assert_eq!(stage.report(9, vec![]), []);
}

#[test]
fn an_alert_after_a_silence_says_that_it_was_held_back() {
    let mut stage = Stage::new(&[]);
    silence(&mut stage);
    let evidence = |stage: &mut Stage, hour: i8| {
        let failing = evaluation(hour, cross_zone(), &[("lb", fails(Severity::Warning))]);
        let writes = stage.report(hour, vec![failing]);
        let alert = writes.iter().flat_map(|write| &write.record.outbox).find(|sent| sent.kind == Kind::Firing);
        alert.map(|sent| sent.finding.evidence.clone())
    };
    assert_eq!(evidence(&mut stage, 11), None, "silenced");
    let note = "a silence held this alert back until now".to_owned();
    assert!(evidence(&mut stage, 12).unwrap().contains(&note));
    let mut stage = Stage::new(&[]);
    assert!(!evidence(&mut stage, 12).unwrap().contains(&note), "nothing held this one back");
}

#[test]
fn a_heartbeat_is_sent_once_per_requested_run() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let asked = || Report { heartbeat: Some(finding(Severity::Info)), ..Report::new(&partition, vec![]) };
    for (hour, expected) in [(8, 1), (8, 0), (9, 1)] {
        let writes = stage.write(hour, &asked());
        assert_eq!(sent(&writes).len(), expected, "a retry has the id of the run it repeats");
    }
    assert_eq!(stage.report(10, vec![]), [], "nobody asked");
}

#[test]
fn an_unchanged_fact_or_an_older_read_writes_nothing() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let ids = |ids: &[&str]| Some(ids.iter().map(ToString::to_string).collect::<BTreeSet<String>>());
    for (hour, in_place, writes) in
        [(8, ids(&["nfn-1"]), 1), (9, ids(&["nfn-1"]), 0), (10, ids(&["nfn-2"]), 1), (11, None, 0)]
    {
        let report = Report { in_place, ..Report::new(&partition, vec![]) };
        assert_eq!(stage.write(hour, &report).len(), writes, "{hour}");
    }
    let topology = testing::topology(endpoint_service(), [load_balancer("pg", vec![])]);
    let mut stage = Stage::new(&[]);
    let mut read = |hour, finds: bool| {
        let read_at = at(hour, 0);
        let path = StoredPath::new(&topology, &service(1), read_at, at(7, 0)).filter(|_| finds);
        let report = Report { path: Some(ReadPath { path, read_at }), ..Report::new(&partition, vec![]) };
        let writes = stage.write(11, &report).len();
        (writes, stored_path(&stage.items).is_some())
    };
    assert_eq!(
        [(9, true), (8, true), (9, true)].map(|(hour, finds)| read(hour, finds)),
        [(1, true), (0, true), (0, true)]
    );
    assert_eq!(read(8, false), (0, true), "an older read withdraws nothing");
    assert_eq!(read(10, false), (1, false));
    assert_eq!(read(9, true), (0, false), "nor does it replace the withdrawal");
    assert_eq!(read(11, true), (1, true));
    let traffic = |hour| Some(Traffic { until: at(hour, 0), endpoints: [].into() });
    let mut stage = Stage::new(&[]);
    for (traffic, writes) in [(traffic(8), 1), (traffic(9), 1), (None, 0)] {
        let report = Report { traffic, ..Report::new(&partition, vec![]) };
        assert_eq!(stage.write(11, &report).len(), writes);
    }
}

#[test]
fn a_connection_is_announced_once_despite_older_reads() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let foreign = Connection { service: service(2), ..connection(2, Some(testing::DBT), "available") };
    let seen = |stage: &mut Stage, hour: i8, state: &str| {
        let connections = [connection(1, Some(testing::DBT), state), foreign.clone()];
        let report = Report { connections: Some((&connections, at(hour, 0))), ..Report::new(&partition, vec![]) };
        stage.write(11, &report)
    };
    let writes = seen(&mut stage, 9, "available");
    assert_eq!(writes.len(), 1, "not that of another service: {writes:?}");
    let text = "dbt is connected through vpce-00000000000000001";
    assert_eq!(sent(&writes), [(Kind::Notice, text, None)]);
    assert_eq!(writes[0].record.observed_at, at(9, 0));
    assert_eq!(seen(&mut stage, 10, "available"), [], "nothing new");
    assert_eq!(seen(&mut stage, 8, "deleted"), [], "an older read");
    assert_eq!(stage.report(12, vec![]), [], "a run that read no connections");
    assert_eq!(sent(&seen(&mut stage, 12, "deleted")).len(), 1);
}

#[test]
fn without_the_table_a_pending_failure_is_sent_at_once() {
    let unstored = |variables: &[(&str, &str)], silenced: bool| {
        let mut stage = Stage::new(variables);
        if silenced {
            silence(&mut stage);
        }
        let writes =
            stage.report(8, vec![evaluation(8, check("target-group.health"), &[("tg", fails(Severity::Critical))])]);
        let write = writes.iter().find(|write| write.key.subject == "target-group.health").unwrap();
        write.unstored_transitions(at(8, 0)).iter().map(|sent| sent.kind).collect::<Vec<Kind>>()
    };
    assert_eq!(unstored(&[], false), [Kind::Firing], "pending");
    assert_eq!(unstored(&[("ALERT_AFTER", "1")], false), [Kind::Firing], "firing: as it would have been sent");
    assert_eq!(unstored(&[], true), [], "silenced");
}

#[test]
fn a_later_run_sends_the_outbox_of_a_crashed_run() {
    let mut stage = Stage::new(&[]);
    let partition = on();
    let report = |hour| Report::new(&partition, failing(hour, Severity::Warning));
    stage.run(8, false, |run, items| run.writes(&report(8), items));
    let again = stage.run(8, true, |run, items| run.writes(&report(8), items));
    assert_eq!(again, [], "another run has the lease");
    let later = stage.run(9, true, |run, items| run.writes(&Report::new(&partition, vec![]), items));
    assert_eq!(sent(&later), [(Kind::Firing, SUMMARY, None)], "whatever that run found");
}

#[test]
fn a_plan_of_a_followed_group_is_stored_with_one_notice() {
    let group = target_group("pg").arn;
    let seen = |seconds: i64| {
        let since = at(9, 0) + SignedDuration::from_secs(seconds);
        FollowState::first_seen(None, "db.example.com", BTreeSet::new(), since)
    };
    let followed = |hour: i8, before: Option<FollowState>, state: FollowState, notice: Option<Finding>| {
        vec![Followed { group: group.clone(), before, state, at: at(hour, 0), notice }]
    };
    let partition = on();
    let mut stage = Stage { function: "target-follower", ..Stage::new(&[]) };
    let mut run = |hour: i8, followed: Vec<Followed>| {
        let report = Report { followed, ..Report::new(&partition, Vec::new()) };
        let writes = stage.run(hour, true, |reconciler, items| reconciler.writes(&report, items));
        writes.into_iter().flat_map(|write| write.record.outbox).collect::<Vec<Transition>>()
    };
    let notices = run(9, followed(9, None, seen(0), Some(finding(Severity::Info))));
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((notice.kind, notice.check.as_str()), (Kind::Notice, "target-group.hostname"));
    let news = || Some(finding(Severity::Info));
    assert_eq!(run(10, followed(10, None, seen(1), news())), [], "another run was first");
    assert_eq!(run(10, followed(10, Some(seen(2)), seen(1), news())), [], "another run was first");
    assert_eq!(run(10, followed(10, Some(seen(0)), seen(0), None)), [], "nothing new");
    assert_eq!(run(11, followed(11, Some(seen(0)), seen(1), news())).len(), 1);
}
