//! The guard with permission for every change: UntrustedRequests=reject, CrossZone=enforce, FollowHostnames=replace.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use story::company::{Company, TARGETS, describe_attributes, is_cross_zone_on};
use story::database::NamedGroup;
use story::local_aws::{Caller, LocalAws, eventually, list, text};
use story::mail::Mailbox;
use story::stack::{self, GuardFunction, GuardStack};
use story::top;
use story::{COMPANY, REGION, UNTRUSTED};

use crate::api_calls;
use crate::path::PathItem;

/// The address that is to become the target of the followed group.
const WANTED: &str = "172.31.0.99";

/// One flow, since its last step compares the permissions with the calls of all steps.
#[test]
fn the_strict_guard_uses_every_permission_it_has() -> Result<()> {
    let strict = Strict::set_up()?;
    strict.reports_a_zone_without_a_healthy_target()?;
    strict.revokes_the_untrusted_connection()?;
    strict.leaves_other_services_alone()?;
    strict.restores_a_target_group_that_overrides_the_load_balancer()?;
    strict.restores_the_load_balancer()?;
    strict.accepts_dbt()?;
    strict.follows_a_hostname()?;
    strict.asks_for_a_name_that_is_not_stored()?;
    strict.asks_when_dbt_last_connected()?;
    strict.runs_each_function_on_its_schedule()?;
    strict.sends_programs_what_the_schema_describes()?;
    GuardFunction::ALL.into_iter().try_for_each(|function| strict.allows_exactly_what_was_called(function))
}

/// Two services of a company, both with an untrusted account accepted earlier; the guard is deployed for one.
struct Strict {
    aws: LocalAws,
    guarded: Company,
    other: Company,
    /// A target group whose hostname is an address, which stands for itself.
    followed: NamedGroup,
    /// The untrusted account's endpoints to the two services.
    untrusted: [String; 2],
    /// The URL of a queue that receives the alerts.
    queue: String,
    path: PathItem,
}

impl Strict {
    fn set_up() -> Result<Self> {
        let aws = LocalAws::start(2)?;
        let [guarded, other] = Company::set_up_two(&aws, ["postgres", "gitlab"])?;
        let followed = NamedGroup::set_up(&guarded, &aws, "followed", TARGETS[0])?;
        guarded.add_listener(&aws, "5433", &followed.arn)?;
        let untrusted = [accept_untrusted(&aws, &guarded)?, accept_untrusted(&aws, &other)?];
        stack::build(&aws)?;
        let parameters = [
            ("ListenerPorts", ""),
            ("UntrustedRequests", "reject"),
            ("CrossZone", "enforce"),
            ("MaxDbtEndpoints", "100"),
            ("FollowHostnames", "replace"),
            ("FollowTargetGroups", &followed.arn),
        ];
        let stack = GuardStack::deploy(&aws, "guard", &[&guarded.service], &parameters)?;
        let queue = subscribe_queue(&aws, &stack)?;
        let path = PathItem::new(&stack, &guarded.service)?;
        Ok(Self { aws, guarded, other, followed, untrusted, queue, path })
    }

