//! Secrets of a report: account ids, and the callers' identities.

use serde_json::{Number, Value};

use super::account::Account;

/// A mask for account ids, callers and ids of principals.
#[derive(Debug, Default)]
pub struct Mask {
    /// Each known text with its replacement, the longest first.
    known: Vec<(String, String)>,
}

impl Mask {
    /// The mask for these accounts, each with its role in the run: `provider`, `consumer`, `untrusted`.
    pub fn new(accounts: &[(&str, &Account)]) -> Self {
        let known = accounts.iter().flat_map(|(part, account)| {
            let caller = (account.caller.clone(), format!("<caller of {part}>"));
            [caller, (account.id.clone(), format!("<{part}>"))]
        });
        let mut known: Vec<_> = known.filter(|(secret, _)| !secret.is_empty()).collect();
        known.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        Self { known }
    }

    /// The masked text.
    pub fn text(&self, text: &str) -> String {
        let known = self.known.iter().fold(text.to_owned(), |text, (secret, word)| text.replace(secret, word));
        let principals = masked_words(&known, is_principal_id, "<principal>");
        let accounts = masked_words(&principals, is_account_id, "<account>");
        mask_names(&accounts)
    }

    /// The document with masked keys and values.
    pub fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| {
                    let instead = whole(key).filter(|_| value.is_string());
                    (self.text(key), instead.map_or_else(|| self.json(value), Value::from))
                })
                .collect(),
            Value::Number(number) => self.number(number),
            other => other.clone(),
        }
    }

    /// A masked number. CloudTrail writes some account ids as numbers, without leading zeros.
    fn number(&self, number: &Number) -> Value {
        let digits = number.to_string();
        let id = format!("{digits:0>12}");
        let is_account = is_account_id(&digits) || self.known.iter().any(|(secret, _)| *secret == id);
        if is_account { Value::String(self.text(&id)) } else { Value::Number(number.clone()) }
    }
}

/// The replacement for a whole text with this key, if the text describes the caller or the caller's machine.
fn whole(key: &str) -> Option<&'static str> {
    match key.to_lowercase().as_str() {
        "sourceipaddress" => Some("<address>"),
        "useragent" => Some("<program>"),
        "username" => Some("<name>"),
        "principalid" => Some("<principal>"),
        _ => None,
    }
}

/// Twelve digits.
fn is_account_id(word: &str) -> bool {
    word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `AIDA…`, `AROA…`, `ASIA…` and the like.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
fn is_principal_id(word: &str) -> bool {
    const PREFIXES: [&str; 9] = ["ABIA", "ACCA", "AGPA", "AIDA", "AIPA", "AKIA", "ANPA", "AROA", "ASIA"];
    (16..=32).contains(&word.len()) && PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

/// Replaces the secret words. A word is a run of letters and digits.
fn masked_words(text: &str, is_secret: fn(&str) -> bool, instead: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        masked.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        masked.push_str(if is_secret(&rest[..end]) { instead } else { &rest[..end] });
        rest = &rest[end..];
    }
    masked + rest
}

/// Replaces the names of users, and of roles with their sessions, in IAM and STS ARNs.
fn mask_names(text: &str) -> String {
    const KINDS: [&str; 3] = [":assumed-role/", ":role/", ":user/"];
    KINDS.iter().fold(text.to_owned(), |text, kind| {
        let mut parts = text.split(kind);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |masked, part| {
            let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+=,.@-".contains(c))).unwrap_or(part.len());
            format!("{masked}{kind}<name>{}", &part[end..])
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask() -> Mask {
        let account = |id: &str, caller: &str| Account {
            profile: "p".to_owned(),
            region: "eu-central-1".to_owned(),
            id: id.to_owned(),
            caller: caller.to_owned(),
            endpoint: None,
        };
        let provider = account("111122223333", "arn:aws:sts::111122223333:assumed-role/Admin/jane@example.com");
        let consumer = account("444455556666", "arn:aws:iam::444455556666:user/joe");
        Mask::new(&[("provider", &provider), ("consumer", &consumer)])
    }

    #[test]
    fn accounts_are_named_by_their_part() {
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/db/0123456789abcdef";
        assert_eq!(mask().text(arn), arn.replace("111122223333", "<provider>"));
        assert_eq!(mask().text("owner 444455556666, not 777788889999"), "owner <consumer>, not <account>");
    }

    #[test]
    fn callers_and_other_principals_have_no_name() {
        let caller = "arn:aws:sts::111122223333:assumed-role/Admin/jane@example.com";
        assert_eq!(mask().text(&format!("by {caller} at")), "by <caller of provider> at");
        assert_eq!(mask().text("arn:aws:iam::111122223333:role/a/b and"), "arn:aws:iam::<provider>:role/<name> and");
        assert_eq!(mask().text("AROAEXAMPLEEXAMPLE123:jane"), "<principal>:jane");
    }

    #[test]
    fn similar_words_stay_unmasked() {
        for text in ["1234567890123", "vpce-0123456789ab", "AKIA", "2026-11-28T12:00:00Z", "a1b2"] {
            assert_eq!(mask().text(text), text);
        }
    }

    #[test]
    fn documents_are_masked_in_keys_and_values() {
        let document =
            json!({"111122223333": ["444455556666", 1], "sourceIPAddress": "203.0.113.7", "userAgent": "cli"});
        let masked = json!({"<provider>": ["<consumer>", 1], "sourceIPAddress": "<address>", "userAgent": "<program>"});
        assert_eq!(mask().json(&document), masked);
        let document = json!({"userName": "jane", "principalId": "AROAEXAMPLEEXAMPLE123:jane@example.com"});
        assert_eq!(mask().json(&document), json!({"userName": "<name>", "principalId": "<principal>"}));
    }

    #[test]
    fn account_ids_are_masked_as_numbers_too() {
        let numbers = json!([111_122_223_333_u64, 777_788_889_999_u64, 1_234_567_890_123_u64, 5432, 0.5]);
        assert_eq!(mask().json(&numbers), json!(["<provider>", "<account>", 1_234_567_890_123_u64, 5432, 0.5]));
        let zeros = Mask { known: vec![("001122223333".to_owned(), "<consumer>".to_owned())] };
        assert_eq!(zeros.json(&json!([1_122_223_333, 1_122_223_334])), json!(["<consumer>", 1_122_223_334]));
    }
}
