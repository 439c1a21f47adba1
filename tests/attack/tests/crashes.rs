//! Killed at every call.
use std::sync::{Arc, Mutex};

use attack::{Aws, FUNCTIONS, Instance, World, play};
use guard_aws::testing::scheduled;

#[test]
fn a_company_where_everything_is_right_hears_nothing_but_that_dbt_is_connected() {
    let aws: Aws = Arc::new(Mutex::new(World::new(2)));
    play(async {
        for round in 0..3 {
            for name in FUNCTIONS {
                let end = Instance::new(name, &aws, &[]).run(&format!("{name}-{round}"), &scheduled()).await;
                println!("{name} {end:?}");
            }
        }
    });
    let world = aws.lock().unwrap();
    for p in &world.published { println!("{p:?}"); }
    println!("{}", world.calls.len());
}
