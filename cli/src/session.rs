//! The user's AWS session: credentials, Region and account.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region as AwsRegion, SdkConfig};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use guard_aws::errors::call_error;
use guard_core::check::Region;
use guard_core::snapshot::{CallError, ErrorKind};

use crate::args::AwsArgs;
use crate::profile::Profile;

/// A session with the user's own credentials.
#[derive(Debug)]
pub struct Session {
    /// The clients' configuration.
    pub config: SdkConfig,
    /// The Region by its name.
    pub region: String,
}

/// The user's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: String,
    /// The ARN of the user or role.
    pub arn: String,
}

impl Session {
    /// Finds credentials and Region as the AWS CLI does: flags, environment variables, profiles, SSO. A profile named
    /// with `--profile` overrides credentials in the environment.
    ///
    /// # Errors
    /// If no Region is set, or if the named profile gives no credentials.
    pub async fn open(aws: &AwsArgs) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(10))
            .operation_timeout(Duration::from_secs(30))
            .build();
        let defaults = aws_config::defaults(BehaviorVersion::v2026_01_12());
        let mut loader = defaults.http_client(guard_aws::http::client()).timeout_config(timeouts);
        let profile = match &aws.profile {
            Some(name) => Some(Profile::find(name).await?),
            None => None,
        };
        if let Some(name) = &aws.profile {
            loader = loader.profile_name(name);
        }
        if let Some(region) = &aws.region {
            loader = loader.region(AwsRegion::new(region.clone()));
        }
        let mut config = loader.load().await;
        let region = config
            .region()
            .map(ToString::to_string)
            .context("No Region is set. Give --region, or set AWS_REGION, or a region in the profile.")?;
        if let Some(profile) = profile {
            config = config.to_builder().credentials_provider(profile.sign_in(&config).await?).build();
        }
        Ok(Self { config, region })
    }

    /// Reads the user's identity from AWS.
    pub async fn identity(&self) -> Result<Identity> {
        let answer = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await;
        let answer = answer.map_err(|error| anyhow!(why("sts:GetCallerIdentity", &error)))?;
        let (account, arn) = answer.account().zip(answer.arn()).context("AWS did not say who you are.")?;
        Ok(Identity { account: account.to_owned(), arn: arn.to_owned() })
    }

    /// The Region for commands and console links, with the partition of the user's ARN.
    pub fn region_of(&self, identity: Option<&Identity>) -> Region {
        let partition = identity.and_then(|identity| identity.arn.split(':').nth(1)).unwrap_or("aws");
        Region::new(partition, &self.region)
    }
}

/// The reason for a failed call and its fix, in one sentence.
pub fn why<E>(call: &'static str, error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    explained(&call_error(call, error))
}

/// Error codes for expired or invalid credentials.
const NOT_VALID: [&str; 5] =
    ["ExpiredToken", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure"];

/// A failed call and its fix, in one sentence.
pub fn explained(error: &CallError) -> String {
    let (call, reason) = (error.call, error.reason());
    match &error.kind {
        ErrorKind::Refused(_) if error.is_denied() => format!(
            "You lack the permission {call}. `privatelink-guard policy` prints the policy that this command needs. ({reason})"
        ),
        ErrorKind::Refused(code) if NOT_VALID.contains(&code.as_str()) => format!(
            "AWS does not accept these credentials: sign in again. Or is this Region not enabled in the account? ({reason})"
        ),
        ErrorKind::NoCredentials => format!(
            "No AWS credentials were found. Give --profile, sign in with `aws sso login`, or set AWS_ACCESS_KEY_ID. ({})",
            reason.lines().next().unwrap_or_default()
        ),
        ErrorKind::NoAnswer => {
            format!("AWS cannot be reached. Is there a network, and is the Region right? ({call}: {reason})")
        }
        ErrorKind::Refused(_) | ErrorKind::Malformed | ErrorKind::GivenUp => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do() {
        let sentence = |kind, message: &str| explained(&CallError::new("ec2:DescribeSubnets", kind, message));
        let refused = |code: &str| ErrorKind::Refused(code.to_owned());
        assert!(sentence(refused("UnauthorizedOperation"), "no").contains("permission ec2:DescribeSubnets"));
        assert!(sentence(refused("ExpiredToken"), "it has expired").contains("sign in again"));
        assert!(sentence(ErrorKind::NoCredentials, "no credentials found in chain").contains("--profile"));
        assert!(sentence(ErrorKind::NoAnswer, "io error").contains("cannot be reached"));
        assert_eq!(sentence(refused("InternalError"), "x"), "ec2:DescribeSubnets failed: InternalError: x");
    }
}
