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
        let dry_run = if stack.dry_run { "; DryRun: it only reports and accepts nobody" } else { "" };
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
            let _ = writeln!(
                self.text,
                "    $ privatelink-guard silence remove --region {} --stack {} {}",
                status.region, status.stack.name, silence.id
            );
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
            None => "CloudWatch has no connection of dbt's".to_owned(),
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
        let _ = writeln!(self.text, "\n{}", strong(title));
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
            "; {} pending{}: nobody has followed the link in the email of AWS yet, so alerts do not arrive there",
            pending.len(),
            with(pending)
        ),
    };
    format!("{}{}{pending}", count(confirmed.len(), "confirmed subscription"), with(confirmed))
}
