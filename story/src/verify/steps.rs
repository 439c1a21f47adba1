//! The chapters that only `make verify` has: the set-up, AWS's real events, and the functions' reports.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::figures::Figures;
use super::profiles::Profiles;
use super::stacks;
use super::teardown::Accounts;
use crate::chapters::{Chapter, ChapterRun, Requester, Scene};
use crate::local_aws::{list, text};
use crate::stack::GuardFunction;
use crate::stage::{Party, StoryStage, eventually};

/// The network of the consumers' endpoints: `infra/verify-consumer.yaml`.
const CONSUMERS_CIDR: &str = "10.98.0.0/24";

// ---- set-up ---------------------------------------------------------------------------------------------------------

/// The endpoint service and the resources behind it.
pub const SERVICE: Chapter = Chapter {
    title: "an endpoint service is created as dbt's guide says",
    expected: "available, with a healthy target behind it",
    play: |run| {
        let stage = Profiles::of(run)?;
        let (provider, consumer) = (stage.account(Party::Provider)?, stage.account(Party::Consumer)?);
        let (name, template) = (stage.names.service(), "verify.yaml");
        run.step(&format!("creating the stack {name} from infra/{template}"), &[]);
        let principal = format!("arn:{}:iam::{}:root", provider.partition(), consumer.id);
        let parameters = [("ConsumerPrincipal", principal.as_str()), ("GuardStack", &stage.names.guard())];
        let outputs = stacks::create(stage, provider, &stage.names, (&name, template), &parameters)?;
        stage.add_outputs(Party::Provider, outputs);
        run.step("waiting until the load balancer is active and its target is healthy", &[]);
        let (limit, load_balancer) = (stage.limits().health, stage.output(Party::Provider, "LoadBalancerArn")?);
        let command = format!("elbv2 describe-load-balancers --load-balancer-arns {load_balancer}");
        run.ask_until("the load balancer to be active", limit, &command, |answer| {
            (answer.pointer("/LoadBalancers/0/State/Code")? == "active").then_some(())
        })?;
        let group = stage.output(Party::Provider, "TargetGroupArn")?;
        let command = format!("elbv2 describe-target-health --target-group-arn {group}");
        run.ask_until("the target to be healthy", limit, &command, |answer| {
            (answer.pointer("/TargetHealthDescriptions/0/TargetHealth/State")? == "healthy").then_some(())
        })
    },
};

/// The guard, with the functions of this release.
pub const GUARD: Chapter = Chapter {
    title: "the guard is deployed as a stack of its own",
    expected: "deployed by make deploy",
    play: |run| {
        let stage = Profiles::of(run)?;
        deploy(run, &parameters(stage)?)?;
        run.step("a queue subscribes to the topic to which EC2 sends its connection notifications", &[]);
        let topic = stage.output(Party::Provider, "NotificationTopicArn")?;
        let queue = stage.output(Party::Provider, "EventQueueArn")?;
        let subscribe = format!("sns subscribe --topic-arn {topic} --protocol sqs --notification-endpoint {queue}");
        run.ask(Party::Provider, &subscribe).map(drop)
    },
};

/// Deploys the guard, or changes these parameters of it.
pub fn deploy(run: &mut ChapterRun<'_>, parameters: &str) -> Result<()> {
    let stage = Profiles::of(run)?;
    let (provider, name, functions) = (stage.account(Party::Provider)?, stage.names.guard(), stage.functions.as_str());
    run.step("make deploy", &[format!("make deploy STACK={name} PREBUILT={functions} SET=\"{parameters}\"")]);
    let settings = [
        ("STACK", name.clone()),
        ("SET", parameters.to_owned()),
        ("TAGS", format!("{}={}", stacks::TAG, stage.names.run)),
        ("BUCKET", stage.output(Party::Provider, "Bucket")?),
        ("PREBUILT", functions.to_owned()),
    ];
    provider.deploy(&settings, &stage.folder.join("deploy.log"), || stage.is_interrupted())?;
    let guard = stacks::of_run(provider, &stage.names, &name)?.context("the guard's stack exists")?;
    stage.add_outputs(Party::Provider, guard.outputs);
    Ok(())
}

