//! `listener.idle-timeout`: do the TCP listeners on dbt's ports keep an idle connection as long as AWS's default?
//!
//! For the load balancer, a query without data flow is an idle connection, unless one side sends TCP keepalives. The
//! timeout of a TLS listener is fixed at the default.
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html>

use super::listener_tls::on_ports;
use crate::check::{CheckContext, CheckResult, Command, Finding, Parts, Remedy, Severity, Spec, Status};
use crate::snapshot::{Listener, LoadBalancer, Unread, known};

/// AWS's default, in seconds.
const DEFAULT: u32 = 350;

pub(crate) const SPEC: Spec = Spec {
    id: "listener.idle-timeout",
    in_short: "TCP listeners keep idle connections for at least 350 seconds.",
    severities: &[(Severity::Info, "the timeout is under 350 s")],
    fails_when: "a TCP listener on dbt's ports has an idle timeout below AWS's default of 350 seconds",
    failing_word: "short",
    impact: "A dbt query that sends and receives nothing for that long loses its connection, unless dbt or the server sends TCP \
             keepalives sooner.",
    cloudtrail_events: &["ModifyListenerAttributes"],
    parts: Parts::Ports,
    can_stop_dbt: false,
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_listeners(&SPEC, |load_balancer, listeners| judge(load_balancer, listeners, context))
}

fn judge(load_balancer: &LoadBalancer, listeners: &[Listener], context: CheckContext<'_>) -> Status {
    let (ports, name) = (context.ports(), load_balancer.name());
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for listener in listeners.iter().filter(|it| it.has_idle_timeout() && it.serves(&ports)) {
        match known(listener.idle_timeout.as_ref()) {
            Ok(Some(seconds)) => read.push((*seconds, listener)),
            Ok(None) => {
                unread
                    .push((listener, Unread::Unknown(format!("ELB reports no idle timeout for listener {listener}"))));
            }
            Err(why) => unread.push((listener, why)),
        }
    }
    let shortest = read.iter().map(|(seconds, _)| *seconds).min();
    read.retain(|(seconds, _)| *seconds < DEFAULT);
    let Some(seconds) = shortest.filter(|_| !read.is_empty()) else {
        return match (unread.pop(), shortest) {
            (Some((_, why)), _) => why.into(),
            (None, None) => Status::pass(format!("{name} has no TCP listener for dbt")),
            (None, Some(seconds)) => {
                Status::pass(format!("idle timeout of {name} is {seconds} s: long queries need keepalives"))
            }
        };
    };
    let short: Vec<&Listener> = read.iter().map(|(_, listener)| *listener).collect();
    let evidence = read.iter().map(|(seconds, listener)| format!("listener {listener}: idle timeout {seconds} s"));
    let unknown = unread.into_iter().filter_map(|(listener, why)| match why {
        Unread::Unknown(why) => Some((Parts::port(listener.port), why)),
        Unread::NotAsked => None,
    });
    let summary = format!("{name} drops connections idle for {seconds} s on {}", on_ports(&short));
    Status::fail(
        Finding::new(Severity::Info, summary, SPEC.impact, remedy(load_balancer, &short, context))
            .with_evidence(evidence.collect())
            .with_parts(short.iter().map(|listener| Parts::port(listener.port)))
            .with_unknown_parts(unknown),
    )
}

/// <https://docs.getdbt.com/docs/core/connect-data-platform/postgres-setup>
fn remedy(load_balancer: &LoadBalancer, short: &[&Listener], context: CheckContext<'_>) -> Remedy {
    let default = |listener: &&Listener| {
        Command::new("elbv2 modify-listener-attributes", context.region)
            .option("listener-arn", &listener.arn)
            .option("attributes", format!("Key=tcp.idle_timeout.seconds,Value={DEFAULT}"))
    };
    Remedy::new(
        "The command sets AWS's default again. If the short timeout is intended, make dbt send TCP keepalives sooner: for Postgres, \
         keepalives_idle in the extended attributes of dbt's environment. You get this alert once.",
        short.iter().map(default).reduce(Command::then),
        context.region.load_balancer(&load_balancer.arn),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::PartStatus;
    use crate::snapshot::Observed;
    use crate::testing::{
        call_error, endpoint_service, failure, listener, load_balancer, only_status, settings, target_group, topology,
        with_policy,
    };

    type Row<'a> = (&'a str, u16, Option<Observed<Option<u32>>>);

    /// The status of a load balancer with these listeners (protocol, port, idle timeout), if dbt uses ports 5432 and
    /// 443.
    fn status(listeners: Vec<Row<'_>>) -> Status {
        let of = |(protocol, port, idle_timeout): Row<'_>| Listener {
            idle_timeout,
            ..listener(protocol, port, &target_group("pg"))
        };
        let listeners = Ok(listeners.into_iter().map(of).collect());
        let balancer = LoadBalancer { listeners, ..load_balancer("pg", vec![target_group("pg")]) };
        let policy = settings(&[("LISTENER_PORTS", "5432+443")]).policy;
        with_policy(&topology(endpoint_service(), [balancer]), &policy, |context| only_status(evaluate(context)))
    }

    #[test]
    fn an_idle_timeout_below_awss_default_is_info() {
        let after = |seconds| Some(Ok(Some(seconds)));
        let pass = |listeners| match status(listeners) {
            Status::Pass(right) => right,
            other => panic!("{other:?}"),
        };
        let default = pass(vec![("TCP", 5432, after(350)), ("TCP", 443, after(6000)), ("TCP", 22, after(60))]);
        assert!(default == "idle timeout of pg is 350 s: long queries need keepalives", "{default}");
        assert_eq!(pass(vec![("TLS", 443, None)]), "pg has no TCP listener for dbt");
        let finding = failure(status(vec![("TCP", 443, after(349)), ("TCP", 5432, after(60)), ("TLS", 22, None)]));
        let finding = finding.unwrap();
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(finding.summary, "pg drops connections idle for 60 s on ports 443, 5432");
        let commands: Vec<String> = finding.remedy.command.unwrap().split(" && ").map(ToOwned::to_owned).collect();
        assert!(commands.len() == 2, "{commands:?}");
        for (command, port) in commands.iter().zip([443, 5432]) {
            let sets = format!("/{port} --attributes Key=tcp.idle_timeout.seconds,Value=350");
            assert!(
                command.starts_with("aws elbv2 modify-listener-attributes") && command.ends_with(&sets),
                "{command}"
            );
        }
    }

    #[test]
    fn an_unread_idle_timeout_is_unknown() {
        let after = |seconds| Some(Ok(Some(seconds)));
        let unread = || Some(Err(call_error("elasticloadbalancing:DescribeListenerAttributes")));
        assert!(matches!(status(vec![("TCP", 5432, unread()), ("TCP", 443, after(350))]), Status::Unknown(_)));
        assert_eq!(status(vec![("TCP", 5432, None)]), Status::NotAsked);
        assert!(matches!(status(vec![("TCP", 5432, Some(Ok(None)))]), Status::Unknown(_)), "ELB names none");
        let finding = failure(status(vec![("TCP", 5432, unread()), ("TCP", 443, after(60))])).unwrap();
        assert!(matches!(finding.parts.get("port 5432"), Some(PartStatus::Unknown(_))), "{finding:?}");
    }
}
