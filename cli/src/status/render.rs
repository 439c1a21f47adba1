//! The guard's status for a terminal: one screen, in the order in which people ask. Each line says how old it is.

use std::fmt::Write;

use guard_core::text::{count, short_duration};
use jiff::{SignedDuration, Timestamp};

use super::known::{AlertStatus, EndpointStatus, FunctionState, FunctionStatus, GuardStatus, SubscriptionsStatus};
use crate::output::paragraph::fill;
use crate::output::{painted, strong};
use crate::report::CheckState;

/// The least width of a text in columns.
const MIN_TEXT: usize = 30;

/// The status in lines of at most `width` columns. Commands are never broken and may be longer.
pub fn render(status: &GuardStatus, width: usize) -> String {
    let now = status.asked_at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let mut screen = Screen { text: String::new(), width: width.max(MIN_TEXT), now };
    screen.head(status);
    screen.alerts(status);
    screen.silences(status);
    screen.endpoints(status);
    screen.functions(status);
    if let Some(subscriptions) = &status.subscriptions {
        screen.title("Who receives the alerts");
        screen.line(subscriptions.state(), &receivers(subscriptions));
    }
    if !status.unknown.is_empty() {
        screen.title("Unknown");
        for why in &status.unknown {
            screen.line(CheckState::Unknown, why);
        }
    }
    screen.text
}

struct Screen {
    text: String,
    width: usize,
    now: Timestamp,
}

impl Screen {
    fn head(&mut self, status: &GuardStatus) {
        let account = status.account_id.as_deref().unwrap_or("unknown");
        self.paragraph(&format!("account {account}, {}, {}", status.region, status.asked_at), "", "  ");
        let stack = &status.stack;
        let deployed = stack.deployed_at.as_deref().map(|at| format!(", deployed {}", self.ago(at)));
        let dry_run = if stack.dry_run { "; DryRun: it only reports, and accepts nothing" } else { "" };
        let deployed = deployed.unwrap_or_default();
        self.line(stack.state(), &format!("stack {} is {}{deployed}{dry_run}", stack.name, stack.status));
    }

    fn alerts(&mut self, status: &GuardStatus) {
        self.title(&format!("{} firing", count(status.alerts.len(), "alert")));
        for alert in &status.alerts {
            let name = alert.service_name.as_ref().or(alert.service_id.as_ref());
            let name = name.map_or("the guard", String::as_str);
            let silenced = if alert.silenced { ", silenced" } else { "" };
            let severity = alert.severity.as_str();
            self.line(alert.state(), &format!("{severity}{silenced}  {name}: {}", alert.summary));
            let details = self.details(alert);
            self.paragraph(&details, "    ", "    ");
        }
    }

    fn details(&self, alert: &AlertStatus) -> String {
        let AlertStatus { check, since, last_sent, incident, unknown, .. } = alert;
        let sent = match last_sent {
            Some(at) => format!("last sent {}", self.ago(at)),
            None => "not sent".to_owned(),
        };
        let unknown = unknown.as_ref().map(|why| format!("; unknown at present: {why}")).unwrap_or_default();
        format!("{check}, since {since} ({}); {sent}; incident {incident}{unknown}", self.ago(since))
    }

    fn silences(&mut self, status: &GuardStatus) {
        if status.silences.is_empty() {
            return;
        }
        self.title(&count(status.silences.len(), "silence"));
        for silence in &status.silences {
            let service = silence.service_id.as_deref().unwrap_or("the guard itself");
            let (until, by, why) = (&silence.until, &silence.by, &silence.comment);
            self.paragraph(&format!("{} until {until}, {service}, by {by}: {why}", silence.covers), "– ", "    ");
            if let Some(command) = &silence.end_command {
                let _ = writeln!(self.text, "    $ {command}");
            }
        }
    }

