//! AWS identifiers, validated when parsed: a value of one of these types is well-formed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The error for a text that is not the expected identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not {expected}")]
pub struct Malformed {
    found: String,
    expected: &'static str,
}

fn check(text: &str, expected: &'static str, well_formed: bool) -> Result<String, Malformed> {
    if well_formed { Ok(text.to_owned()) } else { Err(Malformed { found: text.to_owned(), expected }) }
}

/// AWS ids end in 8 (old) or 17 lower-case hex digits. Up to 40 are accepted, in case AWS introduces a longer format.
fn is_hex_suffix(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|hex| (8..=40).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $expected:literal, |$text:ident| $well_formed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as AWS writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str($text: &str) -> Result<Self, Malformed> {
                check($text, $expected, $well_formed).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// An AWS account id.
    AccountId, "a 12-digit AWS account id", |text| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
);
identifier!(
    /// An endpoint service: the provider's side of PrivateLink.
    ServiceId, "an endpoint service id (vpce-svc-0123456789abcdef0)", |text| is_hex_suffix(text, "vpce-svc-")
);
identifier!(
    /// An interface endpoint: the consumer's side of PrivateLink.
    EndpointId, "a VPC endpoint id (vpce-0123456789abcdef0)", |text| is_hex_suffix(text, "vpce-")
);
identifier!(
    /// An Amazon Resource Name: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
    Arn, "an ARN (arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE)", |text| {
        let mut parts = text.splitn(6, ':');
        parts.next() == Some("arn")
            && parts.next().is_some_and(|partition| partition.starts_with("aws"))
            && parts.next().is_some_and(|service| !service.is_empty())
            && parts.nth(2).is_some_and(|resource| !resource.is_empty())
            && !text.chars().any(|c| c.is_whitespace() || c.is_control())
    }
);

impl Arn {
    fn part(&self, index: usize) -> &str {
        // Parsing checked that there are six parts.
        self.0.splitn(6, ':').nth(index).unwrap_or("")
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub fn partition(&self) -> &str {
        self.part(1)
    }

    /// The service's namespace: `iam`, `sns`, `elasticloadbalancing`, …
    pub fn service(&self) -> &str {
        self.part(2)
    }

    /// The Region; empty for global resources such as IAM's.
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The account as written in the ARN; empty for some resources.
    pub fn account(&self) -> &str {
        self.part(4)
    }

    /// Everything after the account: `root`, `role/dbt`, `loadbalancer/net/pg/0123456789abcdef`, …
    pub fn resource(&self) -> &str {
        self.part(5)
    }

    /// The name that people gave a load balancer (also in the ARN of its listener) or a target group; for other
    /// resources, [`resource`](Self::resource).
    pub fn name(&self) -> &str {
        let mut parts = self.resource().split('/');
        let name = match parts.next() {
            Some("targetgroup") => parts.next(),
            Some("loadbalancer" | "listener") => parts.nth(1),
            _ => None,
        };
        name.unwrap_or_else(|| self.resource())
    }
}

/// The ARN of the load balancer of a listener or a listener rule, whose ARNs extend it.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html>
pub fn load_balancer_of(arn: &str) -> Option<String> {
    let (before, path) = arn.split_once(":listener/").or_else(|| arn.split_once(":listener-rule/"))?;
    // KIND/NAME/ID/LISTENER, with a further /RULE for a rule.
    let (third_slash, _) = path.match_indices('/').nth(2)?;
    Some(format!("{before}:loadbalancer/{}", &path[..third_slash]))
}

/// All endpoint service ids and endpoint ids in `text`, in order, without duplicates.
///
/// For texts without a documented format, such as connection notifications. The ids are hints, never evidence.
pub fn mentioned(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (start, _) in text.match_indices("vpce-") {
        let candidate: String =
            text[start..].chars().take(64).take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let is_id = candidate.parse::<ServiceId>().is_ok() || candidate.parse::<EndpointId>().is_ok();
        if is_id && !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_checked_when_parsed() {
        assert!("123456789012".parse::<AccountId>().is_ok());
        for text in ["12345678901", "1234567890123", "12345678901a", "١٢٣٤٥٦٧٨٩٠١٢", "", " 123456789012"] {
            assert!(text.parse::<AccountId>().is_err(), "{text:?}");
        }
        assert!("vpce-svc-0123456789abcdef0".parse::<ServiceId>().is_ok());
        for text in ["vpce-0123456789abcdef0", "vpce-svc-", "vpce-svc-XYZ45678", "vpce-svc-0123456789abcdef0,"] {
            assert!(text.parse::<ServiceId>().is_err(), "{text:?}");
        }
        assert!("vpce-0123456789abcdef0".parse::<EndpointId>().is_ok());
        assert!("vpce-svc-0123456789abcdef0".parse::<EndpointId>().is_err(), "a service is not an endpoint");
    }

    #[test]
    fn an_arn_is_split_into_its_parts() {
        let arn: Arn = "arn:aws-us-gov:iam::123456789012:role/a:b".parse().unwrap();
        let parts = (arn.partition(), arn.service(), arn.region(), arn.account(), arn.resource());
        assert_eq!(parts, ("aws-us-gov", "iam", "", "123456789012", "role/a:b"));
        for text in ["arn:aws:iam::123456789012:", "arn:aws", "aws:iam", "arn:aws:iam::1:a\nb"] {
            assert!(text.parse::<Arn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ids_in_any_text_are_found_in_order_without_duplicates() {
        let text =
            r#"{"a":"vpce-svc-0123456789abcdef0","b":["vpce-0aaaaaaaaaaaaaaaa"],"c":"vpce-0aaaaaaaaaaaaaaaa vpce-é"}"#;
        assert_eq!(mentioned(text), ["vpce-svc-0123456789abcdef0", "vpce-0aaaaaaaaaaaaaaaa"]);
    }
}
