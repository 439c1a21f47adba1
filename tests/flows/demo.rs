//! The demo's story as a test.

use anyhow::{Result, ensure};
use story::demo::Demo;
use story::mail::{Mail, Mailbox};
use story::terminal::Terminal;
use story::{recording, top};

/// What subjects say about the database's failover: of target-follower's notices, and of the checks on the hostname and
/// on zones, as the database is in one zone at a time.
const ABOUT_THE_DATABASE: [&str; 3] = ["registering ", "its hostname's addresses", "healthy target in"];

#[test]
fn the_demo_ends_as_expected_with_one_email_for_each_change() -> Result<()> {
    let terminal = Terminal::default();
    let mut demo = Demo::set_up(&terminal)?;
    for chapter in demo.run(&terminal)? {
        chapter.into_result()?;
    }
    let picture = std::fs::read_to_string(top().join("docs/images/demo.txt"))?;
    let excerpt = recording::excerpt(&terminal.transcript());
    ensure!(recording::is_current(&picture, &excerpt), "run `make pictures`: the demo prints now\n{excerpt}");
    let delivered = Mailbox::from_the_start(&demo.aws).messages()?;
    // AWS sets the endpoint up in its own time, so the end of the wait and dbt's connection are one message or two.
    let over = |mail: &Mail| mail.subject.starts_with("[RESOLVED]") && mail.subject.contains("dbt has an endpoint");
    // A scheduled run can be faster than CloudTrail. Then the author of the change is a notice of its own.
    let late = |mail: &Mail| mail.subject.starts_with("[NOTICE]") && mail.subject.contains("cause found: ");
    let (database, delivered): (Vec<Mail>, Vec<Mail>) = delivered
        .into_iter()
        .filter(|mail| !over(mail) && !late(mail))
        .partition(|mail| ABOUT_THE_DATABASE.iter().any(|words| mail.subject.contains(words)));
    // health-watcher's schedule runs twenty times as fast here, but the follower's waits do not: people may hear of the
    // difference in between, which on AWS is over before an alert is due.
    let notices = database.iter().filter(|mail| mail.protocol == "email" && mail.subject.starts_with("[NOTICE]"));
    let notices: Vec<_> = notices.filter_map(|mail| mail.subject.split(' ').nth(2)).collect();
    assert_eq!(notices, ["registering", "deregistering"], "{database:#?}");
    let subjects = |protocol: &str| -> Vec<&str> {
        delivered.iter().filter(|mail| mail.protocol == protocol).map(|mail| mail.subject.as_str()).collect()
    };
    let labels: Vec<_> = subjects("email").iter().filter_map(|subject| subject.split(' ').next()).collect();
    #[rustfmt::skip]
    assert_eq!(labels, [
        "[INFO]", "[NOTICE]", "[WARNING]", "[RESOLVED]", "[CRITICAL]", "[WARNING]", "[WARNING]", "[RESOLVED]", "[WARNING]", "[RESOLVED]",
        "[CRITICAL]", "[RESOLVED]", "[CRITICAL]", "[RESOLVED]", "[WARNING]", "[RESOLVED]", "[WARNING]",
    ]);
    assert_eq!(subjects("email"), subjects("https"), "email and Slack");
    Ok(())
}
