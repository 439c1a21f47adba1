//! Deregistered targets: the alert names the last ones, although every later read has replaced the stored path.

use attack::{Aws, End, FakeAws, play, run_once};

async fn run(aws: &Aws, function: &str, id: &str) {
    assert_eq!(run_once(function, aws, &[], id).await, End::Done);
}

#[test]
fn an_alert_on_an_empty_target_group_names_the_last_targets() {
    let aws = FakeAws::new(1).shared();
    play(async {
        run(&aws, "drift-watcher", "with targets").await;
        let no_targets = ("DescribeTargetHealth", "<TargetHealthDescriptions/>".to_owned());
        aws.lock().unwrap().results = [no_targets].into();
        for id in ["without", "without them still"] {
            run(&aws, "drift-watcher", id).await;
            run(&aws, "health-watcher", id).await;
        }
        let fake = aws.lock().unwrap();
        let mut alerts = fake.published.iter().filter(|sent| sent.check == "target-group.health");
        let action = &alerts.next().unwrap().action;
        assert!(action.contains("the command names those that were there last. They were there until"), "{action}");
        End::Done
    });
}
