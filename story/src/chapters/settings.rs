//! Chapters on changed settings.

use anyhow::Result;

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
    play: |run| {
        const CHECK: &str = "load-balancer.security-groups";
        let rule = format!("--protocol tcp --port 5432 --cidr {}", run.scene.cidr);
        let revoke = format!("ec2 revoke-security-group-ingress --group-id {} {rule}", run.scene.security_group);
        run.act(Party::Provider, "network-admin removes the rule", &revoke)?;
        let alert = run.wait_for("CRITICAL", CHECK, "security group blocks dbt")?;
        run.wait_for_cause(CHECK)?;
        run.run_remedy(&alert)?;
        run.wait_for("RESOLVED", CHECK, "").map(drop)
    },
};

/// The listener is deleted.
pub const DELETED_LISTENER: Chapter = Chapter {
    title: "somebody deletes the listener that dbt connects to",
    expected: "a critical alert that names the port, and the command finds the same; resolved when it is back",
    play: |run| {
        const CHECK: &str = "listener.port";
        run.check("before that, network-admin checks the whole path", "✓ pass  listener.port")?;
        let delete = format!("elbv2 delete-listener --listener-arn {}", run.scene.listener);
        run.act(Party::Provider, "network-admin deletes it", &delete)?;
        run.wait_for("CRITICAL", CHECK, "does not listen for dbt on port 5432")?;
        run.check("network-admin checks again", "✗ fail, critical  listener.port")?;
        let action = format!("--default-actions Type=forward,TargetGroupArn={}", run.scene.target_group);
        let create = format!("elbv2 create-listener --load-balancer-arn {}", run.scene.load_balancer);
        let create = format!("{create} --protocol TCP --port 5432 {action}");
        text(&run.act(Party::Provider, "network-admin creates it again", &create)?, "/Listeners/0/ListenerArn")?;
        run.wait_for("RESOLVED", CHECK, "").map(drop)
    },
};

/// Acceptance is no longer required.
pub const ACCEPTANCE: Chapter = Chapter {
    title: "somebody lets the service accept every request",
    expected: "a critical alert; resolved when acceptance is required again",
    play: |run| {
        const CHECK: &str = "service.acceptance-required";
        let modify = format!("ec2 modify-vpc-endpoint-service-configuration --service-id {}", run.scene.service);
        let off = format!("{modify} --no-acceptance-required");
        run.act(Party::Provider, "network-admin switches acceptance off", &off)?;
        run.wait_for("CRITICAL", CHECK, "")?;
        let on = format!("{modify} --acceptance-required");
        run.act(Party::Provider, "network-admin requires it again", &on)?;
        run.wait_for("RESOLVED", CHECK, "").map(drop)
    },
};

/// Switches cross-zone load balancing.
pub fn set_cross_zone(run: &mut ChapterRun<'_>, what: &str, on: bool) -> Result<()> {
    let modify = format!("elbv2 modify-load-balancer-attributes --load-balancer-arn {}", run.scene.load_balancer);
    let attribute = format!("Key=load_balancing.cross_zone.enabled,Value={on}");
    run.act(Party::Provider, what, &format!("{modify} --attributes {attribute}")).map(drop)
}
