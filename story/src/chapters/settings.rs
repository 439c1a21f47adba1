//! Chapters on changed settings.

use anyhow::Result;
use serde_json::Value;

use super::{Chapter, ChapterRun};
use crate::local_aws::text;
use crate::stage::Party;

/// Cross-zone load balancing is switched off, and on again.
pub const CROSS_ZONE: Chapter = Chapter {
    title: "somebody switches cross-zone load balancing off",
    expected: "an alert that names who did it; resolved when it is on again",
    play: |run| {
        set_cross_zone(run, "network-admin switches it off", false)?;
        run.wait_for("WARNING", CROSS_ZONE_CHECK, "")?;
        run.wait_for_cause(CROSS_ZONE_CHECK)?;
        set_cross_zone(run, "network-admin switches it on again", true)?;
        run.wait_for("RESOLVED", CROSS_ZONE_CHECK, "").map(drop)
    },
};

/// The check on cross-zone load balancing.
pub const CROSS_ZONE_CHECK: &str = "load-balancer.cross-zone";

/// dbt's rule is removed from the security group.
pub const REMOVED_RULE: Chapter = Chapter {
    title: "somebody removes dbt from the load balancer's security group",
    expected: "a critical alert that names who did it, with the command that fixes it",
    play: removed_rule,
};

/// The listener is deleted.
pub const DELETED_LISTENER: Chapter = Chapter {
    title: "somebody deletes the listener that dbt connects to",
    expected: "a critical alert that names the port, and the command finds the same; resolved when it is back",
    play: deleted_listener,
};

/// Acceptance is no longer required.
pub const ACCEPTANCE: Chapter = Chapter {
    title: "somebody lets the service accept every request",
    expected: "a critical alert; resolved when acceptance is required again",
    play: acceptance,
};

/// Switches cross-zone load balancing.
pub fn set_cross_zone(run: &mut ChapterRun<'_>, what: &str, on: bool) -> Result<()> {
    let attribute = format!("Key=load_balancing.cross_zone.enabled,Value={on}");
    let load_balancer = &run.scene.load_balancer;
    #[rustfmt::skip]
    let command = ["elbv2", "modify-load-balancer-attributes", "--load-balancer-arn", load_balancer,
        "--attributes", &attribute];
    run.act(Party::Provider, what, &command).map(drop)
}

fn removed_rule(run: &mut ChapterRun<'_>) -> Result<()> {
    const CHECK: &str = "load-balancer.security-groups";
    #[rustfmt::skip]
    let revoke = ["ec2", "revoke-security-group-ingress", "--group-id", &run.scene.security_group,
        "--protocol", "tcp", "--port", "5432", "--cidr", run.scene.cidr];
    run.act(Party::Provider, "network-admin removes the rule", &revoke)?;
    let alert = run.wait_for("CRITICAL", CHECK, "security group blocks dbt")?;
    run.wait_for_cause(CHECK)?;
    run.run_remedy(&alert)?;
    run.wait_for("RESOLVED", CHECK, "").map(drop)
}

fn deleted_listener(run: &mut ChapterRun<'_>) -> Result<()> {
    const CHECK: &str = "listener.port";
    run.check("before that, network-admin checks the whole path", "✓ pass  listener.port")?;
    let listener = &run.scene.listener;
    run.act(Party::Provider, "network-admin deletes it", &["elbv2", "delete-listener", "--listener-arn", listener])?;
    run.wait_for("CRITICAL", CHECK, "does not listen for dbt on port 5432")?;
    run.check("network-admin checks again", "✗ fail, critical  listener.port")?;
    let actions = format!("Type=forward,TargetGroupArn={}", run.scene.target_group);
    #[rustfmt::skip]
    let create = ["elbv2", "create-listener", "--load-balancer-arn", &run.scene.load_balancer, "--protocol", "TCP",
        "--port", "5432", "--default-actions", &actions];
    text(&run.act(Party::Provider, "network-admin creates it again", &create)?, "/Listeners/0/ListenerArn")?;
    run.wait_for("RESOLVED", CHECK, "").map(drop)
}

fn acceptance(run: &mut ChapterRun<'_>) -> Result<()> {
    const CHECK: &str = "service.acceptance-required";
    let service = &run.scene.service;
    let change = |option| ["ec2", "modify-vpc-endpoint-service-configuration", "--service-id", service, option];
    run.act(Party::Provider, "network-admin switches acceptance off", &change("--no-acceptance-required"))?;
    run.wait_for("CRITICAL", CHECK, "")?;
    run.act(Party::Provider, "network-admin requires it again", &change("--acceptance-required"))?;
    run.wait_for("RESOLVED", CHECK, "").map(drop)
}

/// Whether the load balancer's cross-zone attribute is on.
pub fn is_cross_zone_on(run: &mut ChapterRun<'_>) -> Result<bool> {
    let load_balancer = &run.scene.load_balancer;
    let command = ["elbv2", "describe-load-balancer-attributes", "--load-balancer-arn", load_balancer];
    let answer = run.ask(Party::Provider, &command)?;
    let is_on =
        |attribute: &Value| attribute["Key"] == "load_balancing.cross_zone.enabled" && attribute["Value"] == "true";
    Ok(answer["Attributes"].as_array().is_some_and(|attributes| attributes.iter().any(is_on)))
}
