//! `make demo`: the guard's story on a local AWS, as it happens, and then everything the guard said.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use flows::inbox;
use flows::local_aws::top;
use flows::mail::{self, Mail};
use flows::story::{Audience, Chapter, MINUTE, Stage};
use flows::{COMPANY, DBT, REGION, STRANGER};

fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    match play(keep) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("\nNot everything went as it should: see above.");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nThe demo broke off: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(keep: bool) -> Result<bool> {
    let mut terminal = Terminal { began: Instant::now() };
    println!("privatelink-guard on a local AWS. Schedules run fast: a minute lasts {MINUTE} seconds.\n");
    let mut stage = Stage::set(&mut terminal)?;
    let chapters = stage.play(&mut terminal)?;
    show_mail(&stage)?;
    let inbox = top().join("target/local-aws/inbox.html");
    std::fs::write(&inbox, inbox::page(&mail::since(&stage.aws, 0)?))?;
    let fine = show_table(&chapters);
    println!("\nThe same as a page, for the browser: {}", inbox.display());
    if keep {
        stage.aws.keep = true;
        show_commands(&stage);
    }
    Ok(fine)
}

/// Shows the story as it happens.
struct Terminal {
    began: Instant,
}

impl Terminal {
    fn line(&self, text: &str) {
        println!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f32());
        let _ = std::io::stdout().flush();
    }
}

impl Audience for Terminal {
    fn step(&mut self, what: &str, commands: &[String]) {
        self.line(what);
        for command in commands {
            println!("          $ {command}");
        }
    }

    fn heard(&mut self, mail: &Mail, after: Duration) {
        self.line(&format!("guard, after {:.1} s: {}", after.as_secs_f32(), mail.subject));
    }

    fn ended(&mut self, chapter: &Chapter) {
        match &chapter.result {
            Ok(_) => self.line(&format!("ok: {}: {}\n", chapter.title, chapter.expected)),
            Err(error) => self.line(&format!("NOT OK: {}: {error:#}\n", chapter.title)),
        }
    }
}

fn show_mail(stage: &Stage) -> Result<()> {
    let delivered = mail::since(&stage.aws, 0)?;
    for (protocol, title) in [("email", "Every email the guard sent"), ("https", "The same in Slack")] {
        println!("{}\n{title}\n{}\n", "=".repeat(80), "=".repeat(80));
        for mail in delivered.iter().filter(|mail| mail.protocol == protocol) {
            match protocol {
                "email" => println!("Subject: {}\n\n{}\n{}\n", mail.subject, mail.body.trim_end(), "-".repeat(80)),
                _ => println!("{}\n{}\n", mail::slack(&mail.body), "-".repeat(80)),
            }
        }
    }
    Ok(())
}

fn show_table(chapters: &[Chapter]) -> bool {
    println!("{}\nWhat was expected, and what happened\n{}\n", "=".repeat(80), "=".repeat(80));
    for chapter in chapters {
        let (sign, happened) = match &chapter.result {
            Ok(_) => ("ok    ", "so it was".to_owned()),
            Err(error) => ("NOT OK", format!("{error:#}")),
        };
        println!(
            "{sign}  {}\n        expected: {}\n        happened: {happened}, in {:.1} s",
            chapter.title,
            chapter.expected,
            chapter.took.as_secs_f32()
        );
    }
    chapters.iter().all(|chapter| chapter.result.is_ok())
}

fn show_commands(stage: &Stage) {
    let company = &stage.company;
    println!(
        "
The local AWS and the guard go on running, as process {pid}. To end them:
  kill {pid}

In another terminal, paste this first:
  cd {top}
  export PATH=$PWD/.tools/aws/bin:$PATH PYTHONPATH=$PWD/tests/local-aws
  export AWS_ENDPOINT_URL={endpoint}
  export AWS_DEFAULT_REGION={REGION} AWS_SECRET_ACCESS_KEY=test AWS_PAGER=
  export SERVICE={service}
  export NAME={name}
  export LB={load_balancer}
  export TG={target_group}
  ask() {{ aws ec2 create-vpc-endpoint --vpc-endpoint-type Interface --service-name $NAME \\
    --vpc-id $(aws ec2 describe-vpcs --query 'Vpcs[0].VpcId' --output text); }}

Be dbt, and ask again (an account's id is its access key here). Accepted at once; a notice:
  AWS_ACCESS_KEY_ID={DBT} ask

Be a stranger, and ask. It stays in pendingAcceptance; if this account's alert fires already, in silence:
  AWS_ACCESS_KEY_ID={STRANGER} ask

Be the administrator, and see who is connected:
  export AWS_ACCESS_KEY_ID={COMPANY}
  aws ec2 describe-vpc-endpoint-connections --filters Name=service-id,Values=$SERVICE

Turn cross-zone off. It is back on at once, since the story ended with CrossZone=enforce; a warning says so:
  aws elbv2 modify-load-balancer-attributes --load-balancer-arn $LB \\
    --attributes Key=load_balancing.cross_zone.enabled,Value=false

Let a target fail, and mend it (--state healthy). A warning after {wait} seconds, and that it is over:
  python -m local_aws target-health --target-group $TG --target 172.31.0.10 \\
    --state unhealthy --reason Target.FailedHealthChecks

Read the last two emails:
  python -m local_aws mail --text --last 2",
        top = top().display(),
        wait = 2 * MINUTE,
        pid = stage.aws.pid(),
        endpoint = stage.aws.endpoint,
        name = company.service_name,
        service = company.service,
        load_balancer = company.load_balancer,
        target_group = company.target_group,
    );
}