/// The guard's parameters: every feature on that needs no other chapter, at the highest speed.
fn parameters(stage: &Profiles) -> Result<String> {
    let output = |key: &str| stage.output(Party::Provider, key);
    let consumer = stage.account(Party::Consumer)?;
    let given = [
        ("EndpointServiceIds", output("ServiceId")?),
        ("DbtPrincipals", format!("arn:{}:iam::{}:root", consumer.partition(), consumer.id)),
        ("AlertTopicArn", output("AlertTopicArn")?),
        ("ListenerPorts", "5432".to_owned()),
        ("DbtCidrs", CONSUMERS_CIDR.to_owned()),
        ("DryRun", "false".to_owned()),
        ("AlertAfter", "1".to_owned()),
        ("ResolveAfter", "1".to_owned()),
        ("AcceptorSchedule", "rate(1 minute)".to_owned()),
        ("DriftSchedule", "rate(1 minute)".to_owned()),
        ("Dashboard", "no".to_owned()),
    ];
    Ok(given.map(|(name, value)| format!("{name}={value}")).join(" "))
}

/// The consumers' networks.
pub const NETWORKS: Chapter = Chapter {
    title: "the other accounts get a network for their endpoints",
    expected: "a VPC with a subnet in each zone of the service",
    play: |run| {
        let stage = Profiles::of(run)?;
        let service = stage.output(Party::Provider, "ServiceId")?;
        let describe = format!("ec2 describe-vpc-endpoint-service-configurations --service-ids {service}");
        let described = run.ask(Party::Provider, &describe)?;
        let ids = described.pointer("/ServiceConfigurations/0/AvailabilityZoneIds").and_then(Value::as_array);
        let ids = ids.context("EC2 does not name the zones of the service")?.iter().filter_map(Value::as_str);
        let ids: Vec<String> = ids.map(ToOwned::to_owned).collect();
        for (party, account) in stage.accounts.iter().filter(|(party, _)| **party != Party::Provider) {
            let name = stage.names.consumer();
            run.step(&format!("creating the stack {name} in account {}", account.id), &[]);
            let zones = stacks::zones(account, &ids)?.join(",");
            let stack = (name.as_str(), "verify-consumer.yaml");
            stage.add_outputs(*party, stacks::create(stage, account, &stage.names, stack, &[("Zones", &zones)])?);
        }
        Ok(())
    },
};

/// The scene for the chapters, once the service exists.
pub fn scene(stage: &Profiles) -> Result<Scene> {
    let output = |key: &str| stage.output(Party::Provider, key);
    let (provider, service) = (stage.account(Party::Provider)?, output("ServiceId")?);
    let prefix = if provider.partition() == "aws-cn" { "cn." } else { "" };
    Ok(Scene {
        service_name: format!("{prefix}com.amazonaws.vpce.{}.{service}", provider.region),
        service,
        load_balancer: output("LoadBalancerArn")?,
        security_group: output("SecurityGroupId")?,
        listener: output("ListenerArn")?,
        target_group: output("TargetGroupArn")?,
        cidr: CONSUMERS_CIDR,
        unhealthy: ("CRITICAL", "0 of 1 target healthy"),
        administrator: has_trail(&stage.accounts)?.then(|| provider.caller.clone()),
        database: None,
    })
}

/// Whether a trail records events in the provider's Region. Without a trail, EventBridge gets no events of CloudTrail.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html>
pub fn has_trail(accounts: &Accounts) -> Result<bool> {
    let provider = accounts.get(&Party::Provider).context("there is a provider")?;
    let trails = provider.aws("cloudtrail describe-trails")?;
    let mut arns = list(&trails["trailList"]).filter_map(|trail| trail["TrailARN"].as_str());
    Ok(arns.any(|arn| {
        // An organization's trail is another account's, and may be hidden from this one.
        let status = provider.aws(&format!("cloudtrail get-trail-status --name {arn}"));
        status.is_ok_and(|status| status["IsLogging"] == true)
    }))
}

// ---- what AWS sends -------------------------------------------------------------------------------------------------

