//! `make demo`: the story on a local AWS, printed as it happens, and then every message from the guard. For
//! `make pictures`, `--record FILE` keeps what the picture shows, unless the file already says the same.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use story::demo::{Demo, MINUTE};
use story::inbox;
use story::mail::{self, Mail, Mailbox};
use story::outcome::ChapterResult;
use story::recording;
use story::terminal::{Terminal, print_results};
use story::top;
use story::{COMPANY, DBT, REGION, UNTRUSTED};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let keep = arguments.iter().any(|argument| argument == "--keep");
    let record = arguments.iter().skip_while(|argument| *argument != "--record").nth(1);
    match run(keep, record.map(Path::new)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("\nNot everything ended as expected: see above.");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nThe demo stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(keep: bool, record: Option<&Path>) -> Result<bool> {
    let terminal = Terminal::default();
    println!("privatelink-guard on a local AWS. Schedules run fast: a minute lasts {MINUTE} seconds.\n");
    let mut demo = Demo::set_up(&terminal)?;
    let chapters = demo.run(&terminal)?;
    if let Some(file) = record {
        keep_recording(file, &recording::excerpt(&terminal.transcript()))?;
    }
    let delivered = Mailbox::from_the_start(&demo.aws).messages()?;
    print_mail(&delivered);
    let page = top().join("target/local-aws/inbox.html");
    std::fs::write(&page, inbox::page("What the guard sent", &inbox::published(&delivered)))?;
    print_results(&chapters);
    println!("\nEvery message as a page, for the browser: {}", page.display());
    println!("The last check as a page: {}", top().join("target/local-aws/check.html").display());
    if keep {
        demo.aws.keep_running()?;
        print_commands(&demo);
    }
    Ok(chapters.iter().all(ChapterResult::is_ok))
}

fn keep_recording(file: &Path, excerpt: &str) -> Result<()> {
    let recorded = std::fs::read_to_string(file).unwrap_or_default();
    if !recording::is_current(&recorded, excerpt) {
        std::fs::write(file, excerpt)?;
    }
    Ok(())
}

fn print_mail(delivered: &[Mail]) {
    for (protocol, title) in [("email", "Every email the guard sent"), ("https", "The same in Slack")] {
        println!("{}\n{title}\n{}\n", "=".repeat(80), "=".repeat(80));
        for mail in delivered.iter().filter(|mail| mail.protocol == protocol) {
            match protocol {
                "email" => println!("Subject: {}\n\n{}\n{}\n", mail.subject, mail.body.trim_end(), "-".repeat(80)),
                _ => println!("{}\n{}\n", mail::slack(&mail.body), "-".repeat(80)),
            }
        }
    }
}

fn print_commands(demo: &Demo) {
    let company = &demo.company;
    println!(
        "
The local AWS and the guard keep running, as process {pid}. To stop them:
  kill {pid}

In another terminal, paste this first:
  cd {top}
  export PATH=$PWD/.tools/aws/bin:$PATH PYTHONPATH=$PWD/local-aws AWS_CONFIG_FILE=$PWD/local-aws/aws-config
  export AWS_ENDPOINT_URL={endpoint}
  export AWS_DEFAULT_REGION={REGION} AWS_SECRET_ACCESS_KEY=test AWS_PAGER=
  export SERVICE={service}
  export NAME={name}
  export LB={load_balancer}
  export TG={target_group}
  connect() {{ aws ec2 create-vpc-endpoint --vpc-endpoint-type Interface --service-name $NAME \\
    --vpc-id $(aws ec2 describe-vpcs --query 'Vpcs[0].VpcId' --output text); }}

Request another connection as dbt (an account's id is its access key here). It is held, with a warning whose email has
the commands that accept and reject it, because MaxDbtEndpoints is 1:
  AWS_ACCESS_KEY_ID={DBT} connect

Request one as the untrusted account. It stays in pendingAcceptance; no email while this account's alert is firing:
  AWS_ACCESS_KEY_ID={UNTRUSTED} connect

Ask as the administrator: what the guard knows, what its checks say now; write the request for dbt Support:
  export AWS_ACCESS_KEY_ID={COMPANY}
  target/debug/privatelink-guard status --stack privatelink-guard
  target/debug/privatelink-guard check --stack privatelink-guard --html target/local-aws/check.html
  target/debug/privatelink-guard request --stack privatelink-guard --environment US

List the connections:
  aws ec2 describe-vpc-endpoint-connections --filters Name=service-id,Values=$SERVICE

Switch cross-zone off. The guard switches it back on at once (the story ended with CrossZone=enforce) and sends a warning:
  aws elbv2 modify-load-balancer-attributes --load-balancer-arn $LB \\
    --attributes Key=load_balancing.cross_zone.enabled,Value=false

Let a target fail, then recover (--state healthy). After {wait} seconds a warning, then an email that it is resolved:
  python -m local_aws target-health --target-group $TG --target 172.31.0.10 \\
    --state unhealthy --reason Target.FailedHealthChecks

Read the last two emails:
  python -m local_aws mail --text --last 2",
        top = top().display(),
        wait = 2 * MINUTE,
        pid = demo.aws.pid(),
        endpoint = demo.aws.endpoint(),
        name = company.service_name,
        service = company.service,
        load_balancer = company.load_balancer,
        target_group = company.target_group,
    );
}