    fn endpoints(&mut self, status: &GuardStatus) {
        self.title("dbt's endpoints, as last seen");
        if status.endpoints.is_empty() {
            self.paragraph("none", "  ", "  ");
        }
        for endpoint in &status.endpoints {
            let EndpointStatus { endpoint_id, state, since, .. } = endpoint;
            let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
            let traffic = self.traffic(endpoint);
            let sign = match state.to_lowercase().as_str() {
                "available" => CheckState::Pass,
                "held" => CheckState::Warning,
                _ => CheckState::Unknown,
            };
            self.line(sign, &format!("{endpoint_id} of {}: {state}{since}{traffic}", endpoint.service_id));
        }
    }

    fn traffic(&self, endpoint: &EndpointStatus) -> String {
        let Some(asked) = &endpoint.traffic_asked_at else { return String::new() };
        let last = match &endpoint.last_connection {
            Some(at) => format!("dbt last connected {}", self.ago(at)),
            None => "CloudWatch shows no connection from dbt".to_owned(),
        };
        format!("; {last} (asked {})", self.ago(asked))
    }

    fn functions(&mut self, status: &GuardStatus) {
        self.title("Functions, by Lambda's metrics, some minutes old");
        for function in &status.functions {
            let FunctionStatus { function: name, schedule, last_run, runs, errors, .. } = function;
            let last = match (last_run, function.state) {
                (Some(at), _) => format!("last run {}", self.ago(at)),
                (None, FunctionState::Unknown) => "its runs are unknown".to_owned(),
                (None, _) => "no run in a day".to_owned(),
            };
            let silent = if function.state == FunctionState::Silent { "silent: " } else { "" };
            let runs =
                runs.map(|runs| format!("; {} in a day", count(usize::try_from(runs).unwrap_or(usize::MAX), "run")));
            let errors = errors.map(|errors| format!(", {errors} in error")).unwrap_or_default();
            let oldest = function.oldest_read_seconds.and_then(|seconds| i64::try_from(seconds).ok());
            let oldest = oldest.map(|seconds| short_duration(SignedDuration::from_secs(seconds)));
            let oldest = oldest.map(|age| format!("; services take turns, the oldest read is {age} old"));
            let (runs, oldest) = (runs.unwrap_or_default(), oldest.unwrap_or_default());
            self.line(
                function.state.state(),
                &format!("{name}: {silent}{last}; schedule {schedule}{runs}{errors}{oldest}"),
            );
        }
    }

    fn title(&mut self, title: &str) {
        for line in format!("\n{}", fill(title, self.width, "", "")).lines() {
            let _ = writeln!(self.text, "{}", if line.is_empty() { String::new() } else { strong(line) });
        }
    }

    /// A line with the sign of its state.
    fn line(&mut self, state: CheckState, text: &str) {
        let sign = format!("{} ", state.sign());
        let line = fill(text, self.width, &sign, "    ");
        let _ = writeln!(self.text, "{}", line.replacen(&sign, &(painted(state, &state.sign().to_string()) + " "), 1));
    }

    fn paragraph(&mut self, text: &str, first: &str, hanging: &str) {
        let _ = writeln!(self.text, "{}", fill(text, self.width, first, hanging));
    }

    /// `3 min ago`.
    fn ago(&self, time: &str) -> String {
        let at = time.parse().unwrap_or(self.now);
        format!("{} ago", short_duration(self.now.duration_since(at)))
    }
}

fn receivers(subscriptions: &SubscriptionsStatus) -> String {
    let SubscriptionsStatus { confirmed, pending, .. } = subscriptions;
    let with = |protocols: &[String]| match protocols.is_empty() {
        true => String::new(),
        false => format!(" ({})", protocols.join(", ")),
    };
    let pending = match pending.is_empty() {
        true => String::new(),
        false => format!(
            "; {} pending{}: nobody has followed the link in AWS's email yet, so alerts do not arrive there",
            pending.len(),
            with(pending)
        ),
    };
    format!("{}{}{pending}", count(confirmed.len(), "confirmed subscription"), with(confirmed))
}

#[cfg(test)]
mod tests {
    use guard_core::check::Severity;

    use super::*;
    use crate::status::known::{FunctionState, Runs, SCHEMA_VERSION, SilenceStatus, StackStatus};

    const SERVICE: &str = "vpce-svc-0123456789abcdef0";

