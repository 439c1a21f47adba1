//! `policy`: the least IAM policy for this command, and for each role of the guard.

pub mod roles;
mod template;

use guard_aws::observe;
use serde_json::{Value, json};

use crate::args::PolicyArgs;
use crate::{alarm_topics, status, trace};

/// The policy document for this command. `region` only decides the partition of the ARNs.
pub fn document(arguments: &PolicyArgs, region: Option<&str>) -> Value {
    let partition = partition(region);
    let mut reads: Vec<&str> = observe::ACTIONS
        .into_iter()
        .chain(trace::ACTIONS)
        .chain([alarm_topics::ACTION, status::read::ACTION, "sts:GetCallerIdentity"])
        // For a stack that is not there: whether it was deleted, or is in another Region.
        .chain(["cloudformation:ListStacks", "ec2:DescribeRegions"])
        .collect();
    reads.sort_unstable();
    reads.dedup();
    let stack = &arguments.stack;
    let table = |sid: &str, actions: &[&str]| {
        let table = format!("arn:{partition}:dynamodb:*:*:table/{stack}-StateTable-*");
        json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": table})
    };
    let mut statements = vec![
        json!({"Sid": "Check", "Effect": "Allow", "Action": reads, "Resource": "*"}),
        json!({
            "Sid": "Settings",
            "Effect": "Allow",
            "Action": "cloudformation:DescribeStacks",
            "Resource": format!("arn:{partition}:cloudformation:*:*:stack/{stack}/*"),
        }),
        table("State", &["dynamodb:Query"]),
    ];
    if arguments.silence {
        statements.push(table("Silence", &["dynamodb:DeleteItem", "dynamodb:PutItem"]));
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The partition of a Region, by its name.
fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}