/// The connection notification, noted as SNS delivers it, without the fields that only serve to check SNS's signature.
pub const NOTIFICATION: Chapter = Chapter {
    title: "EC2 sends connection notifications",
    expected: "one for the request, which names the endpoint and the service",
    play: |run| {
        let (stage, endpoint) = (Profiles::of(run)?, run.endpoint(Requester::Dbt)?);
        let wanted = |event: &(Value, String, Timestamp)| event.1.contains(&endpoint);
        let (envelope, message, received) =
            eventually(stage, "a connection notification", stage.limits().alert, || {
                let events = stage.events()?;
                let mut sent = events.iter().filter_map(|event| {
                    let (envelope, text) = event.message()?;
                    Some((envelope, text, event.received))
                });
                Ok(sent.find(wanted))
            })?;
        let created = created(run, &endpoint)?;
        run.note("From the request to its connection notification", seconds_between(created, received));
        let parsed = serde_json::from_str(&message).unwrap_or_else(|_| Value::from(message.as_str()));
        let form = json!({"Subject": envelope["Subject"], "Message": parsed,
            "MessageAttributes": envelope["MessageAttributes"]});
        run.sees("notification-form", Ok(vec![form]));
        ensure!(message.contains(&run.scene.service), "the notification does not name the service:\n{message}");
        Ok(())
    },
};

/// The endpoint's creation time in EC2's answer to its owner.
fn created(run: &mut ChapterRun<'_>, endpoint: &str) -> Result<Timestamp> {
    let describe = format!("ec2 describe-vpc-endpoints --vpc-endpoint-ids {endpoint}");
    Ok(text(&run.ask(Party::Consumer, &describe)?, "/VpcEndpoints/0/CreationTimestamp")?.parse()?)
}

/// CloudTrail's event.
pub const CHANGE: Chapter = Chapter {
    title: "CloudTrail's events reach EventBridge",
    expected: "one for the change of cross-zone load balancing, with who made it",
    play: |run| {
        let stage = Profiles::of(run)?;
        let administrator = run.scene.administrator.clone().context("a trail records changes")?;
        let (event, received) = eventually(stage, "CloudTrail's event", stage.limits().trail, || {
            stage.events()?;
            Ok(stage.change())
        })?;
        let made = text(&event, "/detail/eventTime")?.parse()?;
        run.note("From the change to EventBridge's event", seconds_between(made, received));
        let principal = text(&event, "/detail/userIdentity/arn")?;
        ensure!(principal == administrator, "the event names {principal}, and {administrator} made the change");
        Ok(())
    },
};

fn seconds_between(start: Timestamp, end: Timestamp) -> String {
    format!("{:.1} s", end.duration_since(start).as_secs_f32())
}

// ---- the guard itself -----------------------------------------------------------------------------------------------

/// The test message, sent as the output `TestMessage` describes.
pub const TEST_MESSAGE: Chapter = Chapter {
    title: "a test message is sent to every subscriber",
    expected: "one of each severity and kind, marked as a test",
    play: |run| {
        let stage = Profiles::of(run)?;
        let command = stage.output(Party::Provider, "TestMessage")?;
        run.step("network-admin runs the stack's output TestMessage", std::slice::from_ref(&command));
        stage.shell(&command)?;
        run.wait_for("CRITICAL", "load-balancer.security-groups", "TEST: ")?;
        let topic = stage.output(Party::Provider, "AlertTopicArn")?;
        let listed = run.ask(Party::Provider, &format!("sns list-subscriptions-by-topic --topic-arn {topic}"))?;
        let protocols = list(&listed["Subscriptions"]).filter_map(|subscription| subscription["Protocol"].as_str());
        run.note("Subscribers of the alert topic", protocols.collect::<Vec<_>>().join(", "));
        Ok(())
    },
};

/// The dead letters.
pub const DEAD_LETTERS: Chapter = Chapter {
    title: "the dead-letter queue",
    expected: "empty: no event failed all of its retries",
    play: |run| {
        let queue = Profiles::of(run)?.output(Party::Provider, "DeadLettersUrl")?;
        let names = "ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible";
        let get = format!("sqs get-queue-attributes --queue-url {queue} --attribute-names {names}");
        let answer = run.ask(Party::Provider, &get)?;
        let attributes = answer["Attributes"].as_object().context("the queue has attributes")?;
        let number: i64 = attributes.values().filter_map(|value| value.as_str()?.parse::<i64>().ok()).sum();
        ensure!(number == 0, "{number} dead letters are waiting");
        Ok(())
    },
};

