//! The credentials of a named profile: keys, a role, a process or SSO, with the AWS CLI's rules.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use aws_config::SdkConfig;
use aws_config::credential_process::CredentialProcessProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_types::os_shim_internal::{Env, Fs};

/// The longest reason for a failed sign-in.
const MAX_REASON: usize = 300;

/// The profile files; the SDK has the type's new name only in an internal crate.
#[expect(deprecated, reason = "the new name is in a crate that is the SDK's own")]
type Files = aws_config::profile::profile_file::ProfileFiles;

/// A named profile of the AWS CLI.
#[derive(Debug)]
pub struct Profile<'a> {
    name: &'a str,
    /// Whether it, or a profile that it gets its credentials from, asks for the code of an MFA device.
    needs_code: bool,
}

impl<'a> Profile<'a> {
    /// Finds the profile. The error tells how to list the profiles.
    ///
    /// # Errors
    /// If there is no profile with this name, or if the profile files cannot be read.
    pub async fn find(name: &'a str) -> Result<Self> {
        let profiles = aws_config::profile::load(&Fs::real(), &Env::real(), &Files::default(), None).await;
        let profiles = profiles.context("the profiles of the AWS CLI cannot be read")?;
        let exists = profiles.get_profile(name).is_some();
        ensure!(exists, "There is no profile {name}. List the profiles with `aws configure list-profiles`.");
        let setting = |profile: &str, key: &str| profiles.get_profile(profile)?.get(key);
        let mut sources = vec![name];
        let next = |sources: &[&str]| sources.last().and_then(|last| setting(last, "source_profile"));
        // A profile can name itself as its source.
        while let Some(source) = next(&sources).filter(|source| !sources.contains(source)) {
            sources.push(source);
        }
        let needs_code = sources.iter().any(|source| setting(source, "mfa_serial").is_some());
        Ok(Self { name, needs_code })
    }

    /// Signs in, with the HTTP client, Region and timeouts of `config`.
    ///
    /// # Errors
    /// If the profile gives no credentials, in one sentence.
    pub async fn sign_in(&self, config: &SdkConfig) -> Result<SharedCredentialsProvider> {
        let name = self.name;
        let profile = if self.needs_code { self.by_the_cli()? } else { self.by_the_sdk(config) };
        let first = profile.provide_credentials().await.map_err(|error| {
            // The AWS CLI's usage is long.
            let why: String = causes(&anyhow::Error::from(error)).chars().take(MAX_REASON).collect();
            let sign_in = match self.needs_code {
                true => format!("The AWS CLI, version 2, asks for its MFA code: `{}`.", self.export_command()),
                false => format!("With SSO, sign in with `aws sso login --profile {name}`."),
            };
            anyhow!("The profile {name} gives no credentials. {sign_in} ({why})")
        })?;
        Ok(SharedCredentialsProvider::new(SignedIn { profile, first: Mutex::new(Some(first)) }))
    }

    fn by_the_sdk(&self, config: &SdkConfig) -> SharedCredentialsProvider {
        let mut settings = ProviderConfig::without_region()
            .with_region(config.region().cloned())
            .with_use_fips(config.use_fips())
            .with_use_dual_stack(config.use_dual_stack());
        if let Some(client) = config.http_client() {
            settings = settings.with_http_client(client);
        }
        if let Some(timeouts) = config.timeout_config() {
            settings = settings.with_timeout_config(timeouts.clone());
        }
        let profile = ProfileFileCredentialsProvider::builder().profile_name(self.name).configure(&settings).build();
        SharedCredentialsProvider::new(profile)
    }

    /// The SDK asks nobody for a code. The AWS CLI does, on the terminal, and remembers the session.
    /// <https://docs.aws.amazon.com/cli/latest/reference/configure/export-credentials.html>
    fn by_the_cli(&self) -> Result<SharedCredentialsProvider> {
        let name = self.name;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
        ensure!(
            name.chars().all(is_plain) && !name.starts_with('-'),
            "The profile {name} needs an MFA code. This command can ask the AWS CLI for it only if the profile's name \
             consists of letters, digits and . _ @ + -."
        );
        Ok(SharedCredentialsProvider::new(CredentialProcessProvider::new(self.export_command())))
    }

    fn export_command(&self) -> String {
        format!("aws configure export-credentials --format process --profile {}", self.name)
    }
}

/// The error and its causes in one line, each once.
fn causes(error: &anyhow::Error) -> String {
    let mut texts: Vec<String> = error.chain().map(|cause| cause.to_string().trim().replace('\n', " ")).collect();
    texts.dedup();
    texts.join(": ")
}

/// The credentials of one sign-in, then fresh ones from the profile. This way, a process
/// that asks for a code asks only once.
#[derive(Debug)]
struct SignedIn {
    profile: SharedCredentialsProvider,
    first: Mutex<Option<Credentials>>,
}

impl ProvideCredentials for SignedIn {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(first) => future::ProvideCredentials::ready(Ok(first)),
            None => self.profile.provide_credentials(),
        }
    }
}