    fn mailbox(&self) -> Mailbox<'_> {
        Mailbox::from_the_start(&self.aws)
    }

    /// The set-up has an instance in one zone of two, a prefix list, a certificate, a hostname and the listener rules
    /// of a dual-stack load balancer: their checks need further calls.
    fn reports_a_zone_without_a_healthy_target(&self) -> Result<()> {
        self.guarded.add_https(&self.aws)?;
        self.guarded.switch_to_tls(&self.aws, 443, 300)?;
        self.guarded.set_ip_address_type(&self.aws, "dualstack")?;
        self.guarded.tag_target_group(&self.aws, "add-tags", "Key=privatelink-guard:hostname,Value=172.31.0.10")?;
        self.mailbox().wait("[INFO]", "no healthy target in eu-central-1b (web)")?;
        Ok(())
    }

    fn revokes_the_untrusted_connection(&self) -> Result<()> {
        let endpoint = &self.untrusted[0];
        self.guarded.wait_for_state(&self.aws, endpoint, "rejected")?;
        let words = format!("untrusted account {UNTRUSTED} is CONNECTED");
        self.mailbox().wait("[RESOLVED]", &words)?;
        Ok(())
    }

    fn leaves_other_services_alone(&self) -> Result<()> {
        let state = self.other.state(&self.aws, &self.untrusted[1])?;
        ensure!(state == "available", "the guard is not deployed for this service, and its connection is {state}");
        Ok(())
    }

    fn restores_a_target_group_that_overrides_the_load_balancer(&self) -> Result<()> {
        self.guarded.set_group_attribute(&self.aws, "load_balancing.cross_zone.enabled", "false")?;
        self.mailbox().wait("[RESOLVED]", "(target group's setting)")?;
        Ok(())
    }

    fn restores_the_load_balancer(&self) -> Result<()> {
        self.guarded.set_cross_zone(&self.aws, false)?;
        let describe = describe_attributes(&self.guarded.load_balancer);
        eventually("cross-zone to be on again", || {
            Ok(is_cross_zone_on(&self.guarded.administer(&self.aws, &describe)?).then_some(()))
        })
    }

    fn accepts_dbt(&self) -> Result<()> {
        let dbt = self.guarded.dbt_connects(&self.aws)?;
        self.mailbox().wait("[NOTICE]", &format!("dbt is connected through {dbt}"))?;
        Ok(())
    }

    /// Without a stored path, target-follower reads what health-watcher reads.
    fn follows_a_hostname(&self) -> Result<()> {
        let tag = format!("Key=privatelink-guard:hostname,Value={WANTED}");
        self.guarded
            .change(&self.aws, &format!("elbv2 add-tags --resource-arns {} --tags {tag}", self.followed.arn))?;
        self.mailbox().wait("[NOTICE]", &format!("registering {WANTED}:5432 in followed"))?;
        self.mailbox().wait("[NOTICE]", &format!("deregistering {}:5432 from followed", TARGETS[0]))?;
        let health = format!("elbv2 describe-target-health --target-group-arn {}", self.followed.arn);
        eventually("the hostname's address to be the only target in use", || {
            let answer = self.guarded.administer(&self.aws, &health)?;
            let rows = list(&answer["TargetHealthDescriptions"]);
            let in_use = rows.filter(|row| row["TargetHealth"]["State"] != "draining");
            Ok((in_use.map(|row| &row["Target"]["Id"]).collect::<Vec<_>>() == [WANTED]).then_some(()))
        })?;
        eventually("target-follower to have read what health-watcher reads", || {
            self.path.remove(&self.aws)?;
            let read = |function| -> Result<BTreeSet<String>> {
                let called = api_calls::called(&self.aws, function)?.into_iter();
                Ok(called.filter(|action| action.contains(":Describe")).collect())
            };
            let (follower, health) = (read(GuardFunction::TargetFollower)?, read(GuardFunction::HealthWatcher)?);
            Ok(follower.is_superset(&health).then_some(()))
        })
    }

    /// It may ask more than once, if drift-watcher stores the path again in the meantime.
    fn asks_for_a_name_that_is_not_stored(&self) -> Result<()> {
        eventually("EC2 to be asked for the service's name", || {
            self.path.remove(&self.aws)?;
            let another = self.guarded.dbt_connects(&self.aws)?;
            self.mailbox().wait("[NOTICE]", &format!("connected through {another}"))?;
            let action = "ec2:DescribeVpcEndpointServiceConfigurations";
            let asked = api_calls::count(&self.aws, GuardFunction::ConnectionAcceptor, action)?;
            Ok((asked > 0).then_some(()))
        })
    }

    fn asks_when_dbt_last_connected(&self) -> Result<()> {
        eventually("CloudWatch to be asked", || {
            let asked = api_calls::count(&self.aws, GuardFunction::DriftWatcher, "cloudwatch:GetMetricData")?;
            Ok((asked > 0).then_some(()))
        })
    }

    fn runs_each_function_on_its_schedule(&self) -> Result<()> {
        eventually("every function to have run on its schedule", || {
            let runs = self.aws.invocations()?;
            let succeeded = runs.iter().filter(|run| run["trigger"] == "schedule" && run["ok"] == true);
            let functions: BTreeSet<_> = succeeded.filter_map(|run| run["function"].as_str()).collect();
            Ok((functions.len() == GuardFunction::ALL.len()).then_some(()))
        })
    }

    fn sends_programs_what_the_schema_describes(&self) -> Result<()> {
        let messages = eventually("messages in the queue", || {
            let receive = format!("sqs receive-message --queue-url {} --max-number-of-messages 10", self.queue);
            let answer = self.aws.aws(&Caller::root(COMPANY), &receive)?;
            Ok(answer["Messages"].as_array().cloned())
        })?;
        messages.iter().try_for_each(|message| validate(&text(message, "/Body")?))
    }

    /// The local AWS denies calls that a role does not allow. So every call made is allowed, and the role may allow no
    /// more.
    fn allows_exactly_what_was_called(&self, function: GuardFunction) -> Result<()> {
        let called: BTreeSet<_> = api_calls::called(&self.aws, function)?.into_iter().collect();
        let mut allowed = api_calls::allowed(&self.aws, "guard", function)?;
        // Lambda makes these calls with the function's role, for its log and for events that failed every retry.
        for action in ["logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"] {
            assert!(allowed.remove(action), "{function:?} allows Lambda {action}");
        }
        // A permission without a call: EC2 checks it in addition, for a service with several Regions.
        let multi_region = allowed.remove("vpce:AllowMultiRegion");
        assert_eq!(multi_region, function == GuardFunction::ConnectionAcceptor, "{function:?}");
        assert_eq!(called, allowed, "{function:?}: called, and allowed");
        Ok(())
    }
}

