//! The plan of a run, printed before the run begins.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};

use anyhow::{Result, ensure};

use super::account::Account;
use super::stacks::Names;
use super::teardown::{Accounts, Left};
use crate::stage::Party;

/// The resources, their cost, and the duration. docs/verify.md has the sources of the prices.
pub fn text(accounts: &Accounts, names: &Names, earlier: &[Names], has_trail: bool) -> String {
    let mut text = "make verify creates this, plays the story of the demo with it, and removes it again, also after a \
                    failure or Ctrl-C:\n"
        .to_owned();
    for (party, account) in accounts {
        let Account { id, profile, region, caller, .. } = account;
        let _ = write!(text, "\n  account {id} (profile {profile}, {region}), as {caller}\n");
        match party {
            Party::Provider => {
                let _ = writeln!(
                    text,
                    "    {}: a VPC, an internal Network Load Balancer, an internal Application Load Balancer as its\n      \
                     target, an endpoint service, two queues, a topic, a bucket\n    {}: the guard",
                    names.service(),
                    names.guard()
                );
            }
            Party::Consumer => {
                let _ = writeln!(text, "    {}: a VPC; and an endpoint, as dbt's", names.consumer());
            }
            Party::Untrusted => {
                let _ = writeln!(text, "    {}: a VPC; and an endpoint, as an untrusted account's", names.consumer());
            }
        }
    }
    let _ = write!(
        text,
        "\nEverything has the tag privatelink-guard-verify={}, and nothing without it is touched.\nCost: about 0.20 USD in \
         us-east-1, below one dollar anywhere, for up to two hours (load balancers, endpoints).\nTime on AWS: about an \
         hour. It ends by itself, and writes a report.\n",
        names.run
    );
    if !accounts.contains_key(&Party::Untrusted) {
        text.push_str(
            "Skipped: an untrusted account's request. STRANGER_PROFILE names the profile of a third account.\n",
        );
    }
    if !has_trail {
        text.push_str(
            "Skipped: who made a change. No trail records management events in this Region, so CloudTrail's events do not \
             reach EventBridge.\n",
        );
    }
    if accounts.values().any(Account::is_local) {
        text.push_str("This is a local AWS. It proves nothing about AWS itself.\n");
    }
    for run in earlier {
        let _ = writeln!(text, "An earlier run, {}, left something in these accounts. It is removed first.", run.run);
    }
    text
}

/// Asks the user once for consent.
pub fn agreed() -> Result<bool> {
    let stdin = std::io::stdin();
    ensure!(stdin.is_terminal(), "there is nobody to answer. With YES=1 nothing is asked: make verify YES=1 PROFILE=…");
    print!("Create it? [y/N]: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Prints the leftovers and the commands that remove them.
pub fn print_left(left: &[Left]) {
    if left.is_empty() {
        println!("\nNothing is left.\n");
        return;
    }
    println!("\nThis is left, with the command that removes it:");
    for Left { what, command } in left {
        println!("  {what}\n    {command}");
    }
    println!();
}
