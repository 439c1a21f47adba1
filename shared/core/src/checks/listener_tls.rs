//! `listener.tls`: can dbt use the TLS listeners on its ports?
//!
//! Two settings break every connection of dbt although the targets are healthy and the certificate is valid: a listener
//! that demands a client certificate, and TLS in front of a protocol that negotiates TLS itself. `listener.certificate`
//! checks the certificates.

use std::collections::BTreeMap;

use crate::check::protocols::negotiating;
use crate::check::{CheckContext, CheckResult, Command, Finding, PartStatus, Parts, Remedy, Severity, Spec, Status};
use crate::snapshot::{Listener, LoadBalancer};

pub(crate) const SPEC: Spec = Spec {
    id: "listener.tls",
    in_short: "No TLS listener demands a client certificate, or is on a database's port.",
    severities: &[
        (Severity::Critical, "a listener demands a client certificate"),
        (Severity::Warning, "a TLS listener is on a port whose protocol negotiates TLS itself"),
    ],
    fails_when: "a TLS listener on dbt's ports demands a client certificate, or is on a port whose protocol negotiates TLS \
                 itself: 5432 (Postgres), 5439 (Redshift), 3306 (MySQL), 1433 (SQL Server)",
    failing_word: "unusable",
    impact: "dbt cannot connect on this port, although the targets are healthy and the certificate is valid.",
    cloudtrail_events: &["CreateListener", "ModifyListener"],
    parts: Parts::Ports,
    evaluate,
    ..Spec::USUAL
};

fn evaluate(context: CheckContext<'_>) -> Vec<CheckResult> {
    context.per_listeners(&SPEC, |load_balancer, listeners| judge(load_balancer, listeners, context))
}

fn judge(load_balancer: &LoadBalancer, listeners: &[Listener], context: CheckContext<'_>) -> Status {
    let ports = context.ports();
    let tls: Vec<&Listener> = listeners.iter().filter(|it| it.protocol == "TLS" && it.serves(&ports)).collect();
    let demanding = those(&tls, |it| it.mutual_authentication.as_deref() == Some("verify"));
    let negotiating = those(&tls, |it| negotiating(it.port).is_some());
    let statuses: BTreeMap<String, PartStatus> =
        tls.iter().filter_map(|listener| Some((Parts::port(listener.port), part(listener)?))).collect();
    let unknown = statuses.values().find_map(|status| match status {
        PartStatus::Unknown(why) => Some(why.clone()),
        PartStatus::Failing(_) => None,
    });
    let name = load_balancer.name();
    let (severity, summary, impact) = match (demanding.is_empty(), negotiating.is_empty(), unknown) {
        (true, true, Some(why)) => return Status::Unknown(why),
        (true, true, None) if tls.is_empty() => return Status::pass(format!("{name} leaves TLS to the targets")),
        (true, true, None) => return Status::pass(format!("TLS settings of {name} suit dbt on {}", on_ports(&tls))),
        (false, ..) => (
            Severity::Critical,
            format!("{name} demands a client certificate on {}", on_ports(&demanding)),
            "dbt presents no client certificate, so the load balancer refuses all its connections on this port.",
        ),
        (true, false, _) => (
            Severity::Warning,
            format!("TLS listener of {name} breaks {} on {}", protocols(&negotiating), on_ports(&negotiating)),
            "Connections of this protocol begin in clear text and switch to TLS later. The load balancer expects TLS at once, so \
             dbt's connections fail.",
        ),
    };
    let remedy = remedy(load_balancer, &demanding, &negotiating, context);
    let evidence = tls.iter().map(|listener| evidence(listener)).collect();
    let finding = Finding::new(severity, summary, impact, remedy).with_evidence(evidence);
    Status::fail(Finding { parts: statuses, ..finding }.stopping_dbt(!demanding.is_empty()))
}

fn those<'a>(listeners: &[&'a Listener], are_meant: impl Fn(&Listener) -> bool) -> Vec<&'a Listener> {
    listeners.iter().copied().filter(|listener| are_meant(listener)).collect()
}

/// The status of a TLS listener; `None` if dbt can use it. A Network Load Balancer either verifies client certificates
/// or requests none: any other mode is unknown.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/mutual-authentication.html>
fn part(listener: &Listener) -> Option<PartStatus> {
    match (listener.mutual_authentication.as_deref(), negotiating(listener.port)) {
        (Some("verify"), _) => Some(PartStatus::Failing(Severity::Critical)),
        (_, Some(_)) => Some(PartStatus::Failing(Severity::Warning)),
        (None | Some("off"), None) => None,
        (Some(mode), None) => {
            Some(PartStatus::Unknown(format!("client certificates of listener {listener}: the mode is '{mode}'")))
        }
    }
}

fn evidence(listener: &Listener) -> String {
    let mode = listener.mutual_authentication.as_deref().unwrap_or("off");
    let client = negotiating(listener.port).map(|protocol| format!("; {protocol} negotiates TLS itself"));
    format!("listener {listener}: client certificates '{mode}'{}", client.unwrap_or_default())
}

/// `port 443`, `ports 443, 8443`.
pub(super) fn on_ports(listeners: &[&Listener]) -> String {
    let ports: Vec<String> = listeners.iter().map(|listener| listener.port.to_string()).collect();
    format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, ports.join(", "))
}

fn protocols(listeners: &[&Listener]) -> String {
    listeners.iter().filter_map(|listener| negotiating(listener.port)).collect::<Vec<_>>().join(", ")
}