/// Allows every account as the administrator and accepts the untrusted one. Returns the endpoint.
fn accept_untrusted(aws: &LocalAws, company: &Company) -> Result<String> {
    company.allow_every_account(aws)?;
    let endpoint = company.connect_from(aws, UNTRUSTED, REGION)?;
    company.accept(aws, &endpoint)?;
    Ok(endpoint)
}

/// Subscribes a queue to the alerts, as a program would. Returns the queue's URL.
fn subscribe_queue(aws: &LocalAws, stack: &GuardStack) -> Result<String> {
    let root = Caller::root(COMPANY);
    let topic = stack.output("AlertTopicArn")?;
    let arn = format!("arn:aws:sqs:{REGION}:{COMPANY}:alerts");
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }]});
    let attributes = json!({"Policy": policy.to_string()});
    let queue = aws.aws(&root, &format!("sqs create-queue --queue-name alerts --attributes '{attributes}'"))?;
    let subscribe = format!("sns subscribe --topic-arn {topic} --protocol sqs --notification-endpoint {arn}");
    aws.aws(&root, &format!("{subscribe} --attributes RawMessageDelivery=true"))?;
    text(&queue, "/QueueUrl")
}

/// Validates a message against the schema in the documentation.
fn validate(message: &str) -> Result<()> {
    let script = "import json, sys, jsonschema\n\
                  schema = json.load(open('docs/alert.schema.json'))\n\
                  jsonschema.Draft202012Validator(schema).validate(json.loads(sys.argv[1]))";
    let python = top().join(".tools/aws/bin/python");
    let output = Command::new(python).args(["-c", script, message]).current_dir(top()).output()?;
    ensure!(output.status.success(), "{message}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