    fn endpoint(number: u8, state: &str) -> EndpointStatus {
        EndpointStatus {
            service_id: SERVICE.to_owned(),
            endpoint_id: format!("vpce-{number:017}"),
            state: state.to_owned(),
            since: (state != "held").then(|| "2026-03-01T08:00:00Z".to_owned()),
            last_connection: (state != "held").then(|| "2026-03-14T08:55:00Z".to_owned()),
            traffic_asked_at: (state != "held").then(|| "2026-03-14T08:57:00Z".to_owned()),
        }
    }

    fn status() -> GuardStatus {
        let alert = |severity, check: &str, summary: &str| AlertStatus {
            service_id: Some(SERVICE.to_owned()),
            service_name: Some("postgres".to_owned()),
            check: check.to_owned(),
            resource: SERVICE.to_owned(),
            severity,
            summary: summary.to_owned(),
            since: "2026-03-14T05:48:00Z".to_owned(),
            last_sent: Some("2026-03-14T08:48:00Z".to_owned()),
            incident: format!("{SERVICE}-1773467280"),
            silenced: severity == Severity::Warning,
            unknown: None,
        };
        let now: Timestamp = "2026-03-14T09:00:00Z".parse().unwrap();
        let runs = |minutes: i64, errors| {
            Some(Runs {
                last: Some(now - SignedDuration::from_mins(minutes)),
                number: 288,
                errors,
                oldest_read_seconds: None,
            })
        };
        let function = |name: &str, runs| FunctionStatus::new(name, "rate(5 minutes)", runs, (None, now));
        GuardStatus {
            schema_version: SCHEMA_VERSION,
            account_id: Some("111122223333".to_owned()),
            region: "eu-central-1".to_owned(),
            asked_at: now.to_string(),
            stack: StackStatus {
                name: "privatelink-guard".to_owned(),
                status: "UPDATE_COMPLETE".to_owned(),
                deployed_at: Some("2026-02-12T09:00:00Z".to_owned()),
                dry_run: false,
            },
            alerts: vec![
                alert(Severity::Critical, "target-group.health", "0 of 3 targets healthy in postgres"),
                alert(Severity::Warning, "connection.dbt", "1 dbt request held: MaxDbtEndpoints allows 1"),
            ],
            silences: vec![SilenceStatus {
                id: "20260314T070000000".to_owned(),
                service_id: Some(SERVICE.to_owned()),
                covers: "connection.dbt".to_owned(),
                checks: vec!["connection.dbt".to_owned()],
                resources: Vec::new(),
                until: "2026-03-14T11:00:00Z".to_owned(),
                by: "arn:aws:iam::111122223333:user/ada".to_owned(),
                comment: "dbt Support is asked whose it is".to_owned(),
                end_command: Some("privatelink-guard silence remove --region eu-central-1 --stack privatelink-guard 20260314T070000000".to_owned()),
            }],
            endpoints: vec![endpoint(1, "available"), endpoint(2, "held")],
            functions: vec![
                function("connection-acceptor", runs(3, 0)),
                function("health-watcher", runs(40, 0)),
                function("drift-watcher", runs(1, 2)),
            ],
            subscriptions: Some(SubscriptionsStatus {
                topic_arn: "arn:aws:sns:eu-central-1:111122223333:alerts".to_owned(),
                confirmed: vec!["https".to_owned(), "email".to_owned()],
                pending: vec!["email".to_owned()],
            }),
            unknown: Vec::new(),
        }
    }