/// The guard's own alarms. A new alarm has no data and becomes OK with the first run: neither state rings.
pub const ALARMS: Chapter = Chapter {
    title: "the alarms on the guard itself",
    expected: "none has rung, neither when the stack was new nor since then",
    play: |run| {
        let prefix = format!("{}-", Profiles::of(run)?.names.guard());
        let since = Timestamp::now() - Duration::from_hours(3);
        let history = "cloudwatch describe-alarm-history --history-item-type StateUpdate";
        let answer = run.ask(Party::Provider, &format!("{history} --start-date {since}"))?;
        let items = list(&answer["AlarmHistoryItems"]).filter(|item| !is_of_the_test_message(item));
        let changes = items.filter_map(|item| Some((item["AlarmName"].as_str()?, item["HistorySummary"].as_str()?)));
        let own: Vec<_> = changes.filter(|(alarm, _)| alarm.starts_with(&prefix)).collect();
        run.note("Changes of the alarms' states", own.len().to_string());
        let rings = |change: &str| change.ends_with(" to ALARM") || change.ends_with(" from OK to INSUFFICIENT_DATA");
        let rung: Vec<_> = own.iter().filter(|(_, change)| rings(change)).collect();
        ensure!(rung.is_empty(), "these have rung: {rung:?}");
        Ok(())
    },
};

/// Whether the output `TestMessage` has set this state of an alarm.
fn is_of_the_test_message(item: &Value) -> bool {
    let data = item["HistoryData"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    data.is_some_and(|data| data["newState"]["stateReason"].as_str().is_some_and(|reason| reason.starts_with("TEST ")))
}

/// The figures, from Lambda's reports in the functions' logs and from CloudWatch.
pub const FIGURES: Chapter = Chapter {
    title: "the functions' own figures",
    expected: "every deployed function has run, and no run has failed",
    play: |run| {
        let stage = Profiles::of(run)?;
        let mut failed = Vec::new();
        for function in GuardFunction::ALL {
            let name = stage.output(Party::Provider, &format!("{}Name", function.as_str()));
            // target-follower is there only if its chapter has deployed it.
            let Ok(name) = name else { continue };
            let figures = of_function(run, stage, function)?;
            let counted = counted(run, &name)?;
            run.note(function.as_str(), format!("{}; CloudWatch counts {counted} so far", figures.line()));
            if figures.failed > 0 {
                failed.push(format!("{} of {} runs of {}", figures.failed, figures.runs, function.as_str()));
            }
            stage.figures.borrow_mut().push(figures);
        }
        ensure!(failed.is_empty(), "these failed: {}", failed.join("; "));
        Ok(())
    },
};

fn of_function(run: &mut ChapterRun<'_>, stage: &Profiles, function: GuardFunction) -> Result<Figures> {
    let group = format!("/privatelink-guard/{}/{}", stage.names.guard(), function.log_name());
    let filter = format!("logs filter-log-events --log-group-name {group} --filter-pattern '\"platform.report\"'");
    let (provider, what) = (stage.account(Party::Provider)?, format!("Lambda's reports on {}", function.as_str()));
    // Lambda's reports reach the log some seconds after the run.
    let figures = eventually(stage, &what, stage.limits().alert, || {
        let events = provider.aws(&filter)?;
        let lines = list(&events["events"]).filter_map(|event| event["message"].as_str());
        Ok(Some(Figures::read(function.as_str(), lines)).filter(|figures| figures.runs > 0))
    })?;
    run.step(&format!("{}: {}", function.as_str(), figures.line()), &[]);
    Ok(figures)
}

/// The number of runs in CloudWatch, whose metrics are minutes late.
fn counted(run: &mut ChapterRun<'_>, function: &str) -> Result<u64> {
    let now = Timestamp::now();
    let (start, end) = (now - Duration::from_hours(3), now + Duration::from_mins(1));
    let answer = run.ask(
        Party::Provider,
        &format!(
            "cloudwatch get-metric-statistics --namespace AWS/Lambda --metric-name Invocations --statistics Sum \
             --dimensions Name=FunctionName,Value={function} --start-time {start} --end-time {end} --period 3600"
        ),
    )?;
    let sum: f64 = list(&answer["Datapoints"]).filter_map(|point| point["Sum"].as_f64()).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of runs")]
    Ok(sum as u64)
}
