//! The topic for alerts: an existing one in another Region.

use anyhow::{Result, ensure};
use story::COMPANY;
use story::local_aws::{Caller, LocalAws, text};
use story::stack::{EMAIL, GuardStack};

use crate::environment::{FlowEnvironment, with_environment};

/// A Region other than the stack's.
const ELSEWHERE: &str = "us-east-1";

#[test]
fn alerts_go_to_an_existing_topic_in_another_region() -> Result<()> {
    with_environment(|environment, mailbox| {
        let FlowEnvironment { aws, gitlab, .. } = environment;
        let topic = create_topic(aws)?;
        let none = ["AlertEmail", "SlackWorkspaceId", "SlackChannelId"].map(|parameter| (parameter, ""));
        let parameters: Vec<(&str, &str)> = none.into_iter().chain([("AlertTopicArn", topic.as_str())]).collect();
        let stack = GuardStack::deploy(aws, "central", &[&gitlab.service], &parameters)?;
        ensure!(stack.output("AlertTopicArn")? == topic, "the output names the existing topic");
        let statements = stack.output("AlertTopicStatements")?;
        ensure!(statements.contains(&topic) && !statements.contains("cloudwatch.amazonaws.com"), "{statements}");

        aws.run_in_shell(&Caller::root(COMPANY), stack.output("TestMessage")?)?;
        let emails = mailbox.emails()?;
        ensure!(emails.len() == 4, "one test message of each kind: {emails:#?}");
        ensure!(emails.iter().all(|mail| mail.body.contains("stack central")), "{emails:#?}");

        aws.run_in_shell(&Caller::root(COMPANY), stack.output("LastMessage")?)?;
        mailbox.expect_once("[NOTICE]", "the guard is being removed")?;
        aws.aws(&Caller::root(COMPANY), "cloudformation delete-stack --stack-name central").map(drop)
    })
}

/// A topic with an email subscription.
fn create_topic(aws: &LocalAws) -> Result<String> {
    let root = Caller::root(COMPANY);
    let created = aws.aws(&root, &format!("sns create-topic --name central-alerts --region {ELSEWHERE}"))?;
    let topic = text(&created, "/TopicArn")?;
    let subscribe = format!("sns subscribe --region {ELSEWHERE} --topic-arn {topic} --protocol email");
    aws.aws(&root, &format!("{subscribe} --notification-endpoint {EMAIL}"))?;
    Ok(topic)
}
