//! A company's database, whose address changes when it fails over, and the target group with that address.

use anyhow::Result;
use serde_json::json;

use crate::company::Company;
use crate::local_aws::{LocalAws, eventually, text};

/// A database of the company's in RDS.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its hostname.
    pub hostname: String,
    /// The command that fails it over.
    pub fail_over: String,
    /// The name of an Aurora cluster's readers.
    pub readers: Option<String>,
}

impl Database {
    /// Creates a Multi-AZ DB instance.
    pub fn multi_az(company: &Company, aws: &LocalAws, name: &str) -> Result<Self> {
        let run = |line: &str| company.administer(aws, line);
        let place = format!("--multi-az --vpc-security-group-ids {}", company.servers);
        let settings = "--engine postgres --db-instance-class db.m6g.large --allocated-storage 20";
        run(&format!("rds create-db-instance --db-instance-identifier {name} {settings} {place}"))?;
        let found = run(&format!("rds describe-db-instances --db-instance-identifier {name}"))?;
        Ok(Self {
            hostname: text(&found, "/DBInstances/0/Endpoint/Address")?,
            fail_over: format!("rds reboot-db-instance --db-instance-identifier {name} --force-failover"),
            readers: None,
        })
    }

    /// Creates an Aurora cluster with a writer and two readers.
    pub fn aurora(company: &Company, aws: &LocalAws, name: &str) -> Result<Self> {
        let run = |line: &str| company.administer(aws, line);
        let engine = "--engine aurora-postgresql";
        let groups = format!("--vpc-security-group-ids {}", company.servers);
        run(&format!("rds create-db-cluster --db-cluster-identifier {name} {engine} {groups}"))?;
        for number in 1..=3 {
            let instance = format!("--db-instance-identifier {name}-{number} --db-instance-class db.r6g.large");
            run(&format!("rds create-db-instance {instance} --db-cluster-identifier {name} {engine}"))?;
        }
        let found = run(&format!("rds describe-db-clusters --db-cluster-identifier {name}"))?;
        Ok(Self {
            hostname: text(&found, "/DBClusters/0/Endpoint")?,
            fail_over: format!("rds failover-db-cluster --db-cluster-identifier {name}"),
            readers: Some(text(&found, "/DBClusters/0/ReaderEndpoint")?),
        })
    }

    /// Fails it over, and waits until its name has another address. Returns that address.
    pub fn fails_over(&self, company: &Company, aws: &LocalAws) -> Result<Vec<String>> {
        let before = aws.resolve(&self.hostname)?;
        company.change(aws, &self.fail_over)?;
        eventually(&format!("{} to have another address", self.hostname), || {
            Ok(Some(aws.resolve(&self.hostname)?).filter(|now| *now != before))
        })
    }
}

/// A target group whose targets are the addresses of a hostname.
#[derive(Debug, Clone)]
pub struct NamedGroup {
    /// Its ARN.
    pub arn: String,
    /// The hostname in its tag.
    pub hostname: String,
    /// Its targets at first.
    pub first: Vec<String>,
}

impl NamedGroup {
    /// Creates the group with the addresses that the hostname has now.
    pub fn set_up(company: &Company, aws: &LocalAws, name: &str, hostname: &str) -> Result<Self> {
        let arn = company.create_target_group(aws, name)?;
        let tag = format!("Key=privatelink-guard:hostname,Value={hostname}");
        company.change(aws, &format!("elbv2 add-tags --resource-arns {arn} --tags {tag}"))?;
        let group = Self { arn, hostname: hostname.to_owned(), first: aws.resolve(hostname)? };
        group.change(company, aws, "register", &group.first)?;
        Ok(group)
    }

    /// Registers or deregisters (`change`) targets as the administrator.
    pub fn change(&self, company: &Company, aws: &LocalAws, change: &str, addresses: &[String]) -> Result<()> {
        let targets: Vec<String> = addresses.iter().map(|address| format!("Id={address}")).collect();
        let targets = format!("--target-group-arn {} --targets {}", self.arn, targets.join(" "));
        company.change(aws, &format!("elbv2 {change}-targets {targets}"))
    }

    /// Sets the health of a target.
    pub fn set_health(&self, aws: &LocalAws, address: &str, state: &str) -> Result<()> {
        let health = json!({"target_group": self.arn, "target": address, "state": state});
        aws.control("target-health", &health).map(drop)
    }
}
