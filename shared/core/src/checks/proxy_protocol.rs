//! `target-group.proxy-protocol`: does the load balancer send a header before dbt's bytes that the targets do not
//! expect?

use crate::check::{CheckContext, CheckResult, Command, Finding, Remedy, Severity, Spec, Status};
use crate::snapshot::{PROXY_PROTOCOL_TAG, TargetGroup, Unread, known};

pub(crate) const SPEC: Spec = Spec {
    id: "target-group.proxy-protocol",
    in_short: "Proxy Protocol v2 is off, or a tag says that it is expected.",
    severities: &[(Severity::Warning, "always")],
    fails_when: "Proxy Protocol v2 is on for a target group that gets dbt's traffic, and no tag \
                 `privatelink-guard:proxy-protocol=expected` says that the targets parse its header",
    failing_word: "on",
    impact: "Postgres, Redshift, SSH and plain TLS servers mistake the header for a broken request and close every dbt \
             connection, while the TCP health check passes.",
    cloudtrail_events: &["AddTags", "ModifyTargetGroupAttributes", "RemoveTags"],
    evaluate,
    ..Spec::USUAL
};

const EXPECTED: &str = "expected";

/// One result per target group.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#proxy-protocol>
fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_target_group(&SPEC, |_, group| judge(group, context).unwrap_or_else(Status::from))
}

fn judge(group: &TargetGroup, context: CheckContext<'_>) -> Result<Status, Unread> {
    if !known(group.attributes.as_ref())?.proxy_protocol {
        return Ok(Status::pass(format!("Proxy Protocol is off for {}", group.name())));
    }
    let tag = group.own_tags.as_ref()?.get(PROXY_PROTOCOL_TAG);
    if tag.is_some_and(|tag| tag.trim().eq_ignore_ascii_case(EXPECTED)) {
        return Ok(Status::pass(format!("tag of {}: its targets expect Proxy Protocol", group.name())));
    }
    let other_tag = tag.map(|tag| format!("the tag {PROXY_PROTOCOL_TAG} is '{tag}', not '{EXPECTED}'"));
    let attributes = "proxy_protocol_v2.enabled = true".to_owned();
    Ok(Status::fail(
        Finding::new(
            Severity::Warning,
            format!("Proxy Protocol v2 is on for {}: may break dbt", group.name()),
            "Unless the targets parse this header, every dbt connection breaks, although the targets look healthy.",
            remedy(group, context),
        )
        .with_evidence([attributes].into_iter().chain(other_tag).collect()),
    ))
}

fn remedy(group: &TargetGroup, context: CheckContext<'_>) -> Remedy {
    let off = Command::new("elbv2 modify-target-group-attributes", context.region)
        .option("target-group-arn", &group.arn)
        .literal("--attributes Key=proxy_protocol_v2.enabled,Value=false");
    let tag = Command::new("elbv2 add-tags", context.region)
        .option("resource-arns", &group.arn)
        .option("tags", format!("Key={PROXY_PROTOCOL_TAG},Value={EXPECTED}"));
    Remedy::new(
        "Run only one command. If dbt's traffic goes straight to Postgres or another server that does not parse the \
         header, run the first: it switches the header off. If a proxy (HAProxy, NGINX, Envoy) expects it, that would \
         break every connection: run the second, which tags the group and ends this alert.",
        Some(off.next_line(tag)),
        context.region.target_group(&group.arn),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{CrossZoneOverride, Observed, TargetGroupAttributes};
    use crate::testing::{
        call_error, endpoint_service, failure, group_attributes, load_balancer, only_status, target_group, topology,
        with_context,
    };

    fn judged(attributes: Option<Observed<TargetGroupAttributes>>, tag: Observed<Option<&str>>) -> Status {
        let own_tags =
            tag.map(|tag| tag.map(|tag| (PROXY_PROTOCOL_TAG.to_owned(), tag.to_owned())).into_iter().collect());
        let group = TargetGroup { own_tags, attributes, ..target_group("pg") };
        only_status(with_context(&topology(endpoint_service(), [load_balancer("pg", vec![group])]), evaluate))
    }

    fn with(proxy_protocol: bool) -> TargetGroupAttributes {
        let attributes = group_attributes(CrossZoneOverride::LoadBalancer).unwrap().unwrap();
        TargetGroupAttributes { proxy_protocol, ..attributes }
    }

    #[test]
    fn proxy_protocol_fails_unless_a_tag_marks_it_as_expected() {
        assert!(matches!(judged(Some(Ok(with(false))), Ok(None)), Status::Pass(_)));
        for expected in ["expected", "Expected "] {
            assert!(matches!(judged(Some(Ok(with(true))), Ok(Some(expected))), Status::Pass(_)), "{expected}");
        }
        for tag in [None, Some("yes")] {
            let finding = failure(judged(Some(Ok(with(true))), Ok(tag))).unwrap();
            assert_eq!(
                (finding.severity, &*finding.summary),
                (Severity::Warning, "Proxy Protocol v2 is on for pg: may break dbt")
            );
            let commands = finding.remedy.command.unwrap();
            let lines: Vec<&str> = commands.lines().collect();
            assert!(lines[0].ends_with("Key=proxy_protocol_v2.enabled,Value=false"), "{commands}");
            assert!(lines[1].ends_with("Key=privatelink-guard:proxy-protocol,Value=expected"), "{commands}");
        }
    }

    #[test]
    fn unread_attributes_and_tags_are_unknown() {
        let denied = || call_error("elasticloadbalancing:DescribeTags");
        assert!(matches!(judged(Some(Err(denied())), Ok(None)), Status::Unknown(_)));
        assert!(matches!(judged(Some(Ok(with(true))), Err(denied())), Status::Unknown(_)), "the tag may be there");
        assert!(matches!(judged(Some(Ok(with(false))), Err(denied())), Status::Pass(_)), "no tag is needed");
        assert_eq!(judged(None, Ok(None)), Status::NotAsked);
    }
}
