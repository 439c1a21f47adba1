//! The settings of `make verify`: variables, as in `make verify PROFILE=provider CONSUMER_PROFILE=another-account`.

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifySettings {
    /// The AWS CLI's profile of the account that gets the service and the guard.
    pub provider: String,
    /// The profile of the account that plays dbt.
    pub consumer: String,
    /// The profile of the untrusted account, if there is one.
    pub untrusted: Option<String>,
    /// The Region; by default, that of the first profile.
    pub region: Option<String>,
    /// The folder or the address of a release; without it, the run builds the functions.
    pub prebuilt: Option<String>,
    /// Runs without a question.
    pub yes: bool,
    /// Only removes the leftovers of earlier runs.
    pub only_clean: bool,
    /// The folder for the report.
    pub report: PathBuf,
}

impl VerifySettings {
    /// Reads the settings by name.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let given = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (provider, consumer, untrusted) = (given("PROFILE"), given("CONSUMER_PROFILE"), given("STRANGER_PROFILE"));
        let (Some(provider), Some(consumer)) = (provider, consumer) else {
            anyhow::bail!(
                "two accounts are needed: the one that shares a service, and one that plays dbt. Name the AWS CLI's \
                 profiles of both:\n    make verify PROFILE=provider CONSUMER_PROFILE=another-account"
            );
        };
        ensure!(
            provider != consumer && untrusted.as_ref().is_none_or(|third| *third != provider && *third != consumer),
            "PROFILE, CONSUMER_PROFILE and STRANGER_PROFILE must be profiles of different accounts"
        );
        Ok(Self {
            provider,
            consumer,
            untrusted,
            region: given("REGION"),
            prebuilt: given("PREBUILT"),
            yes: given("YES").is_some(),
            only_clean: given("CLEAN").is_some(),
            report: given("REPORT").unwrap_or_else(|| "verify-report".to_owned()).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<VerifySettings> {
        let find = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        VerifySettings::read(find)
    }

    #[test]
    fn two_profiles_are_enough() {
        let settings = read(&[("PROFILE", "a"), ("CONSUMER_PROFILE", "b"), ("STRANGER_PROFILE", " ")]).unwrap();
        assert_eq!((settings.untrusted, settings.yes, settings.report), (None, false, "verify-report".into()));
    }

    #[test]
    fn one_profile_is_not_enough() {
        let error = read(&[("PROFILE", "a")]).unwrap_err().to_string();
        assert!(error.contains("make verify PROFILE=provider CONSUMER_PROFILE=another-account"), "{error}");
    }

    #[test]
    fn no_profile_plays_two_parts() {
        let all = |third| read(&[("PROFILE", "a"), ("CONSUMER_PROFILE", "b"), ("STRANGER_PROFILE", third)]);
        assert!(read(&[("PROFILE", "a"), ("CONSUMER_PROFILE", "a")]).is_err());
        assert!(all("a").is_err() && all("b").is_err() && all("c").is_ok());
    }
}