    #[test]
    fn the_screen_fits_eighty_columns() {
        let screen = anstream::adapter::strip_str(&render(&status(), 80)).to_string();
        insta::assert_snapshot!(screen, @r"
        account 111122223333, eu-central-1, 2026-03-14T09:00:00Z
        ✓ stack privatelink-guard is UPDATE_COMPLETE, deployed 30 d ago

        2 alerts firing
        ✗ critical  postgres: 0 of 3 targets healthy in postgres
            target-group.health, since 2026-03-14T05:48:00Z (3 h ago); last sent 12 min
            ago; incident vpce-svc-0123456789abcdef0-1773467280
        ✗ warning, silenced  postgres: 1 dbt request held: MaxDbtEndpoints allows 1
            connection.dbt, since 2026-03-14T05:48:00Z (3 h ago); last sent 12 min ago;
            incident vpce-svc-0123456789abcdef0-1773467280

        1 silence
        – connection.dbt until 2026-03-14T11:00:00Z, vpce-svc-0123456789abcdef0, by
            arn:aws:iam::111122223333:user/ada: dbt Support is asked whose it is
            $ privatelink-guard silence remove --region eu-central-1 --stack privatelink-guard 20260314T070000000

        dbt's endpoints, as last seen
        ✓ vpce-00000000000000001 of vpce-svc-0123456789abcdef0: available since
            2026-03-01T08:00:00Z; dbt last connected 5 min ago (asked 3 min ago)
        ✗ vpce-00000000000000002 of vpce-svc-0123456789abcdef0: held

        Functions, by Lambda's metrics, some minutes old
        ✓ connection-acceptor: last run 3 min ago; schedule rate(5 minutes); 288 runs in
            a day, 0 in error
        ✗ health-watcher: silent: last run 40 min ago; schedule rate(5 minutes); 288
            runs in a day, 0 in error
        ✗ drift-watcher: last run 1 min ago; schedule rate(5 minutes); 288 runs in a
            day, 2 in error

        Who receives the alerts
        ✗ 2 confirmed subscriptions (https, email); 1 pending (email): nobody has
            followed the link in AWS's email yet, so alerts do not arrive there
        ");
    }

    #[test]
    fn only_a_command_or_one_word_is_wider_than_the_terminal() {
        for width in 40..=200 {
            let screen = anstream::adapter::strip_str(&render(&status(), width)).to_string();
            let is_one_word = |line: &str| !line.trim().contains(' ');
            let mut lines = screen.lines().filter(|line| !line.contains("$ ") && !is_one_word(line));
            let wide = lines.find(|line| line.chars().count() > width);
            assert_eq!(wide, None, "{width}");
        }
    }

    #[test]
    fn the_exit_status_says_what_is_wrong() {
        let quiet = || {
            let alerts = Vec::new();
            let functions = status().functions.into_iter().take(1).collect();
            GuardStatus { alerts, functions, ..status() }
        };
        assert_eq!(status().exit_status(Severity::Warning), 1);
        assert_eq!(quiet().exit_status(Severity::Warning), 0, "a pending subscription is info");
        assert_eq!(quiet().exit_status(Severity::Info), 1);
        let unread = GuardStatus { unknown: vec!["the table".to_owned()], ..quiet() };
        assert_eq!(unread.exit_status(Severity::Warning), 2);
        let nobody = SubscriptionsStatus { topic_arn: String::new(), confirmed: Vec::new(), pending: Vec::new() };
        let unheard = GuardStatus { subscriptions: Some(nobody), ..quiet() };
        assert_eq!(unheard.exit_status(Severity::Critical), 1, "nobody hears the alerts");
    }

    #[test]
    fn a_function_is_silent_after_two_schedules_and_late_metrics() {
        let now: Timestamp = "2026-03-14T09:00:00Z".parse().unwrap();
        let ago = |minutes: i64| now - SignedDuration::from_mins(minutes);
        let state = |last: Option<i64>, errors, deployed: i64| {
            let runs = Runs { last: last.map(ago), number: 1, errors, oldest_read_seconds: None };
            FunctionStatus::new("drift-watcher", "rate(15 minutes)", Some(runs), (Some(ago(deployed)), now)).state
        };
        assert_eq!(state(Some(35), 0, 600), FunctionState::Runs);
        assert_eq!(state(Some(35), 1, 600), FunctionState::Errors);
        assert_eq!(state(Some(36), 0, 600), FunctionState::Silent);
        assert_eq!(state(None, 0, 600), FunctionState::Silent);
        assert_eq!(state(None, 0, 20), FunctionState::Unknown, "deployed a moment ago");
        let unread = FunctionStatus::new("drift-watcher", "rate(15 minutes)", None, (None, now));
        assert_eq!((unread.state, unread.runs), (FunctionState::Unknown, None));
    }
}