/// Client certificates come first, TCP second: a listener can need both changes.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_ModifyListener.html>
fn remedy(
    load_balancer: &LoadBalancer,
    demanding: &[&Listener],
    negotiating: &[&Listener],
    context: CheckContext<'_>,
) -> Remedy {
    let region = context.region;
    let demand_none = |listener: &&Listener| {
        Command::new("elbv2 modify-listener", region)
            .option("listener-arn", &listener.arn)
            .option("mutual-authentication", "Mode=off")
    };
    let leave_tls = |listener: &&Listener| {
        Command::new("elbv2 modify-listener", region).option("listener-arn", &listener.arn).option("protocol", "TCP")
    };
    let off = demanding.iter().map(demand_none).reduce(Command::then);
    let tcp = negotiating.iter().map(leave_tls).reduce(Command::then);
    let [first, second] = if off.is_some() && tcp.is_some() { ["first ", "second "] } else { [""; 2] };
    let to_off = format!(
        "First check who else uses this listener: the {first}command lets every client in without a certificate. If others must \
         present one, leave it, and give dbt a listener on another port."
    );
    let to_tcp = format!(
        "If this port really serves that protocol, make it a TCP listener with the {second}command. Before that, \
         switch TLS on in the database, or dbt may connect unencrypted. AWS refuses this while the target group's \
         protocol is TLS: see the runbook."
    );
    let actions: Vec<String> =
        [off.is_some().then_some(to_off), tcp.is_some().then_some(to_tcp)].into_iter().flatten().collect();
    let command = [off, tcp].into_iter().flatten().reduce(Command::next_line);
    Remedy::new(&actions.join(" "), command, context.region.load_balancer(&load_balancer.arn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        endpoint_service, failure, listener, load_balancer, only_status, settings, target_group, topology, with_policy,
    };

    /// The status of a load balancer with these listeners (protocol, port, mode) and these ports of dbt.
    fn status(ports: &str, listeners: &[(&str, u16, Option<&str>)]) -> Status {
        let of = |(protocol, port, mode): &(&str, u16, Option<&str>)| Listener {
            mutual_authentication: mode.map(ToOwned::to_owned),
            ..listener(protocol, *port, &target_group("pg"))
        };
        let listeners = Ok(listeners.iter().map(of).collect());
        let balancer = LoadBalancer { listeners, ..load_balancer("pg", vec![target_group("pg")]) };
        let policy = settings(&[("LISTENER_PORTS", ports)]).policy;
        with_policy(&topology(endpoint_service(), [balancer]), &policy, |context| only_status(evaluate(context)))
    }

    const VERIFY: Option<&str> = Some("verify");

    #[test]
    fn a_tls_listener_must_suit_dbt_and_the_ports_protocol() {
        let outcome = |ports: &str, listeners: &[(&str, u16, Option<&str>)]| {
            failure(status(ports, listeners)).map(|finding| (finding.severity, finding.summary, finding.stops_dbt))
        };
        let critical = |text: &str| Some((Severity::Critical, text.to_owned(), true));
        let warning = |text: &str| Some((Severity::Warning, text.to_owned(), false));
        assert_eq!(outcome("", &[("TLS", 443, None), ("TLS", 8443, Some("off")), ("TCP", 5432, None)]), None);
        let demands = critical("pg demands a client certificate on port 443");
        assert_eq!(outcome("", &[("TLS", 443, VERIFY), ("TLS", 8443, None)]), demands);
        assert_eq!(outcome("8443", &[("TLS", 443, VERIFY), ("TLS", 8443, None)]), None, "not on dbt's ports");
        for (port, protocol) in crate::check::protocols::NEGOTIATE_TLS {
            let breaks = format!("TLS listener of pg breaks {protocol} on port {port}");
            assert_eq!(outcome("", &[("TLS", port, Some("off"))]), warning(&breaks));
            assert_eq!(outcome("443", &[("TLS", port, None), ("TLS", 443, None)]), None, "not on dbt's ports");
        }
        let several = warning("TLS listener of pg breaks Postgres, MySQL on ports 5432, 3306");
        assert_eq!(outcome("", &[("TLS", 5432, None), ("TLS", 3306, None)]), several);
        let both = critical("pg demands a client certificate on ports 5432, 443");
        assert_eq!(outcome("", &[("TLS", 5432, VERIFY), ("TLS", 443, VERIFY)]), both);
    }

    #[test]
    fn the_commands_let_dbt_in() {
        let commands = |listeners: &[(&str, u16, Option<&str>)]| -> Vec<String> {
            let command = failure(status("", listeners)).unwrap().remedy.command.unwrap();
            let arn = listener("TLS", 0, &target_group("pg")).arn;
            let start =
                format!("aws elbv2 modify-listener --region eu-central-1 --listener-arn {}", &arn[..arn.len() - 1]);
            command.lines().map(|line| line.replace(&start, "")).collect()
        };
        assert_eq!(commands(&[("TLS", 443, VERIFY)]), ["443 --mutual-authentication Mode=off"]);
        let two = commands(&[("TLS", 5432, None), ("TLS", 1433, None), ("TLS", 443, None)]);
        assert_eq!(two, ["5432 --protocol TCP && 1433 --protocol TCP"]);
        let both = commands(&[("TLS", 5432, VERIFY)]);
        assert_eq!(both, ["5432 --mutual-authentication Mode=off", "5432 --protocol TCP"]);
    }

    #[test]
    fn an_unknown_client_certificate_mode_does_not_pass() {
        let new = ("TLS", 443, Some("passthrough"));
        let Status::Unknown(why) = status("", &[new]) else { panic!("it may refuse dbt") };
        assert_eq!(why, "client certificates of listener TLS 443: the mode is 'passthrough'");
        let finding = failure(status("", &[new, ("TLS", 8443, VERIFY)])).unwrap();
        assert_eq!(finding.parts.get("port 443"), Some(&PartStatus::Unknown(why)));
        assert_eq!(finding.parts.get("port 8443"), Some(&PartStatus::Failing(Severity::Critical)));
    }
}
